"""``report.md``, and the texts that it shares with ``report.html``.

The same manifest and package give the same text.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from asrbuild.architectures.architecture import of_recorded, shown
from asrbuild.artifact import manifest2
from asrbuild.artifact.layout import REPORT_TEXT
from asrbuild.artifact.manifest import (
    Axis,
    Evaluation,
    Manifest,
    SourceFact,
    Streaming,
    Transcript,
)
from asrbuild.coreml.compression import compression
from asrbuild.handover.report.environment import Markdown, environment, markdown
from asrbuild.handover.report.feeding import features_text, runtime_of, whole_recordings
from asrbuild.handover.report.html import TEMPLATES
from asrbuild.handover.report.measures import worst_rows
from asrbuild.handover.report.witness import witness_rows, witness_text
from asrbuild.proof.gates import of_probabilities
from asrbuild.proof.verdict import known_words
from asrbuild.proof.weaknesses import WORDS_UNGATED, is_quick, weaknesses
from asrbuild.speech.alignment import align
from asrbuild.speech.rates import CountedPair, Counts, count, count_phonemes, total

_UNSPELLED = ", as the alphabet cannot spell those of the recordings"


def write_report(
    artifact: Path,
    manifest: Manifest,
    operations: Counter[str],
    fit: Sequence[tuple[str, str]] = (),
) -> None:
    """Writes ``report.md`` into the artifact's directory."""
    text = report(manifest, operations, fit)
    (artifact / REPORT_TEXT).write_text(text, encoding="utf-8", newline="\n")


def report(
    manifest: Manifest, operations: Counter[str], fit: Sequence[tuple[str, str]] = ()
) -> str:
    """The report as Markdown.

    Args:
        operations: kind of operation -> how many the package has.
        fit: what is known of the package and the Neural Engine, see ``fit.page.report_rows``.
    """
    made = environment(TEMPLATES)
    made.filters |= {"shape": shape_text, "feeding": feeding_text}
    proof = manifest.verification
    ran = transcript_rows(proof.transcripts)
    kinds = sorted(operations.items(), key=lambda item: (-item[1], item[0]))
    text = made.get_template("report.md.j2").render(
        m=manifest,
        verdict=Markdown(verdict(manifest)),
        systems=", ".join(f"{name} {v}" for name, v in manifest.model.minimum_os.items()),
        transcripts=ran,
        evaluated=evaluation_text(proof.evaluation) if proof.evaluation is not None else None,
        marked=any("**" in row["text"] or "~~" in row["text"] for row in ran),
        worst=worst_rows(manifest.verification.metrics),
        inputs=input_rows(manifest),
        witness=witness_text(manifest),
        witnesses=witness_rows(manifest),
        facts=fact_rows(manifest.provenance.source_facts),
        feeding=feeding_text(manifest.streaming),
        features=Markdown(features_text(manifest)),
        runtime=runtime_of(manifest),
        recordings=whole_recordings(manifest),
        fit=fit,
        operation_count=operations.total(),
        operations=", ".join(f"{count} {kind}" for kind, count in kinds),
    )
    return text.rstrip() + "\n"


def evaluation_text(evaluation: Evaluation) -> str:
    """Word errors on a set of recordings in one line, and phoneme errors where there are any."""
    e, more = evaluation, ""
    if e.reference:
        more += f"; {e.reference} has {e.reference_wer:.1%}"
    if isinstance(e, manifest2.Evaluation) and e.per is not None:
        more += f"; {e.per:.1%} ({e.per_low:.1%} to {e.per_high:.1%}) of {e.phonemes} phonemes"
        if e.reference_per is not None:
            more += f", {e.reference} has {e.reference_per:.1%} of them"
    if e.left_out:
        more += f"; {e.left_out} more left out, as the alphabet cannot spell them"
    return (
        f"{e.wer:.1%} ({e.wer_low:.1%} to {e.wer_high:.1%}) on {e.data}, "
        f"{e.recordings} recordings, {e.words} words{more}"
    )


def fact_rows(facts: Iterable[SourceFact] | None) -> list[dict[str, str]]:
    """Rows of the facts that the source states of itself, with the place of each."""
    return [
        {"name": f.name, "value": shown(f.value), "place": f.place, "file": f.file}
        for f in facts or ()
    ]


def verdict(manifest: Manifest) -> str:
    """The result of the proof in one or two sentences."""
    proof = manifest.verification
    if not proof.executed:
        return "**Not executed**: this package has not been run."
    failed = sum(not metric.passed for metric in proof.metrics)
    agree = all(transcript.match for transcript in proof.transcripts)
    original = of_recorded(manifest.provenance.recipe)[0].ORIGINAL
    gates = f"{len(proof.metrics)} gates on {len(proof.inputs)} inputs"
    transcribed = (
        f"gives the same transcripts as the {original}" if agree else "gives other transcripts"
    )
    if proof.passed:
        unspelled = any(transcript.expected is not None for transcript in proof.transcripts)
        unknown = (
            ""
            if known_words(manifest)
            else f" No known words were checked{_UNSPELLED if unspelled else ''}: this compares "
            "the package with the original, and the original with nothing; source.sample.text "
            "gives the words of a recording."
        )
        word, but = "Proven", ""
        lacks = [each for each in weaknesses(manifest) if not agree or each != WORDS_UNGATED]
        if lacks:
            quick = is_quick(manifest)
            word = "Quick look, not a whole proof" if quick else "Not wholly proven"
            but = f" But {'; '.join(lacks)}."
        ran = f"the package was executed, passed {gates}, and {transcribed}"
        return f"**{word}**: {ran}.{but}{unknown}"
    return f"**Not proven**: {failed} of {gates} failed, and the package {transcribed}."


def transcript_rows(transcripts: Iterable[Transcript]) -> list[dict[str, Any]]:
    """Rows of the recordings' transcripts, wrong words marked where a transcript is expected.

    Runs of a recording that gave the same transcript share a row.
    """
    rows: dict[tuple[str, ...], dict[str, Any]] = {}
    for t in transcripts:
        key = (t.input.split("@")[0], t.package, t.reference)
        if key in rows:
            rows[key]["inputs"] += f", {t.input}"
            continue
        text, wer = t.package, None
        if t.expected is not None:
            text = marked_words(t.expected, t.package)
            wer = _counted(t.expected, t).words.rate
        rows[key] = {
            "inputs": t.input,
            "expected": t.expected,
            "package": t.package,
            "text": text or "(nothing)",
            "wer": wer,
            "per": _phoneme_text(t),
            "match": t.match,
            "reference": t.reference or "(nothing)",
        }
    return list(rows.values())


def _phoneme_text(transcript: Transcript) -> str:
    """The phoneme errors of a recording; empty where the model writes no phonemes."""
    found = getattr(transcript, "phonemes", None)
    if found is None:
        return ""
    text = f"{found.changed} of {found.original} phonemes are not the original's"
    if found.per is not None:
        counted = f"{found.package_errors} of {found.expected}"
        text = (
            f"phoneme error rate {found.per:.1%} ({counted}), that of the original "
            f"{found.per - found.per_increase:.1%}; {text}"
        )
    return text


def _counted(expected: str, transcript: Transcript) -> CountedPair:
    counts = count if getattr(transcript, "phonemes", None) is None else count_phonemes
    return counts(expected, transcript.package)


def word_errors(transcripts: Iterable[Transcript]) -> Counts | None:
    """Word errors of the recordings with an expected transcript; None if there are none.

    Only runs as the manifest specifies count, not those at other sizes or by other functions.
    """
    known = [
        _counted(t.expected, t).words
        for t in transcripts
        if t.expected is not None and "@" not in t.input
    ]
    return total(known) if known else None


def compression_text(recipe: Mapping[str, Any]) -> str:
    """A recipe's compression: ``int8``, ``int8+prune`` if layers differ, or ``none``."""
    return "+".join(sorted(set(compression(recipe.get("coreml", {})).values()))) or "none"


def marked_words(expected: str, text: str) -> Markdown:
    """A transcript in Markdown, wrong words as ``~~expected~~ **transcribed**``."""
    around = {"right": "", "missed": "~~", "wrong": "**"}
    marked = " ".join(
        f"{around[kind]}{markdown(words)}{around[kind]}"
        for kind, words in word_marks(expected, text)
    )
    return Markdown(marked)


def word_marks(expected: str, text: str) -> list[tuple[str, str]]:
    """Runs of words as (kind, words): ``right``, ``missed`` (expected alone) and ``wrong``."""
    marks: list[tuple[str, str]] = []
    for missed, words, right in word_runs(expected, text):
        if right:
            marks.append(("right", words))
            continue
        marks += [("missed", missed)] if missed else []
        marks += [("wrong", words)] if words else []
    return marks


def word_runs(expected: str, text: str) -> Iterator[tuple[str, str, bool]]:
    """Runs of right and of wrong words: expected, transcribed, and whether they are equal."""
    for right, run in itertools.groupby(align(expected, text), lambda w: w.kind == "equal"):
        words = list(run)
        missed = " ".join(word.expected for word in words if word.expected)
        yield missed, " ".join(word.found for word in words if word.found), right


def input_rows(manifest: Manifest) -> list[dict[str, str]]:
    """For each run of each input the measures of its probabilities."""
    steps = {entry.name: entry.steps for entry in manifest.verification.inputs}
    rows: dict[str, dict[str, str]] = {}
    metrics = manifest.verification.metrics
    probabilities = of_probabilities(metrics)
    for metric in metrics:
        if metric.output in probabilities:
            name = metric.input.split("@")[0]
            row = rows.setdefault(metric.input, {"name": metric.input, "steps": str(steps[name])})
            failed = "" if metric.passed else " **FAILED**"
            row[metric.name] = Markdown(f"{metric.value:.4g}{failed}")
    return list(rows.values())


def feeding_text(streaming: Streaming) -> str:
    """The feeding of an utterance to the package, or to one function of it."""
    if streaming.mode == "chunked":
        return (
            f"chunks of {streaming.steps_per_chunk} steps, the state carried from one to the next"
        )
    if streaming.steps_per_chunk is None:
        return "all steps of an utterance in one call"
    return f"all steps in one call, or calls of {streaming.steps_per_chunk} if there are more"


def shape_text(shape: Iterable[Axis]) -> str:
    """Axes by name and size: ``batch 1, steps 1..3000``."""
    return ", ".join(f"{axis.name} {_extent(axis)}" for axis in shape)


def _extent(axis: Axis) -> str:
    if axis.enumerated is not None:
        return " or ".join(map(str, axis.enumerated))
    if axis.min == axis.max:
        return str(axis.min)
    return f"{axis.min}.." + ("" if axis.max is None else str(axis.max))
