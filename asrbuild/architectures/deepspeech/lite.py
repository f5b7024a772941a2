"""Reads DeepSpeech's TensorFlow Lite model, and writes the equivalent frozen graph.

A ``.tflite`` of DeepSpeech computes one chunk: three dense layers, the LSTM unrolled over the
chunk's steps, two dense layers, a softmax. Its weights are float32, float16 or int8. The written
graph is the reference of a build.

The operations are checked: the file's own operations run on random input and must give the results
of the DeepSpeech network with the weights of the file. Unknown operations are refused.

Source: DeepSpeech's ``create_inference_graph`` with ``tflite=True``.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from asrbuild.architectures.deepspeech.export import write_frozen_graph
from asrbuild.architectures.deepspeech.flags import ExportFlags
from asrbuild.architectures.deepspeech.network import (
    LSTM_SCOPE,
    AcousticWeights,
    weights_from_named,
)
from asrbuild.architectures.deepspeech.signature import OUTPUTS
from asrbuild.architectures.tensorflow.inspect import unpack_labels
from asrbuild.architectures.tensorflow.lite import (
    LiteGraph,
    UnreadLiteError,
    constant,
    metadata_bytes,
    strings,
    subgraphs,
)
from asrbuild.architectures.tensorflow.lite_operations import LiteRun, sigmoid, softmax
from asrbuild.base.array import Array
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.kinds.places import LITE
from asrbuild.base.kinds.recognition import require

METADATA = "metadata_"
_STATES = ("previous_state_c", "previous_state_h")
_DENSE = ("layer_1", "layer_2", "layer_3", "lstm", "layer_5", "layer_6")
_FIX = (
    "give the .tflite that DeepSpeech's or Coqui STT's --export_tflite wrote, or its frozen graph; "
    "of another network its SavedModel (source=saved_model) or its ONNX file (source=onnx)"
)
#: Tolerance for probabilities and states: float32 sums in another order.
_SAME = 1e-4


@dataclass(frozen=True)
class LiteModel:
    """The content of a DeepSpeech ``.tflite``.

    Args:
        weights: the weights as float32.
        flags: the flags of its export.
        labels: the labels of the alphabet, in order.
        stored: the stored type of the weights, for instance ``int8``.
    """

    weights: AcousticWeights
    flags: ExportFlags
    labels: tuple[bytes, ...]
    stored: str


def write_lite_graph(path: Path, destination: Path) -> str:
    """Writes the frozen graph of a ``.tflite``; the same file gives the same bytes.

    Returns:
        A description of the stored weights and of their conversion.

    Raises:
        AsrbuildError: the file is damaged, is not a DeepSpeech model, or has weights without
        float32 values.
    """
    model = read_lite(path)
    write_frozen_graph(model.weights, model.flags, model.labels, destination)
    if model.stored == "float32":
        return model.stored
    if model.stored == "float16":
        return "float16, widened to float32"
    return (
        f"{model.stored}, dequantised to float32 as scale * (q - zero point); the rounding of "
        "activations in TensorFlow Lite's kernels is left out"
    )


def read_lite(path: Path) -> LiteModel:
    """Reads and checks a DeepSpeech ``.tflite``.

    Raises:
        AsrbuildError: see :func:`write_lite_graph`.
    """
    require(path, LITE)
    with lite_errors(path):
        return _read(path)


@contextmanager
def lite_errors(path: Path) -> Iterator[None]:
    """Turns errors about a damaged or foreign file into ``AsrbuildError``."""
    try:
        yield
    except UnreadLiteError as refused:
        raise AsrbuildError(
            f"not a DeepSpeech model that can be read: {refused}", file=path, fix=_FIX
        ) from None
    except (struct.error, IndexError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise AsrbuildError(
            f"the TensorFlow Lite file is damaged: {error}",
            file=path,
            fix="copy or download it again",
        ) from error


def _open(path: Path) -> LiteGraph:
    opened, *more = subgraphs(path)
    if more:
        raise UnreadLiteError(f"it has {1 + len(more)} subgraphs")
    for name, tensor in opened.inputs.items():
        if opened.kind(tensor) in ("INT8", "UINT8"):
            raise UnreadLiteError(
                f"its input {name} is {opened.kind(tensor)}: it computes in integers"
            )
    for name in ("input_node", *_STATES):
        if name not in opened.inputs:
            raise UnreadLiteError(f"it has no input {name}")
    for name in OUTPUTS:
        if name not in opened.outputs:
            raise UnreadLiteError(f"it has no output {name}")
    return opened


def _read(path: Path) -> LiteModel:
    graph = _open(path)
    shape = tuple(int(n) for n in graph.tensors[graph.inputs["input_node"]].shape)
    if len(shape) != 4 or shape[0] != 1 or shape[2] % 2 == 0:
        raise UnreadLiteError(f"input_node has the shape {list(shape)}")
    run = LiteRun(graph, OUTPUTS)
    random = np.random.default_rng(0)
    inputs = {"input_node": random.standard_normal(shape, np.float32) * 4}
    for name in _STATES:
        size = [int(n) for n in graph.tensors[graph.inputs[name]].shape]
        inputs[name] = random.standard_normal(size, np.float32) * np.float32(0.5)
    with np.errstate(all="ignore"):
        given = run(inputs)
    weights = _weights(run.dense)
    clip = _one(run.limits, "limit of the clipped ReLU")
    with np.errstate(all="ignore"):
        wanted = _network(weights, clip, inputs)
    for name in OUTPUTS:
        difference = float(np.abs(given[name].ravel() - wanted[name].ravel()).max())
        if not difference <= _SAME:
            raise UnreadLiteError(
                f"its operations give another {name} than the known network (by {difference:.2g})"
            )
    stored = sorted(graph.stored) or ["float32"]
    return LiteModel(
        weights, _flags(graph, shape, weights, clip), _labels(graph), " and ".join(stored)
    )


def _one(found: set[float], what: str) -> float:
    if len(found) != 1:
        raise UnreadLiteError(f"it has {len(found)} values as the {what}")
    return next(iter(found))


def _weights(dense: list[tuple[Array, Array]]) -> AcousticWeights:
    """The weights of the network, from its layers in the order in which they run.

    Args:
        dense: (outputs, inputs) and (outputs,) of each layer; the LSTM is between the third and
            fifth.
    """
    if len(dense) != len(_DENSE):
        raise UnreadLiteError(
            f"it has {len(dense)} layers with weights, the known network {len(_DENSE)}"
        )
    names = [LSTM_SCOPE if layer == "lstm" else layer for layer in _DENSE]
    kernels = {
        f"{name}/{'kernel' if name == LSTM_SCOPE else 'weights'}": np.ascontiguousarray(w.T)
        for name, (w, _) in zip(names, dense, strict=True)
    }
    biases = {f"{name}/bias": b for name, (_, b) in zip(names, dense, strict=True)}
    return weights_from_named(kernels | biases)


def _network(
    weights: AcousticWeights, clip: float, inputs: Mapping[str, Array]
) -> dict[str, Array]:
    """Runs the DeepSpeech network on one chunk; see ``network.py``."""

    def dense(x: Array, layer: str) -> Array:
        kernel: Array = getattr(weights, f"{layer}_weights")
        bias: Array = getattr(weights, f"{layer}_bias")
        values: Array = x @ kernel + bias
        return values

    def clipped(x: Array, layer: str) -> Array:
        values: Array = np.minimum(np.maximum(dense(x, layer), 0), np.float32(clip))
        return values

    x = inputs["input_node"].reshape(inputs["input_node"].shape[1], -1)
    for layer in ("layer_1", "layer_2", "layer_3"):
        x = clipped(x, layer)
    c, h = (inputs[name].reshape(1, -1) for name in _STATES)
    rows = []
    for step in x:
        gates = np.concatenate([step[None], h], axis=1) @ weights.lstm_kernel + weights.lstm_bias
        i, j, f, o = np.split(gates, 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(j)
        h = sigmoid(o) * np.tanh(c)
        rows.append(h)
    x = dense(clipped(np.concatenate(rows), "layer_5"), "layer_6")
    return {"logits": softmax(x), "new_state_c": c, "new_state_h": h}


def _flags(
    graph: LiteGraph, shape: tuple[int, ...], weights: AcousticWeights, clip: float
) -> ExportFlags:
    """The flags of the model's export, from its inputs, its features and its ``metadata_*``."""
    features = _features(graph)
    rate = whole(graph, "metadata_sample_rate", features.get("sample_rate"))
    window = features.get("window_size", 0) * 1000 // rate
    step = features.get("stride", 0) * 1000 // rate
    language = metadata_bytes(graph, "metadata_language")
    text = "" if language is None else strings(language)[0].decode("utf-8", "replace")
    return ExportFlags(
        n_steps=shape[1],
        n_hidden=weights.n_hidden,
        n_context=shape[2] // 2,
        n_input=shape[3],
        audio_sample_rate=rate,
        feature_win_len=whole(graph, "metadata_feature_win_len", window or None),
        feature_win_step=whole(graph, "metadata_feature_win_step", step or None),
        upper_frequency_limit=features.get("upper_frequency_limit"),
        relu_clip=clip,
        beam_width=whole(graph, "metadata_beam_width", 500),
        export_language=text,
    )


def _features(graph: LiteGraph) -> dict[str, Any]:
    """The settings of the operations that compute the features; empty without such operations.

    Raises:
        RefusedError: they differ from DeepSpeech's.
    """
    from flatbuffers import flexbuffers

    found: dict[str, Any] = {}
    for operator in graph.operators:
        code = graph.codes[operator.opcodeIndex]
        if code in ("AudioSpectrogram", "Mfcc"):
            found |= flexbuffers.Loads(bytes(bytearray(operator.customOptions)))
        if code == "Mfcc":
            found["sample_rate"] = int(constant(graph, int(operator.inputs[1])))
    usual = {
        "magnitude_squared": True,
        "filterbank_channel_count": 40,
        "lower_frequency_limit": 20.0,
    }
    for name, value in usual.items():
        if found and found.get(name) != value:
            raise UnreadLiteError(
                f"its features have {name} {found.get(name)}, DeepSpeech's {value}"
            )
    return found


def whole(graph: LiteGraph, name: str, otherwise: int | None) -> int:
    """An integer that a model states; if it does not, ``otherwise``."""
    raw = metadata_bytes(graph, name)
    if raw is not None:
        return int(struct.unpack_from("<i", raw)[0])
    if otherwise is None:
        raise UnreadLiteError(f"it has neither {name} nor features of its own")
    return int(otherwise)


def _labels(graph: LiteGraph) -> tuple[bytes, ...]:
    raw = metadata_bytes(graph, "metadata_alphabet")
    if raw is None:
        raise UnreadLiteError("it has no metadata_alphabet")
    return tuple(unpack_labels(strings(raw)[0]))
