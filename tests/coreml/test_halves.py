"""Conversions between float16 and float32 have numpy's bits for every value."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from asrbuild.coreml import halves

EVERY = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
FINITE = EVERY[np.isfinite(EVERY)]


def same_bits(one: np.ndarray, other: np.ndarray) -> bool:
    kind = f"u{one.dtype.itemsize}"
    return one.dtype == other.dtype and np.array_equal(one.view(kind), other.view(kind))


def around(values: np.ndarray) -> np.ndarray:
    """Finite halves, the middles between them, and the float32 values next to each."""
    exact = np.unique(values.astype(np.float32))
    middles = exact[:-1] + (exact[1:] - exact[:-1]) / 2
    points = np.concatenate([exact, middles, [np.float32(65520)]]).astype(np.float32)
    below, above = (np.nextafter(points, np.float32(end)) for end in (-np.inf, np.inf))
    return np.concatenate([points, below, above])


@pytest.mark.parametrize("values", [EVERY, FINITE, FINITE[::-1], np.tile(FINITE, (3, 1)).T])
def test_every_half_is_widened_to_the_same_value(values: np.ndarray) -> None:
    wide = halves.widened(values)
    assert same_bits(wide, values.astype(np.float32))
    assert wide.flags.f_contiguous == values.astype(np.float32).flags.f_contiguous


def test_each_float_is_rounded_to_the_nearest_half() -> None:
    """Ties, subnormal halves, values that become zero or the largest, and random bits."""
    small = around(FINITE)
    small = small[np.abs(small) < 65520]  # a larger one would leave the whole array to numpy
    bits = np.random.default_rng(0).integers(0, 0x477FEFFF, 1 << 20, dtype=np.uint32)
    for values in (small, bits.view(np.float32), -bits.view(np.float32)):
        assert same_bits(halves.rounded(values), values.astype(np.float16))


def test_infinities_nan_and_overflow_are_those_of_numpy() -> None:
    for value in (65520.0, -1e30, np.inf, -np.inf, np.nan):
        values = np.full(1 << 15, 0.1, np.float32)
        values[7] = value
        with warnings.catch_warnings(record=True) as ours:
            warnings.simplefilter("always")
            made = halves.rounded(values)
        with warnings.catch_warnings(record=True) as theirs:
            warnings.simplefilter("always")
            expected = values.astype(np.float16)
        assert same_bits(made, expected)
        assert [str(w.message) for w in ours] == [str(w.message) for w in theirs]


def test_a_thread_that_drops_subnormal_values_leaves_them_to_numpy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(halves, "_UP", np.float32(0))  # every product is zero, as with such a mode
    assert same_bits(halves.widened(FINITE), FINITE.astype(np.float32))


def test_small_arrays_and_scalars_are_converted() -> None:
    half = np.float16(0.1)
    assert same_bits(np.asarray(halves.converted(half, np.dtype(np.float32))), np.float32(half))
    values = np.array([0.1, 1e-8, 7e4], np.float32)
    with np.errstate(over="ignore"):
        expected = values.astype(np.float16)
        assert same_bits(halves.converted(values, np.dtype(np.float16)), expected)
    integers = np.arange(5)
    assert halves.converted(integers, integers.dtype) is integers
