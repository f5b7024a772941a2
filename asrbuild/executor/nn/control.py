"""``loop`` and ``branch``: layers with networks inside."""

from __future__ import annotations

from typing import Any

import numpy as np

from asrbuild.executor.program import Draft, Env, Step
from asrbuild.executor.registry import nn_structure


@nn_structure("loop")
def loop(compiler: Any, layer: Any) -> Draft:
    """Runs the body while the condition blob is not zero, at most ``maxLoopIterations`` times.

    The condition network runs before each test; without one the blob's own value is tested. Blobs
    keep their names inside, so what the body writes is what the next round reads.
    """
    params = layer.loop
    condition = compiler.network(params.conditionNetwork, f"{layer.name} condition")
    body = compiler.network(params.bodyNetwork, f"{layer.name} body")
    tested = compiler.slot(params.conditionVar) if params.conditionVar else None
    limit = int(params.maxLoopIterations) or None
    reads = _touched(compiler, layer)

    def build(dead: frozenset[int]) -> Step:
        def step(env: Env) -> None:
            done = 0
            while limit is None or done < limit:
                condition.run(env)
                if tested is not None and not _true(env[tested]):
                    break
                body.run(env)
                done += 1
            for slot in dead:
                env[slot] = None

        return step

    return Draft(None, reads, [], build=build)


@nn_structure("branch")
def branch(compiler: Any, layer: Any) -> Draft:
    """Runs one of two networks: the first if the input blob is not zero."""
    params = layer.branch
    predicate = compiler.slot(layer.input[0])
    first = compiler.network(params.ifBranch, f"{layer.name} if")
    second = compiler.network(params.elseBranch, f"{layer.name} else")
    reads = _touched(compiler, layer)

    def build(dead: frozenset[int]) -> Step:
        def step(env: Env) -> None:
            (first if _true(env[predicate]) else second).run(env)
            for slot in dead:
                env[slot] = None

        return step

    return Draft(None, reads, [], build=build)


def _touched(compiler: Any, layer: Any) -> list[int | list[int]]:
    """Slots of all blobs a layer's networks read or write: they live at least until its end."""
    names = set(layer.input)
    waiting = [layer]
    while waiting:
        current = waiting.pop()
        kind = current.WhichOneof("layer")
        inner = []
        if kind == "loop":
            inner = [current.loop.conditionNetwork, current.loop.bodyNetwork]
            if current.loop.conditionVar:
                names.add(current.loop.conditionVar)
        elif kind == "branch":
            inner = [current.branch.ifBranch, current.branch.elseBranch]
        for network in inner:
            for one in network.layers:
                names.update(one.input)
                names.update(one.output)
                waiting.append(one)
    return [compiler.slot(name) for name in sorted(names)]


def _true(value: Any) -> bool:
    return bool(np.asarray(value).reshape(-1)[0])
