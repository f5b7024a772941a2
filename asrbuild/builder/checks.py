"""Checks of a recipe against its files, before any stage runs."""

from __future__ import annotations

from pathlib import Path

from asrbuild.base.disk import require_writable
from asrbuild.base.errors import AsrbuildError
from asrbuild.builder import describe
from asrbuild.builder.conversion import feature_settings
from asrbuild.builder.recipe import Recipe, StepsConfig, evaluates, network_of
from asrbuild.builder.sources import Source
from asrbuild.builder.stages.evaluate import known_recordings, spelled_recordings


def check_files(recipe: Recipe, source: Source) -> list[str]:
    """Raises if files do not fit the recipe; returns remarks for the user.

    Raises:
        AsrbuildError: a file of the source does not fit, or the store cannot be written; it names
            the key and the file.
    """
    require_writable(Path(recipe.paths.artifacts), "preparing an artifact", "paths.artifacts")
    _check_decoder(recipe, source)
    _check_source(recipe, source)
    return _remarks(recipe, source)


def _check_decoder(recipe: Recipe, source: Source) -> None:
    """Raises if the decoder does not fit the files; ``rules`` checks its settings.

    Raises:
        AsrbuildError: the scorer or a hot word does not fit the alphabet, or DeepSpeech's decoder
            cannot run here.
    """
    from asrbuild.speech.alphabet import Alphabet
    from asrbuild.speech.decoders import check_labels
    from asrbuild.speech.deepspeech_decoder.decoder import check_language
    from asrbuild.speech.deepspeech_decoder.environment import decoder_python
    from asrbuild.speech.letters import alphabet_of

    settings = describe.decoder_settings(recipe.decoder, source.scorer)
    check_labels(settings.type, source.alphabet)
    if settings.type == "ds_ctcdecoder":
        tokens = source.alphabet
        alphabet = tokens if isinstance(tokens, Alphabet) else alphabet_of(tokens)
        check_language(settings, alphabet)
        decoder_python(settings.interpreter)


def _check_source(recipe: Recipe, source: Source) -> None:
    """Raises if the source cannot become the package that the recipe describes.

    Raises:
        AsrbuildError: the source lacks an output, or takes another number of steps.
    """
    lengths: list[int | None] = []
    for steps in recipe.model.functions.values() or [recipe.model.steps]:
        lengths += _lengths(steps)
    architecture, _ = network_of(recipe)
    architecture.check_source(source, recipe.coreml.outputs or (), lengths)


def _lengths(steps: StepsConfig) -> list[int | None]:
    if steps.kind == "range":
        return [None]
    return list(steps.sizes) if steps.kind == "enumerated" else [steps.default]


def _remarks(recipe: Recipe, source: Source) -> list[str]:
    """Remarks for the user on a build's scorer, recordings and transcripts.

    Raises:
        AsrbuildError: word errors gate the build, and the alphabet can spell no expected
        transcript.
    """
    from asrbuild.speech.alphabet import Alphabet
    from asrbuild.speech.audio import read_audio
    from asrbuild.speech.deepspeech_decoder.decoder import language_remarks
    from asrbuild.speech.rates import unspelled_text

    alphabet, verify = source.alphabet, recipe.verify
    settings = describe.decoder_settings(recipe.decoder, source.scorer)
    remarks = language_remarks(settings, alphabet) if isinstance(alphabet, Alphabet) else []
    for name, path in source.recordings.items():
        notes: list[str] = []
        try:
            read_audio(path, feature_settings(recipe).sample_rate, notes.append)
        except AsrbuildError as error:
            error.key = error.key or f"source.{name}.audio"
            raise
        remarks += [f"source.{name}.audio: {note}" for note in notes]
    if alphabet.kind != "phonemes":
        for key in ("max_per", "max_per_increase"):
            if getattr(verify, key) is not None:
                raise AsrbuildError(
                    f"verify.{key} gates phonemes, and the model writes {alphabet.kind}",
                    key=f"verify.{key}",
                    fix=f"gate its words: verify.{key.replace('per', 'wer', 1)}",
                )
    rates = (verify.max_wer, verify.max_wer_increase, verify.max_per, verify.max_per_increase)
    gated = any(rate is not None for rate in rates)
    whole = known_recordings(source.evaluation, source.recordings, source.texts)
    if whole and (gated or evaluates(recipe)):
        remark = spelled_recordings(
            whole,
            alphabet,
            source.baseline,
            count_all=verify.count_unspelled,
            file=source.evaluation or source.sample_text,
        ).remark
    else:
        remark = unspelled_text([recording.text for recording in whole], alphabet)
        remark = remark and f"the alphabet cannot spell {remark}"
    return [*remarks, remark] if remark else remarks
