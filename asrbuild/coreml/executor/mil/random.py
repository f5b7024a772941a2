"""Ops that draw random values, for distributions with a single value.

Core ML has a generator of its own, which is not published, so no other program can give its values.
Distributions with a single value, which Apple's tests use, do not depend on it; others are refused.

Source: "random" in the MIL reference.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from asrbuild.base.array import Array
from asrbuild.coreml.executor import sized
from asrbuild.coreml.executor.registry import mil_op


def refuse(what: str) -> ValueError:
    """The error for a distribution with several values."""
    return ValueError(f"Core ML draws {what} with a generator of its own; no reference has them")


def _sizes(shape: Any) -> list[int]:
    return [int(size) for size in np.asarray(shape).reshape(-1)]


@mil_op("random_normal")
def random_normal(shape: Array, mean: Any = 0.0, stddev: Any = 1.0, seed: int = -1) -> Array:
    """``shape`` of the mean, where the standard deviation is 0."""
    if float(stddev) != 0:
        raise refuse("normally distributed values")
    return sized.full(_sizes(shape), mean, getattr(mean, "dtype", np.float32))


@mil_op("random_uniform")
def random_uniform(shape: Array, low: Any = 0.0, high: Any = 1.0, seed: int = -1) -> Array:
    """``shape`` of the bound, where both bounds are one."""
    if float(low) != float(high):
        raise refuse("uniformly distributed values")
    return sized.full(_sizes(shape), low, getattr(low, "dtype", np.float32))


@mil_op("random_bernoulli")
def random_bernoulli(shape: Array, prob: Any = 0.5, seed: int = -1) -> Array:
    """``shape`` of zeros or ones, where that is certain."""
    if float(prob) not in (0.0, 1.0):
        raise refuse("zeros and ones")
    return sized.full(_sizes(shape), prob, getattr(prob, "dtype", np.float32))


@mil_op("random_categorical")
def random_categorical(x: Array, mode: str = "logits", size: int = 1, seed: int = -1) -> Array:
    """``[*D, 1] -> [*D, size]`` of zeros, where there is one category."""
    if x.shape[-1] != 1:
        raise refuse("categories")
    return sized.full([*x.shape[:-1], int(size)], 0, x.dtype if x.dtype.kind == "f" else np.float32)
