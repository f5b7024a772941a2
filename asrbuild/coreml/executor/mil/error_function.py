"""The Gauss error function of arrays, by additions, products and one quotient alone.

Those are rounded alike on every processor, so the bits are as well; ``math.erf`` element by element
takes twenty times as long. The coefficients are a least-squares fit of ``erf(x) / x`` by a quotient
of polynomials in ``2 x^2 / LIMIT^2 - 1``, reweighted until the largest relative error was least:
6e-10, a hundredth of what float32 resolves. Beyond the limit the function is 1 in double precision.
"""

from __future__ import annotations

import numpy as np

from asrbuild.base.array import Array

LIMIT = 5.9
#: Highest power first.
_ABOVE = (
    2.207432025038643e-05,
    0.0012279936213214406,
    0.012627123798783233,
    0.05696300511629689,
    0.1425495991923293,
    0.21438740056444935,
    0.19492666057284413,
    0.0997544512673193,
    0.022302847328777964,
)
_BELOW = (
    0.000961348604646668,
    0.01918692187528061,
    0.13077116704192546,
    0.46031104228487835,
    0.9626353058625626,
    1.2548136047798772,
    1.0096739668878651,
    0.46269154337953056,
    0.09304591839792165,
)
#: Elements at once: they stay in the processor's cache through all coefficients.
_BLOCK = 1 << 14


def erf(x: Array) -> Array:
    """``x`` of any shape and float type -> float64 of its shape; NaN stays NaN."""
    flat = np.asarray(x, np.float64).reshape(-1)
    made = np.empty_like(flat)
    for start in range(0, len(flat), _BLOCK):
        made[start : start + _BLOCK] = _block(flat[start : start + _BLOCK])
    return made.reshape(np.shape(x))


def _block(x: Array) -> Array:
    x = np.clip(x, -LIMIT, LIMIT)
    place = x * x
    place *= 2 / LIMIT**2
    place -= 1
    made: Array = x * _polynomial(_ABOVE, place) / _polynomial(_BELOW, place)
    return made


def _polynomial(coefficients: tuple[float, ...], x: Array) -> Array:
    value = x * coefficients[0]
    for coefficient in coefficients[1:-1]:
        value += coefficient
        value *= x
    value += coefficients[-1]
    return value
