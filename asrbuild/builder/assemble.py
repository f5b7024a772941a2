"""Assembles an artifact from the results of the stages: its manifest, reports and app kit."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import jinja2  # noqa: F401 - the reports import it only when they are written
import numpy as np

from asrbuild.artifact import manifest as m, manifest2, store
from asrbuild.artifact.agreement import content_digest_of
from asrbuild.artifact.layout import ALPHABET, MANIFEST, PARITY, REFERENCE_AUDIO, REPORT_PAGE
from asrbuild.artifact.reading import read_manifest
from asrbuild.base.digest import file_digest, tree_digests
from asrbuild.base.libraries import library_version
from asrbuild.base.processes import repository
from asrbuild.base.terminal import plain
from asrbuild.base.version import __version__
from asrbuild.builder import describe as d
from asrbuild.builder.conversion import feature_settings, package_name
from asrbuild.builder.recipe import Recipe
from asrbuild.builder.record import published_overrides, record
from asrbuild.builder.sources import Source
from asrbuild.builder.stages.evaluate import EVALUATION
from asrbuild.builder.stages.lower import asset_manifest
from asrbuild.builder.stages.prove import PROBABILITIES, VERIFICATION
from asrbuild.builder.stages.vectors import VECTORS
from asrbuild.coreai.asset import open_witness
from asrbuild.coreml.choices import ASSET
from asrbuild.coreml.executor.threads import one_thread
from asrbuild.handover.app.kit import write_kit
from asrbuild.handover.app.limits import refusal
from asrbuild.handover.app.vectors import artifact_recordings, load_vectors, run_package
from asrbuild.handover.fit import page as fit_page
from asrbuild.handover.fit.verdict import fit_of_artifact
from asrbuild.handover.report import artifact as report_page, page
from asrbuild.handover.report.anatomy import anatomy
from asrbuild.proof.cases import load_reference
from asrbuild.proof.execution import package_function, probabilities_of
from asrbuild.proof.ranges import load_reaches
from asrbuild.speech.alphabet import Alphabet
from asrbuild.speech.audio import wav_bytes


@dataclass(frozen=True)
class Proven:
    """The parts of an artifact that passed its proof.

    ``folders``: stage -> the folder of its results. ``vectors`` waits for that of the conformance
    vectors. ``staging`` is the folder in which the artifact is assembled, ``copied`` the package's
    files in it: path -> SHA-256.
    """

    folders: Mapping[str, Path]
    vectors: Callable[[], Path]
    staging: Path
    copied: Mapping[str, str]


def assemble(
    recipe: Recipe,
    source: Source,
    overrides: Sequence[str],
    proven: Proven,
    *,
    asset: bool = False,
) -> m.Manifest:
    """Completes the staging folder around the package, and returns the artifact's manifest.

    Args:
        asset: whether this is the artifact of the ``.aimodel``, not of the Core ML package.
    """
    staging, proof = proven.staging, proven.folders["prove"]
    package = proven.folders["convert"] / package_name(recipe.coreml.format)
    with one_thread():  # as the vectors; an evaluation ended the engine's limit
        manifest = d.describe(recipe, source, package)
    own = proof
    if asset:
        manifest, own = asset_manifest(manifest), proof / ASSET
    settings = feature_settings(recipe)
    samples = d.reference_samples(settings, source)
    (staging / REFERENCE_AUDIO).write_bytes(wav_bytes(samples, settings.sample_rate))
    if isinstance(source.alphabet, Alphabet) and not source.alphabet.bytes_output:
        _write_text(staging / ALPHABET, source.alphabet.file_text())
    cache = Path(recipe.paths.cache)
    store.put(proof / PARITY, staging, PARITY, file_digest(proof / PARITY, cache), cache)
    if source.scorer is not None:
        name, digest = source.scorer.name, source.digests["scorer"]
        store.put(source.scorer, staging, name, digest, cache, cached=False)
    digests = tree_digests(staging, cache, known=proven.copied)
    files = [
        m.FileEntry(
            path=path, role=_role(path), bytes=(staging / path).stat().st_size, sha256=digest
        )
        for path, digest in digests.items()
    ]
    text = (own / VERIFICATION).read_text("utf-8")
    verification = type(manifest.verification).model_validate_json(text)
    if (evaluated := proven.folders.get("evaluate")) is not None:
        text = (evaluated / EVALUATION).read_text("utf-8")
        section = manifest2 if isinstance(manifest, manifest2.Manifest) else m
        evaluation = section.Evaluation.model_validate_json(text)
        verification = verification.model_copy(update={"evaluation": evaluation})
    newer = asset or verification.witness is not None
    manifest = manifest.model_copy(
        update={
            "schema_version": m.version_of(manifest, newer=newer),
            "files": files,
            "verification": verification,
            "provenance": _provenance(recipe, source, overrides, asset),
        }
    )
    digest = content_digest_of(manifest)
    version = f"{recipe.version}+{digest[:12]}"
    manifest = manifest.model_copy(
        update={"version": version, "artifact_id": f"{manifest.name}/{version}"}
    )
    _write_reports(staging, manifest, own)
    computed = proven.vectors()
    if refusal(manifest) is None:  # else `asrbuild app` names what the kit cannot run
        if asset:
            recordings = artifact_recordings(staging, manifest)
            with open_witness(package, package_function(manifest)) as wide:
                vectors = run_package(staging, manifest, recordings, wide)
        else:
            vectors = load_vectors(computed / VECTORS)
        write_kit(staging, manifest, vectors)
    _write_text(staging / MANIFEST, m.to_json(manifest))
    return manifest


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")


def _write_reports(staging: Path, manifest: m.Manifest, proof: Path) -> None:
    """Writes the report, as Markdown and as HTML with pictures."""
    reaches = load_reaches(proof)
    inside = anatomy(staging / manifest.model.package)
    fit = []
    if manifest.model.format != ASSET:  # the rules are for Core ML packages
        fit = fit_page.report_rows(fit_of_artifact(staging, manifest, reaches), reaches)
    cases, expected = load_reference(staging / PARITY, manifest2.context_frames(manifest))
    with np.load(proof / PROBABILITIES, allow_pickle=False) as outputs:
        name = probabilities_of(manifest)
        recordings = report_page.comparisons(cases, expected, dict(outputs), name)
    page.write_report(staging, manifest, inside.operations, fit)
    sounds = {"sample": (staging / REFERENCE_AUDIO).read_bytes()}
    report_page.write_page(staging / REPORT_PAGE, manifest, inside, recordings, fit, sounds=sounds)


def remarks(artifact: Path, folders: Mapping[str, Path]) -> list[str]:
    """Remarks for the user on a published package, one line each."""
    manifest = read_manifest(artifact)
    deepspeech = getattr(manifest.model, "lstm", None) is not None
    fixed = fit_page.FIXED_SIZES if deepspeech else "model=static"
    fit = fit_of_artifact(artifact, manifest, load_reaches(folders["prove"]))
    return fit_page.remarks(fit, fixed)


def _role(path: str) -> Any:
    known = {ALPHABET: "alphabet", REFERENCE_AUDIO: "reference_audio", PARITY: "parity"}
    if path.startswith("model."):
        return "package"
    return known.get(path, "scorer")


def _provenance(
    recipe: Recipe, source: Source, overrides: Sequence[str], asset: bool
) -> m.Provenance:

    libraries = ("coremltools", "tensorflow", "numpy", "protobuf", "soxr", "soundfile")
    commit = repository(Path.cwd())
    return m.Provenance(
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        platform=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        git=None if commit is None else m.Git(commit=commit[0], dirty=commit[1]),
        recipe=record(recipe) | ({"coreai": recipe.coreai} if asset else {}),
        overrides=[plain(override) for override in published_overrides(overrides)],
        sources=[
            m.SourceFile(role=role, name=plain(path.name), sha256=source.digests[role])
            for role, path in sorted(source.files.items())
        ],
        tools={"asrbuild": __version__} | {name: library_version(name) for name in libraries},
        parents=[],
        source_facts=[
            m.SourceFact(name=f.name, value=f.value, file=Path(f.file).name, place=f.place)
            for f in source.facts
        ],
    )
