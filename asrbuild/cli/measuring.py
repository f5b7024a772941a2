"""Measures artifacts and decoders on recordings, for ``evaluate`` and ``diff``."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from asrbuild.base import terminal
from asrbuild.base.errors import AsrbuildError
from asrbuild.cli.decoding import DecoderChoice, settings_for

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

    from asrbuild.proof.evaluation import SetResult, Spelled
    from asrbuild.speech.dataset import Recording
    from asrbuild.speech.decoder_settings import DecoderSettings


def spelled_dataset(
    paths: Sequence[Path], dataset: Sequence[Recording], data: Path, *, count_all: bool
) -> Spelled:
    """The recordings whose expected transcript every artifact's alphabet can spell.

    Raises:
        AsrbuildError: there is no such recording.
    """
    from asrbuild.artifact.manifest2 import tokens_of
    from asrbuild.artifact.reading import read_manifest
    from asrbuild.proof.evaluation import spelled_by

    decoders = [read_manifest(path).decoder for path in paths]
    alphabets = [tokens_of(each) for each in decoders]
    try:
        return spelled_by(alphabets, dataset, count_all=count_all, option="--count-unspelled")
    except AsrbuildError as error:
        error.file = str(data)
        raise


def decoders_for(
    path: Path, kinds: Sequence[str | None], choice: DecoderChoice, function: str | None = None
) -> list[DecoderSettings]:
    """The decoders to compare on one artifact; only ds_ctcdecoder takes a scorer."""
    from asrbuild.artifact.manifest import with_function
    from asrbuild.artifact.reading import read_manifest

    manifest = read_manifest(path)
    if function is not None:
        with_function(manifest, function)
    settings_list = []
    beams = any((kind or manifest.decoder.type) != "greedy" for kind in kinds)
    for kind in kinds:
        bare = replace(choice, scorer=None, lm_alpha=None, lm_beta=None, hot_words={})
        takes_scorer = (kind or manifest.decoder.type) == "ds_ctcdecoder"
        options = choice if takes_scorer or len(kinds) == 1 else bare
        if beams and (kind or manifest.decoder.type) == "greedy":
            options = replace(options, beam_width=None)
        settings = settings_for(manifest, path, kind, options)
        if settings.scorer is not None and len(kinds) > 1:
            settings_list.append(replace(settings, scorer=None, hot_words={}))
        settings_list.append(settings)
    return settings_list


def evaluate_one(
    name: str,
    path: Path,
    dataset: Sequence[Recording],
    decoders: Sequence[DecoderSettings],
    shown: Bars,
    function: str | None = None,
) -> list[SetResult]:
    """The error rates and times of one artifact with every decoder."""
    from asrbuild.artifact.runtime import open_artifact
    from asrbuild.base.places import cache_root
    from asrbuild.proof.evaluation import decode, listen, notes_text, words_folder
    from asrbuild.speech.decoders import open_decoder

    results = []
    with ExitStack() as stack:
        transcriber = stack.enter_context(open_artifact(path, decoders[0], function))
        task = shown.add_task(f"{name}: acoustic model", total=len(dataset))
        cache = cache_root()
        spoken = listen(transcriber, dataset, cache, lambda: shown.advance(task))
        for note in notes_text(dataset, spoken):
            terminal.say(f"note: {name}: {note}", err=True)
        step_ms = transcriber.manifest.features.step_ms
        for index, settings in enumerate(decoders):
            opened = transcriber.decoder
            if index:
                opened = open_decoder(settings, transcriber.alphabet, step_ms, path)
                stack.enter_context(opened)
            label = settings.type + (f" + {settings.scorer.name}" if settings.scorer else "")
            task = shown.add_task(f"{name}: {label}", total=len(dataset))
            advance = partial(shown.advance, task)
            kept = words_folder(cache, transcriber, settings)
            results.append(
                decode(
                    name,
                    label,
                    settings,
                    opened,
                    dataset,
                    spoken,
                    advance,
                    kept,
                    transcriber.alphabet,
                )
            )
    return results
