"""Frames: the overlapping windows of samples that features are computed from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from asrbuild.base.array import Array
from asrbuild.base.errors import AsrbuildError


class Framing:
    """Frames of ``window`` samples, ``stride`` apart; the first begins at sample 0."""

    sample_rate: int
    window: int
    stride: int

    @property
    def step_s(self) -> float:
        """Seconds from one frame to the next."""
        return self.stride / self.sample_rate

    def steps(self, samples: int) -> int:
        """The number of whole frames in ``samples`` samples."""
        return 0 if samples < self.window else 1 + (samples - self.window) // self.stride


def frames_of(samples: Array, settings: Framing) -> Array:
    """Frames (steps, window) of samples (n,), as a view."""
    if len(samples) < settings.window:
        return np.zeros((0, settings.window), np.float32)
    views = np.lib.stride_tricks.sliding_window_view(samples, settings.window)
    return views[:: settings.stride]


def check_bands(settings: Any, *more: str) -> None:
    """Raises if settings of mel bands are impossible.

    Args:
        more: names of other settings that are 1 or larger.

    Raises:
        AsrbuildError: it names the key at fault.
    """
    whole = ("sample_rate", "window", "stride", "n_mels", *more)
    bad = [name for name in whole if getattr(settings, name) < 1]
    bad += ["stride"] if settings.stride > settings.window else []
    bad += ["lower_hz"] if not 0 <= settings.lower_hz < settings.upper_hz else []
    bad += ["upper_hz"] if settings.upper_hz > settings.sample_rate / 2 else []
    refuse(settings, bad)


def refuse(settings: Any, bad: Sequence[str]) -> None:
    """Raises for the first of the names of impossible settings, if there are any."""
    if bad:
        raise AsrbuildError(
            f"features cannot be made: {bad[0]} is {getattr(settings, bad[0])}",
            key=f"features.{bad[0]}",
        )
