"""Reductions against plain loops over Python numbers."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from tests.coreml.executor.harness import check, floats, integers

FUNCTIONS = {
    "reduce_sum": sum,
    "reduce_mean": lambda v: sum(v) / len(v),
    "reduce_max": max,
    "reduce_min": min,
    "reduce_prod": math.prod,
    "reduce_l1_norm": lambda v: sum(map(abs, v)),
    "reduce_l2_norm": lambda v: math.sqrt(sum(x * x for x in v)),
    "reduce_log_sum": lambda v: math.log(sum(v)),
    "reduce_log_sum_exp": lambda v: math.log(sum(map(math.exp, v))),
    "reduce_sum_square": lambda v: sum(x * x for x in v),
}


def reduced(function, x: np.ndarray, axes: tuple[int, ...] | None, keep: bool) -> np.ndarray:
    """``function`` of the list of values along ``axes``, place by place."""
    over = tuple(range(x.ndim)) if axes is None else tuple(axis % x.ndim for axis in axes)
    kept = [size if axis not in over else 1 for axis, size in enumerate(x.shape)]
    result = np.empty(kept)
    for place in itertools.product(*map(range, kept)):
        index = tuple(slice(None) if axis in over else at for axis, at in enumerate(place))
        result[place] = function(np.asarray(x[index], float).reshape(-1).tolist())
    return result if keep else result.reshape([s for a, s in enumerate(x.shape) if a not in over])


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("op", FUNCTIONS)
@pytest.mark.parametrize("axes", [(0,), (-1,), (0, 2), (-2, 0), None])
def test_reduction(op: str, axes: tuple[int, ...] | None, dtype: type) -> None:
    x = floats((2, 3, 4), dtype, 0.2, 1.5)
    for keep in (False, True):
        given = {} if axes is None else {"axes": list(axes)}
        check(op, reduced(FUNCTIONS[op], x, axes, keep), {"x": x}, keep_dims=keep, rtol=2e-3
              if dtype is np.float16 else 2e-6, infer=dtype is np.float32, atol=1e-6,
              **given)  # fmt: skip


@pytest.mark.parametrize("op", ["reduce_sum", "reduce_max", "reduce_min", "reduce_prod"])
def test_reduction_of_integers(op: str) -> None:
    x = integers((2, 3, 2), 1, 5)
    check(op, reduced(FUNCTIONS[op], x, (1,), False), {"x": x}, axes=[1], keep_dims=False)


def test_float16_sums_accumulate_wider() -> None:
    x = np.full((4096,), 1.0, np.float16)
    check("reduce_sum", np.array(4096.0), {"x": x}, axes=[0], keep_dims=False, infer=False)
    big = np.full((4,), 200.0, np.float16)
    check("reduce_l2_norm", np.array(400.0), {"x": big}, axes=[0], keep_dims=False, infer=False)


def test_log_sum_exp_of_extremes() -> None:
    x = np.array([[1000.0, 1000.0], [-1000.0, -np.inf]], np.float32)
    expected = np.array([1000 + math.log(2), -1000.0])
    check("reduce_log_sum_exp", expected, {"x": x}, axes=[1], keep_dims=False)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int32])
def test_argmax_takes_the_first(dtype: type) -> None:
    x = np.array([[1, 3, 3], [2, 2, 1], [0, 0, 0]], dtype)
    for keep in (False, True):
        shape = (3, 1) if keep else (3,)
        check("reduce_argmax", np.reshape([1, 0, 0], shape), {"x": x}, axis=1, keep_dims=keep)
        check("reduce_argmin", np.reshape([0, 2, 0], shape), {"x": x}, axis=-1, keep_dims=keep)
    check("reduce_argmax", np.array([1, 0, 0]), {"x": x}, "iOS17", axis=1, keep_dims=False,
          output_dtype="uint16")  # fmt: skip
