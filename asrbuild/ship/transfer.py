"""Shipping an artifact to a remote, and pulling one from there into a store."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from asrbuild import store
from asrbuild.disk import disk_errors
from asrbuild.errors import AsrbuildError
from asrbuild.ship import channels
from asrbuild.ship.abreast import abreast, check
from asrbuild.ship.bundle import Opened, unpack_bundle
from asrbuild.ship.envelope import AnySigner
from asrbuild.ship.folder import Folder, require_no_store
from asrbuild.ship.frame import new_file
from asrbuild.ship.header import (
    MANIFEST,
    SUMS,
    File,
    Header,
    Listing,
    check_header,
    check_manifest,
    list_artifact,
    parse_header,
    sign_listing,
)
from asrbuild.ship.names import check_channel, check_name, check_version, is_channel
from asrbuild.ship.refusal import Refusal, Refused, refusing
from asrbuild.ship.remote import ObjectRemote, Remote
from asrbuild.ship.sets import (
    VariantSet,
    artifacts_of,
    check_published,
    make_set,
    parse_published,
    set_version,
)
from asrbuild.ship.trust import Trust, Trusted
from asrbuild.ship.variants import (
    Variant,
    check_variant,
    check_variants,
    choose,
    describe_variant,
    unpack_variant,
)

DEFAULT_CHANNEL = "stable"
#: Around each file that is sent or fetched, in a thread of its own.
Notify = Callable[[File], AbstractContextManager[object]]


@dataclass(frozen=True)
class Shipped:
    """``uploaded``: files sent now, with their bytes; ``already``: the version was there before."""

    name: str
    version: str
    header: str
    uploaded: int
    bytes: int
    already: bool
    channel: str | None
    counter: int | None


@dataclass(frozen=True)
class Pulled:
    """``already``: the store had it, whole, and nothing was fetched; ``of_set``: the
    name@version of the set that it was taken from, None where it was asked for itself."""

    name: str
    version: str
    path: Path
    signer: str
    header: str
    bytes: int
    already: bool
    of_set: str | None = None


def ship(
    artifact: Path,
    remote: Remote,
    *,
    signer: AnySigner,
    trust: Trust,
    channel: str | None = None,
    notify: Notify = nullcontext,
) -> Shipped:
    """Puts an artifact on a remote and points a channel at it; what is there already is let be.

    It may be stopped at any moment and run again: files that arrived are not sent again, and the
    version appears only when all have.

    Raises:
        AsrbuildError: the artifact is damaged, failed its proof, or the remote has another one of
            its version.
    """
    from asrbuild.manifest import read_manifest

    if channel is not None:
        check_channel(channel)
    if isinstance(remote, ObjectRemote) and isinstance(remote.objects, Folder):
        require_no_store(remote.objects.root, artifact)
    if problems := store.verify_files(artifact):
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
    ours = list_artifact(artifact, manifest)
    check_manifest(ours, manifest)
    uploaded: list[File] = []
    there = _published(remote, ours, trust)
    # Signed only where it is needed: what is signed through Sigstore is public for ever.
    header = there or sign_listing(ours, signer)
    if there is None:
        uploaded = _upload(artifact, remote, ours, notify)
        if not remote.publish(header.name, header.version, header.raw, header.files):
            there = _published(remote, ours, trust)  # somebody else was first
            header = there or header
    # A clean-up may have taken what nothing needed until now. From here on it keeps it.
    uploaded += _upload(artifact, remote, ours, notify, header)
    record = None
    if channel is not None:
        record = _point(remote, header, channel, signer, trust)
    _require_there(remote, header.name, header.version)
    remote.refresh()
    return Shipped(
        header.name, header.version, header.digest, len(uploaded),
        sum(file.bytes for file in uploaded), there is not None,
        channel, record.counter if record else None,
    )  # fmt: skip


def ship_set(
    artifacts: Sequence[Path],
    remote: Remote,
    name: str,
    *,
    signer: AnySigner,
    trust: Trust,
    channel: str | None = None,
    notify: Notify = nullcontext,
) -> Shipped:
    """Puts artifacts on a remote, then the set of them, the preferred first; then a channel points
    at the set.

    Raises:
        AsrbuildError: as :func:`ship`; or the remote has something else as the set's version.
    """
    check_name(name)
    if channel is not None:
        check_channel(channel)
    sent = [ship(one, remote, signer=signer, trust=trust, notify=notify) for one in artifacts]
    variants = tuple(_variant_there(remote, one, trust) for one in sent)
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
        record = _point(remote, found, channel, signer, trust)
    _require_there(remote, name, found.version)
    remote.refresh()
    return Shipped(
        name, found.version, found.digest, sum(one.uploaded for one in sent),
        sum(one.bytes for one in sent), there is not None,
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


def _variant_there(remote: Remote, sent: Shipped, trust: Trust) -> Variant:
    """An artifact as it is on the remote, where another build of the same content may have been."""
    from asrbuild.manifest import read_manifest

    header = require_artifact(proven(remote, sent.name, sent.version, trust)[0])
    with TemporaryDirectory(prefix="asrbuild-manifest-") as folder:
        fetch_files(header, remote, Path(folder), wanted=lambda file: file == MANIFEST)
        return describe_variant(header, read_manifest(Path(folder)))


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
    ours = {f.path: f.sha256 for f in listing.files if not store.is_volatile(f.path)}
    theirs = {f.path: f.sha256 for f in there.files if not store.is_volatile(f.path)}
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
) -> list[File]:
    """Sends what the remote lacks; ``needed``: only files that this header has too."""
    wanted = {file.sha256 for file in (needed or header).files}
    blobs = {file.sha256: file for file in header.files if file.sha256 in wanted}

    def send(file: File) -> File | None:
        if remote.has(header.name, file):
            return None
        check()
        with notify(file):
            remote.put(header.name, file, artifact / file.path)
        return file

    # Most files are small, and take as long as the way to the remote and back.
    sent = abreast(send, blobs.values(), remote.writers)
    return [file for file in sent if file is not None]


def _require_there(remote: Remote, name: str, version: str) -> None:
    """After a pointer was moved: a clean-up that looks at it now puts the version back."""
    if remote.header(name, version) is None:
        raise AsrbuildError(
            f"a clean-up of the remote took {name} {version} away meanwhile",
            file=remote.address,
            fix="ship it again",
        )


def split_spec(spec: str) -> tuple[str, str]:
    """``name@version``, ``name@channel`` or a bare name, which means its stable channel."""
    name, _, selector = spec.partition("@")
    return check_name(name), selector or DEFAULT_CHANNEL


def find(
    remote: Remote, name: str, selector: str, trust: Trust, config: Path
) -> tuple[Header | VariantSet, Trusted]:
    """The header or set that a channel, a version or the start of a version means, proven.

    Raises:
        Refused: it is not what a trusted key signed, or not the newest that was seen.
        AsrbuildError: there is no such thing.
    """
    record = None
    if is_channel(selector) and _means_channel(remote, name, selector, config):
        record = channels.current(remote, name, selector, trust, config)
        version = record.version
    else:
        version = _whole_version(remote, name, check_version(selector))
    found, key = proven(remote, name, version, trust)
    if record is not None:
        _require_digest(remote, found, record.header, "the one that the channel was pointed at")
        if isinstance(found, VariantSet):
            channels.remember(remote, record, config, artifacts_of(found))
    return found, key


def proven(
    remote: Remote, name: str, version: str, trust: Trust
) -> tuple[Header | VariantSet, Trusted]:
    """What is on the remote as this version, and the trusted key that signed it as this."""
    raw = remote.header(name, version)
    if raw is None:
        raise Refused(
            Refusal.FILE_MISSING, f"the remote has no {name} {version}", file=remote.address
        )
    with refusing(remote.address):
        found = parse_published(raw)
        key = check_published(found, trust)
    if (found.name, found.version) != (name, version):
        raise Refused(
            Refusal.IDENTITY_MISMATCH,
            f"where {name} {version} should be is {found.name} {found.version}",
            file=remote.address,
        )
    return found, key


def _require_digest(remote: Remote, found: Header | VariantSet, digest: str, which: str) -> None:
    if found.digest != digest:
        raise Refused(
            Refusal.IDENTITY_MISMATCH,
            f"{found.name} {found.version} is not {which}",
            file=remote.address,
        )


def require_artifact(found: Header | VariantSet) -> Header:
    """What was found, where only an artifact will do.

    Raises:
        AsrbuildError: it is a set of them.
    """
    if isinstance(found, Header):
        return found
    raise AsrbuildError(
        f"{found.name} {found.version} is a set of artifacts",
        fix=f"name one: {', '.join('@'.join(one) for one in artifacts_of(found))}",
    )


def _means_channel(remote: Remote, name: str, selector: str, config: Path) -> bool:
    """A word that is no version is a channel, even one that is gone: that must be noticed. So is
    what was a channel when it was last asked for, though a version may begin so."""
    return (
        not any(c.isdigit() for c in selector)
        or (remote.address, name, selector) in channels.seen_channels(config)
        or selector in remote.channels(name)
    )


def _whole_version(remote: Remote, name: str, start: str) -> str:
    if remote.header(name, start) is not None:
        return start
    versions = remote.versions(name)
    # A recipe's whole version first: 1.0.1 is not the start of 1.0.10 to whoever types it.
    whole = [v for v in versions if v.partition("+")[0] == start]
    fitting = whole or [
        v for v in versions if v.startswith(start) or v.partition("+")[2].startswith(start)
    ]
    if len(fitting) == 1:
        return fitting[0]
    known = ", ".join(versions[-10:]) or "none"
    raise AsrbuildError(
        f"{start} fits {len(fitting)} versions of {name}",
        file=remote.address,
        fix=f"the remote has: {known}",
    )


def pull(
    spec: str,
    remote: Remote,
    root: Path,
    *,
    trust: Trust,
    config: Path,
    notify: Notify = nullcontext,
    system: str | None = None,
    max_bytes: int | None = None,
) -> list[Pulled]:
    """Fetches an artifact, or artifacts of a set, into the store ``root``.

    Signatures are checked before anything is fetched, every digest before anything appears; each
    file is cut off at the size that was signed.

    Args:
        system: of the device it is for, see :func:`asrbuild.ship.variants.choose`; the manifest is
            looked at before anything else is fetched. None: of a set come all.

    Raises:
        Refused: something is not as a trusted key signed it; nothing is kept of it then.
        AsrbuildError: it does not run on ``system``, or there is no such artifact.
    """
    found, key = find(remote, *split_spec(spec), trust, config)
    wanted: list[tuple[Header, Trusted, Variant | None]]
    if isinstance(found, Header):
        wanted, of_set = [(found, key, None)], None
    else:
        chosen = found.variants if system is None else [choose(found.variants, system, max_bytes)]
        wanted = [(*_header_of(remote, variant, trust), variant) for variant in chosen]
        of_set = f"{found.name}@{found.version}"
    with ExitStack() as stagings:

        def fetched(header: Header, variant: Variant | None) -> Path | None:
            """Where it is, proven and not published yet; None when the store has it."""
            path = root / header.name / header.version
            if _in_store(path, header) and store.point_latest(root, header.name, header.version):
                _require_fit(header, path, system, max_bytes, variant)
                return None
            new = stagings.enter_context(store.staging(root))
            fetch_files(header, remote, new, wanted=lambda file: file == MANIFEST, notify=notify)
            _require_fit(header, new, system, max_bytes, variant)
            fetch_files(header, remote, new, wanted=lambda file: file != MANIFEST, notify=notify)
            return new

        # Every one is fetched before the first is published.
        ready = [(header, key, fetched(header, variant)) for header, key, variant in wanted]
        return [_publish(root, header, key, new, of_set) for header, key, new in ready]


def _header_of(remote: Remote, variant: Variant, trust: Trust) -> tuple[Header, Trusted]:
    """The header of a set's variant, and the trusted key that signed it, who may be another."""
    header, key = proven(remote, variant.name, variant.version, trust)
    _require_digest(remote, header, variant.header, "the one that is in the set")
    if not isinstance(header, Header):
        raise Refused(Refusal.UNKNOWN_FORMAT, "there is a set in the set", file=remote.address)
    return header, key


def _publish(
    root: Path, header: Header, key: Trusted, new: Path | None, of_set: str | None
) -> Pulled:
    path = root / header.name / header.version
    if new is not None:
        path = store.publish(root, header.name, new, header.version, volatile=store.VOLATILE)
    return replace(_pulled(header, key, path, already=new is None), of_set=of_set)


def _require_fit(
    header: Header,
    directory: Path,
    system: str | None,
    max_bytes: int | None,
    variant: Variant | None = None,
) -> None:
    """Refuses an artifact that the device of ``system`` cannot load, or that is too large; and one
    that is not what its set says of it, by which it was chosen."""
    from asrbuild.manifest import read_manifest

    if variant is not None:
        check_variant(variant, header, read_manifest(directory))
    elif system is not None:
        choose([describe_variant(header, read_manifest(directory))], system, max_bytes)


def fetch_files(
    header: Header,
    remote: Remote,
    directory: Path,
    *,
    wanted: Callable[[str], bool] = lambda _: True,
    notify: Notify = nullcontext,
) -> None:
    """Fetches the wanted files of a proven header, each proven; the manifest is among them, or is
    there already.

    Raises:
        Refused: a file is not what was signed, or the manifest tells something else.
    """
    from asrbuild.manifest import read_manifest

    def fetch(file: File) -> None:
        with notify(file):
            _fetch(remote, header.name, file, directory)

    abreast(fetch, [file for file in header.files if wanted(file.path)])
    check_manifest(header, read_manifest(directory))


def _in_store(path: Path, header: Header) -> bool:
    return (
        path.is_dir()
        and not store.verify_files(path)
        and hashlib.sha256((path / SUMS).read_bytes()).hexdigest() == header.file(SUMS).sha256
    )


def _pulled(header: Header, key: Trusted, path: Path, *, already: bool) -> Pulled:
    return Pulled(
        header.name, header.version, path, key.label, header.digest,
        0 if already else header.total, already,
    )  # fmt: skip


def _fetch(remote: Remote, name: str, file: File, staging: Path) -> None:
    """Fetches one file, cut off at its size and proven."""
    digest = hashlib.sha256()
    count = 0
    with new_file(staging, file.path) as write:

        def sink(block: bytes) -> None:
            nonlocal count
            check()
            count += len(block)
            if count > file.bytes:
                raise Refused(
                    Refusal.TOO_LARGE, f"{file.path} is larger than was signed", file=remote.address
                )
            digest.update(block)
            # Told here, or it would be told as the remote's fault.
            with disk_errors("pulling an artifact", staging):
                write(block)

        remote.fetch(name, file, sink)
    if count < file.bytes:
        raise Refused(
            Refusal.TRUNCATED,
            f"{file.path} ends {file.bytes - count} bytes early",
            file=remote.address,
        )
    if digest.hexdigest() != file.sha256:
        raise Refused(
            Refusal.DIGEST_MISMATCH,
            f"{file.path} has another digest than was signed",
            file=remote.address,
        )


def pull_bundle(
    bundle: Path,
    root: Path,
    *,
    trust: Trust,
    system: str | None = None,
    max_bytes: int | None = None,
) -> Pulled:
    """Unpacks a bundle file into the store ``root``, once all of it is proven.

    Raises:
        Refused: something is not as a trusted key signed it.
        AsrbuildError: it does not run on ``system``, see :func:`asrbuild.ship.variants.choose`.
    """
    with store.staging(root) as staging:
        opened = unpack_bundle(bundle, staging, trust)
        _require_fit(opened.header, staging, system, max_bytes)
        return _publish_opened(root, staging, opened)


def pull_variants(
    bundle: Path,
    root: Path,
    *,
    trust: Trust,
    system: str | None = None,
    max_bytes: int | None = None,
) -> list[Pulled]:
    """Unpacks artifacts of a bundle of variants into the store ``root``, once all is proven.

    Args:
        system: of the device the one is for, see :func:`asrbuild.ship.variants.choose`; None: all.
    """
    found, _ = check_variants(bundle, trust)
    chosen = found.variants if system is None else [choose(found.variants, system, max_bytes)]
    with ExitStack() as stagings:
        # Every one is unpacked and proven before the first is published.
        unpacked = []
        for variant in chosen:
            staging = stagings.enter_context(store.staging(root))
            unpacked.append((staging, unpack_variant(bundle, variant, staging, trust)))
        return [_publish_opened(root, staging, opened) for staging, opened in unpacked]


def _publish_opened(root: Path, staging: Path, opened: Opened) -> Pulled:
    header = opened.header
    already = _in_store(root / header.name / header.version, header)
    path = store.publish(root, header.name, staging, header.version, volatile=store.VOLATILE)
    return _pulled(header, opened.key, path, already=already)


def set_channel(
    remote: Remote, name: str, channel: str, version: str, *, signer: AnySigner, trust: Trust
) -> channels.Record:
    """Points a channel at a version that is on the remote, whose signature is checked first."""
    check_name(name)
    check_channel(channel)
    whole = _whole_version(remote, name, check_version(version))
    found, _ = proven(remote, name, whole, trust)
    record = _point(remote, found, channel, signer, trust)
    remote.refresh()
    return record


def _point(
    remote: Remote, found: Header | VariantSet, channel: str, signer: AnySigner, trust: Trust
) -> channels.Record:
    record = channels.point(
        remote, found.name, channel, found.version, found.digest, signer=signer, trust=trust
    )
    _require_there(remote, found.name, found.version)
    return record
