"""The end of a build: copies the package, and moves the assembled artifact into the store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asrbuild.artifact import manifest as m, store
from asrbuild.base import interrupts
from asrbuild.base.digest import remember_digest, tree_digests
from asrbuild.base.disk import full_disk_errors, tree_bytes
from asrbuild.base.errors import AsrbuildError
from asrbuild.builder.conversion import package_name
from asrbuild.builder.receipt import Receipt
from asrbuild.builder.recipe import CoreMLConfig, Recipe
from asrbuild.builder.sources import Source
from asrbuild.builder.stages.lower import PACKAGE

if TYPE_CHECKING:
    from asrbuild.builder.assemble import Proven


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
    from asrbuild.builder.assemble import assemble

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
    from asrbuild.builder.assemble import assemble

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
