"""``while_loop``.

Source: "control_flow" in the MIL reference; the layout of blocks in ``MIL.proto``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from asrbuild.coreml.executor.literals import read_value
from asrbuild.coreml.executor.mil.blocks import is_true, names_read, reads_below
from asrbuild.coreml.executor.program import Compiler, Draft, Env, Step, tensor_dtype
from asrbuild.coreml.executor.registry import mil_structure
from asrbuild.coreml.executor.rounds import rounds

_F16, _F32 = np.dtype(np.float16), np.dtype(np.float32)


@mil_structure("while_loop")
def while_loop(compiler: Compiler, operation: Any) -> Draft:
    """Runs the body while the condition holds: ``loop_vars: tuple of * -> tuple of the same``.

    A value is held by one slot at a time on its way around, so that the body may update it in
    place. Both blocks name their inputs alike; the condition only looks at them.
    """
    condition_block, body_block = operation.blocks
    given = compiler.arguments(operation)["loop_vars"]
    sources = given if isinstance(given, list) else [given]
    body_block, narrow = _carry_half(compiler, condition_block, body_block)
    carried = [compiler.new_slot() for _ in sources]
    for slot, named in zip(carried, body_block.inputs, strict=True):
        compiler.declare_as(slot, named.type)

    def inputs(block: Any) -> dict[str, int]:
        return dict(zip([named.name for named in block.inputs], carried, strict=True))

    condition = compiler.block(
        condition_block, "while_loop condition", inputs(condition_block), owns_inputs=False
    )
    body = compiler.block(body_block, "while_loop body", inputs(body_block))
    made_inside = {slot for slot in body.outputs if slot >= carried[0]} - set(compiler.constants)
    writes = [compiler.declare(output) for output in operation.outputs]
    below = reads_below(compiler, operation)
    reads: list[int | list[int]] = [*sources, *below]
    place = f"{compiler.place(operation)} (while_loop)"

    def build(dead: frozenset[int]) -> Step:
        handed_over = tuple(dead & set(sources) - set(below))
        clear = tuple(dead - set(handed_over))

        def step(env: Env) -> None:
            for slot, source in zip(carried, sources, strict=True):
                env[slot] = env[source]
            before = {position: env[carried[position]] for position in narrow}
            for position, value in before.items():
                env[carried[position]] = value.astype(_F16)
            for slot in handed_over:
                env[slot] = None
            ran = False
            with rounds(place) as begin_round:
                while True:
                    begin_round()
                    condition.run(env)
                    if not is_true(env[condition.outputs[0]]):
                        break
                    body.run(env)
                    values = [env[slot] for slot in body.outputs]
                    for slot in made_inside:
                        env[slot] = None
                    for slot in reversed(carried):
                        env[slot] = values.pop()
                    ran = True
            for position, value in before.items():
                result = env[carried[position]]
                env[carried[position]] = result.astype(_F32) if ran else value
            for slot, source in zip(writes, carried, strict=True):
                env[slot] = env[source]
                env[source] = None
            for slot in clear:
                env[slot] = None

        return step

    return Draft(None, reads, writes, build=build)


def _carry_half(compiler: Compiler, condition: Any, body: Any) -> tuple[Any, tuple[int, ...]]:
    """The body with loop values carried in float16 where possible, and their positions.

    coremltools carries float32 through the loops of a float16 program and casts at both ends of the
    body; for the lists of a recurrent loop, this copies the values of all steps in every step::

        (x: fp32)  y = cast(x, fp16)  ...  z = cast(w, fp32)  ->  (z)
        (x: fp16)  y = identity(x)    ...                     ->  (w)

    A float16 value converted to float32 and back is unchanged, so the results are bit-identical.
    """
    body = type(body).FromString(body.SerializeToString())
    in_condition, read = set(names_read(condition)), names_read(body)
    makers = {output.name: op for op in body.operations for output in op.outputs}
    positions: list[int] = []
    unused: set[str] = set()
    for position, named in enumerate(body.inputs):
        last = makers.get(body.outputs[position])
        uses = [op for op in body.operations if named.name in _names(op)]
        if (
            tensor_dtype(named.type) != _F32
            or named.name in in_condition
            or last is None
            or not _casts_to(compiler, body, last, "fp32")
            or not uses
            or len(uses) != read.count(named.name)
            or not all(_casts_to(compiler, body, op, "fp16") for op in uses)
        ):
            continue
        kept = last.inputs["x"].arguments[0].name
        maker = makers.get(kept)
        if maker is None or tensor_dtype(maker.outputs[0].type) != _F16:
            continue
        named.type.tensorType.dataType = maker.outputs[0].type.tensorType.dataType
        for op in uses:
            op.type = "identity"
            del op.inputs["dtype"]
        if read.count(body.outputs[position]) == 1:
            unused.add(last.outputs[0].name)
        body.outputs[position] = kept
        positions.append(position)
    needed = [op for op in body.operations if not unused & {output.name for output in op.outputs}]
    del body.operations[:]
    body.operations.extend(needed)
    return body, tuple(positions)


def _names(operation: Any) -> set[str]:
    return {
        binding.name
        for argument in operation.inputs.values()
        for binding in argument.arguments
        if binding.WhichOneof("binding") == "name"
    }


def _casts_to(compiler: Compiler, body: Any, operation: Any, dtype: str) -> bool:
    if operation.type != "cast":
        return False
    (binding,) = operation.inputs["dtype"].arguments
    if binding.WhichOneof("binding") == "value":
        return read_value(binding.value, compiler.blobs) == dtype
    for op in body.operations:
        if op.type == "const" and op.outputs[0].name == binding.name:
            return read_value(op.attributes["val"], compiler.blobs) == dtype
    slot = compiler.lookup(binding.name)
    return slot is not None and compiler.constants.get(slot) == dtype
