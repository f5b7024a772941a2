"""The decoder options of ``transcribe`` and ``evaluate``, and the resulting settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asrbuild.base import terminal
from asrbuild.base.errors import AsrbuildError

if TYPE_CHECKING:
    from asrbuild.artifact.manifest import Manifest
    from asrbuild.speech.decoder_settings import DecoderSettings

BeamOption = Annotated[int | None, typer.Option(help="Hypotheses kept at each step.")]
ScorerOption = Annotated[
    str | None,
    typer.Option(
        help="A DeepSpeech .scorer, for ds_ctcdecoder; demo:prompts.scorer is the demo's."
    ),
]
AlphaOption = Annotated[float | None, typer.Option(help="Weight of the scorer's language model.")]
BetaOption = Annotated[float | None, typer.Option(help="The scorer's reward of a word.")]
HotWordOption = Annotated[
    list[str] | None,
    typer.Option(metavar="WORD=BOOST", help="A word to expect, or with a boost below 0 to avoid."),
]


@dataclass(frozen=True)
class DecoderChoice:
    """The user's decoder options; None: the manifest's value."""

    beam_width: int | None = None
    scorer: str | None = None
    lm_alpha: float | None = None
    lm_beta: float | None = None
    hot_words: Mapping[str, float] = field(default_factory=dict)


def parse_hot_words(texts: list[str] | None) -> dict[str, float]:
    """Word -> boost, from ``word=boost`` texts.

    Raises:
        AsrbuildError: a text has another form.
    """
    boosts = {}
    for text in texts or ():
        word, _, boost = text.partition("=")
        try:
            boosts[word] = float(boost)
        except ValueError:
            raise AsrbuildError(
                f"--hot-word {text!r} is not WORD=BOOST",
                fix="for instance --hot-word asterisk=5",
            ) from None
    return boosts


def settings_for(
    manifest: Manifest, artifact: Path, kind: str | None, choice: DecoderChoice
) -> DecoderSettings:
    """The manifest's decoder with the user's options, checked against the alphabet.

    Args:
        manifest: the artifact's manifest.
        artifact: the artifact's folder, which has its scorer.
        kind: the decoder; None: the manifest's.
        choice: the other options.

    Raises:
        AsrbuildError: an option does not apply to this decoder, or the scorer does not fit.
    """
    from asrbuild.artifact.manifest2 import tokens_of
    from asrbuild.artifact.runtime import decoder_settings
    from asrbuild.speech.alphabet import Alphabet
    from asrbuild.speech.decoder_settings import check_settings
    from asrbuild.speech.decoders import check_labels
    from asrbuild.speech.deepspeech_decoder.decoder import check_language, language_remarks
    from asrbuild.speech.letters import alphabet_of

    settings = decoder_settings(manifest)
    if kind is not None:
        settings = replace(settings, type=kind)
        if kind != "ds_ctcdecoder":
            settings = replace(settings, scorer=None, hot_words={})
    if choice.scorer is not None:
        # Alpha and beta belong to a scorer: another scorer has its own.
        scorer = Path(choice.scorer).expanduser().resolve()
        settings = replace(settings, scorer=scorer, lm_alpha=None, lm_beta=None)
    if choice.beam_width is not None:
        settings = replace(settings, beam_width=choice.beam_width)
    if choice.lm_alpha is not None:
        settings = replace(settings, lm_alpha=choice.lm_alpha)
    if choice.lm_beta is not None:
        settings = replace(settings, lm_beta=choice.lm_beta)
    if choice.hot_words:
        settings = replace(settings, hot_words=dict(choice.hot_words))
    check_settings(settings)
    if settings.scorer is None and (choice.lm_alpha is not None or choice.lm_beta is not None):
        raise AsrbuildError(
            "--lm-alpha and --lm-beta require a scorer",
            fix="give --decoder ds_ctcdecoder and --scorer as well",
        )
    if settings.type == "greedy" and choice.beam_width is not None:
        raise AsrbuildError(
            "the greedy decoder has no beam, so --beam-width has no effect",
            fix="give --decoder beam as well, or leave --beam-width out",
        )
    if settings.type == "ds_ctcdecoder":
        tokens = tokens_of(manifest.decoder)
        check_labels(settings.type, tokens)
        alphabet = tokens if isinstance(tokens, Alphabet) else alphabet_of(tokens)
        check_language(settings, alphabet, artifact)
        for remark in language_remarks(settings, alphabet, artifact):
            terminal.say(f"note: {remark}", err=True)
    return settings
