"""Reads TensorFlow Lite files: subgraphs, tensors, constants as float32, and metadata.

The value of an int8 weight ``q`` is ``scale * (q - zero_point)``, computed in float32 as TensorFlow
Lite's DEQUANTIZE does. Source: TensorFlow Lite's ``schema.fbs``.
"""

from __future__ import annotations

import importlib.util
import struct
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from asrbuild.base.array import Array
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.libraries import install_fix

_SCHEMA = "lite/python/schema_py_generated.py"


class UnreadLiteError(Exception):
    """A part of a model is not supported; the text names it."""


@cache
def schema() -> ModuleType:
    """Imports TensorFlow's generated reader of the format without TensorFlow."""
    found = importlib.util.find_spec("tensorflow")
    if found is None or found.origin is None:
        raise AsrbuildError(
            "TensorFlow is not installed, so .tflite files cannot be read",
            fix=install_fix("build"),
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
class LiteGraph:
    """The only subgraph of a file; tensors by their index."""

    tensors: list[Any]
    operators: list[Any]
    buffers: list[Any]
    codes: list[str]
    inputs: dict[str, int]
    outputs: dict[str, int]
    stored: set[str]

    def name(self, tensor: int) -> str:
        """The name of a tensor."""
        return bytes(self.tensors[tensor].name or b"").decode("utf-8", "replace")

    def kind(self, tensor: int) -> str:
        """The element type of a tensor, such as ``int8``."""
        return _names(schema().TensorType)[self.tensors[tensor].type]

    def raw(self, tensor: int) -> bytes | None:
        """The bytes of a constant; None for a computed tensor."""
        data = self.buffers[self.tensors[tensor].buffer].data
        return None if data is None or len(data) == 0 else np.asarray(data, np.uint8).tobytes()


def subgraphs(path: Path) -> list[LiteGraph]:
    """Reads all subgraphs of a file."""
    names = schema()
    model = names.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    kinds = _names(names.BuiltinOperator)
    codes = [
        bytes(code.customCode).decode("utf-8", "replace")
        if code.customCode
        else kinds[max(code.builtinCode, code.deprecatedBuiltinCode)]
        for code in model.operatorCodes
    ]
    found = []
    for graph in model.subgraphs:
        opened = LiteGraph(graph.tensors, graph.operators, model.buffers, codes, {}, {}, set())
        opened.inputs |= {opened.name(i): i for i in graph.inputs}
        opened.outputs |= {opened.name(i): i for i in graph.outputs}
        found.append(opened)
    return found


def constant(graph: LiteGraph, tensor: int) -> Array:
    """The values of a constant: float32, or integers for sizes and indices."""
    described, raw = graph.tensors[tensor], graph.raw(tensor)
    name, kind = graph.name(tensor), graph.kind(tensor)
    if raw is None:
        raise UnreadLiteError(f"{name} has no value")
    if getattr(described, "sparsity", None) is not None:
        raise UnreadLiteError(f"{name} is stored as a sparse tensor")
    types = {
        "FLOAT32": "<f4",
        "FLOAT16": "<f2",
        "INT32": "<i4",
        "INT64": "<i8",
        "INT8": "i1",
        "UINT8": "u1",
    }
    if kind not in types:
        raise UnreadLiteError(f"{name} has elements of type {kind}")
    shape = [] if described.shape is None else [int(n) for n in described.shape]
    values = np.frombuffer(raw, types[kind]).reshape(shape)
    if kind == "FLOAT16":
        graph.stored.add("float16")
        return values.astype(np.float32)
    if kind not in ("INT8", "UINT8"):
        return values
    quantised = described.quantization
    if quantised is None or quantised.scale is None or len(quantised.scale) == 0:
        raise UnreadLiteError(f"{name} is {kind} without a scale")
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


def dims(tensor: Any) -> tuple[int | None, ...]:
    """The shape of a tensor; None for an open dimension."""
    signature = tensor.shape if tensor.shapeSignature is None else tensor.shapeSignature
    return () if signature is None else tuple(None if n < 0 else int(n) for n in signature)


def metadata_bytes(graph: LiteGraph, name: str) -> bytes | None:
    """The bytes of the constant behind a ``metadata_*`` output; None if there is none."""
    tensor = graph.outputs.get(name)
    if tensor is None:
        return None
    made_by = {int(t): op for op in graph.operators for t in op.outputs}
    while (raw := graph.raw(tensor)) is None:
        # Each tensor once: a damaged file may have a loop.
        operator = made_by.pop(tensor, None)
        if operator is None or graph.codes[operator.opcodeIndex] not in ("RESHAPE", "IDENTITY"):
            return None
        tensor = int(operator.inputs[0])
    return raw


def strings(raw: bytes) -> list[bytes]:
    """The strings of a string tensor: their number, their offsets and the end, then their bytes."""
    (count,) = struct.unpack_from("<i", raw)
    bounds = struct.unpack_from(f"<{count + 1}i", raw, 4)
    return [raw[a:b] for a, b in pairwise(bounds)]
