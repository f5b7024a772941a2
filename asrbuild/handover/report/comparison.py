"""The HTML page that compares artifacts: the jobs of a sweep, or artifacts named by the user."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import quote

from asrbuild.artifact.evidence import list_evidence
from asrbuild.artifact.integrity import require_whole
from asrbuild.artifact.layout import REPORT_PAGE
from asrbuild.artifact.manifest import Manifest
from asrbuild.artifact.named_files import package_path
from asrbuild.artifact.reading import read_manifest
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.places import memo_root
from asrbuild.handover.report.html import figure_text, render, write_html
from asrbuild.handover.report.page import compression_text, shape_text, word_errors
from asrbuild.handover.report.sweep import FIGURES, JobRecord, swept
from asrbuild.handover.report.table import Column, Entry, Table, make_table
from asrbuild.proof.gates import of_probabilities, used, worst

COLUMNS = (
    Column("shape", "shape", number=False),
    Column("format", "format", number=False),
    Column("precision", "precision", number=False),
    Column("compress", "compression", number=False),
    Column("steps", "steps a call", log=True, text="{:.0f}"),
    Column("size", "MB", text="{:.2f}", better="low"),
    Column("latency", "latency, ms", better="low"),
    Column("operations", "operations", text="{:.0f}", better="low"),
    Column("fit", "Neural Engine", number=False),
    Column("wer", "WER %", better="low"),
    Column("set_wer", "WER % on the set", better="low"),
    Column("used", "gate used %", log=True, better="low"),
    Column("argmax_agreement", FIGURES["argmax_agreement"], better="high"),
    Column("kl_divergence", FIGURES["kl_divergence"], log=True, better="low"),
    Column("max_abs_error", FIGURES["max_abs_error"], log=True, better="low"),
    Column("psnr_db", FIGURES["psnr_db"], text="{:.1f}", better="high"),
    Column("words", "words", number=False),
    Column("devices", "runs on devices", text="{:.0f}"),
    Column("seconds", "build, s", text="{:.1f}", better="low"),
)
#: Figure of a sweep's job -> its column, if the names differ.
_COLUMN_OF = {"package_bytes": "size", "bytes": "size"}
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


def job_rows(jobs: Sequence[JobRecord]) -> list[Row]:
    """Rows of a sweep; an artifact that can no longer be read is a row with an error.

    The keys that the sweep varies are facts of each row.
    """
    rows, keys = [], swept(jobs)
    for job in jobs:
        overrides = " ".join(job.overrides)
        if job.status == "failed":
            row = Row(job.number, "", overrides, None, job.status, job.error, _facts_of_failed(job))
        else:
            row = _row(job.number, Path(job.path), overrides, job.status)
            if not row.error:
                row.facts["seconds"] = job.seconds
        for key, values in keys.items():
            if job.number in values:
                row.facts[key] = values[job.number]
        rows.append(row)
    return rows


def swept_columns(jobs: Sequence[JobRecord]) -> list[Column]:
    """A column for each key that a sweep varies; of numbers where all its values are."""
    return [
        Column(key, key, number=all(map(_is_number, values.values())), text="{:g}", choice=True)
        for key, values in swept(jobs).items()
    ]


def _whole(text: str) -> str:
    """A value as text; a whole number without the ``.0`` of a float."""
    return text.removesuffix(".0") if _is_number(text) else text


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def artifact_rows(paths: Sequence[Path]) -> list[Row]:
    """Rows of artifacts, in the order given."""
    return [_row(number, path, None, "") for number, path in enumerate(paths, start=1)]


def write_page(
    path: Path,
    title: str,
    rows: Sequence[Row],
    swept: Sequence[Column] = (),
    better: Mapping[str, str] | None = None,
) -> list[list[str]]:
    """Writes the page; links to the artifacts' own pages are relative to it.

    Args:
        swept: columns of the keys that a sweep varies.
        better: figure of a sweep -> ``low`` or ``high``, if its search has a direction.

    Returns:
        The page's table, the headings first.

    Raises:
        AsrbuildError: the disk refuses.
    """
    compressed = any(row.facts.get("compress", "none") != "none" for row in rows)
    searched = {_COLUMN_OF.get(name, name): end for name, end in (better or {}).items()}
    columns = [
        replace(column, better=searched.get(column.key, column.better))
        for column in COLUMNS
        if compressed or column.key != "compress"
    ]
    numbers = {column.key for column in swept if column.number}
    entries = [
        Entry(
            number=row.number,
            name=row.name or row.overrides,
            facts={k: float(v) if k in numbers else v for k, v in row.facts.items()},
            kind=str(row.facts.get("format", _FAILED)) if "size" in row.facts else "",
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
    table = make_table([*swept, *columns], entries, marks={_FAILED: "bad-mark"})
    lines = _lines(table)
    text = render(
        "comparison.html.j2",
        scripts=("sort.js", "scatter.js"),
        title=title,
        table=table,
        measure="set_wer" if any("set_wer" in row.facts for row in rows) else "max_abs_error",
        csv=quote(csv_text(lines)),
        links=links,
        jobs=any(row.status for row in rows),
        failed=sum(bool(row.error) for row in rows),
        best=_best(rows),
    )
    write_html(path, text)
    return lines


def _lines(table: Table) -> list[list[str]]:
    """The table without a page: what it is of, its values in full, and the reasons of failures."""
    headings = [column.heading for column in table.columns]
    lines = [["#", "artifact", "version", "status", *headings, "overrides", "error"]]
    for entry in table.entries:
        row: Row = entry.about
        name, _, version = row.name.partition("/")
        values = [_whole(cell.value) for cell in table.cells[entry.number]]
        about = [str(row.number), name, version, row.status]
        lines.append([*about, *values, row.overrides, row.error])
    return lines


def csv_text(lines: Sequence[Sequence[str]]) -> str:
    """Lines as CSV. Text that a spreadsheet would take for a formula gets an apostrophe."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    for line in lines:
        writer.writerow(
            f"'{text}" if text[:1] in tuple("=+-@\t\r") and not _is_number(text) else text
            for text in line
        )
    return out.getvalue()


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
