"""Shipping an artifact to a remote, and pulling one from there into a store."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path

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
    check_header,
    check_manifest,
    make_header,
    parse_header,
)
from asrbuild.ship.names import check_channel, check_name, check_version, is_channel
from asrbuild.ship.refusal import Refusal, Refused, refusing
from asrbuild.ship.remote import ObjectRemote, Remote
from asrbuild.ship.trust import Trust, Trusted
from asrbuild.ship.variants import (
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
    """``already``: the store had it, whole, and nothing was fetched."""

    name: str
    version: str
    path: Path
    signer: str
    header: str
    bytes: int
    already: bool


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
    header = make_header(artifact, manifest, signer)
    check_manifest(header, manifest)
    trust = {**trust, **signer.trust}
    uploaded: list[File] = []
    there = _published(remote, header, trust)
    if there is None:
        uploaded = _upload(artifact, remote, header, notify)
        if not remote.publish(header.name, header.version, header.raw, header.files):
            there = _published(remote, header, trust)  # somebody else was first
    # A clean-up may have taken what nothing needed until now. From here on it keeps it.
    uploaded += _upload(artifact, remote, header, notify, there or header)
    record = None
    if channel is not None:
        record = channels.point(
            remote, header.name, channel, header.version, (there or header).digest,
            signer=signer, trust=trust,
        )  # fmt: skip
    _require_there(remote, header.name, header.version)
    remote.refresh()
    return Shipped(
        header.name, header.version, (there or header).digest, len(uploaded),
        sum(file.bytes for file in uploaded), there is not None,
        channel, record.counter if record else None,
    )  # fmt: skip


def _published(remote: Remote, header: Header, trust: Trust) -> Header | None:
    """The remote's header of this version, None when it has none.

    Raises:
        AsrbuildError: it is of another artifact, or nobody who is trusted signed it.
    """
    raw = remote.header(header.name, header.version)
    if raw is None:
        return None
    with refusing(remote.address):
        there = parse_header(raw)
        check_header(there, trust)
    ours = {f.path: f.sha256 for f in header.files if not store.is_volatile(f.path)}
    theirs = {f.path: f.sha256 for f in there.files if not store.is_volatile(f.path)}
    if ours != theirs or (there.name, there.version) != (header.name, header.version):
        differing = sorted(p for p in {*ours, *theirs} if ours.get(p) != theirs.get(p))
        raise AsrbuildError(
            f"another artifact is on the remote as {header.name} {header.version}; it differs in "
            f"{', '.join(differing)}",
            file=remote.address,
            fix="a version is never overwritten: raise the recipe's version and build again",
        )
    return there


def _upload(
    artifact: Path,
    remote: Remote,
    header: Header,
    notify: Notify,
    needed: Header | None = None,
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
) -> tuple[Header, Trusted]:
    """The header that a channel, a version or the start of a version means, proven.

    Raises:
        Refused: it is not what a trusted key signed, or not the newest that was seen.
        AsrbuildError: there is no such thing.
    """
    expected = None
    if is_channel(selector) and (selector in _channels(remote, name, selector)):
        record = channels.current(remote, name, selector, trust, config)
        version, expected = record.version, record.header
    else:
        version = _whole_version(remote, name, check_version(selector))
    raw = remote.header(name, version)
    if raw is None:
        raise Refused(
            Refusal.FILE_MISSING, f"the remote has no {name} {version}", file=remote.address
        )
    with refusing(remote.address):
        header = parse_header(raw)
        key = check_header(header, trust)
    if (header.name, header.version) != (name, version):
        raise Refused(
            Refusal.IDENTITY_MISMATCH,
            f"where {name} {version} should be is {header.name} {header.version}",
            file=remote.address,
        )
    if expected is not None and header.digest != expected:
        raise Refused(
            Refusal.IDENTITY_MISMATCH,
            f"{name} {version} is not the one that the channel was pointed at",
            file=remote.address,
        )
    return header, key


def _channels(remote: Remote, name: str, selector: str) -> list[str]:
    """A word that is no version is a channel, even one that is gone: that must be noticed."""
    return [selector] if not any(c.isdigit() for c in selector) else remote.channels(name)


def _whole_version(remote: Remote, name: str, start: str) -> str:
    if remote.header(name, start) is not None:
        return start
    versions = remote.versions(name)
    fitting = [v for v in versions if v.startswith(start) or v.partition("+")[2].startswith(start)]
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
) -> Pulled:
    """Fetches an artifact into the store ``root``.

    The signature is checked before anything is fetched, every digest before anything appears; each
    file is cut off at the size that was signed.

    Args:
        system: of the device it is for, see :func:`asrbuild.ship.variants.choose`; the manifest is
            looked at before anything else is fetched.

    Raises:
        Refused: something is not as a trusted key signed it; nothing is kept of it then.
        AsrbuildError: it does not run on ``system``, or there is no such artifact.
    """
    header, key = find(remote, *split_spec(spec), trust, config)
    path = root / header.name / header.version
    if _in_store(path, header) and store.point_latest(root, header.name, header.version):
        _require_fit(header, path, system, max_bytes)
        return _pulled(header, key, path, already=True)
    with store.staging(root) as staging:
        fetch_files(header, remote, staging, wanted=lambda file: file == MANIFEST, notify=notify)
        _require_fit(header, staging, system, max_bytes)
        fetch_files(header, remote, staging, wanted=lambda file: file != MANIFEST, notify=notify)
        path = store.publish(root, header.name, staging, header.version, volatile=store.VOLATILE)
    return _pulled(header, key, path, already=False)


def _require_fit(
    header: Header, directory: Path, system: str | None, max_bytes: int | None
) -> None:
    """Refuses an artifact that the device of ``system`` cannot load, or that is too large."""
    from asrbuild.manifest import read_manifest

    if system is not None:
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
    raw = remote.header(name, whole)
    assert raw is not None
    with refusing(remote.address):
        header = parse_header(raw)
        check_header(header, trust)
    record = channels.point(
        remote, name, channel, header.version, header.digest, signer=signer, trust=trust
    )
    _require_there(remote, name, header.version)
    remote.refresh()
    return record
