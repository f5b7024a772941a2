"""The hand-over of a package to Core AI's Python: its program as JSON, its constants in one file.

asrbuild's own reader writes it, so Apple's runtime shares neither asrbuild's kernels nor
coremltools' reader. ``program.json``::

    {"functions": [{"name", "inputs": [value], "states": [value], "sizes": [{input: shape}],
                    "block": block}]}
    block: {"inputs": [name], "operations": [operation], "outputs": [name]}
    operation: {"type", "name", "inputs": {argument: [name]}, "outputs": [value], "blocks": [block]}
    value: {"name", "dtype", "shape"}; null in a shape is a size that is not known
    constants: {name: {"dtype", "shape", "offset", "bytes"} or {"text"} or {"texts"}}

Names are unique within a function. ``weights.bin`` has the constants in C order, little-endian,
each at a multiple of 64; elements below a byte have a byte each.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

import asrbuild.coreml.executor.mil  # noqa: F401 - registers the ops
from asrbuild.base.errors import AsrbuildError
from asrbuild.coreml.executor.literals import DTYPES, STRING, Blobs, read_value
from asrbuild.coreml.executor.model import described_features
from asrbuild.coreml.executor.package import Package, open_package
from asrbuild.coreml.executor.program import Compiler, operation_name
from asrbuild.coreml.executor.registry import MIL_OPS
from asrbuild.coreml.executor.signature import Enumerated

#: Compressed constants whose values alone are expanded, because a sparse constant contains them.
_HALF_EXPANDED = ("constexpr_lut_to_sparse", "constexpr_sparse_blockwise_shift_scale")
PROGRAM, WEIGHTS = "program.json", "weights.bin"
_ALIGNMENT = 64
#: ``MILSpec.DataType`` numbers of elements below a byte -> names, which numpy lacks.
_SMALL = {25: "int4", 35: "uint4", 36: "uint2", 37: "uint1", 38: "uint6", 39: "uint3"}


class NoLoweringError(AsrbuildError):
    """A package has ops without a lowering to Core AI; ``ops`` are their names."""

    def __init__(self, message: str, ops: tuple[str, ...], **more: Any) -> None:
        super().__init__(message, **more)
        self.ops = ops


def hand_over(package: Path, folder: Path, *, decompress: bool = False) -> None:
    """Writes the hand-over of a package into a folder.

    Args:
        package: an ``.mlpackage`` with an ML program.
        folder: an existing folder.
        decompress: write compressed constants in the form that asrbuild's executor expands them to.

    Raises:
        NoLoweringError: the package is a neural network.
        AsrbuildError: the package cannot be read.
    """
    opened = open_package(package)
    kind = opened.spec.WhichOneof("Type")
    if kind != "mlProgram":
        raise NoLoweringError(
            f"Core AI is made from ML programs; this package is a {kind}",
            (str(kind),),
            file=package,
            fix="build with coreml.format=mlprogram, or with verify.witness=off and coreai=none",
        )
    with (folder / WEIGHTS).open("wb") as weights:
        program = read_program(opened, weights, decompress=decompress)
    (folder / PROGRAM).write_text(json.dumps(program), encoding="utf-8", newline="\n")


def read_program(package: Package, weights: IO[bytes], *, decompress: bool = False) -> Any:
    """The content of ``program.json``; writes the constants to a file."""
    blobs = Blobs(package.directory)
    _, names, _ = described_features(package.spec, package.path, None)
    functions = []
    for name in names:
        _, _, (inputs, _, states) = described_features(package.spec, package.path, name)
        sizes = [f.shape for f in inputs.values() if isinstance(f.shape, Enumerated)]
        listed = [
            {
                feature.name: list(feature.shape.shapes[number])
                for feature in inputs.values()
                if isinstance(feature.shape, Enumerated)
            }
            for number in range(min((len(size.shapes) for size in sizes), default=0))
        ]
        function = package.spec.mlProgram.functions[name]
        writer = FunctionWriter(blobs, weights, name, function.opset, decompress=decompress)
        functions.append(writer.function(function) | {"states": list(states), "sizes": listed})
    return {"functions": functions}


@dataclass
class FunctionWriter:
    """Writes one function: unique names, constants in the file."""

    blobs: Blobs
    weights: IO[bytes]
    name: str
    opset: str
    decompress: bool = False
    constants: dict[str, Any] = field(default_factory=dict)
    _values: dict[str, Any] = field(default_factory=dict)
    _taken: set[str] = field(default_factory=set)
    _scopes: list[dict[str, str]] = field(default_factory=lambda: [{}])

    def function(self, function: Any) -> dict[str, Any]:
        """A function's inputs, block and constants."""
        inputs = [self._declared(named) for named in function.inputs]
        block = self._block(function.block_specializations[function.opset], top=True)
        return {"name": self.name, "inputs": inputs, "block": block, "constants": self.constants}

    def _block(self, block: Any, *, top: bool = False) -> dict[str, Any]:
        if not top:
            self._scopes.append({})
        inputs = [self._declared(named)["name"] for named in block.inputs]
        operations = [
            written for op in block.operations if (written := self._operation(op)) is not None
        ]
        outputs = [self._find(name) for name in block.outputs]
        given = list(block.outputs)
        if not top:
            self._scopes.pop()
        return {"inputs": inputs, "operations": operations, "outputs": outputs, "given": given}

    def _operation(self, operation: Any) -> dict[str, Any] | None:
        compressed = operation.type.startswith("constexpr_")
        expanded = compressed and (self.decompress or operation.type in _HALF_EXPANDED)
        if operation.type == "const" or expanded:
            self._expand(operation)
            return None
        arguments = {
            name: [self._argument(binding) for binding in argument.arguments]
            for name, argument in operation.inputs.items()
        }
        for name, value in operation.attributes.items():
            if name != "name":
                arguments[name] = [self._constant("", read_value(value, self.blobs), value.type)]
        blocks = [self._block(block) for block in operation.blocks]
        return {
            "type": operation.type,
            "name": operation_name(operation),
            "inputs": arguments,
            "outputs": [self._declared(output) for output in operation.outputs],
            "blocks": blocks,
        }

    def _expand(self, operation: Any) -> None:
        """Adds a constant, and a compressed constant in expanded form."""
        if operation.type == "const":
            value = operation.attributes["val"]
            read = {operation.outputs[0].name: read_value(value, self.blobs)}
        else:
            read = self._expanded(operation)
        for output in operation.outputs:
            name = self._constant(output.name, read[output.name], output.type)
            self._scopes[-1][output.name] = name

    def _expanded(self, operation: Any) -> dict[str, Any]:
        """Name of output -> value of a compressed constant, expanded by the executor."""
        compiler = Compiler(self.blobs, self.name, self.opset)
        known = {}
        for argument in operation.inputs.values():
            for binding in argument.arguments:
                if binding.WhichOneof("binding") == "name":
                    value = self._values[self._find(binding.name)]
                    known[binding.name] = compiler.add_constant(value)
        compiler.show(known)
        MIL_OPS[operation.type].run(compiler, operation)
        return {
            output.name: compiler.constants[compiler.find(output.name)]
            for output in operation.outputs
        }

    def _argument(self, binding: Any) -> str:
        if binding.WhichOneof("binding") == "name":
            return self._find(binding.name)
        return self._constant("", read_value(binding.value, self.blobs), binding.value.type)

    def _find(self, name: str) -> str:
        for scope in reversed(self._scopes):
            if name in scope:
                return scope[name]
        raise AsrbuildError(
            f"function {self.name} reads {name}, which nothing before it produces",
            fix="the program is damaged: build the package again",
        )

    def _unique(self, name: str) -> str:
        wanted, number = name or "literal", 1
        while wanted in self._taken:
            number += 1
            wanted = f"{name or 'literal'}#{number}"
        self._taken.add(wanted)
        return wanted

    def _declared(self, named: Any) -> dict[str, Any]:
        """Describes the value of an input or output, and makes it visible under its name."""
        unique = self._unique(named.name)
        self._scopes[-1][named.name] = unique
        dtype, shape = _type(named.type)
        return {"name": unique, "dtype": dtype, "shape": shape}

    def _constant(self, name: str, value: Any, value_type: Any) -> str:
        unique = self._unique(name)
        dtype, _ = _type(value_type)
        self.constants[unique] = self._stored(value, dtype)
        self._values[unique] = value
        return unique

    def _stored(self, value: Any, dtype: str) -> dict[str, Any]:
        if isinstance(value, str):
            return {"text": value}
        if isinstance(value, list):
            return {"texts": [str(item) for item in value]}
        array = np.asarray(value, order="C")
        offset = -(-self.weights.tell() // _ALIGNMENT) * _ALIGNMENT
        self.weights.write(b"\0" * (offset - self.weights.tell()))
        self.weights.write(array.data if array.size else b"")
        held = {"dtype": dtype, "shape": list(array.shape), "numpy": array.dtype.name}
        return held | {"offset": offset}


def _type(value_type: Any) -> tuple[str, list[int | None]]:
    """The element type and shape of a tensor or a state's tensor."""
    kind = value_type.WhichOneof("type")
    if kind == "stateType":
        return _type(value_type.stateType.wrappedType)
    if kind != "tensorType":
        return str(kind), []
    tensor = value_type.tensorType
    shape: list[int | None] = [
        int(dimension.constant.size) if dimension.WhichOneof("dimension") == "constant" else None
        for dimension in tensor.dimensions
    ]
    if tensor.dataType == STRING:
        return "text", shape
    return _SMALL.get(tensor.dataType) or DTYPES[tensor.dataType].name, shape
