"""Checks that a frozen graph computes the DeepSpeech network, and nothing else.

Weights have the same meaning only if they are used in the same way. So a graph is compared with the
graph that ``export`` writes of its weights: from the outputs back to the inputs, every operation,
attribute and constant. Variations of genuine exporters are accepted: names, identities, the rank of
an axis. Anything else is refused, in an error that names the node.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from asrbuild.architectures.deepspeech.signature import OUTPUTS
from asrbuild.architectures.tensorflow.convertible import other_front_end
from asrbuild.architectures.tensorflow.proto import AttrValue, DType, Graph, Node, Shape, input_name
from asrbuild.base.array import Array
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.protobuf import WireError

#: Operations that return their input.
_SAME_VALUE = ("Identity", "StopGradient")
#: Operations with the same meaning, if the bias belongs to the last axis.
_ALIASES = {"AddV2": "Add", "BiasAdd": "Add"}
#: Default values of attributes (TensorFlow's operation definitions).
_DEFAULTS: dict[str, AttrValue] = {
    "transpose_a": False,
    "transpose_b": False,
    "data_format": b"NHWC",
    "keep_dims": False,
    "forget_bias": 1.0,
    "cell_clip": 3.0,
    "use_peephole": False,
    "Truncate": False,
    "axis": 0,
    "begin_mask": 0,
    "end_mask": 0,
    "ellipsis_mask": 0,
    "new_axis_mask": 0,
    "shrink_axis_mask": 0,
}
#: Attributes that do not change values: types of indices, and those for gradients or errors.
_IGNORED = tuple(
    """
    Tidx Tperm Tshape Tdim Tindices Tmultiples Tparams Index index_type out_type N grad_a grad_b
    bad_indices_policy
    """.split()
)
#: BlockLSTM's inputs wci, wcf and wco, which it reads only if ``use_peephole`` is set.
_PEEPHOLES = (5, 6, 7)


def check_same_network(graph: Graph, expected: Graph, weights: Collection[str]) -> None:
    """Compares all nodes that the outputs of two graphs depend on.

    Args:
        graph: the graph that was read.
        expected: the DeepSpeech network's graph with the same weights.
        weights: names of the constants whose values are the weights, in both.

    Raises:
        AsrbuildError: it names the first different node.
    """
    seen: set[tuple[str, str]] = set()
    axes: set[tuple[str, str]] = set()
    waiting = [(name, name) for name in OUTPUTS]
    while waiting:
        pair = waiting.pop()
        if pair in seen:
            continue
        seen.add(pair)
        (node, slot), (other, other_slot) = _source(graph, pair[0]), _source(expected, pair[1])
        if other.name in weights:
            problem = (
                None
                if node.name == other.name
                else f"{_named(node)} is in the place of {other.name}"
            )
        elif (constant := _constant(expected, other)) is not None:
            problem = _constant_problem(_constant(graph, node), constant, node, other)
            if problem and pair in axes and _constant(graph, node) == constant - 2:
                problem = None  # the last of two axes, counted from the end
        elif node.op == "Relu6" and (below := _below_six(expected, other)) is not None:
            waiting.append((_data(node)[0], below))
            continue
        else:
            problem = _problem(node, other)
            if problem is None and slot != other_slot:
                problem = f"output {slot} of {_named(node)} is read, expected {other_slot}"
            if problem is None:
                waiting += _inputs(node, other)
                axes |= {waiting[-1]} if node.op == "Mean" else set()
        if problem is not None:
            raise _another(graph, problem)


def _source(graph: Graph, reference: str) -> tuple[Node, int]:
    """The node that computes a value, skipping identities, and the number of its output."""
    while True:
        node = graph.by_name.get(input_name(reference))
        if node is None:
            raise _another(graph, f"it has no {input_name(reference)}")
        if node.op not in _SAME_VALUE or not _data(node):
            _, _, slot = reference.partition(":")
            return node, int(slot or 0)
        reference = _data(node)[0]


def _data(node: Node) -> list[str]:
    """The inputs of a node, without control inputs."""
    return [reference for reference in node.inputs if not reference.startswith("^")]


def _constant(graph: Graph, node: Node) -> Array | None:
    """The value of a constant or of a filled constant; None for other nodes."""
    try:
        if node.op == "Const":
            return node.value
        if node.op == "Fill":
            dims, value = (_constant(graph, _source(graph, name)[0]) for name in _data(node))
            if dims is not None and value is not None:
                return np.full(dims.ravel(), value)
    except (WireError, KeyError, ValueError) as error:
        raise AsrbuildError(f"constant {node.name}: {error}", file=graph.path) from error
    return None


def _constant_problem(found: Array | None, expected: Array, node: Node, other: Node) -> str | None:
    if found is None:
        return f"{_named(node)} is in the place of the constant {other.name}"
    if found.size == expected.size and np.array_equal(found.ravel(), expected.ravel()):
        return None
    return f"{_named(node)} is {_short(found)}, expected {_short(expected)}"


def _below_six(expected: Graph, other: Node) -> str | None:
    """The x of a ``Relu6``, which is ``minimum(relu(x), 6)``; None for another node."""
    if other.op != "Minimum" or _constant(expected, _source(expected, other.inputs[1])[0]) != 6.0:
        return None
    return _source(expected, other.inputs[0])[0].inputs[0]


def _short(array: Array) -> str:
    return str(array.ravel().tolist()) if array.size <= 4 else f"an array {array.shape}"


def _problem(node: Node, other: Node) -> str | None:
    """The difference of two nodes, without their inputs; None if they are equal."""
    if _ALIASES.get(node.op, node.op) != _ALIASES.get(other.op, other.op):
        return f"{_named(node)} is in the place of {_named(other)}"
    if len(_data(node)) != len(_data(other)):
        return f"{_named(node)} has {len(_data(node))} inputs, expected {len(_data(other))}"
    if node.op == "Placeholder" and node.name != other.name:
        return f"{_named(node)} is in the place of {other.name}"
    for key in sorted(node.attrs.keys() | other.attrs.keys()):
        if key in _IGNORED or key.startswith("_"):
            continue
        found, expected = _attribute(node, key), _attribute(other, key)
        if found != expected and not _open_batch(found, expected):
            return f"{_named(node)} has {key} {_text(found)}, expected {_text(expected)}"
    return None


def _open_batch(found: AttrValue | None, expected: AttrValue | None) -> bool:
    """Whether a shape with an open batch size matches the expected shape for one utterance."""
    if not isinstance(found, Shape) or not isinstance(expected, Shape):
        return False
    if not found.dims or not expected.dims or found.dims[0] is not None:
        return False
    return found.dims[1:] == expected.dims[1:]


def _attribute(node: Node, key: str) -> AttrValue | None:
    value = node.attrs.get(key, _DEFAULTS.get(key))
    if key == "cell_clip" and isinstance(value, float):
        return max(value, 0.0)  # the kernel clips only if it is above 0
    return value


def _text(value: AttrValue | None) -> str:
    if isinstance(value, DType):
        return value.name
    if isinstance(value, Shape):
        return "unknown" if value.dims is None else str(value.dims)
    return "none" if value is None else str(value)


def _inputs(node: Node, other: Node) -> list[tuple[str, str]]:
    pairs = list(zip(_data(node), _data(other), strict=True))
    if node.op == "BlockLSTM" and not _attribute(node, "use_peephole"):
        return [pair for index, pair in enumerate(pairs) if index not in _PEEPHOLES]
    return pairs


def _named(node: Node) -> str:
    return f"{node.name} ({node.op})"


def _another(graph: Graph, problem: str) -> AsrbuildError:
    fix = "export it again with the code of DeepSpeech or Coqui STT, for inference"
    keys = other_front_end(graph, OUTPUTS)
    if keys is not None:
        fix += f"; or, if it is meant to be another network, let coremltools convert it: {keys}"
    return AsrbuildError(
        f"the graph computes something else than the DeepSpeech network: {problem}",
        key="coreml.frontend" if keys is not None else "source.path",
        file=graph.path,
        fix=fix,
    )
