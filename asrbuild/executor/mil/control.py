"""Constants, blocks and state: ops that are compiled rather than called.

Source: "control_flow", "states" and "coreml_dialect" in the MIL reference; the layout of blocks in
``MIL.proto``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from asrbuild.executor.literals import read_value
from asrbuild.executor.program import Compiler, Draft, Env, Step
from asrbuild.executor.registry import mil_op, mil_structure


@mil_structure("const")
def const(compiler: Compiler, operation: Any) -> None:
    """A literal or a blob: ``() -> tensor<*, T>``, str, or a list."""
    value = read_value(operation.attributes["val"], compiler.blobs)
    compiler.define_constant(operation.outputs[0], value)


@mil_structure("cond")
def cond(compiler: Compiler, operation: Any) -> Draft:
    """Runs one of two blocks: ``pred: tensor<[], bool> -> results of the block``."""
    predicate = compiler.arguments(operation)["pred"]
    assert isinstance(predicate, int)
    blocks = [
        compiler.block(block, f"{operation.type} {label}")
        for label, block in zip(("true", "false"), operation.blocks, strict=True)
    ]
    writes = [compiler.declare(output) for output in operation.outputs]
    reads = [predicate, *_reads_below(compiler, operation)]

    def build(dead: frozenset[int]) -> Step:
        def step(env: Env) -> None:
            chosen = blocks[0] if _true(env[predicate]) else blocks[1]
            chosen.run(env)
            results = [env[slot] for slot in chosen.outputs]
            for slot, result in zip(writes, results, strict=True):
                env[slot] = result
            for slot in dead:
                env[slot] = None

        return step

    return Draft(None, reads, writes, build=build)


@mil_structure("while_loop")
def while_loop(compiler: Compiler, operation: Any) -> Draft:
    """Runs the body while the condition holds: ``loop_vars: tuple of * -> tuple of the same``.

    A value is held by one slot at a time on its way around, so that the body may update it in
    place. Both blocks name their inputs alike; the condition only looks at them.
    """
    condition_block, body_block = operation.blocks
    sources = _flat(compiler.arguments(operation)["loop_vars"])
    carried = [compiler.new_slot() for _ in sources]
    for slot, named in zip(carried, body_block.inputs, strict=True):
        compiler.declare_as(slot, named.type)
    names = [[value.name for value in block.inputs] for block in (condition_block, body_block)]
    condition = compiler.block(
        condition_block, f"{operation.type} condition", dict(zip(names[0], carried, strict=True)),
        owns_inputs=False,
    )  # fmt: skip
    body = compiler.block(
        body_block, f"{operation.type} body", dict(zip(names[1], carried, strict=True))
    )
    made_inside = {slot for slot in body.outputs if slot >= carried[0]} - set(compiler.constants)
    writes = [compiler.declare(output) for output in operation.outputs]
    below = _reads_below(compiler, operation)
    reads = [*sources, *below]

    def build(dead: frozenset[int]) -> Step:
        handed_over = tuple(dead & set(sources) - set(below))
        clear = tuple(dead - set(handed_over))

        def step(env: Env) -> None:
            for slot, source in zip(carried, sources, strict=True):
                env[slot] = env[source]
            for slot in handed_over:
                env[slot] = None
            while True:
                condition.run(env)
                if not _true(env[condition.outputs[0]]):
                    break
                body.run(env)
                values = [env[slot] for slot in body.outputs]
                for slot in made_inside:
                    env[slot] = None
                for slot in reversed(carried):
                    env[slot] = values.pop()
            for slot, source in zip(writes, carried, strict=True):
                env[slot] = env[source]
                env[source] = None
            for slot in clear:
                env[slot] = None

        return step

    return Draft(None, reads, writes, build=build)


@mil_op("read_state")
def read_state(input: Any) -> np.ndarray:
    """The state's content: ``state<tensor<*, T>> -> tensor<*, T>``.

    No copy: nothing writes into an array that a state cell still holds.
    """
    return input.value


@mil_structure("write_state", "coreml_update_state")
def write_state(compiler: Compiler, operation: Any) -> Draft:
    """Replaces the state's content: ``state<tensor<*, T>>, tensor<*, T> -> () or the value``."""
    given = compiler.arguments(operation)
    cell = given.get("input", given.get("state"))
    data = given.get("data", given.get("value"))
    assert isinstance(cell, int)
    assert isinstance(data, int)
    writes = [compiler.declare(output) for output in operation.outputs]

    def build(dead: frozenset[int]) -> Step:
        def step(env: Env) -> None:
            env[cell].value = env[data]
            for slot in writes:
                env[slot] = env[data]
            for slot in dead:
                env[slot] = None

        return step

    return Draft(None, [cell, data], writes, build=build)


@mil_op("identity")
def identity(x: np.ndarray) -> np.ndarray:
    """``tensor<*, T> -> tensor<*, T>``."""
    return x


@mil_op("select")
def select(cond: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """``a`` where ``cond``, else ``b``: ``tensor<*D1, bool>, tensor<*D2, T>, tensor<*D3, T>``,
    broadcast."""
    return np.where(cond, a, b)


def _true(value: Any) -> bool:
    return bool(np.asarray(value).reshape(()))


def _flat(slots: int | list[int]) -> list[int]:
    return slots if isinstance(slots, list) else [slots]


def _reads_below(compiler: Compiler, operation: Any) -> list[int]:
    """Slots of enclosing blocks that the op's own blocks read, so that they live until its end."""
    found: set[int] = set()
    waiting = list(operation.blocks)
    while waiting:
        block = waiting.pop()
        names = list(block.outputs)
        for inner in block.operations:
            waiting += inner.blocks
            for argument in inner.inputs.values():
                names += [b.name for b in argument.arguments if b.WhichOneof("binding") == "name"]
        found.update(slot for name in names if (slot := compiler.lookup(name)) is not None)
    return sorted(found)
