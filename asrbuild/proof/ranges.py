"""Ranges: how large a package's float16 values and the terms of its sums become in a proof.

The Neural Engine accumulates in a fixed-point number that ends at 32,768, and float16 ends at
65,504; the executor accumulates in float32 and shows neither. So each op that can make a value
larger is measured while it runs: its result, and the sum of the magnitudes of a product's terms,
which no partial sum exceeds in any order of addition. An operand is the result of another op, an
input after its cast, or a constant.

A cheap bound for a sum comes from the lengths of its rows; only if that bound reaches ``LIMIT`` are
the magnitudes added up.

Source of the limit: notes/defects.md (C2 to C4) of 751K/Apple-Neural-Engine-Microarchitecture-
Study-M6, measured on an M6.
"""

from __future__ import annotations

import json
import math
import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from asrbuild.base.array import Array
from asrbuild.coreml.executor.recording import Seen, Site
from asrbuild.coreml.halves import converted

LIMIT = 32768.0
_FILE = "reaches.json"
_F16, _F32 = np.dtype(np.float16), np.dtype(np.float32)
#: Ops whose results are at most as large as an operand, or as 1.
_NOT_LARGER = frozenset(
    """
    reshape transpose expand_dims squeeze concat split stack gather gather_nd
    gather_along_axis slice_by_index slice_by_size reverse tile pad scatter scatter_nd
    scatter_along_axis select identity relu relu6 clip minimum maximum max_pool avg_pool
    reduce_max reduce_min abs sign sigmoid sigmoid_hard tanh softmax softsign erf sin cos less
    less_equal greater greater_equal equal not_equal shape
    """.split()
)


@dataclass(frozen=True)
class Reach:
    """The range of the values of one node.

    Args:
        node: the enclosing blocks and the op's own name, as the executor writes them.
        kind: the op's type.
        value: the largest magnitude of a result, or of a constant operand.
        total: a bound of all partial sums of its terms; 0 for an op without sums.
    """

    node: str
    kind: str
    value: float
    total: float

    @property
    def largest(self) -> float:
        """The larger of ``value`` and ``total``."""
        return max(self.value, self.total)


@dataclass
class Ranges:
    """A watcher of the executor that records the largest values of each float16 node."""

    _nodes: dict[str, _Node] = field(default_factory=dict)

    def __call__(self, site: Site) -> Seen | None:
        flat = (d for each in site.dtypes for d in (each if isinstance(each, list) else [each]))
        # A cast from float32 has no float16 operand, but can have a float16 result.
        if site.kind != "cast" and (site.kind in _NOT_LARGER or _F16 not in flat):
            return None
        # A package is loaded again for each function and way to run it.
        return self._nodes.setdefault(site.path, _Node(site)).see

    def reaches(self) -> tuple[Reach, ...]:
        """The ranges of all nodes with float16 results, in the order of the program."""
        return tuple(node.reach() for node in self._nodes.values() if node.value or node.total)


def reaching(reaches: Iterable[Reach]) -> tuple[Reach, ...]:
    """The ranges at or above ``LIMIT``, largest first."""
    return tuple(sorted((r for r in reaches if r.largest >= LIMIT), key=lambda r: -r.largest))


def save_reaches(at: Path, reaches: Iterable[Reach]) -> None:
    """Writes ``reaches.json`` into a directory."""
    text = json.dumps([asdict(reach) for reach in reaches], indent=2) + "\n"
    (at / _FILE).write_text(text, encoding="utf-8")


def load_reaches(at: Path) -> tuple[Reach, ...]:
    """The ranges that ``save_reaches`` wrote into a directory."""
    listed = json.loads((at / _FILE).read_text(encoding="utf-8"))
    return tuple(Reach(**fields) for fields in listed)


class _Node:
    def __init__(self, site: Site) -> None:
        self.site, self.value, self.total = site, 0.0, 0.0
        self._sum = _SUMS.get(site.kind)
        self._weights: dict[int, _Weight] = {}
        self._constants = False

    def reach(self) -> Reach:
        return Reach(self.site.path, self.site.kind, self.value, self.total)

    def see(self, operands: Sequence[Any], result: Any) -> None:
        results = result if isinstance(result, list) else [result]
        self.value = max(self.value, *map(magnitude, results), 0.0)
        if not self._constants:
            self._constants = True
            constant = zip(operands, self.site.constant, self.site.dtypes, strict=True)
            for value, fixed, dtype in constant:
                if fixed and dtype == _F16:
                    # Two passes over a large weight are faster than a copy of its magnitudes.
                    highest, lowest = np.max(value, initial=0), np.min(value, initial=0)
                    self.value = max(self.value, float(highest), -float(lowest))
        if self._sum is not None:
            named = dict(zip(self.site.operands, operands, strict=True))
            self.total = max(self.total, float(self._sum(self, named, results)))

    def weight(self, array: Array) -> _Weight:
        """The facts about a weight, computed once for each array."""
        known = self._weights.get(id(array))
        if known is None or known.array() is not array:
            known = self._weights[id(array)] = _Weight(array)
        return known


def magnitude(value: Any) -> float:
    """The largest magnitude of a float16 array; an infinity or NaN is the largest; else 0.

    The bits of a float16 without its sign have the order of the magnitudes.
    """
    if not isinstance(value, np.ndarray) or value.dtype != _F16 or not value.size:
        return 0.0
    bits = np.max(value.view(np.uint16) & np.uint16(0x7FFF))
    found = float(np.uint16(bits).view(np.float16))
    return found if found == found else float("inf")


class _Weight:
    """Facts about a weight (O, I): its longest row, and the largest value of each column."""

    def __init__(self, weight: Array) -> None:
        self.array = weakref.ref(weight)
        rows = weight.reshape(len(weight), -1)
        squares = np.einsum("oi,oi->o", rows, rows, dtype=_F32)
        self.longest = float(np.sqrt(squares.max(initial=0)))
        self._columns: Array | None = None

    def columns(self, weight: Array) -> Array:
        """The largest magnitude of each column: (I,)."""
        if self._columns is None:
            highest, lowest = weight.max(0, initial=0), weight.min(0, initial=0)
            self._columns = np.maximum(highest, -lowest).astype(_F32)
        return self._columns


def _product(node: _Node, x: Array, weight: Array, added: Array | float) -> float:
    """A bound of ``sum(|w| * |x|) + added``, for ``x (..., I)`` and ``weight (O, I)``.

    |sum(w * x)| <= |w| * |x| (Cauchy and Schwarz); if that reaches the limit, the largest value of
    ``x`` is treated separately; if that bound reaches it too, the sums are computed.
    """
    rows, known = converted(x, _F32).reshape(-1, x.shape[-1]), node.weight(weight)
    squares, more = np.einsum("ni,ni->n", rows, rows), float(np.max(added, initial=0))
    bound = float(np.sqrt(squares.max(initial=0))) * known.longest + more
    if bound < LIMIT:
        return bound
    at = np.argmax(np.abs(rows), axis=1)
    most = np.abs(rows[np.arange(len(rows)), at])
    rest = np.sqrt(np.maximum(squares - most * most, 0))
    each = most * known.columns(weight)[at] + rest * known.longest + more
    if each.max(initial=0) < LIMIT:
        return float(each.max(initial=0))
    near = np.unique(np.abs(rows[each >= LIMIT]), axis=0)
    exact = near @ np.abs(np.asarray(weight, _F32)).T + added
    return float(max(exact.max(initial=0), each[each < LIMIT].max(initial=0)))


def _linear(node: _Node, given: dict[str, Any], results: list[Array]) -> float:
    bias = given["bias"]
    return _product(node, given["x"], given["weight"], 0.0 if bias is None else np.abs(bias))


def _matmul(node: _Node, given: dict[str, Any], results: list[Array]) -> float:
    x, y = (np.abs(np.asarray(given[name], _F32)) for name in ("x", "y"))
    if given["transpose_x"] and x.ndim > 1:
        x = np.swapaxes(x, -1, -2)
    if given["transpose_y"] and y.ndim > 1:
        y = np.swapaxes(y, -1, -2)
    return float(np.max(np.matmul(x, y), initial=0))


def _conv(node: _Node, given: dict[str, Any], results: list[Array]) -> float:
    weight, x = np.asarray(given["weight"], _F32), np.asarray(given["x"], _F32)
    bias = 0.0 if given["bias"] is None else np.abs(given["bias"])
    # No patch of the input is longer than one with the largest magnitude everywhere.
    patch = float(np.max(np.abs(x), initial=0)) * math.sqrt(weight[0].size)
    bound = patch * node.weight(given["weight"]).longest + float(np.max(bias, initial=0))
    if bound < LIMIT:
        return bound
    from asrbuild.coreml.executor.mil.convolution import conv

    whole = given | {"x": np.abs(x), "weight": np.abs(weight)}
    whole["bias"] = None if given["bias"] is None else bias
    return float(np.max(conv(**whole), initial=0))


def _recurrent(node: _Node, given: dict[str, Any], results: list[Array]) -> float:
    """The bound for an lstm, gru or rnn: both products of a step, and the bias."""
    h = max(magnitude(results[0]), magnitude(given["initial_h"]))
    totals = [0.0]
    for back in ("", "_back"):
        if given.get(f"weight_ih{back}") is None:
            continue
        of_input, of_hidden = given[f"weight_ih{back}"], given[f"weight_hh{back}"]
        bias = given.get(f"bias{back}")
        added = 0.0 if bias is None else np.abs(np.asarray(bias, _F32))
        longest = h * math.sqrt(of_hidden.shape[1]) * node.weight(of_hidden).longest
        total = _product(node, given["x"], of_input, added + longest)
        if total >= LIMIT:
            sums = h * np.abs(of_hidden).sum(1, dtype=_F32)
            total = _product(node, given["x"], of_input, added + sums)
        totals.append(total)
    return max(totals)


def _reduced(power: int) -> Callable[[_Node, dict[str, Any], list[Array]], float]:
    def total(node: _Node, given: dict[str, Any], results: list[Array]) -> float:
        x = np.abs(np.asarray(given["x"], _F32)) ** power
        axes = given["axes"]
        over = None if axes is None else tuple(int(axis) for axis in np.atleast_1d(axes))
        return float(np.max(np.sum(x, axis=over), initial=0))

    return total


_SUMS: dict[str, Callable[[_Node, dict[str, Any], list[Array]], float]] = {
    "linear": _linear,
    "matmul": _matmul,
    "conv": _conv,
    "lstm": _recurrent,
    "gru": _recurrent,
    "rnn": _recurrent,
    "reduce_sum": _reduced(1),
    "reduce_mean": _reduced(1),
    "reduce_sum_square": _reduced(2),
    "layer_norm": _reduced(2),
}
