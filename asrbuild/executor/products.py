"""Rows times weights: in the way that BLAS does fastest, and never twice.

A product that was made before, of the same weights and the same row byte for byte, is not made
again. The lengths that a proof runs are beginnings of one recording, and the packages of a sweep
have the same weights; what differs between them is all else that the program does.
"""

from __future__ import annotations

import hashlib
import weakref
from collections import OrderedDict
from collections.abc import Callable

import numpy as np

#: Entries from which weights are worth knowing by their digest: 4 MB of them.
LARGE = 1 << 20
#: What is remembered at most, in bytes of products: two minutes of speech at ``n_hidden`` 2048.
_REMEMBERED = 600_000_000
_FEW_ROWS = 64

#: The weights, whether the row was alone, and the row.
Row = tuple[bytes, bool, bytes]


def multiply(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """``x @ weight.T`` for ``x (..., I)`` and ``weight (O, I)``.

    A single row is a matrix-vector product, which reads the weights once, in order, on all cores.
    For a few rows the weights go first: OpenBLAS then packs the small matrix, not the large one.
    """
    shape = (*x.shape[:-1], weight.shape[0])
    if x.size == x.shape[-1]:
        return np.dot(weight, x.reshape(-1)).reshape(shape)
    rows = x.reshape(-1, x.shape[-1])
    if len(rows) <= _FEW_ROWS:
        return np.ascontiguousarray(np.dot(weight, rows.T).T).reshape(shape)
    return np.dot(rows, weight.T).reshape(shape)


class Products:
    """Products that were made already, and weights that were widened already.

    Both are known by the SHA-256 of their bytes, so that a difference of one bit makes a new one.
    """

    def __init__(self, limit: int = _REMEMBERED) -> None:
        self._limit = limit
        self._held = 0
        self._made: OrderedDict[Row, np.ndarray] = OrderedDict()
        self._wide: dict[bytes, np.ndarray] = {}
        self._wide_before: dict[bytes, np.ndarray] = {}
        self._names: dict[int, tuple[weakref.ref[np.ndarray], bytes]] = {}

    def next_package(self) -> None:
        """Lets go of the widened weights that the package before did not use."""
        self._wide, self._wide_before = {}, self._wide

    def widened(self, half: np.ndarray, widen: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
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

    def known(self, x: np.ndarray, weight: np.ndarray) -> np.ndarray | None:
        """The product of a single row ``x (1, I)``, if it was made before; any thread may ask."""
        named = self._names.get(id(weight))
        if named is None or named[0]() is not weight:
            return None
        key = (named[1], True, hashlib.sha256(np.ascontiguousarray(x)).digest())
        row = self._made.get(key)
        if row is None:
            return None
        self._made.move_to_end(key)
        return row[None].copy()

    def rows_times(self, x: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """``multiply(x, weight)`` for ``x (N, I)``, made only of the rows that are new.

        The result is the same bits whatever was multiplied before: BLAS rounds one row alone
        otherwise than several, but several alike however many they are. So one row is never taken
        for one of several, and of several a row that alone is new is multiplied twice over.
        """
        name = self._name(weight)
        alone = len(x) == 1
        keys = [(name, alone, hashlib.sha256(row).digest()) for row in np.ascontiguousarray(x)]
        new = {key: index for index, key in enumerate(keys) if key not in self._made}
        rows = list(new.values())
        twice = len(rows) == 1 and not alone
        made = multiply(x[rows * 2 if twice else rows], weight) if new else ()
        found = dict(zip(new, made, strict=False))
        result = np.stack([found[key] if key in found else self._made[key] for key in keys])
        for key in dict.fromkeys(keys):
            self._remember(key, found.get(key))
        return result

    def _remember(self, key: Row, row: np.ndarray | None) -> None:
        if row is None:
            self._made.move_to_end(key)
            return
        # A copy: a row of a product would keep all of it.
        self._made[key] = row.copy()
        self._held += row.nbytes
        while self._held > self._limit:
            _, oldest = self._made.popitem(last=False)
            self._held -= oldest.nbytes

    def _name(self, weight: np.ndarray) -> bytes:
        """The digest of weights, taken once for each array."""
        known = self._names.get(id(weight))
        if known is not None and known[0]() is weight:
            return known[1]
        name = _digest(weight)
        self._names[id(weight)] = (weakref.ref(weight), name)
        return name


def _digest(array: np.ndarray) -> bytes:
    head = f"{array.dtype.str} {array.shape} ".encode()
    return hashlib.sha256(head + hashlib.sha256(np.ascontiguousarray(array)).digest()).digest()
