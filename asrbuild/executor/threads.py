"""How many threads multiply: as many in every process of a machine, for the bits depend on it."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from typing import Any


def half_the_cores() -> AbstractContextManager[Any]:
    """For as long as it lasts, products take half of the cores, whatever the environment says.

    A sum split between two threads is rounded otherwise than in one, and a launcher's workers are
    given fewer threads than a process alone. The other cores are TensorFlow's, which runs beside
    this: more threads than cores wait in loops that cost twice what they multiply.
    """
    from threadpoolctl import threadpool_limits

    return threadpool_limits(max(1, (os.cpu_count() or 1) // 2), user_api="blas")
