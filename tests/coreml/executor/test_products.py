"""Products are shared where all bytes are equal, and are the same bits without sharing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from asrbuild.coreml.executor import products as module
from asrbuild.coreml.executor.products import BLOCK, LARGE, Products, rows_times, sharing
from asrbuild.coreml.speedups import SWITCH
from tests import kernels

WIDTH = 48
#: The difference of two orders of summing 48 products of at most 10 in absolute value: each sum is
#: within 48 * 2 ** -24 * 10 of the exact one with any kernel.
ROUNDING = 6e-5
IN_BLOCKS = module._in_blocks


@pytest.fixture(autouse=True)
def small_weights_are_shared(monkeypatch):
    monkeypatch.setattr(module, "LARGE", 1)
    monkeypatch.setattr(module, "_of_process", Products())


@pytest.fixture
def products_made(monkeypatch) -> list[int]:
    """The number of rows of every later product, by a kernel whose places round alike."""
    made: list[int] = []

    def counted(multiply: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
        def count(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
            made.append(x.size // x.shape[-1])
            return multiply(x, weight)

        return count

    for name in ("_each_alone", "_in_blocks"):
        monkeypatch.setattr(module, name, counted(getattr(module, name)))
    monkeypatch.setattr(Products, "_places_are_alike", lambda *_: True)
    return made


def rounds_by_place(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """A BLAS kernel whose rounding depends on the place of a row in a block."""
    places = np.arange(len(x), dtype=np.float32) % BLOCK
    return IN_BLOCKS(x, weight) + places[:, None] / 1000


def weights(seed: int) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal((WIDTH, WIDTH)) / np.sqrt(WIDTH)
    return values.astype(np.float32)


def chain(weight: np.ndarray, steps: int, seed: int) -> Callable[[], np.ndarray]:
    """A recurrent network with a start and a length, with the products of an LSTM."""

    def call() -> np.ndarray:
        h = np.random.default_rng(seed).standard_normal((1, WIDTH)).astype(np.float32)
        for _ in range(steps):
            h = np.tanh(rows_times(h, weight))
        return h

    return call


def test_sharing_does_not_change_a_bit(products_made):
    weight = weights(0)
    calls = [chain(weight, steps, seed) for seed, steps in enumerate((7, 3, 11, 1))]
    with sharing():
        results = [call() for call in calls]
    assert products_made == [1] * 22  # a single row stays single
    for call, result in zip(calls, results, strict=True):
        np.testing.assert_array_equal(result, call())


def test_the_same_rows_are_multiplied_once(products_made):
    weight = weights(3)
    with sharing():
        first = [chain(weight, 6, 0)(), chain(weight, 6, 0)()]
    assert products_made == [1] * 6
    with sharing():
        again = [chain(weight.copy(), 4, 0)(), chain(weight.copy(), 6, 0)()]
    assert products_made == [1] * 6
    assert np.array_equal(first[0], first[1])
    assert np.array_equal(again[1], first[0])


def test_the_switch_turns_sharing_off(products_made, monkeypatch):
    monkeypatch.setenv(SWITCH, "products")
    with sharing():
        for _ in range(2):
            chain(weights(3), 3, 0)()
    assert products_made == [1] * 6


def test_one_changed_bit_makes_another_product(products_made):
    """The bit is one of the weights or of the row."""
    shared, x = Products(), np.ones((2, WIDTH), np.float32)
    weight = weights(4)
    right = shared.rows_times(x, weight)
    other = weight.copy()
    other.view(np.uint32)[5, 7] ^= 1 << 20
    wrong = shared.rows_times(x, other)
    assert not np.array_equal(right[:, 5], wrong[:, 5])
    np.testing.assert_allclose(wrong, x @ other.T, atol=ROUNDING)
    moved = x.copy()
    moved.view(np.uint32)[1, 3] ^= 1 << 20
    np.testing.assert_allclose(shared.rows_times(moved, weight), moved @ weight.T, atol=ROUNDING)
    assert products_made == [1, 1, 1]  # two equal rows make one product; then the new row makes one


def test_results_belong_to_the_caller():
    shared, x, weight = Products(), np.ones((1, WIDTH), np.float32), weights(5)
    first = shared.rows_times(x, weight)
    kept = first.copy()
    first += 1
    assert np.array_equal(shared.rows_times(x, weight), kept)


def test_memory_is_bounded(products_made):
    row_bytes = WIDTH * 4
    shared, weight = Products(limit=3 * row_bytes), weights(6)
    x = np.random.default_rng(0).standard_normal((5, WIDTH)).astype(np.float32)
    whole = shared.rows_times(x, weight)
    assert np.array_equal(shared.rows_times(x[2:], weight), whole[2:])
    assert products_made == [5]
    np.testing.assert_allclose(shared.rows_times(x[:2], weight), whole[:2], atol=ROUNDING)
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
@given(cuts=st.sets(st.integers(1, 99), max_size=20))
def test_a_product_is_the_same_bits_whatever_was_multiplied_before(
    kernel: Callable[..., np.ndarray], cuts: set[int]
) -> None:
    """So an artifact has the same bytes after any other build in its process, with any kernel."""
    weight = large_weights()
    rows = np.random.default_rng(5).standard_normal((100, weight.shape[1])).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_in_blocks", kernel)
        for products in (Products(), remembering(rows, weight)):
            for x in np.split(rows, sorted(cuts)):
                np.testing.assert_array_equal(
                    products.rows_times(x, weight), module.multiply(x, weight)
                )


def remembering(rows: np.ndarray, weight: np.ndarray) -> Products:
    products = Products()
    products.rows_times(rows, weight)
    return products


def test_a_kernel_that_rounds_by_place_shares_products_of_the_same_place(monkeypatch):
    weight, made = large_weights(), []

    def counted(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
        made.append(len(x))
        return rounds_by_place(x, weight)

    monkeypatch.setattr(module, "_in_blocks", counted)
    rows = np.random.default_rng(6).standard_normal((40, weight.shape[1])).astype(np.float32)
    products = Products()
    products.rows_times(rows, weight)
    assert made == [BLOCK, 40]  # the first product tests how the kernel rounds
    products.rows_times(rows[:BLOCK], weight)
    products.rows_times(rows[BLOCK:], weight)
    assert made == [BLOCK, 40]
    products.rows_times(rows[1:3], weight)
    assert made == [BLOCK, 40, 2]


#: Widths of the network at ``n_hidden`` 2048, and odd ones.
SHAPES = [
    (2048, 494),
    (2048, 2048),
    (8192, 2048),
    (29, 2048),
    (1023, 1037),
    (2049, 517),
    (2077, 2053),
]
PLACES = """
import numpy as np
from asrbuild.coreml.executor import products
from asrbuild.coreml.executor.threads import one_thread
products.usable_processors = lambda: 2
with one_thread():
    for shape in SHAPES:
        values = np.random.default_rng(1).standard_normal(99_991).astype(np.float32)
        weight = np.resize(values, shape)
        print(products.Products()._places_are_alike(b"", weight))
        row = values[:shape[1]]
        print(np.array_equal(products.multiply(row, weight), np.dot(weight, row)))
        rows = [np.roll(row, n) for n in range(4)]
        alone = products._each_alone(np.stack(rows), weight)
        print(all(np.array_equal(made, np.dot(weight, row)) for made, row in zip(alone, rows)))
        by_two = products._in_blocks(np.stack(rows * 9), weight)
        products.usable_processors = lambda: 1
        print(np.array_equal(by_two, products._in_blocks(np.stack(rows * 9), weight)))
        products.usable_processors = lambda: 2
"""


@pytest.mark.parametrize("kernel", kernels.KERNELS)
def test_places_of_a_block_and_halves_of_the_weights_round_alike(kernel: str) -> None:
    """Therefore these kernels share all products of a sweep; a block of 24 on Haswell would not."""
    if kernel not in kernels.supported():
        pytest.skip(kernels.why_not() or f"this processor has not what {kernel} needs")
    done = subprocess.run(
        [sys.executable, "-c", f"SHAPES = {SHAPES}\n{PLACES}"],
        env=kernels.environment(kernel),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["True"] * 4 * len(SHAPES), done.stderr


@pytest.mark.parametrize("shape", [(0,), (3, 0)])
def test_no_rows_have_no_product(shape: tuple[int, ...]) -> None:
    with sharing():
        product = rows_times(np.zeros((*shape, WIDTH), np.float32), weights(0))
    assert product.shape == (*shape, len(weights(0)))


@pytest.mark.parametrize("outputs", [1, 29, 1023, 1025, 2049])
@pytest.mark.parametrize("rows", [1, 2, 15, 16, 17, 100])
def test_blocks_are_the_product(rows: int, outputs: int) -> None:
    """The last block is not full, nor the last part of the outputs."""
    random = np.random.default_rng(rows)
    x, weight = (random.standard_normal((n, 37)).astype(np.float32) for n in (rows, outputs))
    product = module.multiply(x[:, None], weight)
    assert product.shape == (rows, 1, outputs)
    # Any order of summing 37 products of at most 80 in absolute value is within 37 * 2 ** -24 * 80
    # of the exact sum.
    exact = x.astype(np.float64) @ weight.T.astype(np.float64)
    np.testing.assert_allclose(product[:, 0], exact, atol=2e-4)


@cache
def large_weights() -> np.ndarray:
    """Weights of the smallest size for which products are remembered."""
    return np.random.default_rng(4).standard_normal((LARGE // 512, 512)).astype(np.float32)
