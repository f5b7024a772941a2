"""Compressed constants, expanded when the program is compiled: ``constexpr_*``.

Source: "constexpr_ops" (iOS16, parameters are attributes) and "compression" (iOS18, parameters are
inputs) in the MIL reference. Results keep the type the program declares.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from asrbuild.base.array import Array
from asrbuild.base.errors import AsrbuildError
from asrbuild.coreml.executor.literals import NAMED_DTYPES, const_shape, read_value, unpack_bits
from asrbuild.coreml.executor.program import Compiler, tensor_dtype
from asrbuild.coreml.executor.registry import mil_structure

Expand = Callable[[Compiler, Any], None]


def _expands(name: str) -> Callable[[Expand], Expand]:
    """Registers an op that expands a constant; it raises if the parts do not fit together."""

    def register(expand: Expand) -> Expand:
        @functools.wraps(expand)
        def checked(compiler: Compiler, operation: Any) -> None:
            try:
                expand(compiler, operation)
            except (KeyError, IndexError, TypeError, ValueError) as error:
                what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
                raise AsrbuildError(
                    f"damaged weights: the parts of {operation.outputs[0].name} ({name}) do not "
                    f"fit: {what}",
                    fix="build the package again, or copy it again from a good copy",
                ) from error

        mil_structure(name)(checked)
        return expand

    return register


def _parameters(compiler: Compiler, operation: Any) -> dict[str, Any]:
    values = {
        name: read_value(value, compiler.blobs)
        for name, value in operation.attributes.items()
        if name != "name"
    }
    for name, slot in compiler.arguments(operation).items():
        assert isinstance(slot, int)
        values[name] = compiler.constants[slot]
    return values


def _define(compiler: Compiler, operation: Any, *results: Array) -> None:
    for output, result in zip(operation.outputs, results, strict=True):
        dtype = tensor_dtype(output.type)
        if result.shape != (declared := const_shape(output.type.tensorType)):
            raise ValueError(f"they make {result.shape}, the program declares {declared}")
        compiler.define_constant(output, result.astype(dtype, copy=False))


@_expands("constexpr_cast")
def constexpr_cast(compiler: Compiler, operation: Any) -> None:
    """``source_val <*, fp16> -> <*, fp32>``."""
    given = _parameters(compiler, operation)
    _define(compiler, operation, given["source_val"].astype(NAMED_DTYPES[given["output_dtype"]]))


@_expands("constexpr_affine_dequantize")
def constexpr_affine_dequantize(compiler: Compiler, operation: Any) -> None:
    """``scale * (quantized_data - zero_point)``, both scalars or vectors along ``axis``."""
    given = _parameters(compiler, operation)
    data = given["quantized_data"]
    shape = [1] * data.ndim
    shape[int(given["axis"])] = -1
    scale, zero_point = (
        value.reshape(shape) if value.ndim else value
        for value in (np.asarray(given["scale"]), np.asarray(given["zero_point"]))
    )
    wide = data.astype(np.float32) - zero_point.astype(np.float32)
    _define(compiler, operation, wide * scale.astype(np.float32))


@_expands("constexpr_lut_to_dense")
def constexpr_lut_to_dense(compiler: Compiler, operation: Any) -> None:
    """Values by index: iOS16 ``indices <[M], uint8>`` packed, ``lut <[N]>``, ``shape``; iOS18
    ``indices <D, uintN>``, ``lut <one per block of D, N, vector>``, ``vector_axis``."""
    given = _parameters(compiler, operation)
    indices, lut = given["indices"], given["lut"]
    if "shape" in given:
        shape = tuple(int(size) for size in given["shape"])
        count = int(np.prod(shape, dtype=np.int64))
        bits = int(lut.size).bit_length() - 1
        result = lut[unpack_bits(indices, bits, count)].reshape(shape)
    else:
        result = look_up(indices, lut, given.get("vector_axis"))
    _define(compiler, operation, result)


@_expands("constexpr_sparse_to_dense")
def constexpr_sparse_to_dense(compiler: Compiler, operation: Any) -> None:
    """Values where the mask is set, zero elsewhere: iOS16 ``mask <[M], uint8>`` packed, with
    ``shape``; iOS18 ``mask <D, uint1>``."""
    given = _parameters(compiler, operation)
    mask = given["mask"]
    if "shape" in given:
        shape = tuple(int(size) for size in given["shape"])
        mask = unpack_bits(mask, 1, int(np.prod(shape, dtype=np.int64))).reshape(shape)
    _define(compiler, operation, spread(given["nonzero_data"], mask))


@_expands("constexpr_blockwise_shift_scale")
def constexpr_blockwise_shift_scale(compiler: Compiler, operation: Any) -> None:
    """``scale * (data - offset)``, one scale and offset per block of ``data``."""
    given = _parameters(compiler, operation)
    _define(compiler, operation, shift_scale(given["data"], given["scale"], given.get("offset")))


@_expands("constexpr_lut_to_sparse")
def constexpr_lut_to_sparse(compiler: Compiler, operation: Any) -> None:
    """``constexpr_lut_to_dense`` of sparse indices: the mask, and the values where it is set."""
    given = _parameters(compiler, operation)
    mask, axis = given["indices_mask"], given.get("vector_axis")
    dense = look_up(spread(given["indices_nonzero_data"], mask), given["lut"], axis)
    vector = given["lut"].shape[-1]
    if vector > 1:
        assert axis is not None
        mask = np.repeat(mask, vector, int(axis))
    _define(compiler, operation, mask, dense[mask != 0])


@_expands("constexpr_sparse_blockwise_shift_scale")
def constexpr_sparse_blockwise_shift_scale(compiler: Compiler, operation: Any) -> None:
    """``constexpr_blockwise_shift_scale`` of sparse data: the mask, and the values where set."""
    given = _parameters(compiler, operation)
    mask = given["data_mask"]
    data = spread(given["nonzero_data"], mask)
    dense = shift_scale(data, given["scale"], given.get("offset"))
    _define(compiler, operation, mask, dense[mask != 0])


def look_up(indices: Array, lut: Array, vector_axis: Any) -> Array:
    """iOS18 palettes: ``indices (D)``, ``lut (blocks of D, N, V)``; V values go along an axis."""
    tables, entries, vector = lut.shape[: indices.ndim], lut.shape[-2], lut.shape[-1]
    # The number of every entry's table, by the block of the entry.
    table = np.zeros((), np.int64)
    for axis, (size, count) in enumerate(zip(indices.shape, tables, strict=True)):
        block = np.arange(size) // (size // count)
        table = table * count + block.reshape([-1 if a == axis else 1 for a in range(indices.ndim)])
    values = lut.reshape(-1, entries, vector)[table, indices]
    if vector == 1:
        return values[..., 0]
    axis = int(vector_axis) % indices.ndim
    shape = list(indices.shape)
    shape[axis] *= vector
    return np.moveaxis(values, -1, axis + 1).reshape(shape)


def spread(nonzero: Array, mask: Array) -> Array:
    """``nonzero`` in row-major order where ``mask`` is set, zero elsewhere."""
    dense = np.zeros(mask.shape, nonzero.dtype)
    dense[mask != 0] = nonzero
    return dense


def shift_scale(data: Array, scale: Array, offset: Array | None) -> Array:
    """``scale * (data - offset)`` in float32, by block."""
    wide = data.astype(np.float32)
    if offset is not None:
        wide -= _per_entry(offset, data.shape).astype(np.float32)
    return wide * _per_entry(scale, data.shape).astype(np.float32)


def _per_entry(values: Array, shape: tuple[int, ...]) -> Array:
    for axis, size in enumerate(shape):
        if values.shape[axis] not in (1, size):
            values = np.repeat(values, size // values.shape[axis], axis)
    return values
