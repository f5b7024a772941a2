"""Any network in an ONNX file: source=onnx source.path=model.onnx.

It implements :class:`asrbuild.architectures.architecture.Architecture`; each function is in a
module of its own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asrbuild.architectures.architecture import (
    Card,
    Fact,
    Found,
    FrontEnd,
    Landmark,
    Original,
    SourceFiles,
)
from asrbuild.architectures.onnx import WORKER
from asrbuild.architectures.onnx.inside import (
    package_signature,
    place_of,
    settings_of,
    start_calls,
)
from asrbuild.architectures.onnx.section import SECTION, read_section
from asrbuild.base.errors import AsrbuildError
from asrbuild.coreml.compression import Layers

if TYPE_CHECKING:
    from asrbuild.architectures.original import OriginalRun, Result
    from asrbuild.base.array import Array
    from asrbuild.coreml.request import ConversionRequest
    from asrbuild.coreml.signature import Signature
    from asrbuild.speech.alphabet import Alphabet

KINDS = ("onnx",)
FILE_KEYS = ("tokens.file",)
FEATURE_KEYS = ("source.config",)
ORIGINAL_KEYS = NETWORK_KEYS = ("source.config",)
THREAD_MODULES = ("asrbuild.architectures.original",)
ORIGINAL, RUNTIME, FORMAT = "ONNX model", "ONNX Runtime", "ONNX model"
LIBRARIES = {"convert": ("onnx",), "reference": ("onnxruntime",)}
CALLS, CONVERTS_EXPORTED = True, False
LAYERS, OWN = Layers(), None
CARD_KEYS = ("source.author", "source.license", "source.description")
__all__ = ["SECTION"]


def settle(recipe: Any, cache_root: Path, keep: bool) -> Found:
    """Finds the model: from the file, the section, and measurements of the running model."""
    from asrbuild.architectures.onnx.settle import settle

    return settle(recipe, cache_root, keep)


def question(recipe: Any, cache_root: Path) -> tuple[Path, tuple[Fact, ...], list[str]]:
    """The facts of the model: roles of inputs and outputs, rows and context."""
    from asrbuild.architectures.onnx.settle import model_file, question_of, settled

    return question_of(model_file(recipe), settled, recipe, cache_root)


def signature(config: Any) -> Signature:
    """The signature in the section; of samples if the package computes the features."""
    return package_signature(read_section(config))


def front_end(config: Any) -> FrontEnd:
    """The front end: samples, or features of the kind in the section."""
    own = read_section(config)
    settings: Any = settings_of(own)
    window_ms = 0.0 if settings.kind == "none" else 1000 * settings.window / settings.sample_rate
    place: Any = place_of(own)
    return FrontEnd(settings, window_ms, 1000 * settings.step_s, place)


def card(recipe: Any) -> Card:
    """The texts in the recipe's section ``source``."""
    source = recipe.source
    return Card(source.author, source.license, source.description)


def problems(config: Any) -> Iterator[AsrbuildError]:
    """Yields errors for unknown meanings, and for inputs that have a role and are pinned."""
    from asrbuild.architectures.onnx.section import problems

    yield from problems(read_section(config))


def check_request(request: ConversionRequest, frontend: str) -> None:
    """Raises for coremltools' TensorFlow front end, and for a neural network."""
    check_package(request, frontend, "an ONNX model", ("auto", "mil"))


def check_package(
    request: ConversionRequest, frontend: str, what: str, frontends: Sequence[str]
) -> None:
    """Raises for packages that no network with its own operations can become.

    Args:
        what: the network's name for messages.
        frontends: the supported values of ``coreml.frontend``.
    """
    if frontend not in frontends:
        raise AsrbuildError(
            f"{what} is not converted by coreml.frontend={frontend}",
            key="coreml.frontend",
            fix="leave out coreml.frontend",
        )
    if request.format == "neuralnetwork":
        raise AsrbuildError(
            f"{what} becomes an ML program; neural networks lack ops that it uses",
            key="coreml.format",
            fix="choose coreml=mlprogram",
        )


def check_source(
    source: SourceFiles, outputs: Sequence[str], lengths: Sequence[int | None]
) -> None:
    """Raises if a model has ops without a Core ML form."""
    from asrbuild.architectures.onnx.folding import fold
    from asrbuild.architectures.onnx.lowering.walk import missing
    from asrbuild.architectures.onnx.reading import read_graph

    for error in missing(fold(read_graph(source.files["graph"]), {})):
        error.file = str(source.files["graph"])
        raise error


def convert(
    source: SourceFiles,
    config: Any,
    request: ConversionRequest,
    destination: Path,
    frontend: str,
    exported: Callable[[], Path],
) -> None:
    """Writes the package from the graph."""
    from asrbuild.architectures.onnx.convert import convert_graph

    convert_graph(source.files["graph"], read_section(config), request, destination)


def original(source: SourceFiles) -> Original | None:
    """The file itself."""
    return Original(source.files["graph"])


def export(source: SourceFiles, config: Any, file: Path) -> None:
    """Never called: the source is the original."""
    raise AssertionError("the source is the original")


def exported(source: SourceFiles, file: Path) -> Original:
    """The file itself."""
    return Original(file)


def recover(
    recipe: Mapping[str, Any],
    alphabet: Alphabet,
    graph: Path | None,
    checkpoint: Path | None,
    folder: Path,
) -> Original:
    """The given model, because an artifact does not contain it."""
    if graph is None:
        raise AsrbuildError(
            "an artifact does not hold the model it was made of", fix="add --graph model.onnx"
        )
    return Original(graph)


def start(original: Original, config: Any, cases: Path, out: Path, *more: str) -> OriginalRun:
    """Runs onnxruntime on calls; ``more``: further arguments of the worker."""
    own = read_section(config)
    cut = ("--pins", json.dumps(own.pin), "--cuts", json.dumps(own.cut))
    return start_calls(WORKER, RUNTIME, original.file, own, cases, out, *cut, *more)


def read(out: Path) -> dict[str, Result]:
    """Reads the outputs by call."""
    from asrbuild.architectures.original import read_results

    return read_results(out)


def landmarks(
    original: Original, features: Array
) -> tuple[Sequence[Landmark], Mapping[str, Array]]:
    """Empty: :func:`landmarks_of_call` gives the inner values of a call."""
    return [], {}


def landmarks_of_call(
    original: Original, config: Any, call: Mapping[str, Array]
) -> Sequence[Landmark]:
    """Every value of the graph, as a further output of onnxruntime."""
    from asrbuild.architectures.onnx.values import values_of_call

    return values_of_call(original, config, call, start)
