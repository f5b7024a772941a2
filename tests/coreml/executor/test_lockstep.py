"""Runs in lockstep give the bits of one run at a time, and fail as one does."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

from asrbuild.base.array import Array
from asrbuild.base.errors import AsrbuildError
from asrbuild.coreml.executor import lockstep
from asrbuild.coreml.executor.mil.recurrent import ACTIVATIONS, run_rnn
from asrbuild.coreml.executor.products import Products, RowArrays, sharing

#: Large enough that products are shared.
UNITS = 1024


def layers() -> Callable[[int, int], Array]:
    """A recurrent layer with other weights for each seed, as a work of so many steps."""
    values = np.random.default_rng(5).standard_normal((2 * UNITS, UNITS)).astype(np.float32)
    ahead, back = np.split(values / 64, 2)

    def run(seed: int, steps: int) -> Array:
        x = np.random.default_rng(seed).standard_normal((steps, 1, UNITS)).astype(np.float32)
        h = np.zeros((1, UNITS), np.float32)
        for weight in (ahead, back):  # lanes then ask for products of two weights at a time
            x, h = run_rnn(x, h, weight, weight, None, ACTIVATIONS["tanh"], reverse=False)
        return x

    return run


def test_lanes_of_any_length_give_the_bits_of_one_run_at_a_time() -> None:
    run = layers()
    # More works than lanes, some alike from their first step on.
    works = [partial(run, *work) for work in ((1, 9), (2, 3), (3, 1), (1, 4), (4, 7), (5, 5))]
    with sharing():
        together = lockstep.in_lockstep(works)
    for made, work in zip(together, works, strict=True):
        assert np.array_equal(made, work())


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of rows of every later product."""
    counts: list[int] = []
    make = Products.make

    def counted(self: Products, rows: RowArrays, weight: Array) -> RowArrays:
        counts.append(len(rows))
        return make(self, rows, weight)

    monkeypatch.setattr(Products, "make", counted)
    return counts


def test_products_of_one_step_are_made_together(counts: list[int]) -> None:
    run = layers()
    with sharing():
        lockstep.in_lockstep([partial(run, 20 + seed, 2) for seed in range(4)])
    # Two input rows and then one row of the state, each of four lanes.
    assert counts[:2] == [8, 4]
    assert max(counts) == 8


def test_a_step_waits_for_the_blocks_of_other_lanes(counts: list[int]) -> None:
    weight = np.random.default_rng(6).standard_normal((UNITS, UNITS)).astype(np.float32) / 64

    def run(*calls: int) -> Array:
        h = np.zeros((1, UNITS), np.float32)
        for steps in calls:
            x = np.random.default_rng(steps).standard_normal((steps, 1, UNITS), np.float32)
            _, h = run_rnn(x, h, weight, weight, None, ACTIVATIONS["tanh"], reverse=False)
        return h

    with sharing():
        lockstep.in_lockstep([partial(run, 3, 4, 5), partial(run, 12)])
    # Blocks of 3 and 12 input rows, of 4 and of 5, and as many other products as a lane has steps.
    assert [count for count in counts if count > 2] == [3 + 12, 4, 5]
    assert len(counts) == 3 + 12


def test_a_call_that_fills_its_blocks_does_not_wait(counts: list[int]) -> None:
    run = layers()
    with sharing():
        together = lockstep.in_lockstep([partial(run, 50 + seed, 40) for seed in range(2)])
    assert counts[:3] == [40, 40, 2]
    for seed, made in enumerate(together):
        assert np.array_equal(made, run(50 + seed, 40))


def test_the_first_failure_is_raised_and_no_lane_is_left() -> None:
    before, begun, run = threading.active_count(), [], layers()

    def fail() -> Array:
        run(30, 2)
        raise AsrbuildError("the case is wrong")

    def begin(seed: int) -> Array:
        begun.append(seed)
        return run(seed, 50)

    works = [fail, *(partial(begin, seed) for seed in range(31, 40))]
    with sharing(), pytest.raises(AsrbuildError, match="the case is wrong"):
        lockstep.in_lockstep(works)
    assert begun == [31, 32, 33]  # a lane each, and no more were begun
    assert threading.active_count() <= before + 1  # of the products


def test_outside_of_sharing_one_work_follows_the_other() -> None:
    main = threading.current_thread()
    assert lockstep.in_lockstep([threading.current_thread] * 3) == [main] * 3
