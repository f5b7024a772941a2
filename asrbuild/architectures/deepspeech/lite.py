"""DeepSpeech's TensorFlow Lite model as the frozen graph that it was exported with.

A ``.tflite`` of DeepSpeech computes one chunk: three dense layers, the LSTM unrolled over the
chunk's steps, two dense layers, a softmax. Its weights are float32, float16 or int8; an int8 weight
``q`` stands for ``scale * (q - zero_point)``, which is computed here in float32 as TensorFlow
Lite's DEQUANTIZE does. TensorFlow Lite's own kernels for int8 weights round the activations to
int8 as well, line by line; that rounding belongs to the kernels, not to the model, and is left out.
The graph that is written is the reference of a build.

The operations are not taken on trust: the file's own operations are run here on random input and
must give what the known network gives with the weights that were found. What is not understood is
refused.

Sources: TensorFlow Lite's ``schema.fbs`` and the reference kernels; DeepSpeech's
``create_inference_graph`` with ``tflite=True``.
"""

from __future__ import annotations

import importlib.util
import math
import struct
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from types import ModuleType
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
from asrbuild.architectures.tensorflow.inspect import GraphSummary, Metadata
from asrbuild.base.array import Array
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.kinds.places import LITE
from asrbuild.base.kinds.recognition import require

METADATA = "metadata_"
#: Types that weights are stored in; whole numbers of more bits are sizes, places and biases.
WEIGHTS = ("float16", "float32", "float64", "int4", "int8", "uint8", "int16")
_STATES = ("previous_state_c", "previous_state_h")
_DENSE = ("layer_1", "layer_2", "layer_3", "lstm", "layer_5", "layer_6")
_SCHEMA = "lite/python/schema_py_generated.py"
_FIX = (
    "give the .tflite that DeepSpeech's or Coqui STT's --export_tflite wrote, or its frozen graph"
)
#: Of probabilities and states: float32 sums in another order.
_SAME = 1e-4


@dataclass(frozen=True)
class LiteModel:
    """A DeepSpeech ``.tflite``.

    Args:
        weights: as float32.
        flags: what it was exported with.
        labels: of the alphabet, in order.
        stored: how the weights are stored, for instance ``int8``; float32 if nothing was changed.
    """

    weights: AcousticWeights
    flags: ExportFlags
    labels: tuple[bytes, ...]
    stored: str


def write_lite_graph(path: Path, destination: Path) -> str:
    """Writes the frozen graph of a ``.tflite``; the same file gives the same bytes.

    Returns:
        How the weights are stored in the ``.tflite``, and what was made of them.

    Raises:
        AsrbuildError: the file is damaged, not of DeepSpeech, or has weights that have no float32
            values of their own.
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
    with _errors(path):
        return _read(path)


def inspect_lite(path: Path) -> GraphSummary:
    """Describes a ``.tflite``, of DeepSpeech or not; nothing of it is run.

    Of several subgraphs, inputs and outputs are those of the first, operations those of all. A
    weight is an element of a constant of one dimension and more.

    Raises:
        AsrbuildError: the file is damaged.
    """
    require(path, LITE)
    with _errors(path):
        return _describe(path)


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    try:
        yield
    except _Refused as refused:
        raise AsrbuildError(
            f"not a DeepSpeech model that can be read: {refused}", file=path, fix=_FIX
        ) from None
    except (struct.error, IndexError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise AsrbuildError(
            f"the TensorFlow Lite file is damaged: {error}",
            file=path,
            fix="copy or download it again",
        ) from error


class _Refused(Exception):  # noqa: N818 - what is in the file, not what went wrong here
    """What of a model is not understood."""


@cache
def _schema() -> ModuleType:
    """TensorFlow's generated reader of the format, without importing TensorFlow."""
    found = importlib.util.find_spec("tensorflow")
    if found is None or found.origin is None:
        raise AsrbuildError(
            "TensorFlow is not installed, so .tflite files cannot be read",
            fix="install asrbuild with its dependencies: pip install asrbuild",
        )
    file = Path(found.origin).parent / _SCHEMA
    spec = importlib.util.spec_from_file_location("asrbuild._tflite_schema", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _names(enumeration: type) -> dict[int, str]:
    return {v: k for k, v in vars(enumeration).items() if isinstance(v, int)}


@dataclass
class _Graph:
    """The only subgraph of a file; tensors by their index."""

    tensors: list[Any]
    operators: list[Any]
    buffers: list[Any]
    codes: list[str]
    inputs: dict[str, int]
    outputs: dict[str, int]
    stored: set[str]

    def name(self, tensor: int) -> str:
        return bytes(self.tensors[tensor].name or b"").decode("utf-8", "replace")

    def kind(self, tensor: int) -> str:
        return _names(_schema().TensorType)[self.tensors[tensor].type]

    def raw(self, tensor: int) -> bytes | None:
        """A constant's bytes; None of what is computed."""
        data = self.buffers[self.tensors[tensor].buffer].data
        return None if data is None or len(data) == 0 else np.asarray(data, np.uint8).tobytes()


def _subgraphs(path: Path) -> list[_Graph]:
    schema = _schema()
    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    kinds = _names(schema.BuiltinOperator)
    codes = [
        bytes(code.customCode).decode("utf-8", "replace")
        if code.customCode
        else kinds[max(code.builtinCode, code.deprecatedBuiltinCode)]
        for code in model.operatorCodes
    ]
    found = []
    for graph in model.subgraphs:
        opened = _Graph(graph.tensors, graph.operators, model.buffers, codes, {}, {}, set())
        opened.inputs |= {opened.name(i): i for i in graph.inputs}
        opened.outputs |= {opened.name(i): i for i in graph.outputs}
        found.append(opened)
    return found


def _open(path: Path) -> _Graph:
    opened, *more = _subgraphs(path)
    if more:
        raise _Refused(f"it has {1 + len(more)} subgraphs")
    for name in ("input_node", *_STATES):
        if name not in opened.inputs:
            raise _Refused(f"it has no input {name}")
    for name in OUTPUTS:
        if name not in opened.outputs:
            raise _Refused(f"it has no output {name}")
    return opened


def _describe(path: Path) -> GraphSummary:
    from asrbuild.architectures.tensorflow.inspect import GraphSummary, Port

    graphs = _subgraphs(path)
    first = graphs[0]
    made_by = {int(t): first.codes[op.opcodeIndex] for op in first.operators for t in op.outputs}

    def ports(tensors: Mapping[str, int]) -> tuple[Port, ...]:
        return tuple(
            Port(name, made_by.get(at, ""), first.kind(at).lower(), _dims(first.tensors[at]))
            for name, at in tensors.items()
            if not name.startswith(METADATA)
        )

    weights: Counter[str] = Counter()
    for graph in graphs:
        for at, tensor in enumerate(graph.tensors):
            if graph.raw(at) is not None and (dims := _dims(tensor)):
                weights[graph.kind(at).lower()] += math.prod(n or 1 for n in dims)
    ops = Counter(graph.codes[op.opcodeIndex] for graph in graphs for op in graph.operators)
    return GraphSummary(
        path=str(path),
        nbytes=path.stat().st_size,
        producer=0,
        inputs=ports(first.inputs),
        outputs=ports(first.outputs),
        metadata=tuple(_stated(first)),
        ops=dict(sorted(ops.items(), key=lambda item: (-item[1], item[0]))),
        parameters=sum(n for kind, n in weights.items() if kind in WEIGHTS),
        stored={kind: n for kind, n in sorted(weights.items()) if kind in WEIGHTS},
        variables=(),
        functions={},
        unconvertible=(),
    )


def _dims(tensor: Any) -> tuple[int | None, ...]:
    signature = tensor.shape if tensor.shapeSignature is None else tensor.shapeSignature
    return () if signature is None else tuple(None if n < 0 else int(n) for n in signature)


def _stated(graph: _Graph) -> Iterator[Metadata]:
    from asrbuild.architectures.tensorflow.inspect import UNITS, Metadata, unpack_alphabet

    for name, at in graph.outputs.items():
        raw = _metadata(graph, name) if name.startswith(METADATA) else None
        if raw is None:
            continue
        value: int | str | list[str]
        if graph.kind(at) != "STRING":
            value = _whole(graph, name, None)
        elif name == "metadata_alphabet":
            value = unpack_alphabet(_strings(raw)[0])
        else:
            value = _strings(raw)[0].decode("utf-8", "backslashreplace")
        yield Metadata(name, value, UNITS.get(name))


def _read(path: Path) -> LiteModel:
    graph = _open(path)
    shape = tuple(int(n) for n in graph.tensors[graph.inputs["input_node"]].shape)
    if len(shape) != 4 or shape[0] != 1 or shape[2] % 2 == 0:
        raise _Refused(f"input_node has the shape {list(shape)}")
    run = _Run(graph)
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
            raise _Refused(
                f"its operations give another {name} than the known network (by {difference:.2g})"
            )
    stored = sorted(graph.stored) or ["float32"]
    return LiteModel(
        weights, _flags(graph, shape, weights, clip), _labels(graph), " and ".join(stored)
    )


def _one(found: set[float], what: str) -> float:
    if len(found) != 1:
        raise _Refused(f"it has {len(found)} values as the {what}")
    return next(iter(found))


def _weights(dense: list[tuple[Array, Array]]) -> AcousticWeights:
    """The layers in the order in which they run: the LSTM's come between the third and the fifth.

    Args:
        dense: (outputs, inputs) and (outputs,) of each.
    """
    if len(dense) != len(_DENSE):
        raise _Refused(f"it has {len(dense)} layers with weights, the known network {len(_DENSE)}")
    names = [LSTM_SCOPE if layer == "lstm" else layer for layer in _DENSE]
    kernels = {f"{name}/{'kernel' if name == LSTM_SCOPE else 'weights'}": np.ascontiguousarray(w.T)
               for name, (w, _) in zip(names, dense, strict=True)}  # fmt: skip
    biases = {f"{name}/bias": b for name, (_, b) in zip(names, dense, strict=True)}
    return weights_from_named(kernels | biases)


def _network(
    weights: AcousticWeights, clip: float, inputs: Mapping[str, Array]
) -> dict[str, Array]:
    """The known network on one chunk; see :mod:`asrbuild.architectures.deepspeech.network`."""

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
        c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(j)
        h = _sigmoid(o) * np.tanh(c)
        rows.append(h)
    x = dense(clipped(np.concatenate(rows), "layer_5"), "layer_6")
    return {"logits": _softmax(x), "new_state_c": c, "new_state_h": h}


def _sigmoid(x: Array) -> Array:
    return np.float32(0.5) * (np.tanh(np.float32(0.5) * x) + np.float32(1))


def _softmax(x: Array) -> Array:
    raised = np.exp(x - x.max(axis=-1, keepdims=True))
    shares: Array = raised / raised.sum(axis=-1, keepdims=True)
    return shares


class _Run:
    """Runs a file's operations in float32, and notes the layers and limits that it meets."""

    def __init__(self, graph: _Graph) -> None:
        self.graph = graph
        self.dense: list[tuple[Array, Array]] = []
        self.limits: set[float] = set()
        self._seen: set[bytes] = set()
        self._values: dict[int, Array] = {}
        self._made_by = {int(t): op for op in graph.operators for t in op.outputs}

    def __call__(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        self._values = {self.graph.inputs[name]: value for name, value in inputs.items()}
        for operator in self._needed():
            self._step(operator)
        return {name: self._value(self.graph.outputs[name]) for name in OUTPUTS}

    def _needed(self) -> list[Any]:
        """The operators behind the outputs, in the file's order."""
        needed: set[int] = set()
        waiting = [self.graph.outputs[name] for name in OUTPUTS]
        while waiting:
            operator = self._made_by.get(waiting.pop())
            if operator is not None and id(operator) not in needed:
                needed.add(id(operator))
                waiting += [int(t) for t in operator.inputs if t >= 0]
        return [operator for operator in self.graph.operators if id(operator) in needed]

    def _value(self, tensor: int) -> Array:
        if tensor not in self._values:
            self._values[tensor] = _constant(self.graph, tensor)
        return self._values[tensor]

    def _step(self, operator: Any) -> None:
        code = self.graph.codes[operator.opcodeIndex]
        options = operator.builtinOptions
        if code == "FULLY_CONNECTED":
            results = [self._fully_connected(operator, options)]
        elif code in _OPERATIONS:
            values = [self._value(int(t)) for t in operator.inputs]
            results = _OPERATIONS[code](options, *values)
        else:
            raise _Refused(f"the operation {code} is not one of the known network")
        if code == "MINIMUM":
            constants = [int(t) for t in operator.inputs if self.graph.raw(int(t)) is not None]
            self.limits |= {float(self._value(constant)) for constant in constants}
        for tensor, value in zip(operator.outputs, results, strict=True):
            self._values[int(tensor)] = _activated(value, options)

    def _fully_connected(self, operator: Any, options: Any) -> Array:
        if options is not None and (options.weightsFormat or getattr(options, "keepNumDims", 0)):
            raise _Refused("a dense layer has its weights in another order")
        x, kernel, *rest = (int(t) for t in operator.inputs)
        weights = self._value(kernel)
        if self.graph.raw(kernel) is None and self._made_by.get(kernel) is None:
            raise _Refused("a dense layer has no weights of its own")
        bias = self._value(rest[0]) if rest and rest[0] >= 0 else np.zeros(len(weights), np.float32)
        content = weights.tobytes() + bias.tobytes()
        if content not in self._seen:
            self._seen.add(content)
            self.dense.append((weights, bias))
        values: Array = self._value(x).reshape(-1, weights.shape[1]) @ weights.T + bias
        return values


def _constant(graph: _Graph, tensor: int) -> Array:
    """A constant's values: float32, or whole numbers where they are sizes and places."""
    described, raw = graph.tensors[tensor], graph.raw(tensor)
    name, kind = graph.name(tensor), graph.kind(tensor)
    if raw is None:
        raise _Refused(f"{name} has no value")
    if getattr(described, "sparsity", None) is not None:
        raise _Refused(f"{name} is stored as a sparse tensor")
    types = {"FLOAT32": "<f4", "FLOAT16": "<f2", "INT32": "<i4", "INT64": "<i8",
             "INT8": "i1", "UINT8": "u1"}  # fmt: skip
    if kind not in types:
        raise _Refused(f"{name} has elements of type {kind}")
    shape = [] if described.shape is None else [int(n) for n in described.shape]
    values = np.frombuffer(raw, types[kind]).reshape(shape)
    if kind == "FLOAT16":
        graph.stored.add("float16")
        return values.astype(np.float32)
    if kind not in ("INT8", "UINT8"):
        return values
    quantised = described.quantization
    if quantised is None or quantised.scale is None or len(quantised.scale) == 0:
        raise _Refused(f"{name} is {kind} without a scale")
    graph.stored.add(kind.lower())
    scale: Array = np.asarray(quantised.scale, np.float32)
    zero: Array = np.zeros(len(scale), np.int32)
    if quantised.zeroPoint is not None and len(quantised.zeroPoint):
        zero = np.asarray(quantised.zeroPoint).astype(np.int32)
    if len(scale) > 1:
        along = [1] * values.ndim
        along[int(quantised.quantizedDimension)] = -1
        scale, zero = scale.reshape(along), zero.reshape(along)
    return scale * (values.astype(np.int32) - zero).astype(np.float32)


def _activated(value: Array, options: Any) -> Array:
    kind = getattr(options, "fusedActivationFunction", 0)
    if kind == 0:
        return value
    if kind != 1:
        raise _Refused(f"an operation has the activation {kind}")
    return np.maximum(value, 0)


def _softmax_of(options: Any, x: Array) -> list[Array]:
    if options is not None and options.beta != 1:
        raise _Refused(f"its softmax has beta {options.beta}")
    return [_softmax(x)]


def _strided_slice(options: Any, x: Array, begin: Array, end: Array, strides: Array) -> list[Array]:
    if options.ellipsisMask or options.newAxisMask:
        raise _Refused("a slice adds or leaves out axes")
    index: list[slice | int] = []
    for axis in range(len(begin)):
        if options.shrinkAxisMask >> axis & 1:
            index.append(int(begin[axis]))
            continue
        first = None if options.beginMask >> axis & 1 else int(begin[axis])
        last = None if options.endMask >> axis & 1 else int(end[axis])
        index.append(slice(first, last, int(strides[axis])))
    return [x[tuple(index)]]


def _pointwise(function: Callable[..., Array]) -> Callable[..., list[Array]]:
    return lambda options, *values: [function(*values)]


_OPERATIONS: dict[str, Callable[..., list[Array]]] = {
    "ADD": _pointwise(np.add),
    "CONCATENATION": lambda options, *xs: [np.concatenate(xs, axis=options.axis)],
    "DEQUANTIZE": _pointwise(lambda x: x),  # a constant has its float32 values already
    "LOGISTIC": _pointwise(_sigmoid),
    "MINIMUM": _pointwise(np.minimum),
    "MUL": _pointwise(np.multiply),
    "PACK": lambda options, *xs: [np.stack(xs, axis=options.axis)],
    "RELU": _pointwise(partial(np.maximum, 0)),
    "RESHAPE": lambda options, x, *shape: [
        x.reshape([int(n) for n in (shape[0] if shape else options.newShape)])
    ],
    "SOFTMAX": _softmax_of,
    "SPLIT": lambda options, axis, x: np.split(x, options.numSplits, axis=int(axis)),
    "STRIDED_SLICE": _strided_slice,
    "TANH": _pointwise(np.tanh),
    "TRANSPOSE": _pointwise(lambda x, axes: x.transpose([int(n) for n in axes])),
    "UNPACK": lambda options, x: [np.squeeze(part, options.axis)
                                  for part in np.split(x, options.num, axis=options.axis)],
}  # fmt: skip


def _flags(
    graph: _Graph, shape: tuple[int, ...], weights: AcousticWeights, clip: float
) -> ExportFlags:
    """What the model was exported with, by its inputs, its features and its ``metadata_*``."""
    features = _features(graph)
    rate = _whole(graph, "metadata_sample_rate", features.get("sample_rate"))
    window = features.get("window_size", 0) * 1000 // rate
    step = features.get("stride", 0) * 1000 // rate
    language = _metadata(graph, "metadata_language")
    text = "" if language is None else _strings(language)[0].decode("utf-8", "replace")
    return ExportFlags(
        n_steps=shape[1],
        n_hidden=weights.n_hidden,
        n_context=shape[2] // 2,
        n_input=shape[3],
        audio_sample_rate=rate,
        feature_win_len=_whole(graph, "metadata_feature_win_len", window or None),
        feature_win_step=_whole(graph, "metadata_feature_win_step", step or None),
        upper_frequency_limit=features.get("upper_frequency_limit"),
        relu_clip=clip,
        beam_width=_whole(graph, "metadata_beam_width", 500),
        export_language=text,
    )


def _features(graph: _Graph) -> dict[str, Any]:
    """Settings of the operations that compute the features; empty where it has none.

    Raises:
        _Refused: they are not those of DeepSpeech.
    """
    from flatbuffers import flexbuffers

    found: dict[str, Any] = {}
    for operator in graph.operators:
        code = graph.codes[operator.opcodeIndex]
        if code in ("AudioSpectrogram", "Mfcc"):
            found |= flexbuffers.Loads(bytes(bytearray(operator.customOptions)))
        if code == "Mfcc":
            found["sample_rate"] = int(_constant(graph, int(operator.inputs[1])))
    usual = {"magnitude_squared": True, "filterbank_channel_count": 40,
             "lower_frequency_limit": 20.0}  # fmt: skip
    for name, value in usual.items():
        if found and found.get(name) != value:
            raise _Refused(f"its features have {name} {found.get(name)}, DeepSpeech's {value}")
    return found


def _metadata(graph: _Graph, name: str) -> bytes | None:
    """The bytes of the constant behind a ``metadata_*`` output; None where there is none."""
    tensor = graph.outputs.get(name)
    if tensor is None:
        return None
    made_by = {int(t): op for op in graph.operators for t in op.outputs}
    while (raw := graph.raw(tensor)) is None:
        # Each once: a damaged file may have a loop.
        operator = made_by.pop(tensor, None)
        if operator is None or graph.codes[operator.opcodeIndex] not in ("RESHAPE", "IDENTITY"):
            return None
        tensor = int(operator.inputs[0])
    return raw


def _whole(graph: _Graph, name: str, otherwise: int | None) -> int:
    raw = _metadata(graph, name)
    if raw is not None:
        return int(struct.unpack_from("<i", raw)[0])
    if otherwise is None:
        raise _Refused(f"it has neither {name} nor features of its own")
    return int(otherwise)


def _strings(raw: bytes) -> list[bytes]:
    """A string tensor: how many, where each begins and the last ends, then all of them."""
    (count,) = struct.unpack_from("<i", raw)
    bounds = struct.unpack_from(f"<{count + 1}i", raw, 4)
    return [raw[a:b] for a, b in pairwise(bounds)]


def _labels(graph: _Graph) -> tuple[bytes, ...]:
    from asrbuild.architectures.tensorflow.inspect import unpack_labels

    raw = _metadata(graph, "metadata_alphabet")
    if raw is None:
        raise _Refused("it has no metadata_alphabet")
    return tuple(unpack_labels(_strings(raw)[0]))
