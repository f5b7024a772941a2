"""The files that a manifest names: finds them, and checks that its digests cover them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from asrbuild.artifact.layout import MANIFEST
from asrbuild.artifact.manifest import FETCH, Manifest
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.file_names import stays_inside


def require_listed(manifest: Manifest) -> None:
    """Raises unless the manifest's list of files has every file that its other keys name.

    Raises:
        AsrbuildError: the list lacks a file, so that no digest and no signature covers it.
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
    """Yields every key that names a file of the artifact, with the name."""
    yield "model.package", manifest.model.package
    # None if the package takes samples (2.0)
    reference = getattr(manifest.features, "reference", None)
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
        AsrbuildError: the path is absolute, contains ``..``, or goes through a link: all files of a
        manifest are inside the artifact.
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
