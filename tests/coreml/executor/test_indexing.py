"""Gathers and scatters against loops, ops that make and order tensors, lists."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from asrbuild.base.errors import AsrbuildError
from tests.coreml.executor.harness import check, floats, integers, mb, run, run_op

DTYPES = (np.float32, np.float16, np.int32)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_gather(dtype: type, axis: int) -> None:
    x = integers((3, 4, 2), -9, 9).astype(dtype)
    size = x.shape[axis]
    for indices in ([1], [0, -1, 1], [[0, 1], [1, 0]]):
        index = np.array(indices, np.int32)
        moved = np.moveaxis(x, axis, 0)
        rows = np.array([moved[i % size] for i in index.reshape(-1)])
        expected = rows.reshape(*index.shape, *moved.shape[1:])
        order = list(range(index.ndim, expected.ndim))
        place = axis % x.ndim
        order = order[:place] + list(range(index.ndim)) + order[place:]
        check("gather", expected.transpose(order), {"x": x, "indices": index}, axis=axis)


def test_gather_with_batches() -> None:
    x, index = integers((2, 3, 4)), integers((2, 5), 0, 3)
    expected = np.array([[x[b, index[b, i]] for i in range(5)] for b in range(2)])
    check("gather", expected, {"x": x, "indices": index}, "iOS16", axis=1, batch_dims=1)
    pairs = np.stack([index, integers((2, 5), 0, 4, seed=3)], axis=-1)
    nd = np.array([[x[b, pairs[b, i, 0], pairs[b, i, 1]] for i in range(5)] for b in range(2)])
    check("gather_nd", nd, {"x": x, "indices": pairs}, "iOS16", batch_dims=1)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gather_nd_and_along_axis(dtype: type) -> None:
    x = integers((3, 4, 2), -9, 9).astype(dtype)
    index = np.array([[0, 1], [2, 3], [-1, 0]], np.int32)
    expected = np.array([x[0, 1], x[2, 3], x[2, 0]])
    check("gather_nd", expected, {"x": x, "indices": index})
    check("gather_nd", np.array([x[1], x[0]]), {"x": x, "indices": np.array([[1], [0]], np.int32)})
    along = integers((3, 5, 2), 0, 4)
    picked = np.empty((3, 5, 2), dtype)
    for i, j, k in itertools.product(range(3), range(5), range(2)):
        picked[i, j, k] = x[i, along[i, j, k], k]
    check("gather_along_axis", picked, {"x": x, "indices": along}, axis=1)


def test_an_index_out_of_range_is_an_error_that_names_the_op() -> None:
    x = floats((3, 2))
    with pytest.raises(AsrbuildError, match=r"function main, op .*\(gather\) failed"):
        run_op("gather", {"x": x, "indices": np.array([3], np.int32)}, axis=0)


MODES = {
    "update": lambda old, new: new,
    "add": lambda old, new: old + new,
    "sub": lambda old, new: old - new,
    "mul": lambda old, new: old * new,
    "div": lambda old, new: old / new,
    "max": max,
    "min": min,
}


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("mode", MODES)
def test_scatters(mode: str, dtype: type) -> None:
    data = integers((4, 3), 1, 9).astype(dtype)
    combine = MODES[mode]
    index = np.array([2, 0, 2], np.int32)
    updates = integers((3, 3), 1, 5, seed=1).astype(dtype)
    # Repeated indices have no defined winner for "update".
    if mode == "update":
        index = np.array([2, 0, 3], np.int32)
    expected = data.copy()
    for row, update in zip(index, updates, strict=True):
        for column in range(3):
            expected[row, column] = combine(expected[row, column], update[column])
    tensors = {"data": data, "indices": index, "updates": updates}
    check("scatter", expected, tensors, axis=0, mode=mode, rtol=2e-3)
    columns = {"data": data.T.copy(), "indices": index, "updates": updates.T.copy()}
    check("scatter", expected.T, columns, axis=-1, mode=mode, rtol=2e-3)
    nd = {"data": data, "indices": index[:, None], "updates": updates}
    check("scatter_nd", expected, nd, mode=mode, rtol=2e-3)
    along = np.stack([index] * 3, axis=1)
    check(
        "scatter_along_axis",
        expected,
        {"data": data, "indices": along, "updates": updates},
        axis=0,
        mode=mode,
        rtol=2e-3,
        infer=mode == "update",
    )


@settings(max_examples=30)
@given(st.integers(1, 5), st.integers(0, 2), st.data())
def test_scatter_of_one_row_equals_the_general_way(size: int, axis: int, data) -> None:
    shape = [2, 3, 2]
    shape[axis] = size
    at = data.draw(st.integers(0, size - 1))
    x = integers(tuple(shape), -9, 9)
    shape[axis] = 1
    updates = integers(tuple(shape), -9, 9, seed=2)
    for mode in ("add", "max", "update"):
        expected = x.copy()
        index = [slice(None)] * 3
        index[axis] = slice(at, at + 1)
        old = expected[tuple(index)]
        new = {"add": old + updates, "max": np.where(old > updates, old, updates)}
        expected[tuple(index)] = new.get(mode, updates)
        tensors = {"data": x, "indices": np.array([at], np.int32), "updates": updates}
        check("scatter", expected, tensors, axis=axis, mode=mode)


def test_shapes_and_fills() -> None:
    x = floats((2, 3, 1))
    check("shape", np.array([2, 3, 1]), {"x": x})
    check("fill", np.full((2, 3), 1.5), {"shape": np.array([2, 3], np.int32)}, value=1.5)
    check("fill", np.full((2,), 7), {"shape": np.array([2], np.int32)}, value=np.int32(7))
    check("fill_like", np.full((2, 3, 1), 2.0), {"ref_tensor": x}, "iOS16", value=2.0)
    for start, end, step in ((0, 5, 1), (1, 10, 3), (5, 0, -2), (0, 0, 1)):
        expected = np.array(list(range(start, end, step)))
        check("range_1d", expected, {}, start=start, end=end, step=step)

    def build(v):
        ends = mb.squeeze(x=v["end"], axes=[0])
        return mb.range_1d(start=np.int32(1), end=ends, step=np.int32(2))

    np.testing.assert_array_equal(run(build, {"end": np.array([6], np.int32)})[0], [1, 3, 5])


def test_one_hot_and_non_zero() -> None:
    index = np.array([[0, 2], [1, 5]], np.int32)
    expected = np.full((2, 2, 3), -1)
    for row, column in itertools.product(range(2), range(2)):
        if index[row, column] < 3:
            expected[row, column, index[row, column]] = 4
    check(
        "one_hot",
        expected,
        {"indices": index},
        one_hot_vector_size=3,
        axis=-1,
        on_value=np.int32(4),
        off_value=np.int32(-1),
    )
    check(
        "one_hot",
        expected.transpose(0, 2, 1),
        {"indices": index},
        one_hot_vector_size=3,
        axis=1,
        on_value=np.int32(4),
        off_value=np.int32(-1),
    )
    x = np.array([[0, 1.5], [-2, 0]], np.float32)
    check("non_zero", np.array([[0, 1], [1, 0]]), {"x": x})


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("exclusive", "reverse"), itertools.product((False, True), repeat=2))
def test_cumsum(dtype: type, exclusive: bool, reverse: bool) -> None:
    x = integers((2, 4), 1, 6).astype(dtype)
    expected = np.zeros((2, 4))
    for row, column, other in itertools.product(range(2), range(4), range(4)):
        before = other > column if reverse else other < column
        if before or (other == column and not exclusive):
            expected[row, column] += x[row, other]
    check(
        "cumsum",
        expected,
        {"x": x},
        axis=1,
        exclusive=exclusive,
        reverse=reverse,
        infer=not exclusive,
    )


def test_band_part() -> None:
    x = floats((2, 3, 4))
    for lower, upper in ((-1, 0), (0, -1), (1, 1), (-1, -1)):
        expected = x.copy()
        for row, column in itertools.product(range(3), range(4)):
            below, above = row - column, column - row
            if (lower >= 0 and below > lower) or (upper >= 0 and above > upper):
                expected[:, row, column] = 0
        check("band_part", expected, {"x": x}, lower=lower, upper=upper)


@pytest.mark.parametrize("ascending", [True, False])
def test_ordering_is_stable(ascending: bool) -> None:
    x = np.array([[3, 1, 3, 2], [0, 0, 5, -1]], np.float32)
    rows = [
        sorted(range(4), key=lambda c, r=r: (r[c] if ascending else -r[c], c)) for r in x.tolist()
    ]
    order = np.array(rows)
    check("argsort", order, {"x": x}, axis=1, ascending=ascending)
    values = np.array([[row[c] for c in o[:2]] for row, o in zip(x, rows, strict=True)])
    check("topk", (values, order[:, :2]), {"x": x}, k=2, axis=-1, ascending=ascending)


def test_quantization() -> None:
    x = np.array([[-1.0, 0.26], [0.5, 300.0]], np.float32)
    scale, zero = np.array([0.1, 0.5], np.float32), np.array([1, -2], np.int8)
    expected = [[-9, 4], [-1, 127]]
    check(
        "quantize",
        np.array(expected),
        {"input": x},
        "iOS17",
        scale=scale,
        zero_point=zero,
        axis=0,
        output_dtype="int8",
    )
    levels = np.array(expected, np.int8)
    back = [[(-9 - 1) * 0.1, (4 - 1) * 0.1], [(-1 + 2) * 0.5, (127 + 2) * 0.5]]
    check(
        "dequantize",
        np.array(back),
        {"input": levels},
        "iOS17",
        scale=scale,
        zero_point=zero,
        axis=0,
    )


def test_lists() -> None:
    rows = floats((3, 2))

    def build(v):
        ls = mb.make_list(init_length=3, elem_shape=(2,), dynamic_length=False, dtype="fp32")
        filled = mb.list_scatter(ls=ls, indices=[0, 1, 2], value=v["rows"])
        other = mb.list_write(ls=filled, index=1, value=v["row"])
        read = mb.list_read(ls=filled, index=1)
        return read, mb.list_gather(ls=other, indices=[2, 1]), mb.list_length(ls=other)

    row = np.array([8, 9], np.float32)
    read, gathered, length = run(build, {"rows": rows, "row": row})
    np.testing.assert_array_equal(read, rows[1])
    np.testing.assert_array_equal(gathered, [rows[2], row])
    assert length == 3
