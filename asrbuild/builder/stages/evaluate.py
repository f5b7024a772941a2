"""The stage ``evaluate``: measures word and phoneme errors on a data set; fails with a gate."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asrbuild.base.errors import AsrbuildError
from asrbuild.builder.recipe import TENSORFLOW, Recipe, VerifyConfig, evaluates
from asrbuild.builder.record import compared_artifact
from asrbuild.builder.stage import Stage, View
from asrbuild.builder.stages.convert import conversion
from asrbuild.builder.stages.export import original
from asrbuild.builder.stages.prove import DECODER, DECODER_PYTHON, OTHER_RATES

if TYPE_CHECKING:
    from asrbuild.artifact.manifest import Evaluation
    from asrbuild.builder.sources import Source
    from asrbuild.proof.evaluation import Spelled
    from asrbuild.speech.dataset import Recording
    from asrbuild.speech.tokens import Tokens

EVALUATION = "evaluation.json"


def run(view: View, at: Path) -> None:
    """Writes the evaluation.

    Raises:
        AsrbuildError: the word error rate, or its rise above the baseline's, is above its gate.
    """
    from asrbuild.artifact import manifest2
    from asrbuild.artifact.manifest import Evaluation
    from asrbuild.artifact.reading import read_manifest
    from asrbuild.artifact.runtime import decoder_settings, open_artifact
    from asrbuild.builder import describe
    from asrbuild.builder.conversion import package_name
    from asrbuild.proof.evaluation import decode, listen, listen_in_original, notes_text
    from asrbuild.speech.dataset import dataset_digest

    recipe, source = view.recipe, view.source
    verify, baseline, data = recipe.verify, source.baseline, source.evaluation
    whole = known_recordings(data, *_own(view))
    if not whole:
        raise AsrbuildError(
            "verify.compared_with has no recording whose words are known",
            key="verify.evaluation",
            fix="give a set of recordings, or source.sample.text",
        )
    file = data if data is not None else source.sample_text
    spelled = spelled_recordings(
        whole, source.alphabet, baseline, count_all=verify.count_unspelled, file=file
    )
    dataset = spelled.counted

    def rates(name: str, settings: Any, opened: Any, spoken: Sequence[Any]) -> Any:
        return decode(
            name,
            settings.type,
            settings,
            opened.decoder,
            dataset,
            spoken,
            alphabet=opened.alphabet,
        ).rates

    converted, asked = view.folder("convert"), conversion(view)
    manifest = describe.describe_package(asked, converted / package_name(recipe.coreml.format))
    digest = source.digests.get("scorer", "")
    decoder = describe.describe_decoder(recipe.decoder, asked.alphabet, source.scorer, digest)
    manifest = manifest.model_copy(update={"decoder": decoder})
    given = describe.decoder_settings(recipe.decoder, source.scorer)
    interpreter = given.interpreter
    settings = replace(decoder_settings(manifest), interpreter=interpreter, scorer=given.scorer)
    scratch = at / "scratch"
    reference = None
    with open_artifact(converted, settings, manifest=manifest) as own:
        spoken = listen(own, dataset, scratch)
        for text in notes_text(dataset, spoken):
            view.note(text)
        found = rates(asked.label, settings, own, spoken)
        rises = verify.max_wer_increase, verify.max_per_increase
        if baseline is None and rises != (None, None):
            spoken = listen_in_original(original(view), own, dataset)
            reference = rates(TENSORFLOW, settings, own, spoken)
    if baseline is not None:
        theirs = replace(decoder_settings(read_manifest(baseline)), interpreter=interpreter)
        with open_artifact(baseline, theirs) as other:
            spoken = listen(other, dataset, Path(recipe.paths.cache))
            reference = rates(view.fact(compared_artifact), theirs, other, spoken)
    shutil.rmtree(scratch)
    evaluation = Evaluation(
        data=data.name if data is not None else ", ".join(source.texts),
        sha256=dataset_digest(whole),
        recordings=len(dataset),
        words=found.words.reference,
        wer=found.wer,
        wer_low=found.wer_interval.low,
        wer_high=found.wer_interval.high,
        reference=None if reference is None else view.fact(compared_artifact),
        reference_wer=None if reference is None else reference.wer,
        left_out=len(spelled.left_out) or None,
    )
    if source.alphabet.kind == "phonemes":
        evaluation = manifest2.Evaluation(
            **evaluation.model_dump(),
            phonemes=found.characters.reference,
            per=found.cer,
            per_low=found.cer_interval.low,
            per_high=found.cer_interval.high,
            reference_per=None
            if reference is None or reference.unit != found.unit
            else reference.cer,
        )
    _check_rates(evaluation, verify, data)
    text = evaluation.model_dump_json(indent=2) + "\n"
    (at / EVALUATION).write_text(text, encoding="utf-8", newline="\n")


def _own(view: View) -> tuple[Mapping[str, Path], Mapping[str, str]]:
    """The source's recordings and their expected transcripts, if no data set is given."""
    source = view.source
    return (source.recordings, source.texts) if source.evaluation is None else ({}, {})


def known_recordings(
    data: Path | None, recordings: Mapping[str, Path], texts: Mapping[str, str]
) -> list[Recording]:
    """Recordings with an expected transcript: those of ``data``, else those of the source."""
    from asrbuild.speech.dataset import Recording, read_dataset

    if data is not None:
        return read_dataset(data)
    return [Recording(recordings[name], text) for name, text in texts.items()]


def spelled_recordings(
    whole: Sequence[Recording],
    alphabet: Tokens,
    baseline: Path | None,
    *,
    count_all: bool,
    file: Path | None,
) -> Spelled:
    """The recordings that gate a build: those with a transcript that the alphabets can spell.

    Args:
        whole: all recordings with an expected transcript.
        alphabet: the model's labels; the artifact ``baseline`` has its own.
        count_all: whether recordings that cannot be spelled count as well.
        file: the file to name in the error.

    Raises:
        AsrbuildError: no recording is left.
    """
    from asrbuild.artifact.manifest2 import tokens_of
    from asrbuild.artifact.reading import read_manifest
    from asrbuild.proof.evaluation import spelled_by

    alphabets = [alphabet]
    if baseline is not None:
        alphabets.append(tokens_of(read_manifest(baseline).decoder))
    option = "verify.count_unspelled=true"
    try:
        return spelled_by(alphabets, whole, count_all=count_all, option=option)
    except AsrbuildError as error:
        error.key = "verify.count_unspelled"
        error.file = error.file or (None if file is None else str(file))
        raise


def _check_rates(evaluation: Evaluation, verify: VerifyConfig, data: Path | None) -> None:
    """Compares the word error rate, and that of phonemes where there is one, with their gates."""
    gates = []
    for unit, name in (("words", "wer"), ("phonemes", "per")):
        rate = getattr(evaluation, name, None)
        if rate is None:
            continue
        measured = (
            f"the {unit.removesuffix('s')} error rate is {rate:.1%} on {evaluation.data} "
            f"({getattr(evaluation, unit)} {unit})"
        )
        gates.append((f"max_{name}", rate, getattr(verify, f"max_{name}"), measured))
        reference = getattr(evaluation, f"reference_{name}")
        if reference is not None:
            rise = rate - reference
            both = f"{measured}, {evaluation.reference} has {reference:.1%}: {rise:+.1%}"
            key = f"max_{name}_increase"
            gates.append((key, rise, getattr(verify, key), both))
    for key, value, limit, text in gates:
        if limit is not None and value > limit:
            raise AsrbuildError(
                f"{text}; at most {limit:.1%} is allowed, so nothing is published",
                key=f"verify.{key}",
                file=data,
                fix=OTHER_RATES,
            )


def _evaluates(recipe: Recipe, source: Source) -> bool:
    del source
    return evaluates(recipe)


def _files(recipe: Recipe) -> tuple[str, ...]:
    """The groups of files to read: the data set, or else the source's recordings."""
    own = () if recipe.verify.evaluation is not None else ("recordings", "texts")
    return ("model", "evaluation", *own, "baseline", "scorer")


STAGE = Stage(
    name="evaluate",
    title="word errors on a set of recordings",
    run=run,
    calls=("original", "exported", "signature", "front_end", "card", "start", "read"),
    reads=(
        *DECODER,
        "verify.max_wer",
        "verify.max_wer_increase",
        "verify.max_per",
        "verify.max_per_increase",
        "verify.count_unspelled",
        compared_artifact,
    ),
    files=_files,
    local=(DECODER_PYTHON, "paths.cache"),
    after=("export", "convert"),
    libraries=("numpy", "soundfile", "soxr", "jiwer"),
    needed=_evaluates,
)
