"""Arrays as small grey PNG images inside a page; the page's style colours them."""

from __future__ import annotations

import io

import numpy as np

from asrbuild.base.array import Array
from asrbuild.handover.report.html import data_uri

#: Brightness is probability to this power, so that one percent is still visible.
PROBABILITY_POWER = 0.25
#: Ends of the logarithmic scale of errors.
SMALLEST_ERROR, LARGEST_ERROR = 1e-7, 1e-1


def png(values: Array) -> str:
    """Values (height, width) between 0 and 1 as a data URI; others are clipped, and NaN is 0.

    The same values give the same text.
    """
    from PIL import Image

    levels = np.clip(np.nan_to_num(np.asarray(values, np.float64), nan=0.0), 0.0, 1.0) * 255.0
    buffer = io.BytesIO()
    Image.fromarray(np.rint(levels).astype(np.uint8)).save(buffer, "PNG", optimize=True)
    return data_uri("image/png", buffer.getvalue())


def probability_levels(probabilities: Array) -> Array:
    """Probabilities (steps, classes) as levels (classes, steps)."""
    finite = np.nan_to_num(np.asarray(probabilities, np.float64), nan=0.0, posinf=1.0, neginf=0.0)
    return np.clip(finite, 0.0, 1.0).T ** PROBABILITY_POWER


def error_levels(reference: Array, package: Array) -> Array:
    """The largest error of each step of two (steps, classes), as levels (1, steps)."""
    with np.errstate(invalid="ignore"):
        error = np.abs(np.asarray(reference, np.float64) - package).max(axis=1, initial=0.0)
    error = np.clip(np.nan_to_num(error, nan=LARGEST_ERROR), SMALLEST_ERROR, LARGEST_ERROR)
    span = np.log10(LARGEST_ERROR / SMALLEST_ERROR)
    levels: Array = np.log10(error / SMALLEST_ERROR) / span
    return levels[None]


def spectrum_levels(bands: Array) -> Array:
    """Logarithms of mel bands (steps, bands) as levels (bands, steps), low bands below."""
    low, high = np.percentile(bands, (10, 99.5)) if bands.size else (0.0, 1.0)
    return ((bands - low) / max(high - low, 1e-6)).T[::-1]
