"""``report.html``: the HTML page of one artifact."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asrbuild.artifact.manifest import Manifest, Metric, Transcript
from asrbuild.base.array import Array
from asrbuild.handover.report.anatomy import Anatomy
from asrbuild.handover.report.feeding import after_text, features_text, runtime_of, whole_recordings
from asrbuild.handover.report.html import data_uri, render, write_html
from asrbuild.handover.report.measures import MEASURES, worst_rows
from asrbuild.handover.report.page import (
    compression_text,
    evaluation_text,
    fact_rows,
    feeding_text,
    input_rows,
    shape_text,
    transcript_rows,
    verdict,
    word_errors,
    word_marks,
)
from asrbuild.handover.report.recording import Score, score
from asrbuild.handover.report.table import Column, Entry, Table, make_table
from asrbuild.handover.report.timeline import timeline
from asrbuild.handover.report.witness import witness_rows, witness_text
from asrbuild.proof.gates import used

#: Ends of the scale of gates, as shares of a limit.
_LEAST_USED, _MOST_USED = 1e-5, 10.0
#: Layers with a smaller share of all bytes are shown as one bar.
_SMALL_LAYER = 0.002


@dataclass(frozen=True)
class TranscriptPair:
    """One recording as the original and the package transcribed it.

    Args:
        case: what was fed: windows of MFCC (steps, window, n_input), log mel bands (steps, bands),
            or samples (n,).
        reference: (steps, classes), the original's probabilities.
        package: (steps, classes), the package's probabilities.
    """

    case: Array
    reference: Array
    package: Array


def comparisons(
    cases: Mapping[str, Array],
    reference: Mapping[str, Mapping[str, Array]],
    package: Mapping[str, Array],
    probabilities: str,
) -> dict[str, TranscriptPair]:
    """The recordings among the inputs of a proof.

    Args:
        cases: name -> what was fed; see :class:`TranscriptPair`.
        reference: name -> output -> the original's values.
        package: recording -> the package's probabilities (steps, classes).
        probabilities: name of that output.
    """
    return {
        name: TranscriptPair(
            case=cases[name],
            reference=reference[name][probabilities],
            package=rows,
        )
        for name, rows in package.items()
        if name in cases and name in reference
    }


def write_page(
    path: Path,
    manifest: Manifest,
    inside: Anatomy,
    recordings: Mapping[str, TranscriptPair],
    fit: Sequence[tuple[str, str]] = (),
    devices: Sequence[object] = (),
    sounds: Mapping[str, bytes] | None = None,
) -> None:
    """Writes the page of an artifact; the arguments are as in :func:`page`.

    Raises:
        AsrbuildError: the file cannot be written.
    """
    write_html(path, page(manifest, inside, recordings, fit, devices, sounds))


def page(
    manifest: Manifest,
    inside: Anatomy,
    recordings: Mapping[str, TranscriptPair],
    fit: Sequence[tuple[str, str]] = (),
    devices: Sequence[object] = (),
    sounds: Mapping[str, bytes] | None = None,
) -> str:
    """The page as HTML; the same manifest, package and probabilities give the same text.

    Args:
        manifest: with the verification to show.
        inside: operations and layers of its package.
        recordings: by name; see ``comparisons``.
        fit: what is known of the package and the Neural Engine, see ``fit.page.report_rows``.
        devices: what devices measured: rows with device, system, units, planned, timed, loaded,
            memory, measured, signer and steps as text.
        sounds: recording -> the beginning of it as a WAV file, to play.
    """
    proof = manifest.verification
    return render(
        "artifact.html.j2",
        scripts=("readout.js", "sort.js"),
        m=manifest,
        devices=devices,
        verdict=verdict(manifest).replace("**", ""),
        systems=", ".join(f"{name} {v}" for name, v in manifest.model.minimum_os.items()),
        errors=word_errors(proof.transcripts),
        evaluated=evaluation_text(proof.evaluation) if proof.evaluation else None,
        stored=compression_text(manifest.provenance.recipe),
        package_bytes=sum(f.bytes for f in manifest.files if f.role == "package"),
        facts=fact_rows(manifest.provenance.source_facts),
        feeding=feeding_text,
        features=features_text(manifest, ""),
        after=after_text(manifest),
        runtime=runtime_of(manifest),
        recordings=whole_recordings(manifest),
        shape=shape_text,
        transcripts=[_marked(row) for row in transcript_rows(proof.transcripts)],
        scores=_scores(manifest, recordings),
        sounds={name: data_uri("audio/wav", wav) for name, wav in (sounds or {}).items()},
        gates=_gates(proof.metrics),
        inputs=_inputs(manifest),
        witness=witness_text(manifest),
        witnesses=witness_rows(manifest),
        timeline=timeline(manifest),
        layers=_bars(_without_small(inside.layers)),
        operations=_bars({k: n for k, n in inside.operations.most_common() if n > 1}),
        once=sorted(kind for kind, number in inside.operations.items() if number == 1),
        recipe=json.dumps(manifest.provenance.recipe, indent=2, ensure_ascii=False),
        fit=fit,
        operation_count=inside.operations.total(),
    )


def _marked(row: dict[str, Any]) -> dict[str, Any]:
    """A transcript's row with its words marked; ``unknown`` where no transcript is expected."""
    expected, text = row["expected"], row["package"]
    return row | {"marks": [("unknown", text)] if expected is None else word_marks(expected, text)}


def _inputs(manifest: Manifest) -> Table:
    columns = [Column("steps", "steps", text="{:.0f}")]
    columns += [Column(key, heading) for key, heading in MEASURES.items()]
    entries = []
    for number, row in enumerate(input_rows(manifest)):
        measured = {key: text for key, text in row.items() if key in MEASURES}
        entries.append(
            Entry(
                number,
                row["name"],
                facts={"steps": float(row["steps"])}
                | {key: float(text.split(" ")[0]) for key, text in measured.items()},
                bad=frozenset(key for key, text in measured.items() if "FAILED" in text),
            )
        )
    return make_table(columns, entries)


def _scores(manifest: Manifest, recordings: Mapping[str, TranscriptPair]) -> list[Score]:
    from asrbuild.artifact.manifest2 import row_ms, tokens_of
    from asrbuild.artifact.runtime import feature_settings
    from asrbuild.speech.alphabet import Alphabet

    transcripts: dict[str, Transcript] = {
        t.input: t for t in manifest.verification.transcripts if t.input in recordings
    }
    settings, tokens = feature_settings(manifest), tokens_of(manifest.decoder)
    labels = [*tokens.labels, *(["blank"] if isinstance(tokens, Alphabet) else [])]
    if tokens.blank is not None:
        labels[tokens.blank] = "blank"
    return [
        score(
            transcripts[name],
            _bands(one.case, settings, len(one.package)),
            one.reference,
            one.package,
            labels,
            tokens.blank,
            row_ms(manifest),
        )
        for name, one in recordings.items()
        if name in transcripts
    ]


def _bands(case: Array, settings: Any, rows: int) -> Array:
    """Logarithms of mel bands (rows, bands) of what was fed, for the picture of the sound."""
    import numpy as np

    from asrbuild.speech.mfcc import FeatureSettings, log_bands, mfcc

    if case.ndim == 1:
        rate = settings.sample_rate
        shown = FeatureSettings(rate, rate * 32 // 1000, rate * 20 // 1000, upper_hz=rate / 2)
        found = log_bands(mfcc(case, shown), shown)
    elif case.ndim == 3:
        found = log_bands(case[:, case.shape[1] // 2], settings)
    else:
        found = case
    if len(found) == rows or not len(found):
        return found
    nearest = np.arange(rows) * len(found) // max(rows, 1)
    picked: Array = found[nearest]
    return picked


def _gates(metrics: Iterable[Metric]) -> list[dict[str, Any]]:
    """For each gate its nearest input, and all inputs as dots on a logarithmic scale."""
    metrics = list(metrics)
    rows = []
    for row in worst_rows(metrics):
        group = [m for m in metrics if (m.output, MEASURES[m.name]) == (row["output"], row["name"])]
        nearest = max(map(used, group))
        rows.append(
            row
            | {
                "failed": "FAILED" in row["verdict"],
                "used": f"{100 * nearest:.2g} %" if nearest < 1 else f"{nearest:.3g} times",
                "dots": [
                    {
                        "x": used_place(used(m)),
                        "passed": m.passed,
                        "worst": m.input == row["input"],
                        "title": f"{m.input}: {m.value:.4g}",
                    }
                    for m in sorted(group, key=used)
                ],
            }
        )
    return rows


def used_place(share: float) -> float:
    """Position of a share of a gate's limit on the logarithmic scale, in percent."""
    clipped = min(max(share, _LEAST_USED), _MOST_USED)
    return round(100 * math.log10(clipped / _LEAST_USED) / math.log10(_MOST_USED / _LEAST_USED), 2)


def _without_small(layers: Mapping[str, int]) -> dict[str, int]:
    total = sum(layers.values())
    large = {name: size for name, size in layers.items() if size >= _SMALL_LAYER * total}
    rest = total - sum(large.values())
    return large | ({"small constants": rest} if rest else {})


def _bars(values: Mapping[str, int]) -> list[tuple[str, int, float]]:
    """Name, value, and the value in percent of the largest."""
    largest = max(values.values(), default=0)
    return [(name, value, round(100 * value / largest, 2)) for name, value in values.items()]
