"""The checks of an artifact before it is shipped, and before a channel points at it."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from asrbuild.artifact import integrity
from asrbuild.artifact.layout import MANIFEST
from asrbuild.base.errors import AsrbuildError
from asrbuild.handover.ship.formats.header import Header
from asrbuild.handover.ship.formats.sets import VariantSet, artifacts_of
from asrbuild.handover.ship.lookup import proven, require_artifact
from asrbuild.handover.ship.pull import fetch_files
from asrbuild.handover.ship.remotes.remote import Remote
from asrbuild.handover.ship.signing.trust import Trust

if TYPE_CHECKING:
    from asrbuild.artifact.manifest import Manifest


def require_passed(artifact: Path) -> Manifest:
    """The manifest of an artifact that is as it was published and has passed its proof.

    Raises:
        AsrbuildError: it is not, or has not.
    """
    from asrbuild.artifact.reading import read_manifest

    if problems := integrity.verify_files(artifact):
        raise AsrbuildError(
            f"the artifact is not as it was published: {problems[0]}",
            file=artifact,
            fix="`asrbuild verify` lists every problem; build it again",
        )
    manifest = read_manifest(artifact)
    if not manifest.verification.passed:
        raise AsrbuildError(
            "the artifact has not passed its proof, so it is not shipped", file=artifact
        )
    return manifest


def require_proven(manifest: Manifest, where: str | Path) -> None:
    """Refuses an artifact that has not wholly passed asrbuild's own proof as a channel's target.

    Args:
        manifest: of the artifact.
        where: the artifact's directory, or the address of its remote.

    Raises:
        AsrbuildError: its proof lacks something, see :func:`asrbuild.proof.weaknesses.weaknesses`.
    """
    from asrbuild.proof.weaknesses import is_quick, weaknesses

    if lacks := weaknesses(manifest):
        how = "by verify=quick only" if is_quick(manifest) else "in part only"
        raise AsrbuildError(
            f"{manifest.name} {manifest.version} is proven {how}: {'; '.join(lacks)}",
            key="--allow-unproven",
            file=where,
            fix="build it with verify=default and ship that, or give --allow-unproven as well",
        )


def require_proven_on(remote: Remote, trust: Trust, published: Header | VariantSet) -> None:
    """Refuses, as :func:`require_proven`, an artifact on a remote, or one of a set there.

    Raises:
        Refused: an artifact of the set is not as a trusted key signed it.
        AsrbuildError: see :func:`require_proven`.
    """
    parts = (
        [published]
        if isinstance(published, Header)
        else [require_artifact(proven(remote, *one, trust)[0]) for one in artifacts_of(published)]
    )
    for header in parts:
        require_proven(fetch_manifest(remote, header), remote.address)


def fetch_manifest(remote: Remote, header: Header) -> Manifest:
    """The manifest of an artifact on a remote, whose header is proven."""
    from asrbuild.artifact.reading import read_manifest

    with TemporaryDirectory(prefix="asrbuild-manifest-") as folder:
        fetch_files(header, remote, Path(folder), wanted=lambda file: file == MANIFEST)
        return read_manifest(Path(folder))
