"""How many threads multiply what is published: one, everywhere, for the bits depend on it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any


def one_thread() -> AbstractContextManager[Any]:
    """For as long as it lasts, products take one thread, whatever the environment says.

    A sum split between two threads is rounded otherwise than in one, so with more of them a version
    would depend on the machine, on a launcher's workers, and on ``taskset``. The other cores are
    TensorFlow's, which runs beside this.
    """
    from threadpoolctl import threadpool_limits

    return threadpool_limits(1, user_api="blas")
