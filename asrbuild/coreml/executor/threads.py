"""One BLAS thread for published results, because their bits depend on the number of threads."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any


def one_thread() -> AbstractContextManager[Any]:
    """Limits BLAS to one thread while it is open, whatever the environment sets.

    A sum split between two threads is rounded otherwise than in one, so with more of them a version
    would depend on the machine, on a launcher's workers, and on ``taskset``. The other cores are
    TensorFlow's, which runs at the same time.
    """
    from threadpoolctl import threadpool_limits

    return threadpool_limits(1, user_api="blas")
