"""Artifacts, and sets of them, to a remote; and channels to what is there."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from asrbuild.artifact import integrity
from asrbuild.artifact.layout import MANIFEST, is_volatile
from asrbuild.base import interrupts
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.threads import run_concurrently
from asrbuild.handover.ship.channels import move
from asrbuild.handover.ship.channels.record import Record
from asrbuild.handover.ship.formats.header import (
    File,
    Header,
    Listing,
    check_header,
    check_manifest,
    list_artifact,
    parse_header,
    sign_listing,
)
from asrbuild.handover.ship.formats.sets import (
    VariantSet,
    artifacts_of,
    make_set,
    set_version,
    signers_of,
)
from asrbuild.handover.ship.formats.variants import Variant, describe_variant
from asrbuild.handover.ship.lookup import proven, require_artifact, whole_version
from asrbuild.handover.ship.names import check_channel, check_name, check_version
from asrbuild.handover.ship.pull import fetch_files
from asrbuild.handover.ship.refusal import refusing
from asrbuild.handover.ship.remotes.folder import Folder, require_no_store
from asrbuild.handover.ship.remotes.objects import ObjectRemote
from asrbuild.handover.ship.remotes.remote import Notify, Remote
from asrbuild.handover.ship.signing.envelope import AnySigner
from asrbuild.handover.ship.signing.trust import Trust

if TYPE_CHECKING:
    from asrbuild.artifact.manifest import Manifest


@dataclass(frozen=True)
class Shipped:
    """``uploaded``: files sent now, with their bytes; ``already``: the version was there before;
    ``signer``: who signed what is on the remote as this version."""

    name: str
    version: str
    header: str
    uploaded: int
    bytes: int
    already: bool
    signer: str
    channel: str | None
    counter: int | None


def ship(
    artifact: Path,
    remote: Remote,
    *,
    signer: AnySigner,
    trust: Trust,
    channel: str | None = None,
    seconds: float | None = None,
    other_signer: bool = False,
    notify: Notify = nullcontext,
) -> Shipped:
    """Puts an artifact on a remote and points a channel at it; what is there already is let be.

    It may be stopped at any moment and run again: files that arrived are not sent again, and the
    version appears only when all have. A file on the remote that has other bytes than its name
    says is sent again.

    Args:
        seconds: how long the channel's record is good for; None: for ever.
        other_signer: point the channel at a version that is there already, also where somebody
            else signed it.

    Raises:
        AsrbuildError: the artifact is damaged, failed its proof, or the remote has another one of
            its version; or the version there has another signer and a channel is given.
    """
    if channel is not None:
        check_channel(channel)
    if isinstance(remote, ObjectRemote) and isinstance(remote.objects, Folder):
        require_no_store(remote.objects.root, artifact)
    manifest = require_passed(artifact)
    ours = list_artifact(artifact, manifest)
    check_manifest(ours, manifest)
    uploaded: list[File] = []
    if channel is not None:
        remote.claim()  # says before anything is sent where it takes no channels
    there = _published(remote, ours, trust)
    known = there is not None
    # Signed only where it is needed: what is signed through Sigstore is public for ever.
    header = there or sign_listing(ours, signer)
    if there is None:
        uploaded = _upload(artifact, remote, ours, notify, look=True)
        if not remote.publish(header.name, header.version, header.raw, header.files):
            there = _published(remote, ours, trust)  # somebody else was first
            header = there or header
    # A clean-up may have taken what nothing needed until now. From here on it keeps it.
    uploaded += _upload(artifact, remote, ours, notify, header, look=known)
    record = None
    if channel is not None:
        record = _point(remote, header, channel, signer, trust, seconds, other_signer)
    _require_there(remote, header.name, header.version)
    remote.refresh()
    return Shipped(
        header.name, header.version, header.digest, len(uploaded),
        sum(file.bytes for file in uploaded), there is not None, _signer(header, signer, trust),
        channel, record.counter if record else None,
    )  # fmt: skip


def require_passed(artifact: Path) -> Manifest:
    """The manifest of an artifact that is as it was published and has passed its proof.

    Raises:
        AsrbuildError: it is not, or has not.
    """
    from asrbuild.artifact.manifest import read_manifest

    if problems := integrity.verify_files(artifact):
        raise AsrbuildError(
            f"the artifact is not as it was published: {problems[0]}",
            file=artifact,
            fix="`asrbuild verify` says all that is wrong; build it again",
        )
    manifest = read_manifest(artifact)
    if not manifest.verification.passed:
        raise AsrbuildError(
            "the artifact has not passed its proof, so it is not shipped", file=artifact
        )
    return manifest


def require_proven(manifest: Manifest, where: str | Path) -> None:
    """Refuses to let a channel point at what asrbuild's own proof has not wholly passed.

    Args:
        manifest: of the artifact.
        where: the artifact's directory, or the address of its remote.

    Raises:
        AsrbuildError: its proof lacks something, see :func:`asrbuild.proof.verdict.weaknesses`.
    """
    from asrbuild.proof.verdict import is_quick, weaknesses

    if lacks := weaknesses(manifest):
        how = "by verify=quick only" if is_quick(manifest) else "in part only"
        raise AsrbuildError(
            f"{manifest.name} {manifest.version} is proven {how}: {'; '.join(lacks)}",
            key="--allow-unproven",
            file=where,
            fix="build it with verify=default and ship that, or give --allow-unproven as well",
        )


def require_proven_there(remote: Remote, trust: Trust, found: Header | VariantSet) -> None:
    """Refuses as :func:`require_proven` what is on a remote: an artifact, or one of a set.

    Raises:
        Refused: an artifact of the set is not as a trusted key signed it.
        AsrbuildError: see :func:`require_proven`.
    """
    parts = (
        [found]
        if isinstance(found, Header)
        else [require_artifact(proven(remote, *one, trust)[0]) for one in artifacts_of(found)]
    )
    for header in parts:
        require_proven(_manifest_there(remote, header), remote.address)


def _manifest_there(remote: Remote, header: Header) -> Manifest:
    from asrbuild.artifact.manifest import read_manifest

    with TemporaryDirectory(prefix="asrbuild-manifest-") as folder:
        fetch_files(header, remote, Path(folder), wanted=lambda file: file == MANIFEST)
        return read_manifest(Path(folder))


def ship_set(
    artifacts: Sequence[Path],
    remote: Remote,
    name: str,
    *,
    signer: AnySigner,
    trust: Trust,
    channel: str | None = None,
    seconds: float | None = None,
    other_signer: bool = False,
    notify: Notify = nullcontext,
) -> Shipped:
    """Puts artifacts on a remote, then the set of them, the preferred first; then a channel points
    at the set.

    Args:
        seconds: how long the channel's record is good for; None: for ever.
        other_signer: take versions that are there already into the set, and point the channel at
            a set that is, also where somebody else signed them.

    Raises:
        AsrbuildError: as :func:`ship`; or the remote has something else as the set's version.
    """
    check_name(name)
    if channel is not None:
        check_channel(channel)
    sent = [ship(one, remote, signer=signer, trust=trust, notify=notify) for one in artifacts]
    variants = tuple(_variant_there(remote, one, signer, trust, other_signer) for one in sent)
    there = _set_there(remote, name, variants, trust)
    found = there or make_set(name, variants, signer)
    if there is None and not remote.publish(name, found.version, found.raw, ()):
        there = _set_there(remote, name, variants, trust)  # somebody else was first
        found = there or found
    for needed in artifacts_of(found):
        # A clean-up may have taken what no set needed until now. From here on it keeps it.
        _require_there(remote, *needed)
    record = None
    if channel is not None:
        record = _point(remote, found, channel, signer, trust, seconds, other_signer)
    _require_there(remote, name, found.version)
    remote.refresh()
    return Shipped(
        name, found.version, found.digest, sum(one.uploaded for one in sent),
        sum(one.bytes for one in sent), there is not None, _signer(found, signer, trust),
        channel, record.counter if record else None,
    )  # fmt: skip


def _set_there(
    remote: Remote, name: str, variants: tuple[Variant, ...], trust: Trust
) -> VariantSet | None:
    """The remote's set of these variants, None when it has none.

    Raises:
        AsrbuildError: something else is there, or nobody who is trusted signed it.
    """
    version = set_version(variants)
    if remote.header(name, version) is None:
        return None
    there, _ = proven(remote, name, version, trust)
    if not isinstance(there, VariantSet) or there.variants != variants:
        raise AsrbuildError(
            f"something else is on the remote as {name} {version}",
            file=remote.address,
            fix="a version is never overwritten: choose another name for the set",
        )
    return there


def _variant_there(
    remote: Remote, sent: Shipped, signer: AnySigner, trust: Trust, other_signer: bool
) -> Variant:
    """An artifact as it is on the remote, where another build of the same content may have been."""
    header = require_artifact(proven(remote, sent.name, sent.version, trust)[0])
    if not other_signer:
        move.require_own(remote, header, signer, trust, "it is not taken into the set")
    return describe_variant(header, _manifest_there(remote, header))


def _published(remote: Remote, listing: Listing, trust: Trust) -> Header | None:
    """The remote's header of this version, None when it has none.

    Raises:
        AsrbuildError: it is of another artifact, or nobody who is trusted signed it.
    """
    raw = remote.header(listing.name, listing.version)
    if raw is None:
        return None
    with refusing(remote.address):
        there = parse_header(raw)
        check_header(there, trust)
    ours = {f.path: f.sha256 for f in listing.files if not is_volatile(f.path)}
    theirs = {f.path: f.sha256 for f in there.files if not is_volatile(f.path)}
    if ours != theirs or (there.name, there.version) != (listing.name, listing.version):
        differing = sorted(p for p in {*ours, *theirs} if ours.get(p) != theirs.get(p))
        raise AsrbuildError(
            f"another artifact is on the remote as {listing.name} {listing.version}; it differs in "
            f"{', '.join(differing)}",
            file=remote.address,
            fix="a version is never overwritten: raise the recipe's version and build again",
        )
    return there


def _upload(
    artifact: Path,
    remote: Remote,
    header: Listing,
    notify: Notify,
    needed: Listing | None = None,
    *,
    look: bool,
) -> list[File]:
    """Sends what the remote lacks.

    Args:
        needed: only files that this header has too.
        look: send also what has the right size on the remote, but other bytes.
    """
    wanted = {file.sha256 for file in (needed or header).files}
    blobs = {file.sha256: file for file in header.files if file.sha256 in wanted}

    def send(file: File) -> File | None:
        source = artifact / file.path
        if remote.has(header.name, file) and not (
            look and not remote.sound(header.name, file, source)
        ):
            return None
        interrupts.check()
        with notify(file):
            remote.put(header.name, file, source)
        return file

    # Most files are small, and take as long as the way to the remote and back.
    sent = run_concurrently(send, blobs.values(), remote.writers)
    return [file for file in sent if file is not None]


def _require_there(remote: Remote, name: str, version: str) -> None:
    """After a pointer was moved: a clean-up that looks at it now puts the version back."""
    if remote.header(name, version) is None:
        raise AsrbuildError(
            f"a clean-up of the remote took {name} {version} away meanwhile",
            file=remote.address,
            fix="ship it again",
        )


def set_channel(
    remote: Remote,
    name: str,
    channel: str,
    version: str,
    *,
    signer: AnySigner,
    trust: Trust,
    seconds: float | None = None,
    other_signer: bool = False,
    require: move.Require = move.anything,
) -> Record:
    """Points a channel at a version that is on the remote, whose signature is checked first.

    Args:
        seconds: how long the record is good for; None: for ever.
        other_signer: also at one that only somebody else signed.
        require: raises where the channel must not point at what was found.
    """
    check_name(name)
    check_channel(channel)
    whole = whole_version(remote, name, check_version(version))
    found, _ = proven(remote, name, whole, trust)
    require(found)
    record = _point(remote, found, channel, signer, trust, seconds, other_signer)
    remote.refresh()
    return record


def _point(
    remote: Remote,
    found: Header | VariantSet,
    channel: str,
    signer: AnySigner,
    trust: Trust,
    seconds: float | None,
    other_signer: bool,
) -> Record:
    if not other_signer:
        move.require_own(remote, found, signer, trust, "the channel is not moved")
    record = move.point(
        remote, found.name, channel, found.version, found.digest,
        signer=signer, trust=trust, seconds=seconds,
    )  # fmt: skip
    _require_there(remote, found.name, found.version)
    return record


def _signer(found: Header | VariantSet, signer: AnySigner, trust: Trust) -> str:
    """Who signed it, for a person: this signer where they are among them."""
    by = signers_of(found, trust)
    return signer.name if any(one.keyid in signer.trust for one in by) else by[0].label
