"""Reads the facts of a DeepSpeech source: each value with its file, and its node or line.

The settings of a graph are in ``metadata_*`` constants, the shape of ``input_node`` and other
nodes; those of a checkpoint in the shapes of its variables, ``flags.txt`` and ``alphabet.txt``.
"""

from __future__ import annotations

import math
import os
import re
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asrbuild.architectures.architecture import Fact
from asrbuild.architectures.deepspeech.training_flags import FILE_NAME as FLAGS, Flag, read_flags
from asrbuild.base.errors import AsrbuildError
from asrbuild.speech.alphabet import bytes_alphabet, read_alphabet

if TYPE_CHECKING:
    from asrbuild.architectures.tensorflow.proto import Graph, Node

#: Names of facts that are keys of the recipe.
SAMPLE_RATE = "export.audio_sample_rate"
WIN_LEN = "export.feature_win_len"
WIN_STEP = "export.feature_win_step"
UPPER_HZ = "export.upper_frequency_limit"
RELU_CLIP = "export.relu_clip"
N_INPUT = "export.n_input"
N_CONTEXT = "export.n_context"
N_HIDDEN = "export.n_hidden"
BATCH = "export.batch_size"
BEAM_WIDTH = "export.beam_width"
LANGUAGE = "export.export_language"
ALPHABET = "source.alphabet_config_path"
BYTES_OUTPUT = "source.bytes_output_mode"
N_STEPS = "n_steps"
#: Names of facts without a key of the recipe.
N_OUTPUT = "n_output"
GRAPH_VERSION = "graph_version"
#: Upper edge of the mel bands in DeepSpeech 0.6, TensorFlow's default; later versions have half the
#: sample rate.
_UPPER_HZ_06 = 4000.0
#: Flags of DeepSpeech 0.6 that no later version has.
_ONLY_06 = ("use_cudnn_rnn", "es_mean_th")
#: ``metadata_version`` since DeepSpeech 0.7.
_GRAPH_VERSION_07 = 6
#: MFCC coefficients of a frame: a constant, not a flag, in the training code of every version.
_N_INPUT = 26
_FLAGS = {
    "audio_sample_rate": SAMPLE_RATE,
    "feature_win_len": WIN_LEN,
    "feature_win_step": WIN_STEP,
    "relu_clip": RELU_CLIP,
    "n_hidden": N_HIDDEN,
    "export_beam_width": BEAM_WIDTH,
    "export_language": LANGUAGE,
    "bytes_output_mode": BYTES_OUTPUT,
    "utf8": BYTES_OUTPUT,
}
_METADATA = {
    "metadata_sample_rate": SAMPLE_RATE,
    "metadata_feature_win_len": WIN_LEN,
    "metadata_feature_win_step": WIN_STEP,
    "metadata_beam_width": BEAM_WIDTH,
    "metadata_language": LANGUAGE,
    "metadata_version": GRAPH_VERSION,
}
_ALPHABET_FILE = "alphabet.txt"


def same(first: Any, second: Any) -> bool:
    """Whether two values are equal; numbers are compared as float32, the type in graphs."""
    if isinstance(first, bool) or isinstance(second, bool) or not _numbers(first, second):
        return bool(first == second)
    return math.isclose(first, second, rel_tol=1e-6)


def _numbers(*values: Any) -> bool:
    return all(isinstance(value, (int, float)) for value in values)


def graph_facts(path: Path) -> list[Fact]:
    """The facts of a frozen graph.

    Raises:
        AsrbuildError: the file is not a graph, has no ``input_node``, or has damaged metadata.
    """
    from asrbuild.architectures.tensorflow.graph import load_graph

    graph = load_graph(path)
    return [replace(fact, file=str(path)) for fact in _graph_facts(graph)]


def _graph_facts(graph: Graph) -> Iterator[Fact]:
    from asrbuild.architectures.tensorflow.outputs import placeholder_shape

    batch, steps, window, coefficients = _four(placeholder_shape(graph, "input_node"), graph)
    shape = "shape of input_node"
    if batch is not None:
        yield Fact(BATCH, batch, "", shape)
    if steps is not None:
        yield Fact(N_STEPS, steps, "", shape)
    if window is not None and window % 2:
        yield Fact(N_CONTEXT, window // 2, "", shape)
    if coefficients is not None:
        yield Fact(N_INPUT, coefficients, "", shape)
    width = placeholder_shape(graph, "previous_state_c")[-1:]
    if width and width[0] is not None:
        yield Fact(N_HIDDEN, width[0], "", "shape of previous_state_c")
    bias = graph.by_name.get("layer_6/bias")
    if bias is not None and bias.op == "Const":
        yield Fact(N_OUTPUT, int(bias.value.size), "", "shape of layer_6/bias")
    yield from _clip(graph)
    metadata, features = list(_metadata(graph)), list(_front_end(graph))
    yield from metadata
    yield from features or _upper_hz_of(metadata)


def _upper_hz_of(metadata: list[Fact]) -> Iterator[Fact]:
    """The upper edge of the mel bands of a graph without features of its own, by its version."""
    stated = {fact.name: fact.value for fact in metadata}
    version, rate = stated.get(GRAPH_VERSION), stated.get(SAMPLE_RATE)
    if version is not None and rate is not None:
        limit = rate / 2 if version >= _GRAPH_VERSION_07 else _UPPER_HZ_06
        yield Fact(UPPER_HZ, limit, "", f"version {version} in node metadata_version")


def _four(dims: tuple[int | None, ...], graph: Graph) -> tuple[int | None, ...]:
    if len(dims) != 4:
        raise AsrbuildError(
            f"the graph's input_node has {len(dims)} dimensions, a DeepSpeech graph's has 4: "
            "batch, steps, window, coefficients",
            key="source.path",
            file=graph.path,
            fix="give the graph that DeepSpeech's --export_dir wrote",
        )
    return dims


def _clip(graph: Graph) -> Iterator[Fact]:
    from asrbuild.architectures.deepspeech.frozen import clip_nodes

    found: dict[float, str] = {}
    for name, limit in clip_nodes(graph):
        found.setdefault(limit, name)
    # Several different values are an error, which the conversion reports.
    if len(found) == 1:
        ((limit, name),) = found.items()
        yield Fact(RELU_CLIP, limit, "", f"node {name}")


def _metadata(graph: Graph) -> Iterator[Fact]:
    from asrbuild.architectures.tensorflow.inspect import unpack_labels

    for node in graph.nodes:
        if node.op != "Const" or not node.name.startswith("metadata_"):
            continue
        place = f"node {node.name}"
        with _damaged(node, graph):
            item = node.value.ravel()[0]
        if node.name == "metadata_alphabet" and isinstance(item, bytes):
            with _damaged(node, graph):
                labels = unpack_labels(item)
            yield from _labels(labels, place, graph)
        elif node.name == "metadata_language":
            text = item.decode("utf-8", "replace") if isinstance(item, bytes) else str(item)
            if text and not re.fullmatch(r"<.*>", text, re.DOTALL):
                yield Fact(LANGUAGE, text, "", place)
        elif node.name in _METADATA:
            with _damaged(node, graph):
                yield Fact(_METADATA[node.name], _whole(item), "", place)


def _labels(labels: list[bytes], place: str, graph: Graph) -> Iterator[Fact]:
    if labels == bytes_alphabet().graph_labels:
        yield Fact(BYTES_OUTPUT, True, "", f"{place}: the 255 bytes")
        return
    try:
        yield Fact(ALPHABET, [label.decode() for label in labels], "", place)
    except UnicodeDecodeError as error:
        raise AsrbuildError(
            f"{place} has the label {error.object!r}, which is not UTF-8",
            file=graph.path,
            fix="give the graph's labels as a file: source.alphabet_config_path=alphabet.txt",
        ) from error


@contextmanager
def _damaged(node: Node, graph: Graph) -> Iterator[None]:
    """Turns errors into one that names the damaged metadata node."""
    from asrbuild.base.protobuf import WireError

    try:
        yield
    except (WireError, ValueError, KeyError, struct.error, IndexError, OverflowError) as error:
        raise AsrbuildError(
            f"metadata node {node.name} is damaged: {error}",
            file=graph.path,
            fix="export the graph again",
        ) from error


def _whole(item: Any) -> int:
    """An integer that is stored as a number or as text."""
    number = float(item.decode() if isinstance(item, bytes) else item)
    if not number.is_integer():
        raise ValueError(f"{number} is not a whole number")
    return int(number)


def _front_end(graph: Graph) -> Iterator[Fact]:
    """Facts about the graph's own features, which DeepSpeech's clients compute with it.

    A missing attribute has the default of TensorFlow's operation.
    """
    from asrbuild.architectures.deepspeech.frozen import scalar_constant

    spectrogram = next((node for node in graph.nodes if node.op == "AudioSpectrogram"), None)
    mfcc = next((node for node in graph.nodes if node.op == "Mfcc"), None)
    if spectrogram is None or mfcc is None:
        return
    rate = scalar_constant(graph, mfcc.inputs[1]) if len(mfcc.inputs) > 1 else None
    if rate is not None:
        yield Fact(SAMPLE_RATE, int(rate), "", f"input of node {mfcc.name}")
    for node, name, attribute, default in (
        (spectrogram, "window_samples", "window_size", None),
        (spectrogram, "step_samples", "stride", None),
        (spectrogram, "magnitude_squared", "magnitude_squared", False),
        (mfcc, "mel_bands", "filterbank_channel_count", 40),
        (mfcc, "lower_hz", "lower_frequency_limit", 20.0),
        (mfcc, UPPER_HZ, "upper_frequency_limit", 4000.0),
        (mfcc, N_INPUT, "dct_coefficient_count", 13),
    ):
        value = node.attrs.get(attribute, default)
        if isinstance(value, (bool, int, float)):
            yield Fact(name, value, "", f"{attribute} of node {node.name}")


def variable_facts(prefix: Path) -> list[Fact]:
    """The facts that follow from the shapes of a checkpoint's variables.

    Raises:
        AsrbuildError: the index is damaged, or not that of a DeepSpeech acoustic model.
    """
    from asrbuild.architectures.deepspeech.checkpoint import read_weights
    from asrbuild.architectures.tensorflow.tensorbundle import open_bundle

    file = f"{prefix}.index"
    bundle = open_bundle(prefix)
    names = bundle.names()
    shapes = [
        bundle.shape(f"{layer}/weights") if f"{layer}/weights" in names else ()
        for layer in ("layer_1", "layer_6")
    ]
    if any(len(shape) != 2 for shape in shapes):
        read_weights(prefix)
        raise AsrbuildError("not a DeepSpeech checkpoint", file=prefix)
    (features, hidden), (_, outputs) = shapes
    facts = [
        Fact(N_HIDDEN, hidden, file, "shape of layer_1/weights"),
        Fact(N_OUTPUT, outputs, file, "shape of layer_6/weights"),
        Fact("n_features", features, file, "shape of layer_1/weights"),
    ]
    window, rest = divmod(features, _N_INPUT)
    if rest == 0 and window % 2:
        facts.append(Fact(N_CONTEXT, window // 2, file, "shape of layer_1/weights"))
        facts.append(Fact(N_INPUT, _N_INPUT, file, "shape of layer_1/weights"))
    return facts


def flag_facts(folder: Path) -> tuple[list[Fact], dict[str, Flag]]:
    """The facts of a checkpoint folder's ``flags.txt``, and its flags; both empty without it."""
    path = folder / FLAGS
    if not path.is_file():
        return [], {}
    flags = read_flags(path)
    facts = [
        Fact(_FLAGS.get(name, name), flag.value, str(flag.file), f"line {flag.line}")
        for name, flag in flags.items()
        if name not in ("alphabet_config_path", *_ONLY_06)
    ]
    old = next((flags[name] for name in _ONLY_06 if name in flags), None)
    rate = flags.get("audio_sample_rate")
    if old is not None:
        place = f"line {old.line}: a flag of DeepSpeech 0.6, which sets no limit"
        facts.append(Fact(UPPER_HZ, _UPPER_HZ_06, str(old.file), place))
    elif rate is not None:
        place = f"line {rate.line}: half the sample rate, as DeepSpeech 0.7 and later"
        facts.append(Fact(UPPER_HZ, rate.value / 2, str(rate.file), place))
    return facts, flags


def alphabet_fact(folder: Path, flags: dict[str, Flag], size: int) -> Fact | None:
    """The labels of a checkpoint, from the first of these files that exists.

    1. ``alphabet.txt`` in the folder, as Coqui STT writes it;
    2. the file that ``flags.txt`` names, by its last component, in the folder and next to it;
    3. the absolute path that ``flags.txt`` names;
    4. ``alphabet.txt`` next to the folder, if it has as many labels as the model.

    Args:
        folder: the checkpoint folder.
        flags: from :func:`flag_facts`.
        size: number of the model's labels.
    """
    parent = Path(os.path.abspath(folder)).parent
    named = flags.get("alphabet_config_path")
    origin = "" if named is None else f", named in line {named.line} of {named.file.name}"
    candidates = [(folder / _ALPHABET_FILE, "")]
    if named is not None:
        last = re.split(r"[\\/]", named.value)[-1]
        candidates += [(where / last, origin) for where in (folder, parent) if last]
        if os.path.isabs(named.value):
            candidates.append((Path(named.value), origin))
    for path, why in candidates:
        if path.is_file():
            labels = read_alphabet(path, size).labels
            return Fact(ALPHABET, list(labels), str(path), f"the file{why}")
    path = parent / _ALPHABET_FILE
    if path.is_file():
        labels = read_alphabet(path, size).labels
        if len(labels) == size:
            absent = f"; {named.value}{origin}, is not here" if named is not None else ""
            return Fact(ALPHABET, list(labels), str(path), f"the file{absent}")
    return None


def absent_alphabet(folder: Path) -> str:
    """A part of a message that names the missing alphabet of ``flags.txt``; may be empty."""
    named = flag_facts(folder)[1].get("alphabet_config_path")
    if named is None:
        return ""
    return f"; line {named.line} of {named.file.name} names {named.value}, which is not here"


def exported_alphabet(prefix: Path) -> list[Fact]:
    """The labels in an export of a checkpoint, a graph with the same weights in or near its folder.

    Raises:
        AsrbuildError: two exports state different labels.
    """
    found: list[Fact] = []
    for graph in exported_graphs(prefix):
        try:
            stated = {fact.name: fact for fact in graph_facts(graph)}
            if ALPHABET in stated and _same_weights(prefix, graph):
                found.append(
                    replace(
                        stated[ALPHABET],
                        place=f"{stated[ALPHABET].place}, exported from the same weights",
                    )
                )
        except AsrbuildError:
            continue  # not an export of this checkpoint
    for other in found[1:]:
        if other.value != found[0].value:
            raise AsrbuildError(
                f"two exports of the checkpoint state other labels: {found[0]} and {other}",
                key=ALPHABET,
                file=prefix.parent,
                fix="give the labels: source.alphabet_config_path=alphabet.txt",
            )
    return found[:1]


def exported_graphs(prefix: Path) -> list[Path]:
    """The ``.pb`` files in a checkpoint's folder and next to it."""
    folder = Path(os.path.abspath(prefix.parent))
    return sorted(p for where in (folder, folder.parent) for p in where.glob("*.pb") if p.is_file())


def _same_weights(prefix: Path, graph: Path) -> bool:
    import numpy as np

    from asrbuild.architectures.deepspeech.checkpoint import read_weights
    from asrbuild.architectures.deepspeech.frozen import read_graph_weights

    ours, theirs = read_weights(prefix).named(), read_graph_weights(graph).named()
    return ours.keys() == theirs.keys() and all(
        np.array_equal(array, theirs[name]) for name, array in ours.items()
    )


def agreed(facts: Iterable[Fact]) -> tuple[dict[str, Fact], list[tuple[Fact, Fact]]]:
    """The first fact of each name, and the pairs that contradict each other."""
    first: dict[str, Fact] = {}
    against = []
    for fact in facts:
        known = first.setdefault(fact.name, fact)
        if not same(known.value, fact.value):
            against.append((known, fact))
    return first, against
