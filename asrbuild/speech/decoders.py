"""Opens a decoder by its name, and refuses labels that it does not support."""

from __future__ import annotations

from pathlib import Path

from asrbuild.base.errors import AsrbuildError
from asrbuild.speech.alphabet import Alphabet
from asrbuild.speech.decoder import Decoder
from asrbuild.speech.decoder_settings import (
    DecoderSettings,
    check_settings,
)
from asrbuild.speech.tokens import Tokens


def open_decoder(
    settings: DecoderSettings, tokens: Tokens, step_ms: float, base_dir: Path | None = None
) -> Decoder:
    """Opens the decoder that the settings name.

    Args:
        settings: the name of the decoder, and its settings.
        tokens: the model's labels.
        step_ms: milliseconds from one output row to the next.
        base_dir: the folder for a relative ``scorer`` path.

    Raises:
        AsrbuildError: a setting is invalid, or the decoder is not available here or for these
            labels.
    """
    check_settings(settings)
    check_labels(settings.type, tokens)
    step_s = step_ms / 1000.0
    if settings.type == "greedy":
        from asrbuild.speech.greedy import GreedyDecoder

        return GreedyDecoder(tokens, step_s)
    if settings.type == "beam":
        from asrbuild.speech.beam import BeamDecoder

        return BeamDecoder(settings, tokens, step_s)
    from asrbuild.speech.deepspeech_decoder.decoder import DeepSpeechDecoder

    if isinstance(tokens, Alphabet):
        return DeepSpeechDecoder(settings, tokens, step_s, base_dir)
    from asrbuild.speech.letters import FoldedDecoder, alphabet_of

    inner = DeepSpeechDecoder(settings, alphabet_of(tokens), step_s, base_dir)
    return FoldedDecoder(inner, tokens)


def check_labels(decoder: str, tokens: Tokens) -> None:
    """Raises if a decoder does not support these labels.

    Raises:
        AsrbuildError: it names the decoder.
    """
    if tokens.kind == "classes" and decoder != "greedy":
        raise AsrbuildError(
            f"the {decoder} decoder joins labels over time; this model gives one class for a row",
            key="decoder.type",
            fix="choose decoder=greedy, or --decoder greedy",
        )
    if decoder == "ds_ctcdecoder" and tokens.kind not in ("characters", "bytes"):
        raise AsrbuildError(
            f"ds-ctcdecoder and its scorers read characters; this model writes {tokens.kind}",
            key="decoder.type",
            fix="choose decoder=greedy or decoder=beam, or --decoder beam",
        )
