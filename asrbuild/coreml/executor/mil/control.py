"""Constants, blocks and states: ops that are compiled, not called.

Source: "control_flow", "states" and "coreml_dialect" in the MIL reference; the layout of blocks in
``MIL.proto``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from asrbuild.base.array import Array
from asrbuild.coreml.executor.literals import read_value
from asrbuild.coreml.executor.mil.blocks import is_true, reads_below
from asrbuild.coreml.executor.program import Compiler, Draft, Env, Step
from asrbuild.coreml.executor.registry import mil_op, mil_structure


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
    reads: list[int | list[int]] = [predicate, *reads_below(compiler, operation)]

    def build(dead: frozenset[int]) -> Step:
        def step(env: Env) -> None:
            chosen = blocks[0] if is_true(env[predicate]) else blocks[1]
            chosen.run(env)
            results = [env[slot] for slot in chosen.outputs]
            for slot, result in zip(writes, results, strict=True):
                env[slot] = result
            for slot in dead:
                env[slot] = None

        return step

    return Draft(None, reads, writes, build=build)


@mil_op("classify")
def classify(probabilities: Array, classes: Any) -> list[Any]:
    """The class of the largest of ``tensor<[*], fp32>``, and every class's: str or int, dict."""
    return label_and_probabilities(probabilities, classes)


def label_and_probabilities(values: Array, classes: Any) -> list[Any]:
    """A classifier's result: the first of the likeliest labels, and a dict of all by label.

    Raises:
        ValueError: the numbers of values and labels differ.
    """
    labels = [
        label if isinstance(label, str) else int(np.asarray(label).reshape(()))
        for label in (classes if isinstance(classes, list) else [classes])
    ]
    flat = np.asarray(values).reshape(-1)
    if len(flat) != len(labels):
        raise ValueError(f"{len(flat)} probabilities for {len(labels)} labels")
    by_label = dict(zip(labels, map(float, flat), strict=True))
    return [labels[int(np.argmax(flat))], by_label]


@mil_op("read_state")
def read_state(input: Any) -> Array:
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
def identity(x: Array) -> Array:
    """``tensor<*, T> -> tensor<*, T>``."""
    return x


@mil_op("select")
def select(cond: Array, a: Array, b: Array) -> Array:
    """``a`` where ``cond``, else ``b``: ``tensor<*D1, bool>, tensor<*D2, T>, tensor<*D3, T>``,
    broadcast."""
    return np.where(cond, a, b)
