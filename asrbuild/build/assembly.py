"""Putting an artifact together from what the stages made: files, manifest, report, kit."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asrbuild.artifact import manifest as m
from asrbuild.artifact.layout import ALPHABET, MANIFEST, PARITY, REFERENCE_AUDIO, REPORT_PAGE
from asrbuild.base import interrupts
from asrbuild.base.digest import file_digest, tree_digests
from asrbuild.base.disk import sync_path
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.processes import repository
from asrbuild.base.terminal import plain
from asrbuild.build import describe as d
from asrbuild.build.recipe import Recipe, published_overrides, record
from asrbuild.build.sources import Source
from asrbuild.build.work import (
    EVALUATION,
    HEARD,
    VERIFICATION,
    outcome,
    tree_bytes,
    write_text,
)


@dataclass(frozen=True)
class Proven:
    """What an artifact is made of.

    ``converted``, ``proof`` and, if words are gated, ``evaluated`` are directories of stages.
    ``staging`` is the directory that the artifact is put together in, ``copied`` what is there
    already, the package's files: path -> SHA-256.
    """

    converted: Path
    proof: Path
    evaluated: Path | None
    staging: Path
    copied: Mapping[str, str]


def copy_package(staging: Path, recipe: Recipe, converted: Path) -> dict[str, str]:
    """Copies the package into the staging directory, beside whatever else a build does.

    Returns:
        Path -> SHA-256 of each file, forced to the disk and read back.

    Raises:
        AsrbuildError: the disk is full, or gave back other bytes than the stage recorded.
    """
    package = d.package_name(recipe)
    recorded = {
        path: digest
        for path, digest in tree_digests(converted, Path(recipe.paths.cache)).items()
        if path.split("/")[0] == package
    }
    for path, digest in recorded.items():
        interrupts.check()
        copy = staging / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(converted / path, copy)
        sync_path(copy)
        if file_digest(copy) != digest:
            raise AsrbuildError(
                f"{path} was not copied as it is", file=copy, fix="check the disk, then build again"
            )
    return recorded


def assemble(
    recipe: Recipe,
    source: Source,
    overrides: Sequence[str],
    proven: Proven,
) -> m.Manifest:
    """Fills the staging directory, where the package is, and returns the artifact's manifest."""
    from asrbuild.artifact.integrity import content_digest
    from asrbuild.handover.app.kit import write_kit
    from asrbuild.speech.audio import wav_bytes

    staging = proven.staging
    manifest = d.describe(recipe, source, proven.converted / d.package_name(recipe))
    settings = d.feature_settings(recipe)
    samples = d.reference_samples(settings, source)
    (staging / REFERENCE_AUDIO).write_bytes(wav_bytes(samples, settings.sample_rate))
    if not source.alphabet.bytes_output:
        write_text(staging / ALPHABET, source.alphabet.file_text())
    shutil.copyfile(proven.proof / PARITY, staging / PARITY)
    if source.scorer is not None:
        shutil.copyfile(source.scorer, staging / source.scorer.name)
    digests = tree_digests(staging, known=proven.copied)
    files = [
        m.FileEntry(path=path, role=_role(path), bytes=_size(staging / path), sha256=digest)
        for path, digest in digests.items()
    ]
    text = (proven.proof / VERIFICATION).read_text("utf-8")
    verification = m.Verification.model_validate_json(text)
    if proven.evaluated is not None:
        text = (proven.evaluated / EVALUATION).read_text("utf-8")
        found = m.Evaluation.model_validate_json(text)
        verification = verification.model_copy(update={"evaluation": found})
    manifest = manifest.model_copy(
        update={
            "files": files,
            "verification": verification,
            "provenance": _provenance(recipe, source, overrides),
        }
    )
    core = m.content_core(manifest)
    digest = content_digest({f["path"]: f["sha256"] for f in core["files"]}, core)
    version = f"{recipe.version}+{digest[:12]}"
    manifest = manifest.model_copy(
        update={"version": version, "artifact_id": f"{recipe.name}/{version}"}
    )
    _write_reports(staging, manifest, proven.proof)
    write_kit(staging, staging, manifest)
    write_text(staging / MANIFEST, m.to_json(manifest))
    return manifest


def _write_reports(staging: Path, manifest: m.Manifest, proof: Path) -> None:
    """The pages that a person reads: in Markdown, and in HTML with pictures."""
    import numpy as np

    from asrbuild.handover.report import artifact, page
    from asrbuild.handover.report.anatomy import anatomy
    from asrbuild.proof.cases import load_reference
    from asrbuild.proof.execution import probabilities_of

    inside = anatomy(staging / manifest.model.package)
    made, expected = load_reference(staging / PARITY, manifest.features.context_frames)
    with np.load(proof / HEARD, allow_pickle=False) as given:
        name = probabilities_of(manifest)
        recordings = artifact.comparisons(made, expected, dict(given), name)
    page.write_report(staging, manifest, inside.operations)
    artifact.write_page(staging / REPORT_PAGE, manifest, inside, recordings)


def _role(path: str) -> Any:
    known = {ALPHABET: "alphabet", REFERENCE_AUDIO: "reference_audio", PARITY: "parity"}
    if path.startswith("model."):
        return "package"
    return known.get(path, "scorer")


def _size(path: Path) -> int:
    return path.stat().st_size


def _provenance(recipe: Recipe, source: Source, overrides: Sequence[str]) -> m.Provenance:
    import platform
    from datetime import datetime, timezone

    from asrbuild import __version__
    from asrbuild.build.stages import library_version

    libraries = ("coremltools", "tensorflow", "numpy", "protobuf", "soxr", "soundfile")
    tools = {name: library_version(name) for name in libraries}
    found = repository(Path.cwd())
    return m.Provenance(
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        platform=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        git=None if found is None else m.Git(commit=found[0], dirty=found[1]),
        recipe=record(recipe),
        overrides=[plain(override) for override in published_overrides(overrides)],
        sources=[
            m.SourceFile(role=role, name=plain(path.name), sha256=source.digests[role])
            for role, path in sorted(source.files.items())
        ],
        tools={"asrbuild": __version__} | tools,
        parents=[],
        source_facts=[
            m.SourceFact(name=f.name, value=f.value, file=Path(f.file).name, place=f.place)
            for f in source.facts
        ],
    )


def receipt_fields(manifest: m.Manifest, path: Path, recipe: Recipe) -> dict[str, Any]:
    """What a person is told about a published artifact."""
    from asrbuild.proof.verdict import known_words, summary

    verification = manifest.verification
    words = {t.input: t.package for t in verification.transcripts if "@" not in t.input}
    return {
        "name": manifest.name,
        "version": manifest.version,
        "bytes": tree_bytes(path),
        "parity": summary(verification),
        "transcripts": words,
        "expected": known_words(manifest),
        "core_ml_executed": verification.core_ml_executed,
    } | outcome(verification, path / manifest.model.package, recipe)
