"""Compiles a function of a program from its protobuf messages."""

from __future__ import annotations

from typing import Any

import asrbuild.coreml.executor.mil  # noqa: F401 - registers the ops
from asrbuild.base.errors import AsrbuildError
from asrbuild.coreml.executor.literals import Blobs
from asrbuild.coreml.executor.program import CompiledFunction, Compiler


def compile_function(
    program: Any,
    name: str,
    blobs: Blobs,
    *,
    keep_all: bool = False,
) -> CompiledFunction:
    """Compiles one function of a ``MILSpec.Program`` for its own opset.

    ``keep_all``: make every value of its block an output, in the block's order.
    """
    if name not in program.functions:
        raise AsrbuildError(
            f"the program has no function {name}",
            fix=f"it has {', '.join(sorted(program.functions))}; the package is damaged",
        )
    function = program.functions[name]
    if function.opset not in function.block_specializations:
        raise AsrbuildError(
            f"function {name} has no block for its opset {function.opset or '(none)'}",
            fix="the package is damaged: build it again, or copy it again from a good copy",
        )
    compiler = Compiler(blobs, name, function.opset)
    inputs = {named.name: compiler.declare(named) for named in function.inputs}
    block = function.block_specializations[function.opset]
    if keep_all:
        block = _returning_all(block)
    compiled = compiler.block(block)
    outputs = dict(zip(block.outputs, compiled.outputs, strict=True))
    # Weights widened to float32 are in memory now, so their mapped source can be released.
    blobs.release()
    return CompiledFunction(inputs, outputs, compiled, tuple(compiler.template))


def _returning_all(block: Any) -> Any:
    """The block with the values of all operations as outputs, after its own outputs."""
    whole = type(block)()
    whole.CopyFrom(block)
    given = set(block.outputs)
    whole.outputs.extend(
        output.name
        for operation in block.operations
        if operation.type != "const"
        for output in operation.outputs
        if output.name not in given
    )
    return whole
