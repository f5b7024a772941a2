"""Lowers ops that move values without changing them: shapes, order, joining and splitting."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import values
from ..apple import raw
from ..call import Call, op
from ..lowering import refined
from ..values import END, dims, ints, positive, rank, reshaped, shape_of
from .control import as_list


@op("expand_dims")
def expand_dims(call: Call) -> Any:
    x, axes = call.value("x"), call.array("axes")
    return raw.expand_dims(x, ints(*sorted(positive(axes, rank(x) + np.size(axes)))))


@op("squeeze")
def squeeze(call: Call) -> Any:
    x = call.value("x")
    axes = call.array("axes")
    wanted = range(rank(x)) if axes is None else positive(axes, rank(x))
    gone = [axis for axis in sorted(wanted) if dims(x)[axis] == 1]
    return raw.shrink_dims(x, ints(*gone)) if gone else x


@op("transpose")
def transpose(call: Call) -> Any:
    x = call.value("x")
    return raw.transpose(x, values.unsigned(*positive(call.array("perm"), rank(x))))


@op("reshape")
def reshape(call: Call) -> Any:
    """Lowers a reshape; a size 0 is that of the same axis, counted from the right."""
    x = call.value("x")
    if not call.is_constant("shape"):
        return raw.reshape(x, call.value("shape"))
    sizes = [int(size) for size in call.array("shape")]
    offset = rank(x) - len(sizes)
    taken = {axis: axis + offset for axis, size in enumerate(sizes) if size == 0}
    for axis, source in taken.items():
        sizes[axis] = 1 if source < 0 else dims(x)[source] or 0
    dynamic = [axis for axis in taken if sizes[axis] == 0 and dims(x)[taken[axis]] is None]
    if not dynamic:
        return raw.reshape(x, ints(*sizes))
    parts = [
        values.size_of(x, taken[axis]) if axis in dynamic else ints(size)
        for axis, size in enumerate(sizes)
    ]
    return raw.reshape(x, raw.concat(values.index(0), parts))


@op("reshape_like")
def reshape_like(call: Call) -> Any:
    parts = []
    masks = call.names("end_masks")
    for number, reference in enumerate(call.values("ref_tensors")):
        begin, end, mask = (
            int(call.lowering.literal(call.names(name)[number]))
            for name in ("begins", "ends", "end_masks")
        )
        last = END if mask else end
        parts.append(raw.slice_(shape_of(reference), ints(begin), ints(last), ints(1)))
    assert len(parts) == len(masks)
    return raw.reshape(call.value("x"), raw.concat(values.index(0), parts))


@op("flatten2d")
def flatten2d(call: Call) -> Any:
    x, axis = call.value("x"), int(call.number("axis", 1))
    axis = axis if axis >= 0 else rank(x) + axis
    before, after = dims(x)[:axis], dims(x)[axis:]
    if None in after and None in before:
        raise call.refused("sizes that are not known on both sides")
    if None in after:
        return reshaped(x, [int(np.prod([size or 1 for size in before])), None])
    return reshaped(x, [None, int(np.prod([size or 1 for size in after]))])


@op("concat")
def concat(call: Call) -> Any:
    parts = [values.with_rank(part, 1) for part in call.values("values")]
    axis = int(call.number("axis")) % rank(parts[0])
    parts = _agreeing(parts, axis)
    if not call.number("interleave", False):
        return raw.concat(values.index(axis), parts)
    size = dims(parts[0])
    shape = [*size[: axis + 1], *size[axis + 1 :]]
    woven = raw.concat(
        values.index(axis + 1), [raw.expand_dims(part, ints(axis + 1)) for part in parts]
    )
    shape[axis] = None if shape[axis] is None else (shape[axis] or 0) * len(parts)
    return reshaped(woven, shape)


def _agreeing(parts: list[Any], axis: int) -> list[Any]:
    """Parts with the sizes that any of them has, except for ``axis``."""
    columns = zip(*map(dims, parts), strict=True)
    known = [next((size for size in sizes if size is not None), None) for sizes in columns]
    return [refined(part, [*known[:axis], dims(part)[axis], *known[axis + 1 :]]) for part in parts]


@op("stack")
def stack(call: Call) -> Any:
    parts = call.values("values")
    axis = int(call.number("axis")) % (rank(parts[0]) + 1)
    return raw.concat(values.index(axis), [raw.expand_dims(part, ints(axis)) for part in parts])


@op("split")
def split(call: Call) -> Any:
    x = call.value("x")
    axis = int(call.number("axis", 0)) % rank(x)
    sizes = call.array("split_sizes")
    if sizes is None:
        whole, count = dims(x)[axis], int(call.number("num_splits"))
        if whole is None:
            raise call.refused("an axis of unknown size")
        sizes = [whole // count] * count
    return as_list(raw.split(x, values.unsigned(*map(int, sizes)), values.index(axis)))


@op("tile")
def tile(call: Call) -> Any:
    if call.is_constant("reps"):
        return raw.tile(call.value("x"), values.unsigned(*map(int, call.array("reps"))))
    return raw.tile(call.value("x"), raw.cast(call.value("reps"), np.uint32))


@op("reverse")
def reverse(call: Call) -> Any:
    x = call.value("x")
    axes = call.array("axes")
    return raw.reverse(x, ints(*(range(rank(x)) if axes is None else positive(axes, rank(x)))))


@op("pad")
def pad(call: Call) -> Any:
    x, sizes = call.value("x"), [int(size) for size in call.array("pad")]
    mode = call.array("mode", "constant")
    return padded(x, sizes, mode, call.number("constant_val", 0) if mode == "constant" else 0)


def padded(x: Any, sizes: list[int], mode: str = "constant", number: float = 0) -> Any:
    """Pads the last axes of a value by (before, after) pairs."""
    if not any(sizes):
        return x
    whole = [0] * (2 * rank(x) - len(sizes)) + sizes
    return raw.pad(x, values.unsigned(*whole), values.like(x, number), mode)


@op("sliding_windows")
def sliding_windows(call: Call) -> Any:
    x = call.value("x")
    axis, size = int(call.number("axis")) % rank(x), int(call.number("size"))
    stride, whole = int(call.number("stride", 1)), dims(x)[axis]
    if whole is None:
        raise call.refused("an axis of unknown size")
    starts = range(0, whole - size + 1, stride)
    parts = [raw.expand_dims(values.cut(x, axis, at, at + size), ints(axis)) for at in starts]
    return raw.concat(values.index(axis), parts)


@op("reverse_sequence")
def reverse_sequence(call: Call) -> Any:
    """Lowers to a gather: entry ``t`` comes from ``length - 1 - t`` inside the length."""
    x, lengths = call.value("x"), call.value("lengths")
    along = int(call.number("seq_axis", 0)) % rank(x)
    batch = int(call.number("batch_axis", 0)) % rank(x)
    size = dims(x)
    if None in size:
        raise call.refused("sizes that are not known")
    steps = values.const(np.arange(size[along], dtype=np.int32).reshape(_at(x, along, -1)))
    ends = raw.reshape(lengths, ints(*_at(x, batch, -1)))
    turned = values.sub(values.sub(ends, values.index(1)), steps)
    inside = raw.broadcasting_greater(*values.same_rank(ends, steps))
    whole = values.unsigned(*(one or 0 for one in size))
    places = raw.broadcast_to(values.where(inside, turned, steps), whole)
    return raw.gather_along_axis(x, places, values.index(along))


def _at(x: Any, axis: int, size: int) -> list[int]:
    """A shape with ``size`` at ``axis`` and ones elsewhere."""
    return [size if other == axis else 1 for other in range(rank(x))]


def _rearranged(x: Any, apart: list[int | None], order: list[int], whole: list[int | None]) -> Any:
    """Splits a value into more axes, reorders them, and joins them again."""
    return reshaped(raw.transpose(reshaped(x, apart), values.unsigned(*order)), whole)


def _plane(call: Call, x: Any) -> list[int]:
    if None in dims(x):
        raise call.refused("sizes that are not known")
    return [size or 0 for size in dims(x)]


@op("depth_to_space", "pixel_shuffle")
def depth_to_space(call: Call) -> Any:
    """Moves channels into blocks; the position in a block is the slow or fast part of them."""
    x = call.value("x")
    n, c, h, w = _plane(call, x)
    slow = call.type == "depth_to_space"
    b = int(call.number("block_size" if slow else "upscale_factor"))
    whole: list[int | None] = [n, c // b**2, h * b, w * b]
    if slow:
        return _rearranged(x, [n, b, b, c // b**2, h, w], [0, 3, 4, 1, 5, 2], whole)
    return _rearranged(x, [n, c // b**2, b, b, h, w], [0, 1, 4, 2, 5, 3], whole)


@op("space_to_depth", "pixel_unshuffle")
def space_to_depth(call: Call) -> Any:
    x = call.value("x")
    n, c, h, w = _plane(call, x)
    slow = call.type == "space_to_depth"
    b = int(call.number("block_size" if slow else "downscale_factor"))
    order = [0, 3, 5, 1, 2, 4] if slow else [0, 1, 3, 5, 2, 4]
    whole: list[int | None] = [n, c * b**2, h // b, w // b]
    return _rearranged(x, [n, c, h // b, b, w // b, b], order, whole)


@op("space_to_batch")
def space_to_batch(call: Call) -> Any:
    rows, columns = (int(size) for size in call.array("block_shape"))
    around = [int(size) for size in call.array("paddings").reshape(-1)]
    x = padded(call.value("x"), around)
    n, c, h, w = _plane(call, x)
    apart: list[int | None] = [n, c, h // rows, rows, w // columns, columns]
    whole: list[int | None] = [n * rows * columns, c, h // rows, w // columns]
    return _rearranged(x, apart, [3, 5, 0, 1, 2, 4], whole)


@op("batch_to_space")
def batch_to_space(call: Call) -> Any:
    x = call.value("x")
    rows, columns = (int(size) for size in call.array("block_shape"))
    n, c, h, w = _plane(call, x)
    left = n // (rows * columns)
    whole: list[int | None] = [left, c, h * rows, w * columns]
    made = _rearranged(x, [rows, columns, left, c, h, w], [2, 3, 4, 0, 5, 1], whole)
    (top, bottom), (before, after) = call.array("crops").tolist()
    made = values.cut(made, 2, top, h * rows - bottom)
    return values.cut(made, 3, before, w * columns - after)
