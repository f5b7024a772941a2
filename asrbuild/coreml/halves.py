"""Conversions between float16 and float32: numpy's bits, 1.6 and 7 times as fast.

numpy converts one value after another. Here the bits of a whole array are shifted at once: a
float16 has the exponent and the mantissa of a float32 whose value is smaller by ``2 ** 112``
(IEEE 754, binary16 and binary32), so a multiplication by that number moves them into place. numpy
converts infinities, NaN, values that overflow, and those that become subnormal.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from asrbuild.base.array import Array

_F16, _F32 = np.dtype(np.float16), np.dtype(np.float32)
#: numpy converts smaller arrays in the time of the calls that are made here.
_LEAST_WIDENED, _LEAST_ROUNDED = 4096, 16384
_UP, _DOWN = np.float32(2.0**112), np.float32(2.0**-112)
#: The mantissa of a float32 is longer by so many bits.
_LONGER = 13
#: The bits of float16's infinity, in the place of a float32's.
_INFINITY = np.uint32(0x7C00 << _LONGER)
#: The bits of float16's smallest normal value, ``2 ** -14``, as a float32.
_NORMAL = np.uint32(0x38800000)


def widened(half: Array) -> Array:
    """The float32 copy of a float16 array."""
    if half.size < _LEAST_WIDENED or not _keeps_subnormals():
        return half.astype(_F32)
    bits = half.view(np.int16).astype(np.int32)  # its sign reaches bit 31
    bits <<= _LONGER
    bits &= np.int32(-(1 << 31) | 0x7FFF << _LONGER)
    wide = bits.view(_F32)
    wide *= _UP
    if wide.max() < 65536 and wide.min() > -65536:
        return wide
    return half.astype(_F32)


def rounded(wide: Array) -> Array:
    """The float16 copy of a float32 array: the nearest value, of two equally near the even one.

    As with ``astype``, a value that overflows is an infinity, and numpy warns.
    """
    if wide.size < _LEAST_ROUNDED:
        return wide.astype(_F16)
    sign = wide.view(np.uint32) >> np.uint32(16)
    sign &= np.uint32(0x8000)
    magnitude = np.abs(wide)
    # Not zero, whose predecessor is the largest integer.
    subnormal = magnitude.view(np.uint32) - np.uint32(1) < _NORMAL - np.uint32(1)
    magnitude *= _DOWN
    bits = magnitude.view(np.uint32)
    last = bits >> np.uint32(_LONGER)
    last &= np.uint32(1)
    bits += last  # half of the last place rounds up to an even value only
    bits += np.uint32((1 << (_LONGER - 1)) - 1)
    if bits.max() >= _INFINITY:
        return wide.astype(_F16)
    bits >>= np.uint32(_LONGER)
    bits |= sign
    half = bits.astype(np.uint16).view(_F16)
    if subnormal.any():
        half[subnormal] = wide[subnormal].astype(_F16)
    return half


def converted(values: Array, dtype: np.dtype[Any]) -> Array:
    """``values.astype(dtype, copy=False)``."""
    if values.dtype == _F32 and dtype == _F16:
        return rounded(values)
    if values.dtype == _F16 and dtype == _F32:
        return widened(values)
    return values.astype(dtype, copy=False)


def _keeps_subnormals() -> bool:
    """Whether this thread computes with subnormal values; a library can turn that off."""
    return bool(np.float32(1e-40) * _UP > 0)
