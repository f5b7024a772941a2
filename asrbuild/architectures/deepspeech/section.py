"""The rules of the recipe's section ``export``, DeepSpeech's flags."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from asrbuild.base.errors import AsrbuildError


def export_problems(export: Any) -> Iterator[AsrbuildError]:
    """Yields an error for each impossible value; null, before the source is read, is valid."""
    for name in (
        "n_input",
        "audio_sample_rate",
        "feature_win_len",
        "feature_win_step",
        "beam_width",
    ):
        if (value := getattr(export, name)) is not None and value < 1:
            yield _error(name, f"={value} must be at least 1", "give 1 or more")
    window, stride = export.feature_win_len, export.feature_win_step
    if window is not None and stride is not None and window < stride:
        yield _error(
            "feature_win_len",
            f"={window} ms is shorter than the step of {stride} ms between windows",
            "set what the model was trained with (DeepSpeech: 32 and 20)",
        )
    limit, rate = export.upper_frequency_limit, export.audio_sample_rate
    if limit is not None and rate is not None and not 20 < limit <= rate / 2:
        yield _error(
            "upper_frequency_limit",
            f"={limit:g} Hz is not between 20 Hz and half the sample rate of {rate} Hz",
            f"set {rate / 2:g}, as DeepSpeech 0.7 and later do, or 4000, as 0.6 does",
        )
    if export.relu_clip is not None and export.relu_clip <= 0:
        yield _error(
            "relu_clip",
            f"={export.relu_clip} must be above 0",
            "set what the model was trained with (DeepSpeech: 20)",
        )
    if export.n_context is not None and export.n_context < 0:
        yield _error(
            "n_context",
            f"={export.n_context} must not be negative",
            "give the number of context frames on each side (DeepSpeech has 9)",
        )
    if export.batch_size != 1:
        yield _error(
            "batch_size",
            f"={export.batch_size}: a Core ML package here takes one utterance at a time",
            "set export.batch_size=1 (the DeepSpeech clients expect 1 too)",
        )
    steps = export.n_steps
    if steps is not None and steps != -1 and steps < 1:
        yield _error(
            "n_steps",
            f"={steps} is neither -1 (any length) nor a number of steps",
            "set n_steps=16, or choose model=dynamic",
        )


def _error(name: str, problem: str, fix: str) -> AsrbuildError:
    return AsrbuildError(f"export.{name}{problem}", key=f"export.{name}", fix=fix)
