"""The files that a manifest names, where they lie, and that its digests cover them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from asrbuild.artifact.layout import MANIFEST
from asrbuild.artifact.manifest import FETCH, Manifest
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.file_names import stays_inside


def require_listed(manifest: Manifest) -> None:
    """Checks that every file which a manifest names elsewhere is among those it lists by digest.

    Raises:
        AsrbuildError: one is not, so that no digest, and no signature, would cover it.
    """
    listed = {entry.path for entry in manifest.files}
    for key, named in named_files(manifest):
        if named not in listed and not any(path.startswith(f"{named}/") for path in listed):
            raise AsrbuildError(
                f"{key} is {named!r}, which is not among the files that the manifest lists",
                key=key,
                fix=FETCH,
            )


def named_files(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Every key that names a file of the artifact, with the name."""
    yield "model.package", manifest.model.package
    reference = getattr(manifest.features, "reference", None)  # none where samples are fed (2.0)
    if reference is not None:
        yield "features.reference.audio", reference.audio
    if manifest.decoder.scorer is not None:
        yield "decoder.scorer.path", manifest.decoder.scorer.path
    if manifest.decoder.alphabet_file is not None:
        yield "decoder.alphabet_file", manifest.decoder.alphabet_file
    for index, entry in enumerate(manifest.files):
        yield f"files.{index}.path", entry.path


def file_of(artifact: Path, path: str, key: str) -> Path:
    """The path of a file or folder that a manifest names; it need not exist.

    Raises:
        AsrbuildError: the path is absolute, leads up, or goes through a link: an artifact holds all
            that its manifest names.
    """
    found = artifact / path
    if not stays_inside(path):
        raise AsrbuildError(
            f"{key} is {path!r}, which is not a file of the artifact: it leads out of it",
            key=key,
            file=artifact / MANIFEST,
            fix=FETCH,
        )
    for part in (found, *found.parents):
        if part == artifact:
            break
        if part.is_symlink():
            raise AsrbuildError(
                f"{key} is {path!r}, and that is a link, not a file of the artifact",
                key=key,
                file=part,
                fix=FETCH,
            )
    return found


def package_path(artifact: Path, manifest: Manifest) -> Path:
    """The path of an artifact's package; see :func:`file_of`."""
    return file_of(artifact, manifest.model.package, "model.package")
