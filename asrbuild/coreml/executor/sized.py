"""Arrays whose sizes a model computes; sizes that only a damaged model has are refused.

Left to numpy, a few bytes in a file could take all of a machine's memory, and ``np.tile`` by an
absurd number crashes the process.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from asrbuild.base.array import Array

#: Elements: 4 GiB of float32, a hundred times what an hour of speech makes at any layer's output.
MOST = 1 << 30
#: Arrays that one array may be cut into.
MOST_PARTS = 1 << 16


def sized(sizes: Iterable[Any]) -> list[int]:
    """The sizes of an array to be made, as integers.

    Raises:
        ValueError: one is negative, or they are more than ``MOST`` elements.
    """
    shape = [int(size) for size in sizes]
    if min(shape, default=0) < 0 or math.prod(shape) > MOST:
        raise ValueError(f"it makes an array of shape {tuple(shape)}, beyond {MOST} elements")
    return shape


def full(sizes: Iterable[Any], value: Any, dtype: Any = None) -> Array:
    """``np.full`` of ``sized`` sizes."""
    return np.full(sized(sizes), value, dtype)


def check_parts(count: int) -> None:
    """Refuses to cut an array into more parts than any model names: each is an object."""
    if count > MOST_PARTS:
        raise ValueError(f"it makes {count} arrays, beyond {MOST_PARTS}")


def tile(x: Array, counts: Iterable[Any]) -> Array:
    """``np.tile``, its result ``sized``."""
    repeats = sized(counts)
    sized([x.size, *repeats])
    return np.tile(x, repeats)


def arange(start: Any, end: Any, step: Any, dtype: Any) -> Array:
    """``np.arange``, its result ``sized``."""
    sized([max(0.0, math.ceil((float(end) - float(start)) / float(step)))])
    return np.arange(start, end, step, dtype)


def pad(x: Array, pairs: Iterable[Any], mode: str = "constant", **options: Any) -> Array:
    """``np.pad``, its result ``sized``; ``x`` itself where nothing is added."""
    widths = [(int(before), int(after)) for before, after in pairs]
    shape = sized(size + sum(pair) for size, pair in zip(x.shape, widths, strict=True))
    if mode != "constant":
        return np.pad(x, widths, mode, **options)  # type: ignore[call-overload]
    if x.shape == tuple(shape) and not any(map(any, widths)):
        return x
    if min(map(min, widths)) < 0:
        raise ValueError(f"it adds {widths} elements")
    # A third of the time of np.pad, which is much for a chunk of a stream.
    made = np.full(shape, options.get("constant_values", 0), x.dtype)
    inside = tuple(
        slice(before, before + size) for size, (before, _) in zip(x.shape, widths, strict=True)
    )
    made[inside] = x
    return made
