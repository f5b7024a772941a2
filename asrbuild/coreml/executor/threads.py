"""Limits BLAS to one thread for published results, whose bits depend on the number of threads."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any


def one_thread() -> AbstractContextManager[Any]:
    """Limits BLAS to one thread inside the block, whatever the environment sets.

    A sum that two threads share is rounded differently, so with more threads a version would depend
    on the machine, on a launcher's workers, and on ``taskset``. TensorFlow, which runs at the same
    time, uses the other cores.
    """
    from threadpoolctl import threadpool_limits

    return threadpool_limits(1, user_api="blas")
