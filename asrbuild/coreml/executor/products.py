"""Spares 5 % of a cold build (1.0 s of 20.1 s, 2048 units): matrix products that are reused.

A product that was made before, of the same weights and the same row byte for byte, is not made
again. The lengths that a proof runs are beginnings of one recording, and the packages of a sweep
have the same weights; what differs between them is all else that the program does.

So a row's product must be the same bits whatever is multiplied with it. BLAS promises no such
thing, for it takes another path for another number of rows, and the AVX2 kernels of OpenBLAS even
round the first rows of a large matrix otherwise than the next. Therefore each BLAS call here has
one of two shapes, one row or a block of ``BLOCK``, and a product depends on its row, its weights
and its place in the block alone. On the kernels of OpenBLAS for x86-64 the place makes no
difference for a block of 16. ``Products`` does not rely on that: it tries it with each weights,
and where the place does make a difference, a row is remembered for its place.
"""

from __future__ import annotations

import functools
import hashlib
import os
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np

from asrbuild.base.array import Array
from asrbuild.base.processors import usable_processors
from asrbuild.coreml.speedups import enabled

#: Entries from which weights are worth knowing by their digest: 4 MB of them.
LARGE = 1 << 20
#: What is remembered at most, in bytes of products: two minutes of speech at 2048 units.
_REMEMBERED = 600_000_000
#: Rows of a block. Haswell's kernel rounds rows alike in blocks of up to 16, but not of 24.
BLOCK = 16
#: Outputs that are made at once for all blocks: 8 MB of weights at 2048 units stay in the
#: processor's cache from block to block.
_OUTPUTS_AT_ONCE = 1024

#: Rows of weights (1 MB at 2048 units) that stay in the processor's cache from input to input.
_ROWS_AT_ONCE = 128
#: Entries of weights (16 MB) of which two processors multiply a row faster than one.
_TWO_HALVES = 1 << 22

#: The weights, the row's place in its block (None: the row was alone), and the row.
ProductRow = tuple[bytes, int | None, bytes]
#: Makes the product of a single row, together with those that other runs wait for.
Alone = Callable[[ProductRow, Array, Array], Array]


def multiply(x: Array, weight: Array) -> Array:
    """``x @ weight.T`` for ``x (..., I)`` and ``weight (O, I)``.

    A single row is a matrix-vector product, which reads the weights once, in order. Several rows
    are blocks of ``BLOCK``; zeros fill the last one.
    """
    shape = (*x.shape[:-1], weight.shape[0])
    if x.size == x.shape[-1]:
        return _each_alone(x.reshape(1, -1), weight).reshape(shape)
    return _in_blocks(x.reshape(-1, x.shape[-1]), weight).reshape(shape)


def _each_alone(rows: Array, weight: Array) -> Array:
    """``weight @ row`` of each of ``rows (N, I)``: (N, O); of large weights half in another thread.

    It takes as long as reading the weights, which are read once, in pieces. Each output is a sum of
    its own, so the pieces are the same bits as the whole, unlike those of BLAS's own threads, which
    may split the sums.
    """
    outputs = len(weight)
    piece = _ROWS_AT_ONCE if len(rows) > 1 and weight.flags.c_contiguous else outputs
    product = np.empty((len(rows), outputs), np.result_type(weight, rows))

    def fill(first: int, end: int) -> None:
        while first < end:
            # The last piece is the longer one: numpy multiplies a single row in another way.
            last = end if end - first < 2 * piece else first + piece
            for row, made in zip(rows, product, strict=True):
                np.dot(weight[first:last], row, made[first:last])
            first = last

    half = outputs // 2 // BLOCK * BLOCK
    if weight.size < _TWO_HALVES or not half or usable_processors() == 1:
        fill(0, outputs)
        return product
    lower = _second_thread(os.getpid()).submit(fill, half, outputs)
    fill(0, half)
    lower.result()
    return product


@functools.cache
def _second_thread(process: int) -> ThreadPoolExecutor:
    """The thread of this process: a fork has none of its parent's."""
    return ThreadPoolExecutor(1, "product")


def _in_blocks(rows: Array, weight: Array) -> Array:
    """``rows @ weight.T`` for ``rows (N, I)``; row n stands at place ``n % BLOCK`` of its block.

    The weights go first: OpenBLAS then packs the small matrix, not the large one.
    """
    count, width = rows.shape
    blocks = -(-count // BLOCK)
    if count % BLOCK:
        rows = np.concatenate([rows, np.zeros((blocks * BLOCK - count, width), rows.dtype)])
    columns = rows.reshape(blocks, BLOCK, width).transpose(0, 2, 1)
    if len(weight) <= _OUTPUTS_AT_ONCE:
        whole = np.matmul(weight, columns).transpose(0, 2, 1)
        return whole.reshape(blocks * BLOCK, len(weight))[:count]
    product = np.empty((blocks, BLOCK, len(weight)), np.result_type(rows, weight))
    for first in range(0, len(weight), _OUTPUTS_AT_ONCE):
        part = slice(first, first + _OUTPUTS_AT_ONCE)
        product[:, :, part] = np.matmul(weight[part], columns).transpose(0, 2, 1)
    return product.reshape(blocks * BLOCK, len(weight))[:count]


def rows_times(x: Array, weight: Array) -> Array:
    """``multiply(x, weight)``, with the products of the process inside of ``sharing``."""
    products = shared()
    if products is None or weight.size < LARGE:
        return multiply(x, weight)
    product = products.rows_times(x.reshape(-1, x.shape[-1]), weight)
    return product.reshape(*x.shape[:-1], len(weight))


class Products:
    """Products that were made already, and weights that were widened already.

    Both are known by the SHA-256 of their bytes, so that a difference of one bit makes a new one.
    """

    def __init__(self, limit: int = _REMEMBERED) -> None:
        self._limit = limit
        self._held = 0
        self._made: OrderedDict[ProductRow, Array] = OrderedDict()
        self._wide: dict[bytes, Array] = {}
        self._wide_before: dict[bytes, Array] = {}
        self._names: dict[int, tuple[weakref.ref[Array], bytes]] = {}
        self._alike: dict[bytes, bool] = {}

    def next_package(self) -> None:
        """Releases the widened weights that the previous package did not use."""
        self._wide, self._wide_before = {}, self._wide

    def widened(self, half: Array, widen: Callable[[Array], Array]) -> Array:
        """``widen(half)``, or what it gave for the same bytes before."""
        if half.size < LARGE:
            return widen(half)
        name = _digest(half)
        if name not in self._wide:
            wide = self._wide_before.get(name)
            if wide is None:
                wide = widen(half)
                wide.flags.writeable = False
            self._wide[name] = wide
        return self._wide[name]

    def rows_times(self, x: Array, weight: Array) -> Array:
        """``multiply(x, weight)`` for ``x (N, I)``, made only of new rows.

        The result is the same bits whatever was multiplied before.
        """
        keys = self._keys(self._name(weight), np.ascontiguousarray(x), weight)
        new = {key: row for key, row in zip(keys, x, strict=True) if key not in self._made}
        alone = _alone.get() or (lambda _key, row, weight: multiply(row, weight))
        made = {key: alone(key, row, weight) for key, row in new.items() if key[1] is None}
        made |= self._in_places({k: row for k, row in new.items() if k[1] is not None}, weight)
        result = np.stack([made[key] if key in made else self._made[key] for key in keys])
        for key in dict.fromkeys(keys):
            self._remember(key, made.get(key))
        return result

    def _keys(self, name: bytes, x: Array, weight: Array) -> list[ProductRow]:
        places: Iterable[int | None] = [None]
        if len(x) > 1:
            alike = self._places_are_alike(name, weight)
            places = (0 if alike else row % BLOCK for row in range(len(x)))
        return [
            (name, place, hashlib.sha256(row).digest())
            for place, row in zip(places, x, strict=True)
        ]

    def _in_places(self, rows: dict[ProductRow, Array], weight: Array) -> dict[ProductRow, Array]:
        """The rows' products, each made at its place; at any, where all are alike."""
        if not rows:
            return {}
        alike = self._places_are_alike(next(iter(rows))[0], weight)
        blocks = [0] * BLOCK
        at = []
        for index, (_, place, _) in enumerate(rows):
            place = index % BLOCK if alike else place or 0
            at.append(blocks[place] * BLOCK + place)
            blocks[place] += 1
        x = np.zeros((max(at) + 1, weight.shape[1]), next(iter(rows.values())).dtype)
        x[at] = list(rows.values())
        return dict(zip(rows, _in_blocks(x, weight)[at], strict=True))

    def _places_are_alike(self, name: bytes, weight: Array) -> bool:
        """Whether a row's product is the same bits at each place of a block: tried with one row.

        In which order a kernel adds up does not depend on the numbers, and another order shows in
        some of a million roundings.
        """
        if name not in self._alike:
            row = np.random.default_rng(0).standard_normal(weight.shape[1]).astype(np.float32)
            product = _in_blocks(np.tile(row, (BLOCK, 1)), weight)
            self._alike[name] = bool((product == product[0]).all())
        return self._alike[name]

    def _remember(self, key: ProductRow, row: Array | None) -> None:
        if row is None or key in self._made:
            self._made.move_to_end(key)
            return
        # A copy: a row of a product would keep all of it.
        self._made[key] = row.copy()
        self._held += row.nbytes
        while self._held > self._limit:
            _, oldest = self._made.popitem(last=False)
            self._held -= oldest.nbytes

    def _name(self, weight: Array) -> bytes:
        """The digest of weights, taken once for each array."""
        known = self._names.get(id(weight))
        if known is not None and known[0]() is weight:
            return known[1]
        name = _digest(weight)
        self._names[id(weight)] = (weakref.ref(weight), name)
        return name


_of_process = Products()
_shared: ContextVar[Products | None] = ContextVar("shared", default=None)
_alone: ContextVar[Alone | None] = ContextVar("alone", default=None)


@contextmanager
def sharing() -> Iterator[None]:
    """Lets the packages that are loaded and run inside reuse products and widened weights.

    They are those of earlier packages of the process, one package at a time: widened weights that a
    package does not use are released at the next one.
    """
    _of_process.next_package()
    token = _shared.set(_of_process if enabled("products") else None)
    try:
        yield
    finally:
        _shared.reset(token)


def shared() -> Products | None:
    """The products of the process; None outside of ``sharing``."""
    return _shared.get()


def multiply_alone_with(alone: Alone) -> None:
    """From now on, ``alone`` makes the products of single rows in this thread."""
    _alone.set(alone)


def multiply_alone(rows: Sequence[Array], weight: Array) -> Array:
    """``multiply`` of each of these rows (I,) by itself: (N, O)."""
    return _each_alone(np.stack(rows), weight)


def _digest(array: Array) -> bytes:
    head = f"{array.dtype.str} {array.shape} ".encode()
    return hashlib.sha256(head + hashlib.sha256(np.ascontiguousarray(array).data).digest()).digest()
