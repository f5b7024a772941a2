"""Layers that move, make, order or reduce values, compared with plain numpy."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tests.coreml.executor.harness import floats
from tests.coreml.executor.layers import run_layer, same
from tests.coreml.executor.plain import (
    REDUCTIONS,
    reduced,
)

F = np.float32


def test_shapes() -> None:
    x = floats((2, 1, 3))
    flat = x.reshape(-1).tolist()
    cases = (
        ("add_expand_dims", {"axes": [0, -1]}, (1, 2, 1, 3, 1)),
        ("add_squeeze", {"axes": [1]}, (2, 3)),
        ("add_squeeze", {"squeeze_all": True}, (2, 3)),
        ("add_reshape_static", {"output_shape": (3, -1)}, (3, 2)),
        ("add_rank_preserving_reshape", {"output_shape": [0, 3, -1]}, (2, 3, 1)),
        ("add_flatten_to_2d", {"axis": 2}, (2, 3)),
    )
    for method, given, shape in cases:
        same(run_layer(method, x, **given), np.reshape(flat, shape))
    same(run_layer("add_get_shape", x), np.array([2, 1, 3]))
    same(run_layer("add_reshape_dynamic", x, [3, -1]), np.reshape(flat, (3, 2)))
    same(run_layer("add_reshape_like", x, np.zeros((6, 1))), np.reshape(flat, (6, 1)))
    same(run_layer("add_squeeze", floats((1, 1)), squeeze_all=True), floats((1, 1))[0])


def test_order_and_joining() -> None:
    x, y = floats((2, 3)), floats((2, 3), seed=1)
    same(run_layer("add_transpose", x, axes=(1, 0)), np.array(list(zip(*x.tolist(), strict=True))))
    same(run_layer("add_concat_nd", x, y, axis=0), np.array([*x, *y]))
    woven = np.array(
        [[a for pair in zip(p, q, strict=True) for a in pair] for p, q in zip(x, y, strict=True)]
    )
    same(run_layer("add_concat_nd", x, y, axis=1, interleave=True), woven)
    same(run_layer("add_stack", x, y, axis=0), np.array([x, y]))
    columns = [x[:, n : n + 1] for n in range(3)]
    same(run_layer("add_split_nd", x, axis=1, num_splits=3, outputs=3), *columns)
    same(run_layer("add_split_nd", x, axis=1, split_sizes=[1, 2], outputs=2), x[:, :1], x[:, 1:])
    same(run_layer("add_tile", x, reps=[2, 1]), np.array([*x, *x]))
    same(run_layer("add_reverse", x, reverse_dim=[False, True]), np.array([r[::-1] for r in x]))
    same(run_layer("add_copy", x), x)
    padded = np.full((3, 6), 9.0)
    padded[1:, 2:5] = x
    same(run_layer("add_constant_pad", x, value=9.0, pad_amounts=[1, 0, 2, 1]), padded)
    for method, given in (
        ("add_broadcast_to_static", {"output_shape": (4, 2, 3)}),
        ("add_broadcast_to_dynamic", {}),
        ("add_broadcast_to_like", {}),
    ):
        second = {
            "add_broadcast_to_dynamic": [[4, 2, 3]],
            "add_broadcast_to_like": [np.zeros((4, 2, 3))],
        }.get(method, [])
        same(run_layer(method, x, *second, **given), np.array([x] * 4))


def test_makers() -> None:
    same(run_layer("add_fill_static", output_shape=(2, 3), value=1.5), np.full((2, 3), 1.5))
    same(run_layer("add_fill_dynamic", [2, 3], value=1.5), np.full((2, 3), 1.5))
    same(run_layer("add_fill_like", np.zeros((2, 3)), value=1.5), np.full((2, 3), 1.5))
    same(run_layer("add_range_static", start=1, end=8, step=3), np.array([1, 4, 7]))
    same(run_layer("add_range_dynamic", [8], start=1, step=3), np.array([1, 4, 7]))
    same(run_layer("add_range_dynamic", [8], [2], step=3), np.array([2, 5]))
    same(run_layer("add_range_dynamic", [0], [4], [-2]), np.array([4, 2]))
    value = floats((2, 3))
    same(run_layer("add_load_constant_nd", constant_value=value, shape=(2, 3)), value)
    hot = np.array([[0, 5, 0], [5, 0, 0], [0, 0, 0]])
    same(run_layer("add_one_hot", [1, 0, 7], one_hot_vector_size=3, on_value=5.0), hot)


def test_gathers_and_scatters() -> None:
    x = floats((3, 4))
    same(run_layer("add_gather", x, [2, 0], axis=0), np.array([x[2], x[0]]))
    same(run_layer("add_gather", x, [[1], [-1]], axis=1), np.array([[[r[1]], [r[3]]] for r in x]))
    same(run_layer("add_gather_nd", x, [[0, 1], [2, 3]]), np.array([x[0, 1], x[2, 3]]))
    along = np.array([[0, 1], [3, 3], [2, 0]])
    picked = np.array([[x[r, c] for c in along[r]] for r in range(3)])
    same(run_layer("add_gather_along_axis", x, along, axis=1), picked)
    updates = floats((2, 4), seed=1)
    added = x.copy()
    added[2] += updates[0]
    added[0] += updates[1]
    same(run_layer("add_scatter", x, [2, 0], updates, axis=0, mode="ADD"), added)
    same(run_layer("add_scatter_nd", x, [[2], [0]], updates, mode="ADD"), added)
    put = x.copy()
    for r, c in itertools.product(range(3), range(1)):
        put[r, along[r, c]] = -1
    same(
        run_layer(
            "add_scatter_along_axis", x, along[:, :1], -np.ones((3, 1)), axis=1, mode="UPDATE"
        ),
        put,
    )


def test_slices() -> None:
    x = floats((2, 4, 5))
    for axis, place in (("channel", 0), ("height", 1), ("width", 2)):
        expected = np.moveaxis(np.moveaxis(x, place, 0)[0:-1], 0, place)
        same(run_layer("add_slice", x, axis=axis, start_index=0, end_index=-1), expected)
    same(
        run_layer("add_slice", x, axis="width", start_index=1, end_index=5, stride=2),
        x[:, :, [1, 3]],
    )
    masks = [True, False, False]
    same(
        run_layer(
            "add_slice_static",
            x,
            begin_ids=[1, 1, 3],
            end_ids=[0, 3, 0],
            strides=[1, 1, -2],
            begin_masks=masks,
            end_masks=masks,
        ),
        x[:, 1:3, [3, 1]],
    )
    same(
        run_layer(
            "add_slice_static",
            x,
            begin_ids=[1, 0, 0],
            end_ids=[0, 4, 5],
            strides=[1, 1, 1],
            begin_masks=[False] * 3,
            end_masks=[False] * 3,
            squeeze_masks=masks,
        ),
        x[1],
    )
    none = [False] * 3
    same(
        run_layer(
            "add_slice_dynamic",
            x,
            [0, 1, 2],
            end_ids=[2, 3, 5],
            strides=[1, 1, 1],
            begin_masks=none,
            end_masks=none,
            squeeze_masks=none,
        ),
        x[:, 1:3, 2:],
    )
    same(
        run_layer(
            "add_slice_dynamic",
            x,
            [0, 1, 2],
            [1, 3, 4],
            strides=[1, 1, 1],
            begin_masks=none,
            end_masks=none,
            squeeze_masks=none,
        ),
        x[:1, 1:3, 2:4],
    )
    same(run_layer("add_slice_by_size", x, [2], axis=1, size=2), x[:, 2:4])


def test_ordering_and_bands() -> None:
    x = np.array([[3, 1, 3, 2], [0, 0, 5, -1]], F)
    order = np.array([[0, 2, 3, 1], [2, 0, 1, 3]])
    same(run_layer("add_argsort", x, axis=1, descending=True), order)
    same(run_layer("add_topk", x, k=2, axis=1, outputs=2), np.array([[3, 3], [5, 0]]), order[:, :2])
    same(run_layer("add_argmax", x, axis=1, keepdims=True), np.array([[0], [2]]))
    same(run_layer("add_argmin", x, axis=1, keepdims=False), np.array([1, 3]))
    same(run_layer("add_where_nonzero", x), np.argwhere(x))
    same(run_layer("add_cumsum", x, axis=1), np.array([[3, 4, 7, 9], [0, 0, 5, 4]]))
    square = floats((3, 4))
    for method, keep in (
        ("add_lower_triangular", lambda r, c: c - r <= 1),
        ("add_upper_triangular", lambda r, c: c - r >= 1),
    ):
        wanted = [[square[r, c] if keep(r, c) else 0 for c in range(4)] for r in range(3)]
        same(run_layer(method, square, k=1), np.array(wanted))
    band = [[square[r, c] if -1 <= c - r <= 1 else 0 for c in range(4)] for r in range(3)]
    same(run_layer("add_matrix_band_part", square, num_lower=1, num_upper=1), np.array(band))
    condition = np.array([[1.0], [0.0], [2.0]])
    chosen = np.where([[True], [False], [True]], square, -square)
    same(run_layer("add_where_broadcastable", condition, square, -square), chosen)


REDUCING_LAYERS = {
    "l1": "reduce_l1_norm",
    "l2": "reduce_l2_norm",
    "max": "reduce_max",
    "min": "reduce_min",
    "sum": "reduce_sum",
    "prod": "reduce_prod",
    "mean": "reduce_mean",
    "logsum": "reduce_log_sum",
    "sumsquare": "reduce_sum_square",
    "logsumexp": "reduce_log_sum_exp",
}


@pytest.mark.parametrize("name", REDUCING_LAYERS)
def test_reductions(name: str) -> None:
    x = floats((2, 3, 4), low=0.2, high=1.5)
    function = REDUCTIONS[REDUCING_LAYERS[name]]
    method = f"add_reduce_{name}"
    same(run_layer(method, x, axes=[0, 2], keepdims=True), reduced(function, x, (0, 2), True))
    same(run_layer(method, x, axes=[-1], keepdims=False), reduced(function, x, (-1,), False))
    whole = reduced(function, x, None, False).reshape(1)
    same(run_layer(method, x, reduce_all=True, keepdims=False), whole)
