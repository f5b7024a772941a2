"""Extends layers over ``(n, C, H, W)`` to more axes, which are treated as batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from asrbuild.base.array import Array


def by_batch(run: Callable[..., Array]) -> Callable[..., Array]:
    """Extends ``run`` over ``(n, C, H, W)`` to any rank from 3 on; other inputs pass unchanged.

    Source: "For ranks greater than 4, the leading dimensions, starting from 0 to -4 (inclusive),
    are all treated as batch" in NeuralNetwork.proto.
    """

    def run_any(x: Array, *others: Any) -> Array:
        if x.ndim == 4:
            return run(x, *others)
        result = run(x.reshape(-1, *x.shape[-3:]), *others)
        return result.reshape(*x.shape[:-3], *result.shape[1:])

    return run_any
