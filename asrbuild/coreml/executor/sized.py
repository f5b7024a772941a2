"""Makes arrays whose sizes a model computes, and refuses absurd sizes of a damaged model.

Without these checks, a few bytes in a file could use all of a machine's memory, and ``np.tile``
with an absurd number crashes the process.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from asrbuild.base.array import Array

#: Limit of elements: 4 GiB of float32, a hundred times any layer's output for an hour of speech.
MOST = 1 << 30
#: Limit of arrays that one array is split into.
MOST_PARTS = 1 << 16


def sized(sizes: Iterable[Any]) -> list[int]:
    """The sizes of a new array, as checked integers.

    Raises:
        ValueError: a size is negative, or the array has more than ``MOST`` elements.
    """
    shape = [int(size) for size in sizes]
    if min(shape, default=0) < 0 or math.prod(shape) > MOST:
        raise ValueError(f"it makes an array of shape {tuple(shape)}, beyond {MOST} elements")
    return shape


def full(sizes: Iterable[Any], value: Any, dtype: Any = None) -> Array:
    """``np.full`` with checked sizes."""
    return np.full(sized(sizes), value, dtype)


def check_parts(count: int) -> None:
    """Raises if an array is split into more parts than any model has."""
    if count > MOST_PARTS:
        raise ValueError(f"it makes {count} arrays, beyond {MOST_PARTS}")


def tile(x: Array, counts: Iterable[Any]) -> Array:
    """``np.tile`` with a checked size of the result."""
    repeats = sized(counts)
    sized([x.size, *repeats])
    return np.tile(x, repeats)


def arange(start: Any, end: Any, step: Any, dtype: Any) -> Array:
    """``np.arange`` with a checked size of the result."""
    sized([max(0.0, math.ceil((float(end) - float(start)) / float(step)))])
    return np.arange(start, end, step, dtype)


def pad(x: Array, pairs: Iterable[Any], mode: str = "constant", **options: Any) -> Array:
    """``np.pad`` with a checked size of the result; ``x`` itself if nothing is added."""
    widths = [(int(before), int(after)) for before, after in pairs]
    shape = sized(size + sum(pair) for size, pair in zip(x.shape, widths, strict=True))
    if mode != "constant":
        return np.pad(x, widths, mode, **options)  # type: ignore[call-overload]
    if x.shape == tuple(shape) and not any(map(any, widths)):
        return x
    if min(map(min, widths)) < 0:
        raise ValueError(f"it adds {widths} elements")
    # A third of np.pad's time, which matters for a chunk of a stream.
    made = np.full(shape, options.get("constant_values", 0), x.dtype)
    inside = tuple(
        slice(before, before + size) for size, (before, _) in zip(x.shape, widths, strict=True)
    )
    made[inside] = x
    return made
