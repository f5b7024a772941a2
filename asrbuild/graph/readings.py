"""Compares what asrbuild read of a source with what TensorFlow's own readers read of it.

The package's weights come from asrbuild's readers of checkpoints and of graphs, and so do the
constants of the graph that TensorFlow runs as the reference. A fault of such a reader would be on
both sides of the proof. So the process of the reference reads the source a second time.
"""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any

import numpy as np

from asrbuild.errors import AsrbuildError
from asrbuild.graph.outputs import DEFAULT_OUTPUTS
from asrbuild.graph.proto import Graph, Tensor, graph_pieces, upstream
from asrbuild.graph.session import is_large, tensorflow_errors
from asrbuild.network import OPAQUE_KERNEL, network_variables

_FIX = (
    "this is a fault of asrbuild, please report it; until it is mended, export the graph with the "
    "training code and build it with source=frozen_graph"
)


def check_checkpoint(graph: Graph, checkpoint: Path) -> None:
    """The constants of an exported graph are the variables that TensorFlow reads, bit for bit.

    Every variable is such a constant or a record of training, and every constant of more than one
    number is such a variable, or zeros.

    Args:
        graph: exported from the checkpoint.
        checkpoint: its prefix.

    Raises:
        AsrbuildError: naming the variable or constant that is another one or has no counterpart.
    """
    from tensorflow.python.training import py_checkpoint_reader

    try:
        reader = py_checkpoint_reader.NewCheckpointReader(str(checkpoint))
        names, unknown = network_variables(reader.get_variable_to_shape_map())
        if left := [name for name in unknown if name != OPAQUE_KERNEL]:
            raise _differs(graph, f"has no {left[0]}, a variable of the checkpoint")
        for name in sorted(names):
            node = graph.by_name.get(name)
            if node is None or node.op != "Const" or not _same(reader.get_tensor(name), node.value):
                raise _differs(graph, f"has another {name} than TensorFlow reads", checkpoint)
    except (ValueError, RuntimeError, *tensorflow_errors()) as error:
        raise AsrbuildError(
            f"TensorFlow cannot read the checkpoint: {error}", file=checkpoint
        ) from error
    for node in graph.nodes:
        value = node.attrs.get("value")
        if node.name in names or not isinstance(value, Tensor) or value.dtype.name != "float32":
            continue
        if np.prod(value.shape) > 1 and node.value.any():
            raise _differs(graph, f"has a constant {node.name}, not a variable of the checkpoint")


def check_graph_file(graph: Graph) -> None:
    """What a graph's outputs are computed from is in its file as TensorFlow parses it.

    Raises:
        AsrbuildError: naming the node that is another one.
    """
    from google.protobuf.message import DecodeError
    from tensorflow.core.framework import graph_pb2

    assert graph.path is not None
    theirs = graph_pb2.GraphDef()
    try:
        with (
            Path(graph.path).open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
            memoryview(content) as whole,
        ):
            theirs.ParseFromString(whole)
    except DecodeError as error:
        raise AsrbuildError("TensorFlow cannot parse the graph", file=graph.path) from error
    needed = upstream(graph, DEFAULT_OUTPUTS)
    # Large constants are compared where they lie, not written and parsed again.
    small = [graph.by_name[name] for name in needed if not is_large(graph.by_name[name])]
    ours = graph_pb2.GraphDef.FromString(b"".join(graph_pieces(small, 0)))
    written = {node.name: node for node in ours.node}
    found: set[str] = set()
    for node in theirs.node:
        if node.name not in needed:
            continue
        found.add(node.name)
        own = graph.by_name[node.name]
        same = node.op == own.op and tuple(node.input) == own.inputs
        if node.op == "Const":
            same = same and _same(_array(node.attr["value"].tensor), own.value)
        if own.name in written:
            same = same and _attributes(node) == _attributes(written[node.name])
        if not same:
            raise _differs(graph, f"has another {node.name} than TensorFlow parses")
    if missing := needed - found:
        raise _differs(graph, f"has {min(missing)}, which TensorFlow does not parse")


def _attributes(node: Any) -> dict[str, Any]:
    """All but a constant's value, which has several forms."""
    return {key: value for key, value in node.attr.items() if key != "value"}


def _array(tensor: Any) -> np.ndarray:
    """The value of a ``TensorProto``, by TensorFlow but for one copy of what can be large."""
    from tensorflow.python.framework import dtypes, tensor_util

    content = tensor.tensor_content
    if not content:
        return tensor_util.MakeNdarray(tensor)
    shape = [dim.size for dim in tensor.tensor_shape.dim]
    return np.frombuffer(content, dtypes.as_dtype(tensor.dtype).as_numpy_dtype).reshape(shape)


def _same(one: np.ndarray, other: np.ndarray) -> bool:
    """Bit for bit, NaN included."""
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    if one.dtype.kind != "f":
        return np.array_equal(one, other)
    bits = f"i{one.dtype.itemsize}"
    return np.array_equal(
        np.ascontiguousarray(one).view(bits), np.ascontiguousarray(other).view(bits)
    )


def _differs(graph: Graph, what: str, file: Path | None = None) -> AsrbuildError:
    return AsrbuildError(f"the graph that asrbuild read {what}", file=file or graph.path, fix=_FIX)
