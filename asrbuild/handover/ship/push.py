"""Putting artifacts, and sets of them, on a remote."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from asrbuild.artifact.layout import is_volatile
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.interrupts import check
from asrbuild.base.threads import run_concurrently
from asrbuild.handover.ship.channels import move
from asrbuild.handover.ship.evidence import send_evidence
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
from asrbuild.handover.ship.gates import fetch_manifest, require_passed
from asrbuild.handover.ship.lookup import proven, require_artifact
from asrbuild.handover.ship.names import check_channel, check_name
from asrbuild.handover.ship.pointing import point_at, require_present
from asrbuild.handover.ship.refusal import refusing
from asrbuild.handover.ship.remotes.folder import Folder, require_no_store
from asrbuild.handover.ship.remotes.objects import ObjectRemote
from asrbuild.handover.ship.remotes.remote import NotifyFile, Remote
from asrbuild.handover.ship.signing.signer import AnySigner
from asrbuild.handover.ship.signing.trust import Trust


class Sent(NamedTuple):
    """The result of a push: files sent, their bytes, and whether the version existed already."""

    files: int
    bytes: int
    already: bool


@dataclass(frozen=True)
class Shipped:
    """A version on a remote after a push.

    Attributes:
        header: digest of the header or set.
        uploaded: files that were sent now; ``bytes`` is their size.
        already: the version was there before.
        signer: who signed what is on the remote as this version.
        channel: the channel that points at it now, and ``counter`` its record; None without one.
    """

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
    notify: NotifyFile = nullcontext,
) -> Shipped:
    """Puts an artifact on a remote and points a channel at it; existing content stays unchanged.

    Evidence that the store keeps of the artifact goes along.

    It may be stopped at any moment and run again: files that arrived are not sent again, and the
    version appears only when all have. A file on the remote whose bytes do not match its digest is
    sent again.

    Args:
        channel: the channel to point at it; None: none.
        seconds: how long the channel's record is valid; None: it does not expire.
        other_signer: point the channel at an existing version even if only another signer signed
            it.
        notify: a context around each file that is sent.

    Raises:
        AsrbuildError: the artifact is damaged or failed its proof; the remote has another artifact
            as its version; or an existing version has another signer and a channel is given.
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
        remote.claim()  # raises before anything is sent where the remote takes no channels
    existing = _existing_header(remote, ours, trust)
    known = existing is not None
    # Signed only where it is needed: a signature through Sigstore stays public.
    header = existing or sign_listing(ours, signer)
    if existing is None:
        uploaded = _upload(artifact, remote, ours, notify, look=True)
        if not remote.publish(header.name, header.version, header.raw, header.files):
            existing = _existing_header(remote, ours, trust)  # another push was faster
            header = existing or header
    # A clean-up may have removed files that no header named yet. From here on it keeps them.
    uploaded += _upload(artifact, remote, ours, notify, header, look=known)
    send_evidence(artifact, remote, header.name, header.version)
    sent = Sent(len(uploaded), sum(file.bytes for file in uploaded), existing is not None)
    return _finish(remote, header, sent, channel, signer, trust, seconds, other_signer)


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
    notify: NotifyFile = nullcontext,
) -> Shipped:
    """Puts artifacts on a remote, then the set of them; then a channel points at the set.

    Args:
        artifacts: their folders, the preferred one first.
        name: the name under which the set is pulled.
        channel: the channel to point at the set; None: none.
        seconds: how long the channel's record is valid; None: it does not expire.
        other_signer: take existing versions into the set, and point the channel at an existing
            set, even if only another signer signed them.
        notify: a context around each file that is sent.

    Raises:
        AsrbuildError: as :func:`ship`; or the remote has something else as the set's version.
    """
    check_name(name)
    if channel is not None:
        check_channel(channel)
    sent = [ship(one, remote, signer=signer, trust=trust, notify=notify) for one in artifacts]
    variants = tuple(_shipped_variant(remote, one, signer, trust, other_signer) for one in sent)
    existing = _existing_set(remote, name, variants, trust)
    published = existing or make_set(name, variants, signer)
    if existing is None and not remote.publish(name, published.version, published.raw, ()):
        existing = _existing_set(remote, name, variants, trust)  # another push was faster
        published = existing or published
    for needed in artifacts_of(published):
        # A clean-up may have removed versions that no set named yet. From here on it keeps them.
        require_present(remote, *needed)
    done = Sent(
        sum(one.uploaded for one in sent), sum(one.bytes for one in sent), existing is not None
    )
    return _finish(remote, published, done, channel, signer, trust, seconds, other_signer)


def _finish(
    remote: Remote,
    published: Header | VariantSet,
    sent: Sent,
    channel: str | None,
    signer: AnySigner,
    trust: Trust,
    seconds: float | None,
    other_signer: bool,
) -> Shipped:
    """Points a channel, if one is named, at the shipped version."""
    counter = None
    if channel is not None:
        record = point_at(remote, published, channel, signer, trust, seconds, other_signer)
        counter = record.counter
    require_present(remote, published.name, published.version)
    remote.refresh()
    by = signers_of(published, trust)
    ours = any(one.keyid in signer.trust for one in by)
    return Shipped(
        published.name,
        published.version,
        published.digest,
        sent.files,
        sent.bytes,
        sent.already,
        signer.name if ours else by[0].label,
        channel,
        counter,
    )


def _existing_set(
    remote: Remote, name: str, variants: tuple[Variant, ...], trust: Trust
) -> VariantSet | None:
    """The remote's set of these variants, None when it has none.

    Raises:
        AsrbuildError: another set or an artifact has its version, or no trusted key signed it.
    """
    version = set_version(variants)
    if remote.header(name, version) is None:
        return None
    existing, _ = proven(remote, name, version, trust)
    if not isinstance(existing, VariantSet) or existing.variants != variants:
        raise AsrbuildError(
            f"{name} {version} on the remote is something else",
            file=remote.address,
            fix="a version is never overwritten: choose another name for the set",
        )
    return existing


def _shipped_variant(
    remote: Remote, sent: Shipped, signer: AnySigner, trust: Trust, other_signer: bool
) -> Variant:
    """An artifact as it is on the remote, which may have another build of the same content."""
    header = require_artifact(proven(remote, sent.name, sent.version, trust)[0])
    if not other_signer:
        move.require_own(remote, header, signer, trust, "it is not taken into the set")
    return describe_variant(header, fetch_manifest(remote, header))


def _existing_header(remote: Remote, listing: Listing, trust: Trust) -> Header | None:
    """The remote's header of this version, None when it has none.

    Raises:
        AsrbuildError: it is of another artifact, or no trusted key signed it.
    """
    raw = remote.header(listing.name, listing.version)
    if raw is None:
        return None
    with refusing(remote.address):
        existing = parse_header(raw)
        check_header(existing, trust)
    ours = {f.path: f.sha256 for f in listing.files if not is_volatile(f.path)}
    theirs = {f.path: f.sha256 for f in existing.files if not is_volatile(f.path)}
    if ours != theirs or (existing.name, existing.version) != (listing.name, listing.version):
        differing = sorted(p for p in {*ours, *theirs} if ours.get(p) != theirs.get(p))
        raise AsrbuildError(
            f"another artifact is on the remote as {listing.name} {listing.version}; it differs in "
            f"{', '.join(differing)}",
            file=remote.address,
            fix="a version is never overwritten: raise the recipe's version and build again",
        )
    return existing


def _upload(
    artifact: Path,
    remote: Remote,
    header: Listing,
    notify: NotifyFile,
    needed: Listing | None = None,
    *,
    look: bool,
) -> list[File]:
    """Sends the files that the remote lacks.

    Args:
        needed: only files that this header has too.
        look: also send files that have the right size on the remote, but other bytes.
    """
    digests = {file.sha256 for file in (needed or header).files}
    blobs = {file.sha256: file for file in header.files if file.sha256 in digests}

    def send(file: File) -> File | None:
        source = artifact / file.path
        if remote.has(header.name, file) and not (
            look and not remote.sound(header.name, file, source)
        ):
            return None
        check()
        with notify(file):
            remote.put(header.name, file, source)
        return file

    sent = run_concurrently(send, blobs.values(), remote.writers)
    return [file for file in sent if file is not None]
