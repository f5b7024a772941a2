"""Reductions against plain loops over Python numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.coreml.executor.harness import check, floats, integers
from tests.coreml.executor.plain import REDUCTIONS, reduced


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("op", REDUCTIONS)
@pytest.mark.parametrize("axes", [(0,), (-1,), (0, 2), (-2, 0), None])
def test_reduction(op: str, axes: tuple[int, ...] | None, dtype: type) -> None:
    x = floats((2, 3, 4), dtype, 0.2, 1.5)
    for keep in (False, True):
        given = {} if axes is None else {"axes": list(axes)}
        check(
            op,
            reduced(REDUCTIONS[op], x, axes, keep),
            {"x": x},
            keep_dims=keep,
            rtol=2e-3 if dtype is np.float16 else 2e-6,
            infer=dtype is np.float32,
            atol=1e-6,
            **given,
        )


@pytest.mark.parametrize("op", ["reduce_sum", "reduce_max", "reduce_min", "reduce_prod"])
def test_reduction_of_integers(op: str) -> None:
    x = integers((2, 3, 2), 1, 5)
    check(op, reduced(REDUCTIONS[op], x, (1,), False), {"x": x}, axes=[1], keep_dims=False)


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
    check(
        "reduce_argmax",
        np.array([1, 0, 0]),
        {"x": x},
        "iOS17",
        axis=1,
        keep_dims=False,
        output_dtype="uint16",
    )
