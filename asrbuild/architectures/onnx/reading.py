"""Reads an ONNX file into a :class:`Graph`, and refuses damaged, hostile or foreign files.

The ``onnx`` package parses the file (format: https://onnx.ai/onnx/repo-docs/IR.html). Weights in
files of their own are mapped, not read, and must be in the folder of the model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from asrbuild.architectures.onnx.graph import Graph, Node, Tensor
from asrbuild.base.array import Array
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.libraries import import_extra

#: Op sets of the standard domain that the lowering supports.
OPSETS = range(7, 25)
_STANDARD = ("", "ai.onnx")
#: A protobuf message has at most 2 GiB.
_MAX_BYTES = 2**31
_EXPORT = "export the model to ONNX again, with op set 17 and the standard ops"


def read_graph(path: Path) -> Graph:
    """The graph of an ONNX file.

    Raises:
        AsrbuildError: the file is not a complete ONNX model, names files outside of its folder, or
        has ops of another domain, unsupported op sets, or sparse weights.
    """
    onnx = import_onnx()
    try:
        size = path.stat().st_size
        if size > _MAX_BYTES:
            raise _error(path, f"the file has {size} bytes, an ONNX file at most {_MAX_BYTES}")
        model = onnx.ModelProto.FromString(path.read_bytes())
    except OSError as error:
        raise _error(path, f"cannot read the file: {error.strerror}") from error
    except Exception as error:  # protobuf's own classes differ between its implementations
        if isinstance(error, AsrbuildError):
            raise
        raise _error(path, "the file is not a complete ONNX model") from error
    if not model.opset_import or not model.graph.output:
        raise _error(path, "the file is not a complete ONNX model: it has no op set or no outputs")
    if model.functions:
        model = _without_functions(model, path)
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    standard = max((opsets[name] for name in _STANDARD if name in opsets), default=0)
    if standard not in OPSETS:
        known = f"{OPSETS.start} to {OPSETS.stop - 1}"
        raise _error(path, f"the model has op set {standard}; {known} are known")
    try:
        return _Reader(path, standard).graph(model.graph, set())
    except (ValueError, TypeError, KeyError, OverflowError, MemoryError) as error:
        raise _error(path, f"the file is damaged: {error}") from error


def weight_files(path: Path) -> list[str]:
    """The files with the weights of a model, relative to its folder and sorted.

    Raises:
        AsrbuildError: the file is not a complete ONNX model.
    """
    onnx = import_onnx()
    try:
        graph = onnx.ModelProto.FromString(path.read_bytes()).graph
    except Exception as error:
        raise _error(path, "the file is not a complete ONNX model") from error
    places = {
        entry.value
        for tensor in graph.initializer
        for entry in tensor.external_data
        if entry.key == "location"
    }
    inside = path.parent.resolve()
    return sorted(p for p in places if (inside / p).resolve().is_relative_to(inside))


def import_onnx() -> Any:
    """Imports the ``onnx`` package.

    Raises:
        AsrbuildError: it is not installed.
    """
    use = "reading a model in ONNX requires the package onnx"
    return import_extra("onnx", "onnx", use, "source.path")


def _without_functions(model: Any, path: Path) -> Any:
    """The model with its own functions inlined."""
    from onnx import inliner

    try:
        return inliner.inline_local_functions(model)
    except Exception as error:
        raise _error(path, f"the functions of the model cannot be inlined: {error}") from error


class _Reader:
    """Reads the messages of one file."""

    def __init__(self, path: Path, opset: int) -> None:
        self.path = path
        self.opset = opset

    def graph(self, message: Any, outer: set[str]) -> Graph:
        """Reads a graph; ``outer``: the tensors of enclosing graphs that a branch can read."""
        if message.sparse_initializer:
            raise _error(self.path, "the model has sparse weights", fix=_EXPORT)
        constants = {tensor.name: self.array(tensor) for tensor in message.initializer}
        inputs = tuple(map(_tensor, message.input))
        known = outer | set(constants) | {tensor.name for tensor in inputs}
        nodes = []
        for at, entry in enumerate(message.node):
            node = self.node(entry, at, known)
            known.update(name for name in node.outputs if name)
            nodes.append(node)
        outputs = tuple(map(_tensor, message.output))
        if lost := [tensor.name for tensor in outputs if tensor.name not in known]:
            raise _error(self.path, f"no node makes the output {lost[0]}")
        free = tuple(tensor for tensor in inputs if tensor.name not in constants)
        inner = {tensor.name: tensor for tensor in map(_tensor, message.value_info)}
        return Graph(tuple(nodes), constants, free, outputs, inner)

    def node(self, entry: Any, at: int, known: set[str]) -> Node:
        named = next((name for name in entry.output if name), f"node {at}")
        name = entry.name or named
        if entry.domain not in _STANDARD:
            raise _error(
                self.path,
                f"node {name} is {entry.domain}:{entry.op_type}, an op outside of the standard",
                fix=_EXPORT,
            )
        if lost := [given for given in entry.input if given and given not in known]:
            raise _error(self.path, f"node {name} reads {lost[0]}, which is not made before it")
        if again := [made for made in entry.output if made and made in known]:
            raise _error(self.path, f"node {name} makes {again[0]} a second time")
        attributes = {own.name: self.attribute(own, known) for own in entry.attribute}
        return Node(
            name, entry.op_type, tuple(entry.input), tuple(entry.output), attributes, self.opset
        )

    def attribute(self, message: Any, known: set[str]) -> Any:
        from onnx import AttributeProto, helper

        if message.type == AttributeProto.GRAPH:
            return self.graph(message.g, known)
        if message.type == AttributeProto.TENSOR:
            return self.array(message.t)
        value = helper.get_attribute_value(message)
        if isinstance(value, bytes):
            return value.decode(errors="replace")
        if isinstance(value, (int, float)):
            return value
        return [one.decode(errors="replace") if isinstance(one, bytes) else one for one in value]

    def array(self, tensor: Any) -> Array:
        from onnx import TensorProto, helper, numpy_helper

        dims = tuple(tensor.dims)
        if any(size < 0 for size in dims):
            raise _error(self.path, f"the weights {tensor.name} have a negative size")
        if tensor.data_location == TensorProto.EXTERNAL:
            dtype = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type))
            entries = {entry.key: entry.value for entry in tensor.external_data}
            return self._mapped(tensor.name, dims, dtype, entries)
        array: Array = numpy_helper.to_array(tensor)
        return array

    def _mapped(
        self, name: str, dims: tuple[int, ...], dtype: np.dtype[Any], entries: Mapping[str, str]
    ) -> Array:
        """Weights in a file next to the model; ``entries`` has their place."""
        location = PurePosixPath(entries.get("location", ""))
        folder = self.path.parent.resolve()
        file = (folder / location).resolve()
        if location.is_absolute() or not file.is_relative_to(folder) or not file.is_file():
            raise _error(
                self.path,
                f"the weights {name} are in {location}, which names no file in the model's folder",
                fix="keep the files of an exported model together",
            )
        offset = int(entries.get("offset", "0"))
        wanted = int(np.prod(dims, dtype=object)) * dtype.itemsize
        stated = int(entries.get("length", wanted))
        if offset < 0 or stated != wanted or offset + wanted > file.stat().st_size:
            raise _error(file, f"the file is cut short: the weights {name} take {wanted} bytes")
        if not wanted:
            return np.zeros(dims, dtype)
        return (
            np.memmap(file, dtype, "r", offset, dims)
            if dims
            else np.fromfile(file, dtype, 1, offset=offset).reshape(())
        )


def _tensor(message: Any) -> Tensor:
    from onnx import helper

    kind = message.type.tensor_type
    if not message.type.HasField("tensor_type"):
        return Tensor(message.name, "sequence", None)
    code = kind.elem_type
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(code)).name if code else ""
    if not kind.HasField("shape"):
        return Tensor(message.name, dtype, None)
    return Tensor(message.name, dtype, tuple(_sizes(kind.shape.dim)))


def _sizes(dims: Any) -> Iterator[int | str | None]:
    for dim in dims:
        # Some exporters write the size 0 for an open axis.
        yield dim.dim_value or dim.dim_param or None


def _error(path: Path, message: str, fix: str | None = None) -> AsrbuildError:
    fix = fix or "export or download the model again"
    return AsrbuildError(message, key="source.path", file=path, fix=fix)
