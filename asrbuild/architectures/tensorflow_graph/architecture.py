"""Any frozen TensorFlow graph or SavedModel: source=tensorflow_graph, source=saved_model.

DeepSpeech's own graphs are ``source=frozen_graph``. It implements
:class:`asrbuild.architectures.architecture.Architecture`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asrbuild.architectures.architecture import Fact, Found, Landmark, Original, SourceFiles
from asrbuild.architectures.onnx.architecture import (
    CARD_KEYS as CARD_KEYS,
    FEATURE_KEYS as FEATURE_KEYS,
    FILE_KEYS as FILE_KEYS,
    LAYERS as LAYERS,
    NETWORK_KEYS as NETWORK_KEYS,
    ORIGINAL_KEYS as ORIGINAL_KEYS,
    OWN as OWN,
    SECTION as SECTION,
    card as card,
    check_package,
    front_end as front_end,
    landmarks as landmarks,
    problems as problems,
    read as read,
    signature as signature,
)
from asrbuild.architectures.onnx.inside import start_calls
from asrbuild.architectures.onnx.section import read_section
from asrbuild.architectures.tensorflow_graph import WORKER
from asrbuild.base.errors import AsrbuildError

if TYPE_CHECKING:
    from asrbuild.architectures.original import OriginalRun
    from asrbuild.base.array import Array
    from asrbuild.coreml.request import ConversionRequest
    from asrbuild.speech.alphabet import Alphabet

KINDS = ("tensorflow_graph", "saved_model")
THREAD_MODULES = (
    "asrbuild.architectures.original",
    "asrbuild.architectures.tensorflow_graph.settle",
    "asrbuild.architectures.tensorflow.cutting",
)
ORIGINAL, RUNTIME, FORMAT = "TensorFlow graph", "TensorFlow", "frozen graph"
LIBRARIES = {"convert": ("tensorflow",), "reference": ("tensorflow",)}
CALLS = CONVERTS_EXPORTED = True


def settle(recipe: Any, cache_root: Path, keep: bool) -> Found:
    """Finds the model: from the graph, the section, and measurements of the cut graph."""
    from asrbuild.architectures.tensorflow_graph.settle import settle

    return settle(recipe, cache_root, keep)


def question(recipe: Any, cache_root: Path) -> tuple[Path, tuple[Fact, ...], list[str]]:
    """The facts of the model: roles of inputs and outputs, rows and context."""
    from asrbuild.architectures.onnx.settle import question_of
    from asrbuild.architectures.tensorflow_graph.settle import graph_file, settled

    return question_of(graph_file(recipe), settled, recipe, cache_root)


def check_request(request: ConversionRequest, frontend: str) -> None:
    """Raises for packages that ``coremltools.convert`` does not support."""
    check_package(request, frontend, "a TensorFlow graph", ("auto", "tensorflow"))


def check_source(
    source: SourceFiles, outputs: Sequence[str], lengths: Sequence[int | None]
) -> None:
    """Does nothing: ``settle`` checks the graph."""


def convert(
    source: SourceFiles,
    config: Any,
    request: ConversionRequest,
    destination: Path,
    frontend: str,
    exported: Callable[[], Path],
) -> None:
    """Writes the package of the exported graph, which has the section's cuts and pins."""
    from asrbuild.architectures.tensorflow_graph.convert import convert_graph

    convert_graph(exported(), read_section(config), request, destination)


def original(source: SourceFiles) -> Original | None:
    """None: the original is the cut graph, which ``export`` writes."""
    return None


def export(source: SourceFiles, config: Any, file: Path) -> None:
    """Writes the graph with the section's cuts and pins."""
    from asrbuild.architectures.tensorflow_graph.settle import cut_to

    cut_to(source.files["checkpoint.graph"], read_section(config), file)


def exported(source: SourceFiles, file: Path) -> Original:
    """The cut graph."""
    return Original(file)


def recover(
    recipe: Mapping[str, Any],
    alphabet: Alphabet,
    graph: Path | None,
    checkpoint: Path | None,
    folder: Path,
) -> Original:
    """The given graph, cut again."""
    from asrbuild.architectures.tensorflow_graph.settle import cut_to

    if graph is None:
        raise AsrbuildError(
            "an artifact does not hold the graph it was made of",
            fix="add --graph graph.pb, or saved_model.pb",
        )
    cut = folder / "cut.pb"
    cut_to(graph, read_section(recipe["source"]["config"]), cut)
    return Original(cut)


def start(original: Original, config: Any, cases: Path, out: Path) -> OriginalRun:
    """Runs TensorFlow on calls."""
    own = read_section(config)
    outputs = ("--outputs", ",".join(own.outputs))
    return start_calls(WORKER, RUNTIME, original.file, own, cases, out, *outputs)


def landmarks_of_call(
    original: Original, config: Any, call: Mapping[str, Array]
) -> Sequence[Landmark]:
    """Empty: coremltools gives other names than TensorFlow."""
    return []
