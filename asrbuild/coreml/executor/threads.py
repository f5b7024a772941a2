"""Limits BLAS to one thread for published results, whose bits depend on the number of threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_lock = threading.Lock()
#: The limit of each block that is entered; the first one made it.
_entered: list[Any] = []


@contextmanager
def one_thread() -> Iterator[None]:
    """Limits BLAS to one thread inside the block, whatever the environment sets.

    A sum that two threads share is rounded differently, so with more threads a version would depend
    on the machine, on a launcher's workers, and on ``taskset``. TensorFlow, which runs at the same
    time, uses the other cores. The limit is the process's, so it ends with the last of the blocks
    that threads are in.
    """
    from threadpoolctl import threadpool_limits

    with _lock:
        _entered.append(_entered[0] if _entered else threadpool_limits(1, user_api="blas"))
    try:
        yield
    finally:
        with _lock:
            limit = _entered.pop()
            if not _entered:
                limit.restore_original_limits()
