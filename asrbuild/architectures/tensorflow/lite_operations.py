"""Runs the operations of a TensorFlow Lite file in float32 with numpy.

TensorFlow Lite's own kernels for int8 weights also round the activations to int8, row by row; that
rounding belongs to the kernels, not to the model, and is omitted. Source: the reference kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from asrbuild.architectures.tensorflow.lite import LiteGraph, UnreadLiteError, constant
from asrbuild.base.array import Array


class LiteRun:
    """Runs a file's operations in float32, and records the layers and limits that it finds."""

    def __init__(self, graph: LiteGraph, outputs: Sequence[str]) -> None:
        self.graph, self.outputs = graph, outputs
        self.dense: list[tuple[Array, Array]] = []
        self.limits: set[float] = set()
        self._seen: set[bytes] = set()
        self._values: dict[int, Array] = {}
        self._made_by = {int(t): op for op in graph.operators for t in op.outputs}

    def __call__(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        self._values = {self.graph.inputs[name]: value for name, value in inputs.items()}
        for operator in self._needed():
            self._step(operator)
        return {name: self._value(self.graph.outputs[name]) for name in self.outputs}

    def _needed(self) -> list[Any]:
        """The operators that the outputs depend on, in the file's order."""
        needed: set[int] = set()
        waiting = [self.graph.outputs[name] for name in self.outputs]
        while waiting:
            operator = self._made_by.get(waiting.pop())
            if operator is not None and id(operator) not in needed:
                needed.add(id(operator))
                waiting += [int(t) for t in operator.inputs if t >= 0]
        return [operator for operator in self.graph.operators if id(operator) in needed]

    def _value(self, tensor: int) -> Array:
        if tensor not in self._values:
            self._values[tensor] = constant(self.graph, tensor)
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
            raise UnreadLiteError(f"the operation {code} is not one of the known network")
        if code == "MINIMUM":
            constants = [int(t) for t in operator.inputs if self.graph.raw(int(t)) is not None]
            self.limits |= {float(self._value(constant)) for constant in constants}
        for tensor, value in zip(operator.outputs, results, strict=True):
            self._values[int(tensor)] = _activated(value, options)

    def _fully_connected(self, operator: Any, options: Any) -> Array:
        if options is not None and (options.weightsFormat or getattr(options, "keepNumDims", 0)):
            raise UnreadLiteError("a dense layer has its weights in another order")
        x, kernel, *rest = (int(t) for t in operator.inputs)
        weights = self._value(kernel)
        if self.graph.raw(kernel) is None and self._made_by.get(kernel) is None:
            raise UnreadLiteError("a dense layer has no weights of its own")
        bias = self._value(rest[0]) if rest and rest[0] >= 0 else np.zeros(len(weights), np.float32)
        content = weights.tobytes() + bias.tobytes()
        if content not in self._seen:
            self._seen.add(content)
            self.dense.append((weights, bias))
        values: Array = self._value(x).reshape(-1, weights.shape[1]) @ weights.T + bias
        return values


def sigmoid(x: Array) -> Array:
    return np.float32(0.5) * (np.tanh(np.float32(0.5) * x) + np.float32(1))


def softmax(x: Array) -> Array:
    raised = np.exp(x - x.max(axis=-1, keepdims=True))
    shares: Array = raised / raised.sum(axis=-1, keepdims=True)
    return shares


def _activated(value: Array, options: Any) -> Array:
    kind = getattr(options, "fusedActivationFunction", 0)
    if kind == 0:
        return value
    if kind != 1:
        raise UnreadLiteError(f"an operation has the activation {kind}")
    return np.maximum(value, 0)


def _softmax_of(options: Any, x: Array) -> list[Array]:
    if options is not None and options.beta != 1:
        raise UnreadLiteError(f"its softmax has beta {options.beta}")
    return [softmax(x)]


def _strided_slice(options: Any, x: Array, begin: Array, end: Array, strides: Array) -> list[Array]:
    if options.ellipsisMask or options.newAxisMask:
        raise UnreadLiteError("a slice adds or leaves out axes")
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
    "DEQUANTIZE": _pointwise(lambda x: x),  # constants are float32 already
    "LOGISTIC": _pointwise(sigmoid),
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
    "UNPACK": lambda options, x: [
        np.squeeze(part, options.axis) for part in np.split(x, options.num, axis=options.axis)
    ],
}
