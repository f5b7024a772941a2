"""Every CTC decoder by its name, and the settings that each takes."""

from __future__ import annotations

from pathlib import Path

from asrbuild.base.errors import AsrbuildError
from asrbuild.speech.alphabet import Alphabet
from asrbuild.speech.decoding import DECODERS, LARGEST_WEIGHT, Decoder, DecoderSettings


def open_decoder(
    settings: DecoderSettings, alphabet: Alphabet, step_ms: float, base_dir: Path | None = None
) -> Decoder:
    """The decoder that the settings name, checked and ready.

    Args:
        settings: which decoder, and how.
        alphabet: the model's labels.
        step_ms: milliseconds from one step to the next.
        base_dir: what a relative ``scorer`` is relative to.

    Raises:
        AsrbuildError: a setting makes no sense, or the decoder cannot be had here.
    """
    check_settings(settings)
    step_s = step_ms / 1000.0
    if settings.type == "greedy":
        from asrbuild.speech.greedy import GreedyDecoder

        return GreedyDecoder(alphabet, step_s)
    if settings.type == "beam":
        from asrbuild.speech.beam import BeamDecoder

        return BeamDecoder(settings, alphabet, step_s)
    from asrbuild.speech.deepspeech_decoder.decoder import DsDecoder

    return DsDecoder(settings, alphabet, step_s, base_dir)


def check_settings(settings: DecoderSettings) -> None:
    """Refuses settings that no decoder could follow.

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
            raise AsrbuildError(f"{key} is {getattr(settings, key)}, {rule}", key=f"decoder.{key}")
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
