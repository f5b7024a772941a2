"""Lowers compressed constants to Core AI's own compressed forms.

Source: "constexpr_ops" (iOS16) and "compression" (iOS18) in the MIL reference.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import values
from ..apple import raw
from ..call import Call, op

_BITS = {"uint1": 1, "uint2": 2, "uint3": 3, "uint4": 4, "uint6": 6, "uint8": 8}


def _finished(call: Call, value: Any, stored: Any) -> Any:
    """A constant of the declared type; in wide mode its values are rounded to that type too."""
    declared = call.operation["outputs"][-1]["dtype"]
    if declared == "float16" and stored is np.float32:
        value = raw.cast(value, np.float16)
    wanted = call.output_dtype(len(call.operation["outputs"]) - 1)
    return value if values.dtype_of(value) is wanted else raw.cast(value, wanted)


def _stored(call: Call, name: str) -> Any:
    """A constant in the package's own type, even in wide mode."""
    lowering = call.lowering
    return lowering.handover.literal(lowering.constants[call.names(name)[0]])


@op("constexpr_cast")
def constexpr_cast(call: Call) -> Any:
    held = values.const(_stored(call, "source_val"))
    return raw.cast(held, call.output_dtype())


@op("constexpr_affine_dequantize")
def constexpr_affine_dequantize(call: Call) -> Any:
    data = _stored(call, "quantized_data")
    shape = [1] * data.ndim
    shape[int(call.number("axis"))] = -1
    scale, offset = (
        np.asarray(_stored(call, name)).reshape(
            shape if np.ndim(_stored(call, name)) else [1] * data.ndim
        )
        for name in ("scale", "zero_point")
    )
    return _shift_scale(call, values.const(data), data.dtype, None, scale, offset)


@op("constexpr_blockwise_shift_scale")
def constexpr_blockwise_shift_scale(call: Call) -> Any:
    data, scale = _stored(call, "data"), _stored(call, "scale")
    offset = _stored(call, "offset") if call.has("offset") else np.zeros(scale.shape, data.dtype)
    small = call.dtype("data")
    held = values.packed(data, small) if values.is_packed(small) else values.const(data)
    return _shift_scale(call, held, data.dtype, small, scale, offset)


def _shift_scale(
    call: Call, data: Any, dtype: Any, small: str | None, scale: Any, offset: Any
) -> Any:
    """``scale * (data - offset)``; the zero point has the type of the data."""
    if small is not None and values.is_packed(small):
        zero = values.packed(offset, small)
    else:
        zero = values.const(offset.astype(dtype))
    made = raw.blockwise_shift_scale(
        data, values.const(scale), zero, values.const(np.zeros(scale.shape, scale.dtype))
    )
    return _finished(call, made, scale.dtype.type)


@op("constexpr_lut_to_dense")
def constexpr_lut_to_dense(call: Call) -> Any:
    indices, lut = _stored(call, "indices"), _stored(call, "lut")
    bits = int(lut.shape[-1] if call.has("shape") else lut.shape[-2]).bit_length() - 1
    axis = 0
    if call.has("shape"):
        shape = [int(size) for size in _stored(call, "shape")]
        indices = _unpacked(indices, bits, int(np.prod(shape))).reshape(shape)
        lut = lut.reshape(*[1] * len(shape), -1, 1)
    elif call.has("vector_axis"):
        axis = int(call.number("vector_axis")) % indices.ndim
    return _finished(call, _palette(indices, lut, bits, axis), lut.dtype.type)


def _palette(indices: Any, lut: Any, bits: int, axis: int) -> Any:
    small = {2: "uint2", 4: "uint4"}.get(bits)
    held = values.packed(indices, small) if small else values.const(indices.astype(np.uint8))
    if small is None and bits < 8:
        # Indices of a byte require a table of 256 entries.
        filling = np.zeros((*lut.shape[:-2], 256 - lut.shape[-2], lut.shape[-1]), lut.dtype)
        lut = np.concatenate([lut, filling], axis=-2)
    return raw.lut_to_dense(held, values.const(lut), values.const(np.array(axis, np.int16)))


def _unpacked(packed: Any, bits: int, count: int) -> Any:
    """Unpacks integers of ``bits`` bits, from the least significant bit upward."""
    stream = np.unpackbits(packed.reshape(-1).view(np.uint8), bitorder="little")[: count * bits]
    return np.packbits(stream.reshape(count, bits), axis=1, bitorder="little")[:, 0]


@op("constexpr_sparse_to_dense")
def constexpr_sparse_to_dense(call: Call) -> Any:
    numbers, mask = _stored(call, "nonzero_data"), _stored(call, "mask")
    if call.has("shape"):
        shape = [int(size) for size in _stored(call, "shape")]
        mask = _unpacked(mask, 1, int(np.prod(shape))).reshape(shape)
    return _finished(call, _sparse(values.const(numbers), mask), numbers.dtype.type)


def _sparse(numbers: Any, mask: Any) -> Any:
    """Values where the mask is set, zero elsewhere."""
    return raw.sparse_with_bitmask_to_dense(
        raw.build_sparse_with_bitmask(numbers, values.packed(mask.astype(np.uint8), "uint1"))
    )
