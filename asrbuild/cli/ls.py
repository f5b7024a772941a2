"""``asrbuild ls``: the published artifacts."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asrbuild.base import terminal
from asrbuild.base.disk import read_plain
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.file_names import stays_inside
from asrbuild.base.tables import folding, show
from asrbuild.cli.options import ArtifactsOption, JsonOption, OptionalRemoteOption

if TYPE_CHECKING:
    from rich.text import Text

    from asrbuild.artifact.lookup import Artifact


def ls(
    artifacts: ArtifactsOption = None,
    remote: OptionalRemoteOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the published artifacts, each with a summary of its proof.

    With --remote, what was shipped to a remote. The artifact that a bare name means is marked with
    a star.

    Examples:
        asrbuild ls --json
        asrbuild ls --remote remote
    """
    if remote is not None:
        from asrbuild.cli.ls_remote import ls_remote

        ls_remote(remote, as_json)
        return
    from asrbuild.artifact.lookup import list_artifacts
    from asrbuild.base.places import artifacts_root

    root = artifacts or artifacts_root()
    rows = [summarise(artifact) for artifact in list_artifacts(root)]
    if as_json:
        terminal.say_json(rows)
        return
    if not rows:
        terminal.say(f"nothing is published in {root}; build with `asrbuild model=dynamic`")
        return
    _print(rows)


def summarise(artifact: Artifact) -> dict[str, Any]:
    """The row of one artifact; None for values that a damaged or unknown manifest lacks."""
    from asrbuild.artifact.evidence import list_evidence
    from asrbuild.artifact.layout import MANIFEST

    manifest = _read(artifact.path / MANIFEST)
    model = _mapping(manifest.get("model"))
    proof = _mapping(manifest.get("verification"))
    provenance = _mapping(manifest.get("provenance"))
    files = [_mapping(file) for file in _list(manifest.get("files"))]
    metrics = [_mapping(metric) for metric in _list(proof.get("metrics"))]
    transcripts = [_mapping(transcript) for transcript in _list(proof.get("transcripts"))]
    sizes = [file["bytes"] for file in files if isinstance(file.get("bytes"), int)]
    sizes = [size for size in sizes if 0 <= size < 2**63]
    return {
        "name": artifact.name,
        "version": artifact.version,
        "latest": artifact.latest,
        "path": str(artifact.path),
        "format": _text(model.get("format")),
        "precision": _text(model.get("compute_precision")),
        "bytes": sum(sizes) if files else None,
        "executed": proof.get("executed"),
        "core_ml_executed": proof.get("core_ml_executed"),
        "passed": proof.get("passed"),
        "gates": len(metrics),
        "gates_passed": sum(metric.get("passed") is True for metric in metrics),
        "transcripts": len(transcripts),
        "transcripts_match": sum(t.get("match") is True for t in transcripts),
        "fit": _fit(artifact.path, model),
        "evidence": len(list_evidence(artifact.path)),
        "overrides": [str(each) for each in _list(provenance.get("overrides"))],
        "created": _text(provenance.get("created")),
    }


def _fit(artifact: Path, model: Mapping[str, Any]) -> dict[str, list[str]] | None:
    """The rules of ``fit`` that apply to a package, by verdict; None for a damaged package."""
    from asrbuild.handover.fit.verdict import fit_of, read_package

    name = model.get("package")
    if not isinstance(name, str) or not stays_inside(name):
        return None
    try:
        found = fit_of(read_package(artifact / name, _text(model.get("recommended_compute_units"))))
    except AsrbuildError:
        return None
    return {verdict: list(found.ids(verdict)) for verdict in ("blocked", "contested")}


def _read(path: Path) -> Mapping[str, Any]:
    try:
        return _mapping(json.loads(read_plain(path)))
    except (OSError, ValueError, RecursionError):
        return {}  # it is listed all the same: `show` and `verify` report the damage


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _print(rows: list[dict[str, Any]]) -> None:
    from asrbuild.base.quantities import age_text, size_text

    measured = any(row["evidence"] for row in rows)
    headings = (
        *("name", "version", "format", "precision", "size", "blocked"),
        *("parity", "transcript", *(["devices"] if measured else []), "age", "overrides"),
    )
    table = folding("", *headings, right=("size", "age"))
    for row in rows:
        table.add_row(
            row["name"],
            row["version"] + (" *" if row["latest"] else ""),
            row["format"] or "?",
            row["precision"] or "?",
            "?" if row["bytes"] is None else size_text(row["bytes"]),
            "?" if row["fit"] is None else " ".join(row["fit"]["blocked"]),
            _parity(row),
            _share(row["transcripts_match"], row["transcripts"], "match"),
            *([_runs(row["evidence"])] if measured else []),
            age_text(row["created"] or ""),
            " ".join(_shown(row["overrides"])),
        )
    show(table)


def _shown(overrides: list[str]) -> list[str]:
    """Overrides without ``name``, which has a column, and without the folders of paths."""
    shown = []
    for override in overrides:
        key, equals, value = override.partition("=")
        if not value.startswith(("[", "{")):
            value = re.split(r"[/\\]", value.rstrip("/\\"))[-1]
        if key != "name":
            shown.append(f"{key}{equals}{value}")
    return shown


def _parity(row: Mapping[str, Any]) -> str | Text:
    if row["passed"] is None:
        return "?"
    if not row["executed"]:
        return terminal.line("not executed", "yellow")
    return _share(row["gates_passed"], row["gates"], "gates")


def _runs(evidence: int) -> str:
    """The number of files of evidence; `asrbuild evidence ls` checks them."""
    return "-" if not evidence else f"{evidence} run{'s' if evidence > 1 else ''}"


def _share(good: int, of: int, what: str) -> str | Text:
    if not of:
        return "-"
    return terminal.line(f"{good}/{of} {what}", "green" if good == of else "red")
