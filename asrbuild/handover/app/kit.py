"""The kit for an app team: everything in an artifact's folder except package and manifest.

README.md      how to check the artifact, add it in Xcode and run it
ASRKit/        a Swift package: the manifest's types, features, streaming, decoding, tests
conformance/   vectors for every step, and a program that compares a runtime with them
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from asrbuild.artifact.integrity import verify_files, write_sums
from asrbuild.artifact.layout import CONFORMANCE_KIT, README, SUMS, SWIFT_KIT
from asrbuild.artifact.manifest import Manifest
from asrbuild.base.array import Array
from asrbuild.base.disk import disk_errors, files_in, rename_directory
from asrbuild.base.errors import AsrbuildError
from asrbuild.coreml.choices import ASSET
from asrbuild.handover.app.conformance import write_conformance
from asrbuild.handover.app.limits import check_kit
from asrbuild.handover.app.swift import ROOT, manifest_swift
from asrbuild.handover.app.vectors import Vectors, artifact_recordings, run_package
from asrbuild.handover.report.environment import environment
from asrbuild.handover.report.page import feeding_text

TEMPLATES = Path(__file__).parent / "templates"
#: Names that the kit adds to a folder.
ENTRIES = (README, SWIFT_KIT, CONFORMANCE_KIT)
#: The only generated file of the Swift package, made from the models of the manifest.
MADE = f"Sources/ASRCore/Manifest/{ROOT}.swift"
#: The oldest systems of the Swift code: it uses Core ML interfaces that they introduced.
_SWIFT_MINIMUM = {"iOS": "15", "macOS": "12"}


def write_kit(directory: Path, manifest: Manifest, vectors: Mapping[str, Vectors]) -> None:
    """Writes the kit of an artifact into ``directory``, which may be the artifact's own.

    Args:
        manifest: that of an artifact which the kit can run, see :func:`check_kit`.
        vectors: the conformance vectors of its package, from :func:`run_package`.
    """
    write_conformance(directory / CONFORMANCE_KIT, manifest, vectors)
    write_swift(directory / SWIFT_KIT)
    text = readme(manifest, list(vectors))
    (directory / README).write_text(text, encoding="utf-8", newline="\n")


def write_vectors(directory: Path, artifact: Path, manifest: Manifest) -> None:
    """Writes the conformance kit of an artifact into a new folder."""
    recordings = artifact_recordings(artifact, manifest)
    write_conformance(directory, manifest, run_package(artifact, manifest, recordings))


def write_folder(
    directory: Path,
    artifact: Path,
    manifest: Manifest,
    recordings: Mapping[str, Array] | None = None,
) -> None:
    """Writes a whole artifact with a new kit into a new folder, in one step.

    Raises:
        AsrbuildError: the folder exists already, the artifact is damaged, or the kit cannot run it.
    """
    check_kit(manifest)
    if directory.exists():
        raise AsrbuildError(
            "this folder exists already", file=directory, fix="name a folder that does not exist"
        )
    if problems := verify_files(artifact):
        raise AsrbuildError(
            f"the artifact is not as it was published: {problems[0]}",
            file=artifact,
            fix="pull or build it again",
        )
    made_anew = {*ENTRIES, SUMS}
    files = [path for path in files_in(artifact) if path.split("/")[0] not in made_anew]
    with (
        disk_errors("writing a folder for the app", directory),
        tempfile.TemporaryDirectory(
            prefix=f".{directory.name}-", dir=_parent(directory)
        ) as temporary,
    ):
        made = Path(temporary, directory.name)
        for file in files:
            (made / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(artifact / file, made / file)
        vectors = run_package(
            artifact, manifest, recordings or artifact_recordings(artifact, manifest)
        )
        write_kit(made, manifest, vectors)
        write_sums(made)
        rename_directory(made, directory)


def _parent(directory: Path) -> Path:
    directory.parent.mkdir(parents=True, exist_ok=True)
    return directory.parent


def write_swift(directory: Path) -> None:
    """Writes the Swift package, whose bytes are the same for every artifact."""
    # File by file: `shutil.copytree` turns an OSError into a list of texts.
    for file in files_in(TEMPLATES / SWIFT_KIT):
        (directory / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(TEMPLATES / SWIFT_KIT / file, directory / file)
    (directory / MADE).write_text(manifest_swift(), encoding="utf-8", newline="\n")


def minimum_systems(manifest: Manifest) -> dict[str, str]:
    """The oldest systems that both the package and the Swift code run on.

    For an ``.aimodel`` they are those of the code: on older systems an app loads its Core ML
    variant.
    """
    if manifest.model.format == ASSET:
        return dict(_SWIFT_MINIMUM)
    return {
        name: max(manifest.model.minimum_os.get(name, needed), needed, key=_numbers)
        for name, needed in _SWIFT_MINIMUM.items()
    }


def _numbers(version: str) -> tuple[int, ...]:
    if not re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,4}){0,2}", version):
        raise AsrbuildError(f"{version!r} is not the version of a system", key="model.minimum_os")
    return tuple(int(part) for part in version.split("."))


def readme(manifest: Manifest, recordings: Sequence[str]) -> str:
    """The README of an artifact; ``recordings``: the names of its conformance kit's."""
    made = environment(TEMPLATES)
    made.filters["feeding"] = feeding_text
    return made.get_template("README.md.j2").render(
        m=manifest, systems=minimum_systems(manifest), recordings=recordings
    )
