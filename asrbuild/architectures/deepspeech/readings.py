"""Compares asrbuild's reading of a source with that of TensorFlow's own readers.

asrbuild's readers of checkpoints and graphs give the package's weights, and also the constants of
the graph that TensorFlow runs as the reference. A fault of such a reader would be on both sides of
the proof. So the process of the reference reads the source a second time, with TensorFlow.
"""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any

import numpy as np

from asrbuild.architectures.deepspeech.network import OPAQUE_KERNEL, network_variables
from asrbuild.architectures.deepspeech.signature import OUTPUTS
from asrbuild.architectures.tensorflow.proto import Graph, Tensor, graph_pieces, upstream
from asrbuild.architectures.tensorflow.session import is_large, tensorflow_errors
from asrbuild.base.array import Array
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.kinds.recognition import recognise

_FIX = (
    "this is a fault of asrbuild, please report it; until it is mended, export the graph with the "
    "training code and build it with source=frozen_graph"
)


def check_checkpoint(graph: Graph, checkpoint: Path) -> None:
    """Compares the constants of an exported graph with the variables that TensorFlow reads.

    Every variable must be such a constant or a record of training, and every constant with more
    than one number must be such a variable, or zeros.

    Args:
        graph: a graph exported from the checkpoint.
        checkpoint: the checkpoint's prefix.

    Raises:
        AsrbuildError: it names the variable or constant that differs or has no counterpart.
    """
    from tensorflow.python.training import py_checkpoint_reader

    refusals: tuple[type[Exception], ...] = (ValueError, RuntimeError, *tensorflow_errors())
    try:
        reader = py_checkpoint_reader.NewCheckpointReader(str(checkpoint))
        names, unknown = network_variables(reader.get_variable_to_shape_map())
        if left := [name for name in unknown if name != OPAQUE_KERNEL]:
            raise _differs(graph, f"has no {left[0]}, a variable of the checkpoint")
        for name in sorted(names):
            node = graph.by_name.get(name)
            if node is None or node.op != "Const" or not _same(reader.get_tensor(name), node.value):
                raise _differs(graph, f"has another {name} than TensorFlow reads", checkpoint)
    except refusals as error:
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
    """Compares all nodes that a graph's outputs depend on with TensorFlow's parsing of its file.

    Raises:
        AsrbuildError: it names the node that differs.
    """
    from tensorflow.core.framework import graph_pb2

    assert graph.path is not None
    theirs, regions = _parsed(graph.path)
    needed = upstream(graph, OUTPUTS)
    # Large constants are compared in place, not serialised and parsed again.
    small = [graph.by_name[name] for name in needed if not is_large(graph.by_name[name])]
    ours = graph_pb2.GraphDef.FromString(b"".join(graph_pieces(small, 0)))
    written = {node.name: node for node in ours.node}
    found: set[str] = set()
    for node in theirs.node:
        if node.name not in needed:
            continue
        found.add(node.name)
        own = graph.by_name[node.name]
        mapped = node.op == "ImmutableConst" and own.op == "Const"
        same = (mapped or node.op == own.op) and tuple(node.input) == own.inputs
        if mapped:
            same = same and _same(_mapped(node, regions), own.value)
        elif node.op == "Const":
            same = same and _same(_array(node.attr["value"].tensor), own.value)
        if own.name in written and not mapped:
            same = same and _attributes(node) == _attributes(written[node.name])
        if not same:
            raise _differs(graph, f"has another {node.name} than TensorFlow parses")
    if missing := needed - found:
        raise _differs(graph, f"has {min(missing)}, which TensorFlow does not parse")


def _parsed(path: Path) -> tuple[Any, dict[str, bytes]]:
    """A graph parsed by TensorFlow, and the bytes of its regions if it is memory-mapped."""
    from google.protobuf.message import DecodeError
    from tensorflow.core.framework import graph_pb2
    from tensorflow.core.util import memmapped_file_system_pb2

    theirs = graph_pb2.GraphDef()
    regions: dict[str, bytes] = {}
    try:
        with (
            Path(path).open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
            memoryview(content) as whole,
        ):
            if recognise(path).key != "pbmm":
                theirs.ParseFromString(whole)
                return theirs, {}
            directory = memmapped_file_system_pb2.MemmappedFileSystemDirectory()
            end = int.from_bytes(whole[-8:], "little")
            directory.ParseFromString(whole[end:-8])
            starts = sorted({element.offset for element in directory.element} | {end})
            for element in directory.element:
                following = next((start for start in starts if start > element.offset), end)
                stop = element.offset + element.length if element.length else following
                regions[element.name] = bytes(whole[element.offset : stop])
            theirs.ParseFromString(regions.pop("memmapped_package://."))
    except (DecodeError, KeyError) as error:
        raise AsrbuildError("TensorFlow cannot parse the graph", file=path) from error
    return theirs, regions


def _mapped(node: Any, regions: dict[str, bytes]) -> Array:
    """The value of an ``ImmutableConst``, as its kernel reads it."""
    from tensorflow.python.framework import dtypes

    dtype = np.dtype(dtypes.as_dtype(node.attr["dtype"].type).as_numpy_dtype)
    shape = [dim.size for dim in node.attr["shape"].shape.dim]
    content = regions.get(node.attr["memory_region_name"].s.decode(), b"")
    count = int(np.prod(shape, dtype=np.int64))
    return np.frombuffer(content[: count * dtype.itemsize], dtype).reshape(shape)


def check_lite(graph: Graph, path: Path) -> None:
    """Compares every weight of a graph with TensorFlow Lite's reading of the ``.tflite``.

    The value of a quantised weight is that of its own scale and zero point, in float32.

    Args:
        graph: the graph made of the file.
        path: the ``.tflite``.

    Raises:
        AsrbuildError: it names the weight that the file lacks.
    """
    from tensorflow.lite.python.interpreter import Interpreter

    try:
        interpreter = Interpreter(str(path))
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise AsrbuildError(f"TensorFlow Lite cannot read the model: {error}", file=path) from error
    theirs: list[Array] = []
    # Computed tensors have no value before the model has run; reading one ends the process.
    computed = {int(t) for operator in interpreter._get_ops_details() for t in operator["outputs"]}
    computed |= {detail["index"] for detail in interpreter.get_input_details()}
    for detail in interpreter.get_tensor_details():
        if detail["index"] in computed:
            continue
        value = interpreter.get_tensor(detail["index"])
        scales = detail["quantization_parameters"]["scales"]
        if value.dtype.kind in "iu" and len(scales):
            zero = detail["quantization_parameters"]["zero_points"]
            along = np.ones(value.ndim, int)
            along[detail["quantization_parameters"]["quantized_dimension"]] = -1
            whole = value.astype(np.int32) - zero.astype(np.int32).reshape(along)
            value = scales.reshape(along) * whole.astype(np.float32)
        if value.dtype.kind == "f":
            theirs.append(value.astype(np.float32))
    for name in network_variables({n.name: () for n in graph.nodes if n.op == "Const"})[0]:
        own = graph.by_name[name].value
        if not any(_same(value.T if value.ndim == 2 else value, own) for value in theirs):
            raise _differs(graph, f"has another {name} than TensorFlow Lite reads", path)


def _attributes(node: Any) -> dict[str, Any]:
    """The attributes of a node without the value of a constant, which has several forms."""
    return {key: value for key, value in node.attr.items() if key != "value"}


def _array(tensor: Any) -> Array:
    """The value of a ``TensorProto``, by TensorFlow, except that large values are not copied."""
    from tensorflow.python.framework import dtypes, tensor_util

    content = tensor.tensor_content
    if not content:
        value: Array = tensor_util.MakeNdarray(tensor)
        return value
    shape = [dim.size for dim in tensor.tensor_shape.dim]
    return np.frombuffer(content, dtypes.as_dtype(tensor.dtype).as_numpy_dtype).reshape(shape)


def _same(one: Array, other: Array) -> bool:
    """Whether two arrays are equal bit by bit, including NaN."""
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
