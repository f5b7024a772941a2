"""From a program's messages to a compiled function."""

from __future__ import annotations

from typing import Any

import asrbuild.executor.mil  # noqa: F401 - registers the ops
from asrbuild.errors import AsrbuildError
from asrbuild.executor.literals import Blobs
from asrbuild.executor.program import CompiledFunction, Compiler


def compile_function(program: Any, name: str, blobs: Blobs) -> CompiledFunction:
    """Compiles one function of a ``MILSpec.Program`` for its own opset."""
    if name not in program.functions:
        raise AsrbuildError(
            f"the program has no function {name}",
            fix=f"it has {', '.join(sorted(program.functions))}; the package is damaged",
        )
    function = program.functions[name]
    compiler = Compiler(blobs, name, function.opset)
    inputs = {named.name: compiler.declare(named) for named in function.inputs}
    block = function.block_specializations[function.opset]
    compiled = compiler.block(block)
    outputs = dict(zip(block.outputs, compiled.outputs, strict=True))
    # What was widened to float32 is in memory now; its mapped source need not stay as well.
    blobs.release()
    return CompiledFunction(inputs, outputs, compiled, tuple(compiler.template))
