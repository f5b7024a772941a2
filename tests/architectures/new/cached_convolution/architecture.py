"""The functions of an architecture; see :mod:`asrbuild.architectures.architecture`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from asrbuild.architectures.cached_convolution.signature import (
    COEFFICIENTS,
    LAYERS,
    Config,
    signature as _signature,
)

from asrbuild.architectures.architecture import (
    Card,
    Fact,
    Found,
    FrontEnd,
    Original,
    SourceFiles,
    section,
)
from asrbuild.architectures.original import read_results as read
from asrbuild.base.errors import AsrbuildError

__all__ = ["LAYERS", "read"]

KINDS = ("cached_convolution",)
SECTION, OWN = "source.config", None
FILE_KEYS = ("weights",)
FEATURE_KEYS = ("source.config",)
ORIGINAL_KEYS = NETWORK_KEYS = ("source.config",)
CARD_KEYS = ("source.author", "source.license", "source.description")
THREAD_MODULES = ()
ORIGINAL, RUNTIME, FORMAT = "network in numpy", "numpy", "weights"
WORKER = "asrbuild.architectures.cached_convolution.worker"
CALLS = CONVERTS_EXPORTED = False
LIBRARIES: Mapping[str, tuple[str, ...]] = {"reference": ("numpy",)}


def _config(values: Any) -> Config:
    return section(Config, values, SECTION)


def problems(config: Any) -> Iterator[AsrbuildError]:
    _config(config)
    yield from ()


def settle(recipe: Any, cache_root: Path, keep: bool) -> Found:
    from asrbuild.base.kinds.recognition import existing_file
    from asrbuild.speech.alphabet import make_alphabet

    config = _config(recipe.source.config)
    file = existing_file(config.weights, f"{SECTION}.weights")
    return Found({"graph": file}, (), make_alphabet(list(config.labels)))


def question(recipe: Any, cache_root: Path) -> tuple[Path, tuple[Fact, ...], list[str]]:
    return settle(recipe, cache_root, False).files["graph"], (), []


def signature(config: Any) -> Any:
    return _signature(len(_config(config).labels) + 1)


def front_end(config: Any) -> FrontEnd:
    from asrbuild.speech.mfcc import FeatureSettings

    rate = _config(config).sample_rate
    settings = FeatureSettings(
        sample_rate=rate,
        window=rate // 40,
        stride=rate // 50,
        upper_hz=rate / 2,
        n_input=COEFFICIENTS,
        n_context=0,
    )
    return FrontEnd(settings, 25.0, 20.0)


def card(recipe: Any) -> Card:
    return Card(recipe.source.author, recipe.source.license, recipe.source.description)


def check_request(request: Any, frontend: str) -> None:
    if frontend == "tensorflow":
        raise AsrbuildError("there is no frozen graph", key="coreml.frontend", fix="leave it out")


def check_source(source: SourceFiles, outputs: Any, lengths: Any) -> None:
    pass


def convert(
    source: SourceFiles,
    config: Any,
    request: Any,
    destination: Path,
    frontend: str,
    exported: Callable[[], Path],
) -> None:
    import numpy as np
    from asrbuild.architectures.cached_convolution.program import body

    from asrbuild.coreml.convert import is_half, write_model

    with np.load(source.files["graph"]) as stored:
        weights = dict(stored)
    write_model(
        lambda steps, inputs: body(weights, is_half(request), inputs),
        signature(config),
        request,
        destination,
        LAYERS,
    )


def original(source: SourceFiles) -> Original | None:
    return Original(source.files["graph"])


def export(source: SourceFiles, config: Any, file: Path) -> None:
    raise AssertionError("the weights are the original's own")


def exported(source: SourceFiles, file: Path) -> Original:
    return Original(file)


def recover(
    recipe: Mapping[str, Any],
    alphabet: Any,
    graph: Path | None,
    checkpoint: Path | None,
    folder: Path,
) -> Original:
    if graph is None:
        raise AsrbuildError("an artifact does not hold its weights", fix="add --graph weights.npz")
    return Original(graph)


def start(original: Original, config: Any, cases: Path, out: Path) -> Any:
    from asrbuild.architectures.original import start

    return start(WORKER, RUNTIME, out, "--cases", str(cases), "--model", str(original.file))


def landmarks(original: Original, features: Any) -> Any:
    return [], {}


def landmarks_of_call(original: Original, config: Any, call: Any) -> Any:
    """None: the original takes a whole recording."""
    return []
