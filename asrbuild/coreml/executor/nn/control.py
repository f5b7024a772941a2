"""``loop`` and ``branch``: layers with networks inside; ``loopBreak`` and ``loopContinue``."""

from __future__ import annotations

from typing import Any

import numpy as np

from asrbuild.coreml.executor.nn.inside import blobs_read, blobs_written
from asrbuild.coreml.executor.program import Draft, Env, Step
from asrbuild.coreml.executor.registry import nn_structure
from asrbuild.coreml.executor.rounds import rounds


@nn_structure("loop")
def loop(compiler: Any, layer: Any) -> Draft:
    """Runs the body while the condition blob is not zero, at most ``maxLoopIterations`` times, or
    as often as the input says.

    The condition network runs before each test; without one the blob's own value is tested. Blobs
    keep their names inside, so what the body writes is what the next round reads.
    """
    params = layer.loop
    count = compiler.slot(layer.input[0]) if layer.input else None
    condition = compiler.network(params.conditionNetwork, f"{layer.name} condition")
    body = compiler.network(params.bodyNetwork, f"{layer.name} body")
    tested = compiler.slot(params.conditionVar) if params.conditionVar else None
    fixed = int(params.maxLoopIterations) or None
    reads = _touched(compiler, layer)
    place = f"{compiler.place(layer)} (loop)"

    def build(dead: frozenset[int]) -> Step:
        def step(env: Env) -> None:
            done = 0
            limit = fixed if count is None else int(np.asarray(env[count]).reshape(-1)[0])
            with rounds(place) as begin_round:
                while limit is None or done < limit:
                    begin_round()
                    condition.run(env)
                    if tested is not None and not _true(env[tested]):
                        break
                    try:
                        body.run(env)
                    except _ContinueError:
                        pass
                    except _BreakError:
                        break
                    done += 1
            for slot in dead:
                env[slot] = None

        return step

    return Draft(None, reads, [], build=build)


class _BreakError(BaseException):
    """Ends the loop of a body; a layer must not report this as its own failure."""


class _ContinueError(BaseException):
    """Ends the current round of a loop."""


def _leaving(how: type[BaseException]) -> Draft:
    def build(dead: frozenset[int]) -> Step:
        def step(env: Env) -> None:
            raise how

        return step

    return Draft(None, [], [], build=build)


@nn_structure("loopBreak")
def loop_break(compiler: Any, layer: Any) -> Draft:
    """Ends the loop whose body it is in."""
    return _leaving(_BreakError)


@nn_structure("loopContinue")
def loop_continue(compiler: Any, layer: Any) -> Draft:
    """Ends this round of the loop whose body it is in."""
    return _leaving(_ContinueError)


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
    """Slots of all blobs that a layer's networks touch, which live at least until its end."""
    return [compiler.slot(name) for name in sorted(blobs_read(layer) | blobs_written(layer))]


def _true(value: Any) -> bool:
    return bool(np.asarray(value).reshape(-1)[0])
