"""The HTML page that compares artifacts: the jobs of a sweep, or artifacts named by the user."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from asrbuild.artifact.evidence import list_evidence
from asrbuild.artifact.integrity import require_whole
from asrbuild.artifact.layout import REPORT_PAGE
from asrbuild.artifact.manifest import Manifest, package_path
from asrbuild.artifact.reading import read_manifest
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.places import memo_root
from asrbuild.handover.report.html import figure_text, render, write_html
from asrbuild.handover.report.page import compression_text, shape_text, word_errors
from asrbuild.handover.report.sweep import FIGURES, JobRecord
from asrbuild.handover.report.table import Column, Entry, make_table
from asrbuild.proof.gates import of_probabilities, used, worst

COLUMNS = (
    Column("shape", "shape", number=False),
    Column("format", "format", number=False),
    Column("precision", "precision", number=False),
    Column("compress", "compression", number=False),
    Column("steps", "steps a call", log=True, text="{:.0f}"),
    Column("size", "MB", text="{:.2f}"),
    Column("latency", "latency, ms"),
    Column("operations", "operations", text="{:.0f}"),
    Column("fit", "Neural Engine", number=False),
    Column("wer", "WER %"),
    Column("set_wer", "WER % on the set"),
    Column("used", "gate used %", log=True),
    Column("argmax_agreement", FIGURES["argmax_agreement"]),
    Column("kl_divergence", FIGURES["kl_divergence"], log=True),
    Column("max_abs_error", FIGURES["max_abs_error"], log=True),
    Column("psnr_db", FIGURES["psnr_db"], text="{:.1f}"),
    Column("words", "words", number=False),
    Column("devices", "runs on devices", text="{:.0f}"),
    Column("seconds", "build, s", text="{:.1f}"),
)
#: The kind of a row whose package failed its gates.
_FAILED = "failed its gates"


@dataclass(frozen=True)
class Row:
    """One artifact, or a job that published none.

    Args:
        number: of the job, or position in the list.
        name: artifact and version; empty where there is none.
        overrides: of the build, in one line.
        page: its own page, if it has one.
        status: ``built``, ``unchanged``, ``failed``, or empty.
        error: why there is no artifact, or why it cannot be read; else empty.
        facts: column key -> value; a key that is missing is unknown, or does not apply.
    """

    number: int
    name: str
    overrides: str
    page: Path | None
    status: str
    error: str
    facts: dict[str, float | str] = field(default_factory=dict)


def job_rows(jobs: Iterable[JobRecord]) -> list[Row]:
    """Rows of a sweep; an artifact that can no longer be read is a row with an error."""
    rows = []
    for job in jobs:
        overrides = " ".join(job.overrides)
        if job.status == "failed":
            rows.append(
                Row(job.number, "", overrides, None, job.status, job.error, _facts_of_failed(job))
            )
            continue
        row = _row(job.number, Path(job.path), overrides, job.status)
        if not row.error:
            row.facts["seconds"] = job.seconds
        rows.append(row)
    return rows


def artifact_rows(paths: Sequence[Path]) -> list[Row]:
    """Rows of artifacts, in the order given."""
    return [_row(number, path, None, "") for number, path in enumerate(paths, start=1)]


def write_page(path: Path, title: str, rows: Sequence[Row]) -> None:
    """Writes the page; links to the artifacts' own pages are relative to it.

    Raises:
        AsrbuildError: the disk refuses.
    """
    compressed = any(row.facts.get("compress", "none") != "none" for row in rows)
    columns = [column for column in COLUMNS if compressed or column.key != "compress"]
    entries = [
        Entry(
            number=row.number,
            name=row.name or row.overrides,
            facts=row.facts,
            kind=str(row.facts.get("format", _FAILED)) if row.facts else "",
            bad=frozenset({"words"} if row.facts.get("words") == "differ" else ()),
            error=row.error,
            about=row,
        )
        for row in rows
    ]
    links = {
        row.number: quote(Path(os.path.relpath(row.page, path.parent.absolute())).as_posix())
        for row in rows
        if row.page is not None
    }
    text = render(
        "comparison.html.j2",
        scripts=("sort.js", "scatter.js"),
        title=title,
        table=make_table(columns, entries, marks={_FAILED: "bad-mark"}),
        links=links,
        jobs=any(row.status for row in rows),
        failed=sum(bool(row.error) for row in rows),
        best=_best(rows),
    )
    write_html(path, text)


def _row(number: int, path: Path, overrides: str | None, status: str) -> Row:
    try:
        require_whole(path, memo_root())
        manifest = read_manifest(path)
    except AsrbuildError as error:
        whole = path.absolute()
        name = f"{whole.parent.name}/{whole.name}"
        return Row(number, name, overrides or "", None, status, str(error))
    page = path / REPORT_PAGE
    return Row(
        number=number,
        name=manifest.artifact_id,
        overrides=" ".join(manifest.provenance.overrides) if overrides is None else overrides,
        page=page.absolute() if page.is_file() else None,
        status=status,
        error="",
        facts=_facts(manifest, path),
    )


def _facts_of_failed(job: JobRecord) -> dict[str, float | str]:
    """The facts of a package that failed its gates; empty if no package was made."""
    if not job.package_bytes:
        return {}
    facts: dict[str, float | str] = {
        **job.figures,
        "size": job.package_bytes / 1e6,
        "words": "equal" if job.transcripts_match else "differ",
        "compress": job.compress,
        "seconds": job.seconds,
    }
    if job.wer is not None:
        facts["wer"] = 100 * job.wer
    return facts


def _facts(manifest: Manifest, path: Path) -> dict[str, float | str]:
    from asrbuild.artifact.calls import Contract
    from asrbuild.handover.fit.verdict import fit_of_artifact, summary
    from asrbuild.handover.report.anatomy import anatomy

    proof, model = manifest.verification, manifest.model
    axis = Contract.of(manifest).steps
    facts: dict[str, float | str] = {
        "shape": shape_text([axis]).removeprefix(f"{axis.name} "),
        "format": model.format,
        "precision": model.compute_precision,
        "steps": manifest.streaming.steps_per_chunk or axis.default,
        "size": sum(f.bytes for f in manifest.files if f.role == "package") / 1e6,
        "operations": anatomy(package_path(path, manifest)).operations.total(),
        "fit": summary(fit_of_artifact(path, manifest)),
        "words": "equal" if all(t.match for t in proof.transcripts) else "differ",
        "compress": compression_text(manifest.provenance.recipe),
    }
    if runs := len(list_evidence(path)):
        facts["devices"] = runs
    if axis.enumerated is None and axis.max is None:
        facts["shape"] = f"{axis.min} and more"
    if len(model.functions) > 1:
        facts["shape"] = f"{len(model.functions)} functions"
    if manifest.streaming.latency_ms is not None:
        facts["latency"] = manifest.streaming.latency_ms
    errors = word_errors(proof.transcripts)
    if errors is not None:
        facts["wer"] = 100 * errors.rate
    if proof.evaluation is not None:
        facts["set_wer"] = 100 * proof.evaluation.wer
    nearest = worst(proof.metrics)
    if nearest is not None:
        facts["used"] = 100 * used(nearest)
    outputs = of_probabilities(proof.metrics)
    for name in FIGURES:
        measured = worst([m for m in proof.metrics if m.output in outputs and m.name == name])
        if measured is not None:
            facts[name] = measured.value
    return facts


def _best(rows: Sequence[Row]) -> list[tuple[str, str, str]]:
    """The summary cards: question, best value, and the rows that have it."""
    questions = (
        ("Smallest", "size", "MB"),
        ("Nearest to TensorFlow", "kl_divergence", "nats KL"),
        ("First words soonest", "latency", "ms"),
        ("Fewest wrong words on the set", "set_wer", "% WER"),
        ("Fewest wrong words", "wer", "% WER"),
    )
    answers = []
    for question, key, unit in questions:
        known = [row for row in rows if key in row.facts and not row.error]
        if len(known) < 2:
            continue
        value = min(float(row.facts[key]) for row in known)
        owners = [row for row in known if row.facts[key] == value]
        if len(owners) == len(known):
            whose = "all of them"
        elif len(owners) > 3:
            whose = f"{len(owners)} of {len(known)}"
        else:
            whose = ", ".join(f"{row.number}: {row.name.split('/')[0]}" for row in owners)
        answers.append((question, f"{figure_text(value)} {unit}", whose))
    return answers
