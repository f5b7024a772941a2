"""The settings of every decoder, and their rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from asrbuild.base.errors import AsrbuildError

DecoderType = Literal["greedy", "beam", "ds_ctcdecoder"]
DECODERS: tuple[DecoderType, ...] = get_args(DecoderType)
LARGEST_WEIGHT = 1e6


@dataclass(frozen=True)
class DecoderSettings:
    """The settings of a decoder: the fields of a manifest's ``decoder`` that change a transcript.

    Args:
        type: one of ``DECODERS``.
        beam_width: hypotheses kept after each step.
        cutoff_prob: at each step, only the likeliest labels that add up to this probability are
            tried; 1: all labels.
        cutoff_top_n: at each step, at most this many labels are tried, if ``cutoff_prob`` is below
            1.
        scorer: a DeepSpeech scorer package, for ``ds_ctcdecoder`` only.
        lm_alpha: weight of the language model; None: the scorer's own.
        lm_beta: reward of each word; None: the scorer's own.
        hot_words: word -> boost, for ``ds_ctcdecoder`` with a scorer.
        interpreter: a Python with ds-ctcdecoder, or a Python 3.9 to install it for; None: asrbuild
            finds one.
    """

    type: str = "greedy"
    beam_width: int = 500
    cutoff_prob: float = 1.0
    cutoff_top_n: int = 40
    scorer: Path | None = None
    lm_alpha: float | None = None
    lm_beta: float | None = None
    hot_words: Mapping[str, float] = field(default_factory=dict)
    interpreter: Path | None = None


def check_settings(settings: DecoderSettings) -> None:
    """Raises if settings are out of range or contradict each other.

    Raises:
        AsrbuildError: naming the key at fault.
    """
    if settings.type not in DECODERS:
        raise AsrbuildError(
            f"no decoder is called {settings.type!r}",
            key="decoder.type",
            fix=f"choose one of {', '.join(DECODERS)}",
        )
    wrong = {
        "beam_width": (settings.beam_width < 1, "must be at least 1"),
        "cutoff_prob": (not 0 < settings.cutoff_prob <= 1, "must be above 0 and at most 1"),
        "cutoff_top_n": (settings.cutoff_top_n < 1, "must be at least 1"),
    }
    for key, (bad, rule) in wrong.items():
        if bad:
            raise AsrbuildError(
                f"{key} is {getattr(settings, key)}, {rule}",
                key=f"decoder.{key}",
                fix=f"give another decoder.{key}, or leave it out",
            )
    weights = {"lm_alpha": settings.lm_alpha, "lm_beta": settings.lm_beta}
    weights |= {f"hot_words.{word}": boost for word, boost in settings.hot_words.items()}
    for key, weight in weights.items():
        # The library computes in float32, and has no error for what does not fit.
        if weight is not None and not abs(weight) <= LARGEST_WEIGHT:
            raise AsrbuildError(
                f"{key} is {weight}", key=f"decoder.{key}", fix="give a number of sensible size"
            )
    if settings.type != "ds_ctcdecoder" and (settings.scorer or settings.hot_words):
        raise AsrbuildError(
            f"the {settings.type} decoder uses no scorer and no hot words",
            key="decoder.scorer_path" if settings.scorer else "decoder.hot_words",
            fix="choose decoder=ds_ctcdecoder, or leave them out",
        )
    if settings.hot_words and settings.scorer is None:
        raise AsrbuildError(
            "hot words need a scorer",
            key="decoder.hot_words",
            fix="give decoder.scorer_path as well",
        )
