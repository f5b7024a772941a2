"""Threads: the order of results, the limit, and how a failure ends the rest."""

from __future__ import annotations

import threading
import time

import pytest

from asrbuild.base import interrupts
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.threads import run_concurrently


def test_results_are_in_order_and_the_limit_holds():
    running, counts = [], []

    def work(item: int) -> int:
        running.append(item)
        counts.append(len(running))
        time.sleep(0.001)
        running.remove(item)
        return item * item

    assert run_concurrently(work, range(50), 3) == [n * n for n in range(50)]
    assert max(counts) <= 3
    assert run_concurrently(work, []) == []


def test_the_first_failure_is_raised_and_ends_the_rest():
    begun, failed = [], threading.Event()

    def work(item: int) -> None:
        begun.append(item)
        if item == 1:
            failed.set()
            raise AsrbuildError("one")
        failed.wait(20)
        while True:
            interrupts.check()
            time.sleep(0.001)

    with pytest.raises(AsrbuildError, match=r"^one$"):
        run_concurrently(work, range(100), 4)
    assert set(begun) <= {0, 1, 2, 3}
