"""Concurrent calls give the results of single calls; equal products are computed once."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from functools import cache, partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asrbuild.coreml.executor import products as module
from asrbuild.coreml.executor import together as meeting
from asrbuild.coreml.executor.products import BLOCK, LARGE, Products
from asrbuild.coreml.executor.together import rows_times, together
from tests import kernels

WIDTH = 48
#: Between two orders of adding up 48 products that come to at most 10 in absolute value: each is
#: within 48 * 2 ** -24 * 10 of the exact sum, whatever the kernel.
ROUNDING = 6e-5
IN_BLOCKS = module._in_blocks


@pytest.fixture(autouse=True)
def small_weights_meet(monkeypatch):
    for place in (module, meeting):
        monkeypatch.setattr(place, "LARGE", 1)


@pytest.fixture
def products_made(monkeypatch) -> list[int]:
    """The number of rows of every product that is made from here on, where places are alike."""
    made: list[int] = []

    def counted(multiply: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
        def count(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
            made.append(x.size // x.shape[-1])
            return multiply(x, weight)

        return count

    for name in ("multiply", "_in_blocks"):
        monkeypatch.setattr(module, name, counted(getattr(module, name)))
    monkeypatch.setattr(Products, "_places_are_alike", lambda *_: True)
    return made


def rounds_by_place(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """A BLAS kernel whose rounding depends on where in a block a row stands."""
    places = np.arange(len(x), dtype=np.float32) % BLOCK
    return IN_BLOCKS(x, weight) + places[:, None] / 1000


def weights(seed: int) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal((WIDTH, WIDTH)) / np.sqrt(WIDTH)
    return values.astype(np.float32)


def chain(weight: np.ndarray, steps: int, seed: int) -> Callable[[], np.ndarray]:
    """A recurrent network of its own start and length, as an LSTM multiplies."""

    def call() -> np.ndarray:
        h = np.random.default_rng(seed).standard_normal((1, WIDTH)).astype(np.float32)
        for _ in range(steps):
            h = np.tanh(rows_times(h, weight))
        return h

    return call


def test_calls_give_bit_for_bit_what_they_give_alone(products_made):
    weight = weights(0)
    calls = [chain(weight, steps, seed) for seed, steps in enumerate((7, 3, 11, 1))]
    found = together(calls, Products())
    assert products_made == [1] * 22  # a call's one row stays one
    for call, together_ in zip(calls, found, strict=True):
        np.testing.assert_array_equal(together_, call())


def test_rows_of_several_calls_are_one_product(products_made):
    weight = weights(2)
    inputs = [np.random.default_rng(n).standard_normal((n, WIDTH)) for n in (3, 2, 1, 4)]
    calls = [partial(rows_times, x.astype(np.float32), weight) for x in inputs]
    found = together(calls, Products())
    assert sorted(products_made) == [1, 9]
    for x, product in zip(inputs, found, strict=True):
        np.testing.assert_allclose(product, x @ weight.T, atol=ROUNDING)


def test_the_order_of_arrival_changes_nothing():
    """Rows are in the order of the calls, in any order of arrival."""
    weight = weights(1)
    late = threading.Event()

    def waits() -> np.ndarray:
        late.wait(5)
        return chain(weight, 4, 0)()

    def comes() -> np.ndarray:
        found = chain(weight, 0, 1)()
        late.set()
        return rows_times(found, weight)

    first = together([waits, comes], Products())
    second = together([chain(weight, 4, 0), lambda: rows_times(chain(weight, 0, 1)(), weight)],
                      Products())  # fmt: skip
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_different_weights_do_not_mix():
    calls = [chain(weights(seed), 5, 9) for seed in range(3)]
    for call, found in zip(calls, together(calls, Products()), strict=True):
        np.testing.assert_allclose(found, call(), atol=ROUNDING)


def test_a_call_that_fails_is_told_and_nobody_waits_for_it():
    weight = weights(2)

    def fails() -> np.ndarray:
        chain(weight, 3, 1)()
        raise ValueError("no such row")

    with pytest.raises(ValueError, match="no such row"):
        together([chain(weight, 50, 0), fails, chain(weight, 50, 2)], Products())


def test_a_product_that_fails_is_told(monkeypatch):
    def no_memory(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
        raise MemoryError("too large")

    monkeypatch.setattr(module, "multiply", no_memory)
    with pytest.raises(MemoryError, match="too large"):
        together([chain(weights(0), 5, seed) for seed in range(3)], Products())


def test_the_first_failure_is_told_and_not_a_call_given_up_for_it():
    """Ops tell what fails in them as their own failure; being given up is none."""
    weight = weights(7)

    def given_up() -> np.ndarray:
        try:
            return chain(weight, 9, 0)()
        except Exception as error:
            raise RuntimeError("the op failed") from error

    def fails() -> np.ndarray:
        chain(weight, 2, 1)()
        raise ValueError("the cause")

    with pytest.raises(ValueError, match="the cause"):
        together([given_up, fails], Products())


def test_no_calls_give_nothing():
    assert together([], Products()) == []


def test_the_same_rows_are_multiplied_once(products_made):
    shared, weight = Products(), weights(3)
    first = together([chain(weight, 6, 0), chain(weight, 6, 0)], shared)
    assert products_made == [1] * 6
    again = together([chain(weight.copy(), 4, 0), chain(weight.copy(), 6, 0)], shared)
    assert products_made == [1] * 6
    assert np.array_equal(first[0], first[1])
    assert np.array_equal(again[1], first[0])


def test_one_bit_makes_another_product(products_made):
    """Of the weights or of the row: nothing is taken for what it is not."""
    shared, x = Products(), np.ones((2, WIDTH), np.float32)
    weight = weights(4)
    (right,) = shared.rows_times([x], weight)
    other = weight.copy()
    other.view(np.uint32)[5, 7] ^= 1 << 20
    (wrong,) = shared.rows_times([x], other)
    assert not np.array_equal(right[:, 5], wrong[:, 5])
    np.testing.assert_allclose(wrong, x @ other.T, atol=ROUNDING)
    moved = x.copy()
    moved.view(np.uint32)[1, 3] ^= 1 << 20
    np.testing.assert_allclose(
        shared.rows_times([moved], weight)[0], moved @ weight.T, atol=ROUNDING
    )
    assert products_made == [1, 1, 1]  # of two equal rows one, and then the row that is new


def test_what_is_handed_out_is_the_callers_own():
    shared, x, weight = Products(), np.ones((1, WIDTH), np.float32), weights(5)
    (first,) = shared.rows_times([x], weight)
    kept = first.copy()
    first += 1
    assert np.array_equal(shared.rows_times([x], weight)[0], kept)


def test_memory_is_bounded(products_made):
    row_bytes = WIDTH * 4
    shared, weight = Products(limit=3 * row_bytes), weights(6)
    x = np.random.default_rng(0).standard_normal((5, WIDTH)).astype(np.float32)
    (whole,) = shared.rows_times([x], weight)
    assert np.array_equal(shared.rows_times([x[2:]], weight)[0], whole[2:])
    assert products_made == [5]
    np.testing.assert_allclose(shared.rows_times([x[:2]], weight)[0], whole[:2], atol=ROUNDING)
    assert products_made == [5, 2]


def test_weights_are_widened_once_for_two_packages_and_then_let_go():
    shared, half = Products(), weights(7).astype(np.float16)
    widenings: list[int] = []

    def widen(values: np.ndarray) -> np.ndarray:
        widenings.append(1)
        return values.astype(np.float32)

    wide = shared.widened(half, widen)
    assert shared.widened(half.copy(), widen) is wide
    shared.next_package()
    assert shared.widened(half, widen) is wide
    assert not wide.flags.writeable
    other = half.copy()
    other[0, 0] += 1
    assert shared.widened(other, widen) is not wide
    for _ in range(2):
        shared.next_package()
    assert shared.widened(half, widen) is not wide
    assert len(widenings) == 3


@pytest.mark.parametrize("kernel", [IN_BLOCKS, rounds_by_place])
@settings(max_examples=20)
@given(cuts=st.sets(st.integers(1, 99), max_size=20), calls=st.integers(1, 5))
def test_a_product_is_the_same_bits_in_any_company(
    kernel: Callable[..., np.ndarray], cuts: set[int], calls: int
) -> None:
    """So an artifact is the same bytes whatever its process has built before, by any kernel."""
    weight = large_weights()
    rows = np.random.default_rng(5).standard_normal((100, weight.shape[1])).astype(np.float32)
    parts = np.split(rows, sorted(cuts))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_in_blocks", kernel)
        for products in (Products(), remembering(rows, weight)):
            for first in range(0, len(parts), calls):
                together_ = parts[first : first + calls]
                for x, product in zip(
                    together_, products.rows_times(together_, weight), strict=True
                ):
                    np.testing.assert_array_equal(product, module.multiply(x, weight))


def remembering(rows: np.ndarray, weight: np.ndarray) -> Products:
    products = Products()
    products.rows_times([rows], weight)
    return products


def test_a_kernel_that_rounds_by_place_shares_products_of_the_same_place(monkeypatch):
    weight, made = large_weights(), []

    def counted(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
        made.append(len(x))
        return rounds_by_place(x, weight)

    monkeypatch.setattr(module, "_in_blocks", counted)
    rows = np.random.default_rng(6).standard_normal((40, weight.shape[1])).astype(np.float32)
    products = Products()
    products.rows_times([rows], weight)
    assert made == [BLOCK, 40]  # the first to see how the kernel rounds
    products.rows_times([rows[:BLOCK], rows[BLOCK:]], weight)
    assert made == [BLOCK, 40]
    products.rows_times([rows[1:3]], weight)
    assert made == [BLOCK, 40, 2]


#: Widths of the network at ``n_hidden`` 2048, and odd ones.
SHAPES = [(2048, 494), (2048, 2048), (8192, 2048), (29, 2048), (1023, 1037), (2049, 517)]
PLACES = """
import numpy as np
from asrbuild.coreml.executor.products import Products
for shape in SHAPES:
    weight = np.resize(np.random.default_rng(1).standard_normal(99_991).astype(np.float32), shape)
    print(Products()._places_are_alike(b"", weight))
"""


@pytest.mark.parametrize("kernel", kernels.KERNELS)
def test_no_place_of_a_block_rounds_otherwise(kernel: str) -> None:
    """So these kernels share all products of a sweep; a block of 24 on Haswell would not."""
    if kernel not in kernels.supported():
        pytest.skip(kernels.why_not() or f"this processor has not what {kernel} needs")
    done = subprocess.run(
        [sys.executable, "-c", f"SHAPES = {SHAPES}\n{PLACES}"],
        env=kernels.environment(kernel), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.split() == ["True"] * len(SHAPES), done.stderr


@pytest.mark.parametrize("outputs", [1, 29, 1023, 1025, 2049])
@pytest.mark.parametrize("rows", [1, 2, 15, 16, 17, 100])
def test_blocks_are_the_product(rows: int, outputs: int) -> None:
    """The last block is not full, nor the last part of the outputs."""
    random = np.random.default_rng(rows)
    x, weight = (random.standard_normal((n, 37)).astype(np.float32) for n in (rows, outputs))
    product = module.multiply(x[:, None], weight)
    assert product.shape == (rows, 1, outputs)
    # 37 products that come to at most 80 in absolute value: any order of adding them up is within
    # 37 * 2 ** -24 * 80 of the exact sum.
    exact = x.astype(np.float64) @ weight.T.astype(np.float64)
    np.testing.assert_allclose(product[:, 0], exact, atol=2e-4)


@cache
def large_weights() -> np.ndarray:
    """Of the least size that products are remembered for."""
    return np.random.default_rng(4).standard_normal((LARGE // 512, 512)).astype(np.float32)
