"""Shapes of a frozen graph's values, computed from the graph alone.

Covers the operations that DeepSpeech's inference graphs are made of, and close kin. Whatever is not
covered has an unknown shape, never a guessed one. Small integer values (shapes, axes) are carried
along, because ``Reshape`` and others take their result's shape from them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from asrbuild.architectures.tensorflow.proto import Graph, Node, Shape, Tensor, input_name
from asrbuild.base.protobuf import WireError

UNKNOWN = Shape(None)
_SMALL = 64  # elements up to which an integer constant's value is followed
Dims = tuple[int | None, ...]


@dataclass(frozen=True)
class Value:
    """What is known of one value: its dimensions, and its elements where they are small ints."""

    dims: Dims | None
    known: tuple[int | None, ...] | None = None


_NOTHING = Value(None)
_Rule = Callable[[Node, Sequence[Value]], "Value | tuple[Value, ...]"]
_RULES: dict[str, _Rule] = {}


def infer_shapes(graph: Graph) -> dict[str, Shape]:
    """Node name -> shape of its first output."""
    values: dict[str, tuple[Value, ...]] = {}
    for node in graph.nodes:
        _infer(graph, node.name, values)
    return {name: Shape(outputs[0].dims) for name, outputs in values.items()}


def _infer(graph: Graph, wanted: str, values: dict[str, tuple[Value, ...]]) -> None:
    """Infers one node and what it reads; nodes may come in any order, and in loops."""
    stack = [wanted]
    begun: set[str] = set()
    while stack:
        name = stack[-1]
        node = graph.by_name[name]
        sources = [input_name(item) for item in node.inputs if not item.startswith("^")]
        missing = [item for item in sources if item not in values and item not in begun]
        if name not in values and missing:
            begun.add(name)
            stack += missing
            continue
        stack.pop()
        if name not in values:
            inputs = [_pick(item, values) for item in node.inputs if not item.startswith("^")]
            values[name] = _apply(node, inputs)


def _pick(reference: str, values: dict[str, tuple[Value, ...]]) -> Value:
    outputs = values.get(input_name(reference), (_NOTHING,))
    index = int(reference.partition(":")[2] or 0)
    return outputs[index] if index < len(outputs) else _NOTHING


def _apply(node: Node, inputs: Sequence[Value]) -> tuple[Value, ...]:
    rule = _RULES.get(node.op)
    if rule is None:
        return (_NOTHING,)
    try:
        result = rule(node, inputs)
    except (IndexError, KeyError, TypeError, ValueError, WireError):
        # The node does not have the inputs its operation asks for: nothing is known of it.
        return (_NOTHING,)
    return result if isinstance(result, tuple) else (result,)


def _rule(*ops: str) -> Callable[[_Rule], _Rule]:
    def register(rule: _Rule) -> _Rule:
        _RULES.update(dict.fromkeys(ops, rule))
        return rule

    return register


def _count(dims: Sequence[int | None]) -> int | None:
    sizes = Shape(tuple(dims)).known
    return None if sizes is None else int(np.prod(sizes, dtype=np.int64))


def _known(value: Value) -> tuple[int | None, ...]:
    if value.known is None:
        raise ValueError("a value that only a run can tell")
    return value.known


def _numbers(value: Value) -> tuple[int, ...]:
    known = _known(value)
    numbers = tuple(number for number in known if number is not None)
    if len(numbers) < len(known):
        raise ValueError("a value that only a run can tell")
    return numbers


def _attribute(node: Node, key: str, default: int | None = None) -> int:
    value = node.attrs.get(key, default)
    if not isinstance(value, int):
        raise TypeError(f"{node.name} has no whole number {key}")
    return value


def _vector(elements: Sequence[int | None]) -> Value:
    return Value((len(elements),), tuple(elements))


@_rule("Placeholder")
def _placeholder(node: Node, _: Sequence[Value]) -> Value:
    shape = node.attrs.get("shape", UNKNOWN)
    return Value(shape.dims if isinstance(shape, Shape) else None)


@_rule("Const")
def _const(node: Node, _: Sequence[Value]) -> Value:
    tensor = node.attrs["value"]
    if not isinstance(tensor, Tensor):
        return _NOTHING
    dtype = tensor.dtype.numpy
    if dtype is not None and dtype.kind in "iu" and (_count(tensor.shape) or 0) <= _SMALL:
        return Value(tensor.shape, tuple(int(item) for item in tensor.array().ravel()))
    return Value(tensor.shape)


@_rule("Identity", "Cast", "StopGradient", "Snapshot")
def _same(_: Node, inputs: Sequence[Value]) -> Value:
    return inputs[0]


@_rule(
    "Relu", "Relu6", "Softmax", "LogSoftmax", "Tanh", "Sigmoid", "BiasAdd", "Neg", "Exp", "Log",
    "Square", "Sqrt", "Rsqrt", "LogicalNot", "Elu", "Selu", "Abs",
)  # fmt: skip
def _unary(_: Node, inputs: Sequence[Value]) -> Value:
    return Value(inputs[0].dims)


@_rule(
    "Add", "AddV2", "Sub", "Mul", "Div", "RealDiv", "Minimum", "Maximum", "Less", "LessEqual",
    "Greater", "GreaterEqual", "Equal", "LogicalAnd", "LogicalOr", "Pow", "SquaredDifference",
)  # fmt: skip
def _broadcast(_: Node, inputs: Sequence[Value]) -> Value:
    a, b = inputs[0].dims, inputs[1].dims
    if a is None or b is None:
        return _NOTHING
    rank = max(len(a), len(b))
    pairs = zip((1,) * (rank - len(a)) + a, (1,) * (rank - len(b)) + b, strict=True)
    return Value(tuple(_wider(x, y) for x, y in pairs))


def _wider(a: int | None, b: int | None) -> int | None:
    if a == 1 or b == 1:
        return b if a == 1 else a
    return b if a is None else a


@_rule("MatMul")
def _matmul(node: Node, inputs: Sequence[Value]) -> Value:
    a, b = inputs[0].dims, inputs[1].dims
    rows = None if a is None else a[1 if node.attrs.get("transpose_a") else 0]
    columns = None if b is None else b[0 if node.attrs.get("transpose_b") else 1]
    return Value((rows, columns))


@_rule("Transpose")
def _transpose(_: Node, inputs: Sequence[Value]) -> Value:
    dims = inputs[0].dims
    if dims is None:
        return Value((None,) * len(_known(inputs[1])))
    return Value(tuple(dims[axis] for axis in _numbers(inputs[1])))


@_rule("Reshape")
def _reshape(_: Node, inputs: Sequence[Value]) -> Value:
    if inputs[1].known is None:
        rank = inputs[1].dims and inputs[1].dims[0]
        return Value((None,) * rank) if isinstance(rank, int) else _NOTHING
    target = [None if size is None or size < 0 else size for size in inputs[1].known]
    total = None if inputs[0].dims is None else _count(inputs[0].dims)
    free = [axis for axis, size in enumerate(target) if size is None]
    fixed = _count([size for size in target if size is not None])
    if total is not None and len(free) == 1 and fixed:
        target[free[0]] = total // fixed
    return Value(tuple(target), inputs[0].known)


@_rule("ExpandDims")
def _expand(_: Node, inputs: Sequence[Value]) -> Value:
    dims, axis = inputs[0].dims, _numbers(inputs[1])[0]
    if dims is None:
        return _NOTHING
    at = axis if axis >= 0 else axis + len(dims) + 1
    return Value((*dims[:at], 1, *dims[at:]), inputs[0].known)


@_rule("Squeeze")
def _squeeze(node: Node, inputs: Sequence[Value]) -> Value:
    dims, axes = inputs[0].dims, node.attrs.get("squeeze_dims") or []
    if dims is None:
        return _NOTHING
    if not isinstance(axes, list):
        raise TypeError(f"{node.name} has no list squeeze_dims")
    if not axes:
        return _NOTHING if None in dims else Value(tuple(d for d in dims if d != 1))
    gone = {axis % len(dims) for axis in axes}
    return Value(tuple(d for axis, d in enumerate(dims) if axis not in gone), inputs[0].known)


@_rule("ConcatV2")
def _concat(_: Node, inputs: Sequence[Value]) -> Value:
    *parts, axis_value = inputs
    axis = _numbers(axis_value)[0]
    known = [part.dims for part in parts if part.dims is not None]
    if not known:
        return _NOTHING
    dims: list[int | None] = [
        next((d[i] for d in known if d[i] is not None), None) for i in range(len(known[0]))
    ]
    sizes = [None if part.dims is None else part.dims[axis] for part in parts]
    dims[axis] = None if None in sizes else sum(size for size in sizes if size is not None)
    elements = [part.known for part in parts if part.known is not None]
    if len(dims) == 1 and len(elements) == len(parts):
        return _vector([item for known_part in elements for item in known_part])
    return Value(tuple(dims))


@_rule("Pack")
def _pack(node: Node, inputs: Sequence[Value]) -> Value:
    dims = inputs[0].dims
    if dims is None:
        return _NOTHING
    if not dims:
        return _vector([part.known[0] if part.known else None for part in inputs])
    axis = _attribute(node, "axis", 0)
    at = axis if axis >= 0 else axis + len(dims) + 1
    return Value((*dims[:at], len(inputs), *dims[at:]))


@_rule("Shape")
def _shape(_: Node, inputs: Sequence[Value]) -> Value:
    return Value((None,)) if inputs[0].dims is None else _vector(inputs[0].dims)


@_rule("StridedSlice")
def _strided_slice(node: Node, inputs: Sequence[Value]) -> Value:
    """Of a vector only: the one use in these graphs is to take a dimension of a shape."""
    begin, end, stride = (_known(value) for value in inputs[1:4])
    if inputs[0].dims is None or len(inputs[0].dims) != 1 or len(begin) != 1:
        return _NOTHING
    elements = inputs[0].known or (None,) * (inputs[0].dims[0] or 0)
    if _attribute(node, "shrink_axis_mask", 0) & 1:
        return Value((), (elements[_numbers(inputs[1])[0]],))
    start = None if _attribute(node, "begin_mask", 0) & 1 else begin[0]
    stop = None if _attribute(node, "end_mask", 0) & 1 else end[0]
    return _vector(elements[start : stop : stride[0]])


@_rule("Range")
def _range(_: Node, inputs: Sequence[Value]) -> Value:
    start, limit, delta = (value.known[0] if value.known else None for value in inputs)
    if start is None or limit is None or delta is None:
        return Value((None,))
    return _vector(list(range(start, limit, delta)))


@_rule("Fill")
def _fill(_: Node, inputs: Sequence[Value]) -> Value:
    return Value(_known(inputs[0]))


@_rule("Tile")
def _tile(_: Node, inputs: Sequence[Value]) -> Value:
    dims, times = inputs[0].dims, _known(inputs[1])
    if dims is None:
        return Value((None,) * len(times))
    pairs = zip(dims, times, strict=True)
    return Value(tuple(None if d is None or n is None else d * n for d, n in pairs))


@_rule("Max", "Min", "Sum", "Mean", "Prod")
def _reduce(node: Node, inputs: Sequence[Value]) -> Value:
    dims = inputs[0].dims
    if dims is None:
        return _NOTHING
    gone = {axis % len(dims) for axis in _numbers(inputs[1])} if dims else set()
    if node.attrs.get("keep_dims"):
        return Value(tuple(1 if axis in gone else d for axis, d in enumerate(dims)))
    return Value(tuple(d for axis, d in enumerate(dims) if axis not in gone))


@_rule("GatherNd")
def _gather_nd(_: Node, inputs: Sequence[Value]) -> Value:
    data, index = inputs[0].dims, inputs[1].dims
    if data is None or index is None or index[-1] is None:
        return _NOTHING
    return Value((*index[:-1], *data[index[-1] :]))


@_rule("BlockLSTM")
def _block_lstm(_: Node, inputs: Sequence[Value]) -> tuple[Value, ...]:
    x, state = inputs[1].dims, inputs[2].dims
    if x is None:
        return (Value((None, None, None)),) * 7
    return (Value((x[0], x[1], None if state is None else state[-1])),) * 7


@_rule("AudioSpectrogram")
def _spectrogram(node: Node, inputs: Sequence[Value]) -> Value:
    """samples [count, channels] -> [channels, windows, bins]; the FFT is the next power of two."""
    dims = inputs[0].dims or (None, None)
    window, stride = _attribute(node, "window_size"), _attribute(node, "stride")
    windows = None if dims[0] is None else max(0, 1 + (dims[0] - window) // stride)
    return Value((dims[1], windows, 1 + (1 << (window - 1).bit_length()) // 2))


@_rule("Mfcc")
def _mfcc(node: Node, inputs: Sequence[Value]) -> Value:
    dims = inputs[0].dims or (None, None, None)
    return Value((dims[0], dims[1], _attribute(node, "dct_coefficient_count")))
