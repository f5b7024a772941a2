"""Every CTC decoder by its name, and the settings that each takes."""

from __future__ import annotations

from pathlib import Path

from asrbuild.speech.alphabet import Alphabet
from asrbuild.speech.decoder import Decoder
from asrbuild.speech.decoder_settings import (
    DecoderSettings,
    check_settings,
)


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
        AsrbuildError: a setting is invalid, or the decoder is not available here.
    """
    check_settings(settings)
    step_s = step_ms / 1000.0
    if settings.type == "greedy":
        from asrbuild.speech.greedy import GreedyDecoder

        return GreedyDecoder(alphabet, step_s)
    if settings.type == "beam":
        from asrbuild.speech.beam import BeamDecoder

        return BeamDecoder(settings, alphabet, step_s)
    from asrbuild.speech.deepspeech_decoder.decoder import DeepSpeechDecoder

    return DeepSpeechDecoder(settings, alphabet, step_s, base_dir)
