"""Ops that move values, against index arithmetic written out."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from tests.coreml.executor.harness import check, floats, integers, mb, run

DTYPES = (np.float32, np.float16, np.int32, np.bool_)


def sample(shape: tuple[int, ...], dtype: type = np.float32) -> np.ndarray:
    if dtype is np.bool_:
        return integers(shape, 0, 2).astype(bool)
    return integers(shape, -50, 50).astype(dtype)


def from_places(shape: tuple[int, ...], dtype, value) -> np.ndarray:
    """An array whose value at each place is ``value(place)``."""
    result = np.empty(shape, dtype)
    for place in itertools.product(*map(range, shape)):
        result[place] = value(place)
    return result


@pytest.mark.parametrize("dtype", DTYPES)
def test_shapes_change_and_values_stay(dtype: type) -> None:
    x = sample((2, 3, 1, 4), dtype)
    flat = x.reshape(-1).tolist()

    def shaped(*shape: int) -> np.ndarray:
        return np.array(flat, dtype).reshape(shape)

    check("expand_dims", shaped(1, 2, 3, 1, 4, 1), {"x": x}, axes=[0, -1])
    check("squeeze", shaped(2, 3, 4), {"x": x}, axes=[2])
    check("squeeze", shaped(2, 3, 4), {"x": x})
    check("squeeze", shaped(2, 3, 1, 4), {"x": x}, axes=[0], infer=False)  # numpy refuses size 2
    check("reshape", shaped(4, 6), {"x": x}, shape=[4, -1])
    check("reshape", shaped(2, 3, 4, 1), {"x": x}, shape=[0, 0, -1, 1])
    check("reshape", shaped(1, 6, 1, 4), {"x": x}, "iOS17", shape=[1, 6, 0, 0])
    check("reshape", shaped(1, 2, 3, 1, 4), {"x": x}, "iOS17", shape=[0, 2, 3, 0, 0])
    check("flatten2d", shaped(6, 4), {"x": x}, axis=2)
    check("flatten2d", shaped(6, 4), {"x": x}, axis=-2)
    check(
        "reshape_like",
        shaped(3, 8),
        {"x": x, "ref_tensors": [sample((3, 5)), sample((7, 8))]},
        "iOS16",
        begins=[np.int32(0), np.int32(1)],
        ends=[np.int32(1), np.int32(0)],
        end_masks=[False, True],
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_order_changes(dtype: type) -> None:
    x = sample((2, 3, 4), dtype)
    expected = from_places((4, 2, 3), dtype, lambda p: x[p[1], p[2], p[0]])
    check("transpose", expected, {"x": x}, perm=[2, 0, -2])
    if dtype is not np.bool_:
        flipped = from_places(x.shape, dtype, lambda p: x[p[0], 2 - p[1], 3 - p[2]])
        check("reverse", flipped, {"x": x}, axes=[1, -1])
        all_flipped = from_places(x.shape, dtype, lambda p: x[1 - p[0], 2 - p[1], 3 - p[2]])
        check("reverse", all_flipped, {"x": x}, infer=False)  # coremltools takes None for axes
    tiled = from_places((4, 3, 12), dtype, lambda p: x[p[0] % 2, p[1], p[2] % 4])
    check("tile", tiled, {"x": x}, reps=[2, 1, 3])


def test_reverse_sequence() -> None:
    x = sample((3, 5, 2))
    lengths = np.array([0, 3, 5], np.int32)
    expected = from_places(
        x.shape,
        np.float32,
        lambda p: x[p[0], lengths[p[0]] - 1 - p[1] if p[1] < lengths[p[0]] else p[1], p[2]],
    )
    check("reverse_sequence", expected, {"x": x, "lengths": lengths}, seq_axis=1, batch_axis=0)
    turned = np.ascontiguousarray(x.transpose(1, 0, 2))
    check(
        "reverse_sequence",
        expected.transpose(1, 0, 2),
        {"x": turned, "lengths": lengths},
        seq_axis=0,
        batch_axis=1,
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_joining(dtype: type) -> None:
    a, b = sample((2, 3), dtype), sample((2, 3), dtype)[::-1].copy()
    longer = sample((2, 2), dtype)
    joined = np.array([[*a[0], *longer[0]], [*a[1], *longer[1]]], dtype)
    check("concat", joined, {"values": [a, longer]}, axis=1)
    check("concat", np.array([*a, *b]), {"values": [a, b]}, axis=-2)
    woven = np.array([a[0], b[0], a[1], b[1]])
    check("concat", woven, {"values": [a, b]}, axis=0, interleave=True)
    check("stack", np.array([a, b]), {"values": [a, b]}, axis=0)
    pairs = from_places((2, 3, 2), dtype, lambda p: (a, b)[p[2]][p[0], p[1]])
    check("stack", pairs, {"values": [a, b]}, axis=-1)


@pytest.mark.parametrize("dtype", DTYPES)
def test_splitting(dtype: type) -> None:
    x = sample((2, 6), dtype)
    check("split", (x[:, 0:2], x[:, 2:4], x[:, 4:6]), {"x": x}, num_splits=3, axis=1)
    check("split", (x[:, 0:1], x[:, 1:6]), {"x": x}, split_sizes=[1, 5], axis=-1)
    check("split", (x[0:1], x[1:2]), {"x": x}, num_splits=2, axis=0)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_pad(dtype: type) -> None:
    x = sample((2, 3), dtype)
    framed = np.full((3, 6), 9, dtype)
    framed[1:3, 2:5] = x
    check("pad", framed, {"x": x}, pad=[1, 0, 2, 1], mode="constant", constant_val=dtype(9))
    last = np.zeros((2, 5), dtype)
    last[:, 1:4] = x
    check("pad", last, {"x": x}, pad=[1, 1])
    place = lambda p, size: min(max(p, 0), size - 1)  # noqa: E731
    edges = from_places((2, 7), dtype, lambda p: x[p[0], place(p[1] - 2, 3)])
    check("pad", edges, {"x": x}, pad=[0, 0, 2, 2], mode="replicate")
    mirrored = from_places((2, 7), dtype, lambda p: x[p[0], (2, 1, 0, 1, 2, 1, 0)[p[1]]])
    check("pad", mirrored, {"x": x}, pad=[0, 0, 2, 2], mode="reflect")


def test_sliding_windows() -> None:
    x = sample((2, 7, 3))
    expected = from_places((2, 3, 3, 3), np.float32, lambda p: x[p[0], p[1] * 2 + p[2], p[3]])
    check("sliding_windows", expected, {"x": x}, axis=1, size=3, stride=2)
    check("sliding_windows", expected, {"x": x}, axis=-2, size=3, stride=2)


@st.composite
def slices(draw):
    """A shape, and begin, end, stride and masks that leave a part of every axis."""
    shape = tuple(draw(st.lists(st.integers(1, 5), min_size=1, max_size=3)))
    begin, end, stride, begin_mask, end_mask, squeeze = [], [], [], [], [], []
    for size in shape:
        step = draw(st.sampled_from([-2, -1, 1, 2, 3]))
        low = draw(st.integers(-size, size - 1))
        high = draw(st.integers(-size, size))
        masks = draw(st.tuples(st.booleans(), st.booleans(), st.sampled_from([False] * 3 + [True])))
        if masks[2]:
            step, masks = 1, (False, False, True)
        whole = slice(None if masks[0] else low, None if masks[1] else high, step)
        if not masks[2] and len(range(*whole.indices(size))) == 0:
            masks = (True, True, False)
        begin.append(low)
        end.append(high)
        stride.append(step)
        begin_mask.append(masks[0])
        end_mask.append(masks[1])
        squeeze.append(masks[2])
    return shape, begin, end, stride, begin_mask, end_mask, squeeze


@settings(max_examples=60)
@given(slices())
def test_slice_by_index(case) -> None:
    shape, begin, end, stride, begin_mask, end_mask, squeeze = case
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    axes = []
    for axis, size in enumerate(shape):
        if squeeze[axis]:
            axes.append([begin[axis] % size])
        else:
            low = None if begin_mask[axis] else begin[axis]
            high = None if end_mask[axis] else end[axis]
            axes.append(list(range(*slice(low, high, stride[axis]).indices(size))))
    values = [x[place] for place in itertools.product(*axes)]
    expected = np.reshape(values, [len(a) for n, a in enumerate(axes) if not squeeze[n]])
    given_masks = {"begin_mask": begin_mask, "end_mask": end_mask, "squeeze_mask": squeeze}
    check(
        "slice_by_index",
        expected,
        {"x": x},
        begin=begin,
        end=end,
        stride=stride,
        infer=not all(squeeze),
        **given_masks,
    )


def test_slices_with_run_time_bounds() -> None:
    x = sample((4, 3))
    begin, end = np.array([1, 0], np.int32), np.array([3, 2], np.int32)
    check("slice_by_index", x[1:3, 0:2], {"x": x, "begin": begin, "end": end})
    size = np.array([2, -1], np.int32)
    check("slice_by_size", x[1:3], {"x": x, "begin": begin, "size": size})
    check("slice_by_size", x[-3:-1, 0:2], {"x": x}, begin=[-3, 0], size=[2, 2])


def test_slice_update() -> None:
    x, update = sample((4, 3)), sample((2, 2))
    expected = x.copy()
    for row, column in itertools.product(range(2), range(2)):
        expected[1 + 2 * row, column] = update[row, column]
    check(
        "slice_update",
        expected,
        {"x": x, "update": update},
        "iOS18",
        begin=[1, 0],
        end=[4, 2],
        stride=[2, 1],
    )


def test_views_do_not_share_memory_with_changed_inputs() -> None:
    x = sample((3, 2))

    def build(v):
        view = mb.reshape(x=v["x"], shape=[2, 3])
        changed = mb.scatter(
            data=v["x"],
            indices=[0],
            updates=mb.const(val=np.ones((1, 2), np.float32)),
            axis=0,
            mode="add",
        )
        return view, changed

    view, changed = run(build, {"x": x})
    np.testing.assert_array_equal(view, x.reshape(2, 3))
    np.testing.assert_array_equal(changed[0], x[0] + 1)
    np.testing.assert_array_equal(changed[1:], x[1:])


def test_spatial_rearrangements() -> None:
    x = floats((1, 8, 2, 3))
    deep = from_places(
        (1, 2, 4, 6),
        np.float32,
        lambda p: x[0, (p[2] % 2 * 2 + p[3] % 2) * 2 + p[1], p[2] // 2, p[3] // 2],
    )
    check("depth_to_space", deep, {"x": x}, block_size=2)
    check("space_to_depth", x, {"x": deep}, block_size=2)
    shuffled = from_places(
        (1, 2, 4, 6),
        np.float32,
        lambda p: x[0, p[1] * 4 + p[2] % 2 * 2 + p[3] % 2, p[2] // 2, p[3] // 2],
    )
    check("pixel_shuffle", shuffled, {"x": x}, upscale_factor=2)
    check("pixel_unshuffle", x, {"x": shuffled}, "iOS16", downscale_factor=np.uint32(2))
    image = floats((1, 2, 3, 4))
    padded = np.pad(image, ((0, 0), (0, 0), (1, 0), (0, 2)))
    batches = np.stack([padded[0][:, r::2, c::2] for r in range(2) for c in range(2)])
    check("space_to_batch", batches, {"x": image}, block_shape=[2, 2], paddings=[[1, 0], [0, 2]])
    check("batch_to_space", image, {"x": batches}, block_shape=[2, 2], crops=[[1, 0], [0, 2]])
