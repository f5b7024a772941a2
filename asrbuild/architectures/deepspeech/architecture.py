"""DeepSpeech 0.6 to 0.9 and Coqui STT: training checkpoints, frozen graphs and .tflite files.

It implements :class:`asrbuild.architectures.architecture.Architecture`; each function is in a
module of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from asrbuild.architectures.architecture import (
    Card,
    Fact,
    Found,
    FrontEnd,
    Landmark,
    Original,
    OwnSection,
    SourceFiles,
)
from asrbuild.architectures.deepspeech import WORKER
from asrbuild.architectures.deepspeech.config import ExportConfig
from asrbuild.architectures.deepspeech.section import export_problems as problems
from asrbuild.architectures.deepspeech.signature import (
    LAYERS,
    SIGNATURE,
    check_layers,
    of_samples,
)
from asrbuild.base.errors import AsrbuildError

if TYPE_CHECKING:
    from asrbuild.architectures.original import OriginalRun, Result
    from asrbuild.base.array import Array
    from asrbuild.coreml.request import ConversionRequest
    from asrbuild.coreml.signature import Signature
    from asrbuild.speech.alphabet import Alphabet
    from asrbuild.speech.mfcc import FeatureSettings

__all__ = ["LAYERS", "WORKER", "problems"]

KINDS = ("demo", "checkpoint", "frozen_graph")
SECTION = "export"
OWN = OwnSection(
    ExportConfig,
    steps="n_steps",
    silent=("export_", "beam_width", "features_place"),
    later=("features_place",),
)
FILE_KEYS = ()
ORIGINAL, RUNTIME, FORMAT = "TensorFlow graph", "TensorFlow", "frozen graph"
CALLS = CONVERTS_EXPORTED = False
LIBRARIES = MappingProxyType({"reference": ("tensorflow",)})
CARD_KEYS = (
    "export.export_author_id",
    "export.export_license",
    "export.export_description",
    "export.export_language",
)
_FEATURES = (
    "export.audio_sample_rate",
    "export.feature_win_len",
    "export.feature_win_step",
    "export.upper_frequency_limit",
    "export.n_input",
    "export.n_context",
)
FEATURE_KEYS = (*_FEATURES, "export.features_place")
ORIGINAL_KEYS = (
    *_FEATURES,
    "export.n_steps",
    "export.n_hidden",
    "export.batch_size",
    "export.relu_clip",
    "export.beam_width",
    "export.export_language",
)
NETWORK_KEYS = (*FEATURE_KEYS, "export.n_hidden", "export.relu_clip")

THREAD_MODULES = (
    "google_crc32c",
    "asrbuild.architectures.deepspeech.export",
    "asrbuild.architectures.deepspeech.frozen",
    "asrbuild.architectures.deepspeech.reference",
    "asrbuild.architectures.deepspeech.weights",
    "asrbuild.architectures.tensorflow.tensorbundle",
)


def settle(recipe: Any, cache_root: Path, keep: bool) -> Found:
    """Finds the model and its facts: in metadata, shapes, flags.txt and alphabet.txt."""
    from asrbuild.architectures.deepspeech.settle import settle

    return settle(recipe, cache_root, keep)


def question(recipe: Any, cache_root: Path) -> tuple[Path, tuple[Fact, ...], list[str]]:
    """The facts of a checkpoint or a graph."""
    from asrbuild.architectures.deepspeech.settle import read_source, unstated

    model = read_source(recipe, cache_root, keep=False)
    named = model.files.get("lite") or model.graph or model.checkpoint
    assert named is not None
    return named, model.facts, unstated(model)


def signature(config: Any) -> Signature:
    """The signature of every DeepSpeech network; of samples if the package has the front end."""
    if _place(config) == "app":
        return SIGNATURE
    return of_samples(front_end(config).settings)


def _place(config: Any) -> Any:
    """The place of the features, which manifests 1.x omit if it is the app."""
    if isinstance(config, Mapping):
        return config.get("features_place", "app")
    return getattr(config, "features_place", "app")


def front_end(config: Any) -> FrontEnd:
    """The front end of DeepSpeech's clients: MFCC with 40 bands from 20 Hz."""
    from asrbuild.speech.mfcc import FeatureSettings

    settings = FeatureSettings(
        sample_rate=config.audio_sample_rate,
        window=config.audio_sample_rate * config.feature_win_len // 1000,
        stride=config.audio_sample_rate * config.feature_win_step // 1000,
        upper_hz=config.upper_frequency_limit,
        n_input=config.n_input,
        n_context=config.n_context,
    )
    durations = float(config.feature_win_len), float(config.feature_win_step)
    return FrontEnd(settings, *durations, _place(config))


def card(recipe: Any) -> Card:
    """The texts of DeepSpeech's export flags."""
    export = recipe.export
    return Card(
        export.export_author_id,
        export.export_license,
        export.export_description,
        export.export_language or "",
    )


def check_request(request: ConversionRequest, frontend: str) -> None:
    """Raises for requests that neither front end supports."""
    check_layers(request)
    if request.fp32 not in (None, "none"):
        raise AsrbuildError(
            "DeepSpeech's program computes in one precision",
            key="coreml.fp32",
            fix="leave coreml.fp32 out",
        )
    if frontend == "tensorflow":
        from asrbuild.architectures.deepspeech.from_graph import check_lstm_form, check_supported

        check_supported(request)
        check_lstm_form(request)


def check_source(
    source: SourceFiles, outputs: Sequence[str], lengths: Sequence[int | None]
) -> None:
    """Raises if a frozen graph lacks the outputs, or has another number of steps."""
    if "graph" not in source.files:
        return
    from asrbuild.architectures.deepspeech.graph_shape import check_steps
    from asrbuild.architectures.tensorflow.graph import load_graph
    from asrbuild.architectures.tensorflow.outputs import check_outputs

    loaded = load_graph(source.files["graph"])
    check_outputs(loaded, outputs, key="coreml.outputs")
    check_steps(loaded, lengths, key="model.steps")


def convert(
    source: SourceFiles,
    config: Any,
    request: ConversionRequest,
    destination: Path,
    frontend: str,
    exported: Callable[[], Path],
) -> None:
    """Writes the package from the weights, or from the frozen graph with ``ct.convert``."""
    if frontend == "tensorflow":
        from asrbuild.architectures.deepspeech.from_graph import convert_graph

        if _place(config) == "package":
            raise AsrbuildError(
                "coreml.frontend=tensorflow converts the graph, which takes features",
                key="features.place",
                fix="leave coreml.frontend=auto, or features.place=app",
            )
        convert_graph(exported(), request, destination)
        return
    from asrbuild.architectures.deepspeech.from_weights import convert_weights
    from asrbuild.architectures.deepspeech.network import Geometry
    from asrbuild.architectures.deepspeech.weights import load_weights

    weights = load_weights(source, config)
    clip = config.relu_clip
    if "graph" in source.files:
        from asrbuild.architectures.deepspeech.frozen import relu_clip
        from asrbuild.architectures.tensorflow.graph import load_graph

        clip = relu_clip(load_graph(source.files["graph"]))
    sizes = config.n_input, config.n_context, weights.n_hidden, weights.n_output
    front = front_end(config)
    inside = front.settings if front.place == "package" else None
    convert_weights(weights, request, destination, Geometry(*sizes, clip), inside)


def original(source: SourceFiles) -> Original | None:
    """The source's frozen graph, or the graph made of its ``.tflite``; None for a checkpoint."""
    graph = source.files.get("graph")
    return None if graph is None else Original(graph, source.files.get("lite"))


def export(source: SourceFiles, config: Any, file: Path) -> None:
    """Writes the frozen graph of a checkpoint, equal to that of DeepSpeech's own exporter."""
    from asrbuild.architectures.deepspeech.export import write_frozen_graph
    from asrbuild.architectures.deepspeech.flags import ExportFlags
    from asrbuild.architectures.deepspeech.weights import load_weights

    weights = load_weights(source, config)
    values = {field.name: getattr(config, field.name) for field in fields(ExportFlags)}
    flags = ExportFlags(**values | {"n_hidden": weights.n_hidden})
    write_frozen_graph(weights, flags, source.alphabet.graph_labels, file)


def exported(source: SourceFiles, file: Path) -> Original:
    """The graph of :func:`export`, and the checkpoint that it was made of."""
    from asrbuild.architectures.deepspeech.weights import checkpoint_prefix

    return Original(file, checkpoint_prefix(source))


def recover(
    recipe: Mapping[str, Any],
    alphabet: Alphabet,
    graph: Path | None,
    checkpoint: Path | None,
    folder: Path,
) -> Original:
    """The given frozen graph, or one exported from the given checkpoint; the demo has its own."""
    from asrbuild.base.places import resolve_file

    if graph is not None:
        return Original(graph)
    source = recipe.get("source", {})
    if checkpoint is None and source.get("kind") == "demo":
        checkpoint = resolve_file(source["checkpoint_dir"])
    if checkpoint is None:
        raise AsrbuildError(
            "an artifact does not contain the graph that it was made of",
            fix="add --graph output_graph.pb, or --checkpoint with the training checkpoints",
        )
    from asrbuild.architectures.deepspeech.checkpoint import find_checkpoint, read_weights
    from asrbuild.architectures.deepspeech.export import write_frozen_graph
    from asrbuild.architectures.deepspeech.flags import ExportFlags

    prefix, exported = find_checkpoint(checkpoint, source["load_evaluate"]), folder / "graph.pb"
    weights = read_weights(prefix)
    # Any length, so that one run gives every step of the utterance.
    settings = recipe["export"] | {"n_hidden": weights.n_hidden, "n_steps": -1}
    flags = ExportFlags(**{field.name: settings[field.name] for field in fields(ExportFlags)})
    write_frozen_graph(weights, flags, alphabet.graph_labels, exported)
    return Original(exported, prefix)


def start(original: Original, config: Any, cases: Path, out: Path) -> OriginalRun:
    """Runs TensorFlow on the graph, with the LSTM's states after every step."""
    from asrbuild.architectures.deepspeech.reference import start_reference, state_nodes

    if _place(config) == "package":
        cases = _features(cases, front_end(config).settings, out.parent)
    nodes = state_nodes(original.file)
    return start_reference(original.file, cases, out, nodes=nodes, checkpoint=original.made_of)


def _features(cases: Path, settings: FeatureSettings, folder: Path) -> Path:
    """Writes the features of cases of samples; drops those too short for a frame."""
    import numpy as np

    from asrbuild.architectures.original import save_cases
    from asrbuild.speech.mfcc import features

    with np.load(cases, allow_pickle=False) as stored:
        made = {name: features(samples, settings) for name, samples in stored.items()}
    path = folder / "features.npz"
    save_cases(path, {name: rows for name, rows in made.items() if len(rows)})
    return path


def read(out: Path) -> dict[str, Result]:
    """Outputs and states by case."""
    from asrbuild.architectures.deepspeech.reference import read_results

    return read_results(out)


def landmarks(
    original: Original, features: Array
) -> tuple[Sequence[Landmark], Mapping[str, Array]]:
    """The output of every bias, activation, LSTM, normalisation and softmax of the graph."""
    from asrbuild.architectures.deepspeech.landmarks import run_landmarks

    return run_landmarks(original, features)


def landmarks_of_call(
    original: Original, config: Any, call: Mapping[str, Array]
) -> Sequence[Landmark]:
    """Empty: the original takes a whole recording."""
    return []
