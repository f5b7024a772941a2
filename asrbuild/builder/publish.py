"""The end of a build: assembles the artifact from the results of the stages and publishes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from asrbuild.artifact import manifest as m, manifest2, store
from asrbuild.artifact.layout import ALPHABET, MANIFEST, PARITY, REFERENCE_AUDIO, REPORT_PAGE
from asrbuild.base import interrupts
from asrbuild.base.digest import file_digest, remember_digest, tree_digests
from asrbuild.base.disk import full_disk_errors, tree_bytes
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.libraries import library_version
from asrbuild.base.processes import repository
from asrbuild.base.terminal import plain
from asrbuild.builder import describe as d
from asrbuild.builder.conversion import feature_settings, package_name
from asrbuild.builder.receipt import Receipt
from asrbuild.builder.recipe import CoreMLConfig, Recipe
from asrbuild.builder.record import published_overrides, record
from asrbuild.builder.sources import Source
from asrbuild.builder.stages.evaluate import EVALUATION
from asrbuild.builder.stages.lower import PACKAGE, asset_manifest
from asrbuild.builder.stages.prove import HEARD, VERIFICATION
from asrbuild.builder.stages.vectors import VECTORS
from asrbuild.coreml.choices import ASSET


@dataclass(frozen=True)
class Proven:
    """The parts of an artifact that passed its proof.

    ``folders``: stage -> the folder of its results. ``staging`` is the folder in which the artifact
    is assembled, ``copied`` the package's files in it: path -> SHA-256.
    """

    folders: Mapping[str, Path]
    staging: Path
    copied: Mapping[str, str]


def copy_package(
    staging: Path, converted: Path, recipe: Recipe, package: str | None = None
) -> dict[str, str]:
    """Copies the package into the staging folder, while other stages may run.

    Args:
        package: its file name; None: that of the recipe's format.

    Returns:
        Path -> SHA-256 of each file, after it was forced to the disk and read back.

    Raises:
        AsrbuildError: the disk is full, or its bytes differ from those that the stage recorded.
    """
    package = package or package_name(recipe.coreml.format)
    cache = Path(recipe.paths.cache)
    recorded = {
        path: digest
        for path, digest in tree_digests(converted, cache).items()
        if path.split("/")[0] == package
    }
    with full_disk_errors("putting the artifact together", staging.parent):
        for path, digest in recorded.items():
            interrupts.check()
            store.put(converted / path, staging, path, digest, cache)
    return recorded


def publish(
    recipe: Recipe,
    source: Source,
    overrides: Sequence[str],
    proven: Proven,
    *,
    move_latest: bool,
    notify: Callable[[str], None],
) -> Receipt:
    """Completes the artifact in the store and moves it into place.

    ``notify`` gets a line if the version is published already and its manifest lacks the witness.
    """
    from asrbuild.artifact.reading import read_manifest

    artifacts, cache = Path(recipe.paths.artifacts), Path(recipe.paths.cache)
    with full_disk_errors("putting the artifact together", artifacts):
        manifest = assemble(recipe, source, overrides, proven)
    # Read from the staging folder, which no other process uses.
    receipt = _receipt(manifest, proven.staging, recipe.coreml)
    path = _place(recipe, manifest, proven, move_latest)
    if "lower" in proven.folders:
        also = publish_asset(recipe, source, overrides, proven, move_latest=move_latest)
        receipt = replace(receipt, also=also)
    witnessed = manifest.verification.witness is not None
    with suppress(AsrbuildError):
        if witnessed and read_manifest(path).verification.witness is None:
            notify(
                f"{manifest.artifact_id} was published before, without a witness; a published "
                "manifest stays as it is, so raise the recipe's version to publish the witness"
            )
    for file in manifest.files:
        # A clean-up with another clock may have removed it at once; it was published all the same.
        with suppress(AsrbuildError):
            remember_digest(path / file.path, cache, file.sha256)
    # The size includes the list of digests, unless a clean-up removed the artifact at once.
    return replace(receipt, bytes=tree_bytes(path) or receipt.bytes)


def publish_asset(
    recipe: Recipe,
    source: Source,
    overrides: Sequence[str],
    proven: Proven,
    *,
    move_latest: bool,
) -> tuple[str, str]:
    """Publishes the ``.aimodel`` of a build as an artifact of its own; returns name and version."""
    artifacts, lowered = Path(recipe.paths.artifacts), proven.folders["lower"]
    with store.staging(artifacts) as staging:
        copied = copy_package(staging, lowered, recipe, PACKAGE)
        proven = replace(proven, staging=staging, copied=copied)
        with full_disk_errors("putting the artifact together", artifacts):
            manifest = assemble(recipe, source, overrides, proven, asset=True)
        _place(recipe, manifest, proven, move_latest)
    return manifest.name, manifest.version


def _place(recipe: Recipe, manifest: m.Manifest, proven: Proven, move_latest: bool) -> Path:
    """Moves a finished artifact into the store."""
    return store.publish(
        Path(recipe.paths.artifacts),
        manifest.name,
        proven.staging,
        manifest.version,
        digests={file.path: file.sha256 for file in manifest.files},
        known=proven.copied,
        move_latest=move_latest,
    )


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
    from asrbuild.artifact.agreement import content_digest_of
    from asrbuild.coreai.asset import open_witness
    from asrbuild.handover.app.kit import write_kit
    from asrbuild.handover.app.limits import refusal
    from asrbuild.handover.app.vectors import artifact_recordings, load_vectors, run_package
    from asrbuild.proof.execution import package_function
    from asrbuild.speech.alphabet import Alphabet
    from asrbuild.speech.audio import wav_bytes

    staging, proof = proven.staging, proven.folders["prove"]
    package = proven.folders["convert"] / package_name(recipe.coreml.format)
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
    if refusal(manifest) is None:  # else `asrbuild app` names what the kit cannot run
        if asset:
            recordings = artifact_recordings(staging, manifest)
            with open_witness(package, package_function(manifest)) as wide:
                vectors = run_package(staging, manifest, recordings, wide)
        else:
            vectors = load_vectors(proven.folders["vectors"] / VECTORS)
        write_kit(staging, manifest, vectors)
    _write_text(staging / MANIFEST, m.to_json(manifest))
    return manifest


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")


def _write_reports(staging: Path, manifest: m.Manifest, proof: Path) -> None:
    """Writes the report, as Markdown and as HTML with pictures."""
    import numpy as np

    from asrbuild.artifact.manifest2 import context_frames
    from asrbuild.handover.fit.page import report_rows
    from asrbuild.handover.fit.verdict import fit_of_artifact
    from asrbuild.handover.report import artifact, page
    from asrbuild.handover.report.anatomy import anatomy
    from asrbuild.proof.cases import load_reference
    from asrbuild.proof.execution import probabilities_of
    from asrbuild.proof.ranges import load_reaches

    reaches = load_reaches(proof)
    inside = anatomy(staging / manifest.model.package)
    fit = []
    if manifest.model.format != ASSET:  # the rules are for Core ML packages
        fit = report_rows(fit_of_artifact(staging, manifest, reaches), reaches)
    cases, expected = load_reference(staging / PARITY, context_frames(manifest))
    with np.load(proof / HEARD, allow_pickle=False) as outputs:
        name = probabilities_of(manifest)
        recordings = artifact.comparisons(cases, expected, dict(outputs), name)
    page.write_report(staging, manifest, inside.operations, fit)
    sounds = {"sample": (staging / REFERENCE_AUDIO).read_bytes()}
    artifact.write_page(staging / REPORT_PAGE, manifest, inside, recordings, fit, sounds=sounds)


def remarks(artifact: Path, folders: Mapping[str, Path]) -> list[str]:
    """Remarks for the user on a published package, one line each."""
    from asrbuild.artifact.reading import read_manifest
    from asrbuild.handover.fit import page
    from asrbuild.handover.fit.verdict import fit_of_artifact
    from asrbuild.proof.ranges import load_reaches

    manifest = read_manifest(artifact)
    deepspeech = getattr(manifest.model, "lstm", None) is not None
    fixed = page.FIXED_SIZES if deepspeech else "model=static"
    fit = fit_of_artifact(artifact, manifest, load_reaches(folders["prove"]))
    return page.remarks(fit, fixed)


def _role(path: str) -> Any:
    known = {ALPHABET: "alphabet", REFERENCE_AUDIO: "reference_audio", PARITY: "parity"}
    if path.startswith("model."):
        return "package"
    return known.get(path, "scorer")


def _provenance(
    recipe: Recipe, source: Source, overrides: Sequence[str], asset: bool
) -> m.Provenance:
    import platform
    from datetime import datetime, timezone

    from asrbuild.base.version import __version__

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


def _receipt(manifest: m.Manifest, artifact: Path, coreml: CoreMLConfig) -> Receipt:
    from asrbuild.proof.verdict import known_words, summary

    verification = manifest.verification
    words = {t.input: t.package for t in verification.transcripts if "@" not in t.input}
    return Receipt(
        name=manifest.name,
        version=manifest.version,
        bytes=tree_bytes(artifact),
        parity=summary(verification),
        transcripts=words,
        expected=known_words(manifest),
        core_ml_executed=verification.core_ml_executed,
        witnessed=verification.witness is not None and bool(verification.witness.metrics),
        also=None,
        set_wer=None if verification.evaluation is None else verification.evaluation.wer,
        **package_figures(verification, artifact / manifest.model.package, coreml),
    )


def package_figures(
    verification: m.Verification, package: Path, coreml: CoreMLConfig
) -> dict[str, Any]:
    """The size and accuracy of a package, which may have failed its gates."""
    from asrbuild.handover.report.page import compression_text, word_errors

    errors = word_errors(verification.transcripts)
    return {
        "compress": compression_text({"coreml": asdict(coreml)}),
        "package_bytes": tree_bytes(package),
        "figures": _worst_of_probabilities(verification),
        "transcripts_match": all(t.match for t in verification.transcripts),
        "wer": None if errors is None else errors.rate,
    }


def _worst_of_probabilities(verification: m.Verification) -> dict[str, float]:
    from asrbuild.proof.gates import of_probabilities

    values: dict[str, list[float]] = {}
    better: dict[str, str] = {}
    probabilities = of_probabilities(verification.metrics)
    for metric in verification.metrics:
        if metric.output in probabilities:
            values.setdefault(metric.name, []).append(metric.value)
            better[metric.name] = metric.comparison
    return {name: (min if better[name] == ">=" else max)(each) for name, each in values.items()}
