"""Spares 5 % of a cold build (1.0 s of 20.1 s, 2048 units): matrix products that are reused.

A product of the same weights and the same row, byte for byte, is computed only once. The awkward
lengths of a proof are prefixes of one recording, and the packages of a sweep have the same weights,
so they share most of their products.

So a row's product must have the same bits in any batch. BLAS does not guarantee that: it uses
another path for another number of rows, and the AVX2 kernels of OpenBLAS even round the first rows
of a large matrix differently from the next. Therefore each BLAS call here has one of two shapes,
one row or a block of ``BLOCK``, and a product depends only on its row, its weights and its place in
the block. In the kernels of OpenBLAS for x86-64 the place makes no difference for a block of 16.
``Products`` does not rely on that: it tests each weight matrix, and if the place makes a
difference, a row is remembered with its place.
"""

from __future__ import annotations

import functools
import hashlib
import os
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np

from asrbuild.base.array import Array
from asrbuild.base.processors import usable_processors
from asrbuild.coreml.speedups import enabled

#: Weights with at least so many entries (4 MB) are identified by their digest.
LARGE = 1 << 20
#: Limit of remembered products in bytes: two minutes of speech at 2048 units.
_REMEMBERED = 600_000_000
#: Rows of a block. Haswell's kernel rounds all rows in the same way in blocks of up to 16, but not
#: of 24.
BLOCK = 16
#: Outputs computed at once for all blocks: 8 MB of weights at 2048 units stay in the processor's
#: cache from block to block.
_OUTPUTS_AT_ONCE = 1024

#: Rows of weights (1 MB at 2048 units) that stay in the processor's cache from input to input.
_ROWS_AT_ONCE = 128
#: With at least so many entries of weights (16 MB), two processors multiply a row faster than one.
_TWO_HALVES = 1 << 22

#: The weights, the row's place in its block (None: a single row), and the row.
ProductRow = tuple[bytes, int | None, bytes]
#: Rows (I,) that are multiplied by the same weights, and their products (O,).
RowArrays = dict[ProductRow, Array]
#: Makes the products of new rows, together with those that other runs wait for.
Make = Callable[[RowArrays, Array], RowArrays]


def multiply(x: Array, weight: Array) -> Array:
    """``x @ weight.T`` for ``x (..., I)`` and ``weight (O, I)``.

    A single row is a matrix-vector product, which reads the weights once, in order. Several rows
    are split into blocks of ``BLOCK``; zeros fill the last block.
    """
    shape = (*x.shape[:-1], weight.shape[0])
    if x.size == x.shape[-1]:
        return _each_alone(x.reshape(1, -1), weight).reshape(shape)
    return _in_blocks(x.reshape(-1, x.shape[-1]), weight).reshape(shape)


def _each_alone(rows: Array, weight: Array) -> Array:
    """``weight @ row`` for each of ``rows (N, I)``: (N, O); large weights use another thread, too.

    Its time is that of reading the weights, which are read once, in pieces. Each output is a
    separate sum, so the pieces have the same bits as the whole, unlike with BLAS's own threads,
    which may split the sums.
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

    _by_two_threads(fill, weight, outputs // 2 // BLOCK * BLOCK)
    return product


def _by_two_threads(fill: Callable[[int, int], None], weight: Array, half: int) -> None:
    """Calls ``fill(first, end)`` for all outputs; for large weights, in two halves at once."""
    outputs = len(weight)
    if weight.size < _TWO_HALVES or not half or usable_processors() == 1:
        fill(0, outputs)
        return
    lower = _second_thread(os.getpid()).submit(fill, half, outputs)
    fill(0, half)
    lower.result()


@functools.cache
def _second_thread(process: int) -> ThreadPoolExecutor:
    """The second thread of this process; a fork does not inherit its parent's threads."""
    return ThreadPoolExecutor(1, "product")


def _in_blocks(rows: Array, weight: Array) -> Array:
    """``rows @ weight.T`` for ``rows (N, I)``; row n is at place ``n % BLOCK`` of its block.

    The weights are the first operand, so that OpenBLAS packs the small matrix, not the large one.
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

    def fill(first: int, end: int) -> None:
        for start in range(first, end, _OUTPUTS_AT_ONCE):
            part = slice(start, min(start + _OUTPUTS_AT_ONCE, end))
            product[:, :, part] = np.matmul(weight[part], columns).transpose(0, 2, 1)

    parts = -(-len(weight) // _OUTPUTS_AT_ONCE)
    _by_two_threads(fill, weight, parts // 2 * _OUTPUTS_AT_ONCE)
    return product.reshape(blocks * BLOCK, len(weight))[:count]


def rows_times(x: Array, weight: Array) -> Array:
    """``multiply(x, weight)``; inside of ``sharing``, with remembered products."""
    products = shared()
    if products is None or weight.size < LARGE or not x.size:
        return multiply(x, weight)
    product = products.rows_times(x.reshape(-1, x.shape[-1]), weight)
    return product.reshape(*x.shape[:-1], len(weight))


class Products:
    """Remembered products and widened weights.

    The SHA-256 of their bytes identifies both, so that a difference of one bit gives a new one.
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
        """``widen(half)``, or its earlier result for the same bytes."""
        if half.size < LARGE:
            return widen(half)
        name = _digest(half)
        if name not in self._wide:
            wide = self._wide_before.get(name)
            if wide is None:
                wide = widen(half)
                wide.flags.writeable = False
                self._names[id(wide)] = (weakref.ref(wide), b"widened " + name)
            self._wide[name] = wide
        return self._wide[name]

    def rows_times(self, x: Array, weight: Array) -> Array:
        """``multiply(x, weight)`` for ``x (N, I)``, computed only for new rows.

        The result has the same bits, whatever was multiplied before.
        """
        keys = self._keys(self._name(weight), np.ascontiguousarray(x), weight)
        new = {key: row for key, row in zip(keys, x, strict=True) if key not in self._made}
        made = (_maker.get() or self.make)(new, weight) if new else {}
        result = np.stack([made[key] if key in made else self._made[key] for key in keys])
        for key in dict.fromkeys(keys):
            self._remember(key, made.get(key))
        return result

    def make(self, rows: RowArrays, weight: Array) -> RowArrays:
        """The products of rows (I,), computed anew: (O,) each."""
        alone = [key for key in rows if key[1] is None]
        made: RowArrays = {}
        if alone:
            made |= zip(alone, _each_alone(np.stack([rows[k] for k in alone]), weight), strict=True)
        return made | self._in_places({k: rows[k] for k in rows if k[1] is not None}, weight)

    def _keys(self, name: bytes, x: Array, weight: Array) -> list[ProductRow]:
        places: Iterable[int | None] = [None]
        if len(x) > 1:
            alike = self._places_are_alike(name, weight)
            places = (0 if alike else row % BLOCK for row in range(len(x)))
        return [
            (name, place, hashlib.sha256(row).digest())
            for place, row in zip(places, x, strict=True)
        ]

    def _in_places(self, rows: RowArrays, weight: Array) -> RowArrays:
        """The products of the rows, each computed at its place; at any place if all are equal."""
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
        """Whether a row's product has the same bits at each place of a block, tested with one row.

        The order in which a kernel adds does not depend on the numbers, and another order changes
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
        # A copy: a view of one row would keep the whole product in memory.
        self._made[key] = row.copy()
        self._held += row.nbytes
        while self._held > self._limit:
            _, oldest = self._made.popitem(last=False)
            self._held -= oldest.nbytes

    def _name(self, weight: Array) -> bytes:
        """The digest of weights, or of those they were widened from, computed once for each."""
        known = self._names.get(id(weight))
        if known is not None and known[0]() is weight:
            return known[1]
        name = _digest(weight)
        self._names[id(weight)] = (weakref.ref(weight), name)
        return name


_of_process = Products()
_shared: ContextVar[Products | None] = ContextVar("shared", default=None)
_maker: ContextVar[Make | None] = ContextVar("maker", default=None)


@contextmanager
def sharing() -> Iterator[None]:
    """Lets packages that are loaded and run inside the block reuse products and widened weights.

    Widened weights that a package does not use are released when the next one is loaded.
    """
    _of_process.next_package()
    token = _shared.set(_of_process if enabled("products") else None)
    try:
        yield
    finally:
        _shared.reset(token)


def shared() -> Products | None:
    """The remembered products of the process; None outside of ``sharing``."""
    return _shared.get()


def make_with(make: Make) -> None:
    """From now on, ``make`` makes the products of new rows in this thread."""
    _maker.set(make)


def _digest(array: Array) -> bytes:
    head = f"{array.dtype.str} {array.shape} ".encode()
    return hashlib.sha256(head + hashlib.sha256(np.ascontiguousarray(array).data).digest()).digest()
