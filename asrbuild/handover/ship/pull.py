"""Artifacts from a remote or a bundle into a store: one appears once all of it is proven."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from asrbuild.artifact import store
from asrbuild.artifact.layout import MANIFEST
from asrbuild.base import interrupts
from asrbuild.base.disk import disk_errors
from asrbuild.base.threads import run_concurrently
from asrbuild.handover.ship.evidence import bring_evidence
from asrbuild.handover.ship.formats.bundle import OpenedBundle, unpack_bundle
from asrbuild.handover.ship.formats.frame import new_file
from asrbuild.handover.ship.formats.header import File, Header, check_manifest
from asrbuild.handover.ship.formats.variants import (
    Variant,
    check_variant,
    check_variants,
    choose,
    describe_variant,
    holds_variants,
    unpack_variant,
)
from asrbuild.handover.ship.lookup import find, proven, require_digest, split_spec
from asrbuild.handover.ship.refusal import Refusal, Refused
from asrbuild.handover.ship.remotes.remote import NotifyFile, Remote
from asrbuild.handover.ship.signing.trust import Trust, Trusted


@dataclass(frozen=True)
class Pulled:
    """An artifact that is in the store after a pull.

    ``already``: the store had it, whole, and nothing was fetched; ``of_set``: the name@version of
    the set that it was taken from, None if the artifact itself was requested.
    """

    name: str
    version: str
    path: Path
    signer: str
    header: str
    bytes: int
    already: bool
    of_set: str | None = None


def pull(
    spec: str,
    remote: Remote,
    root: Path,
    *,
    trust: Trust,
    config: Path,
    notify: NotifyFile = nullcontext,
    system: str | None = None,
    max_bytes: int | None = None,
    fresh: bool = False,
    note: Callable[[str], object] = lambda _: None,
) -> list[Pulled]:
    """Fetches an artifact, or artifacts of a set, into the store ``root``.

    Signatures are checked before anything is fetched, every digest before anything appears in the
    store; each file is cut off at its signed size.

    Args:
        system: the device's system, see :func:`~asrbuild.handover.ship.formats.variants.choose`;
            the manifest is checked before anything else is fetched. None: all of a set.
        fresh: require of a channel that its record has an expiry that is not over.
        note: takes a line where the artifact's evidence cannot be fetched.

    Raises:
        Refused: it is not as a trusted key signed it; none of it is kept.
        AsrbuildError: it does not run on ``system``, or there is no such artifact.
    """
    published, key = find(remote, *split_spec(spec), trust, config, fresh=fresh)
    parts: list[tuple[Header, Trusted, Variant | None]]
    if isinstance(published, Header):
        parts, of_set = [(published, key, None)], None
    else:
        variants = published.variants
        chosen = variants if system is None else [choose(variants, system, max_bytes)]
        parts = [(*_header_of(remote, variant, trust), variant) for variant in chosen]
        of_set = f"{published.name}@{published.version}"
    with ExitStack() as stagings:

        def fetched(header: Header, variant: Variant | None) -> Path | None:
            """The folder of its files, proven and not published yet; None if the store has it."""
            path = root / header.name / header.version
            if store.keep_signed(root, header.name, header.version, header.digests, header.raw):
                _require_fit(header, path, system, max_bytes, variant)
                return None
            new = stagings.enter_context(store.staging(root))
            fetch_files(header, remote, new, wanted=lambda file: file == MANIFEST, notify=notify)
            _require_fit(header, new, system, max_bytes, variant)
            fetch_files(header, remote, new, wanted=lambda file: file != MANIFEST, notify=notify)
            return new

        # All are fetched before the first is published.
        ready = [(header, key, fetched(header, variant)) for header, key, variant in parts]
        pulled = [_publish(root, header, key, new, of_set) for header, key, new in ready]
    for one in pulled:
        bring_evidence(remote, one.name, one.version, one.path, trust, note)
    return pulled


def _header_of(remote: Remote, variant: Variant, trust: Trust) -> tuple[Header, Trusted]:
    """The header of a set's variant, and its trusted signer, which may differ from the set's."""
    header, key = proven(remote, variant.name, variant.version, trust)
    require_digest(remote, header, variant.header, "the one that is in the set")
    if not isinstance(header, Header):
        raise Refused(Refusal.UNKNOWN_FORMAT, "the set contains a set", file=remote.address)
    return header, key


def _publish(
    root: Path, header: Header, key: Trusted, new: Path | None, of_set: str | None
) -> Pulled:
    path = root / header.name / header.version
    if new is not None:
        path = _put_in_store(root, header, new)
    return replace(_pulled(header, key, path, already=new is None), of_set=of_set)


def _require_fit(
    header: Header,
    directory: Path,
    system: str | None,
    max_bytes: int | None,
    variant: Variant | None = None,
) -> None:
    """Refuses an artifact that a device cannot load, or that contradicts its variant.

    It may be too large, or require another system than ``system``.
    """
    from asrbuild.artifact.reading import read_manifest

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
    notify: NotifyFile = nullcontext,
) -> None:
    """Fetches the wanted files of a proven header and proves each one.

    The manifest is among them, or in the directory already.

    Raises:
        Refused: a file is not as it was signed, or the manifest contradicts the header.
    """
    from asrbuild.artifact.reading import read_manifest

    def fetch(file: File) -> None:
        with notify(file):
            _fetch(remote, header.name, file, directory)

    run_concurrently(fetch, [file for file in header.files if wanted(file.path)])
    check_manifest(header, read_manifest(directory))


def _put_in_store(root: Path, header: Header, staging: Path) -> Path:
    """Publishes exactly the signed files, in the place of other files of that version, if any."""
    return store.publish_signed(
        root, header.name, staging, header.version, header.digests, header.raw
    )


def _pulled(header: Header, key: Trusted, path: Path, *, already: bool) -> Pulled:
    return Pulled(
        header.name,
        header.version,
        path,
        key.label,
        header.digest,
        0 if already else header.total,
        already,
    )


def _fetch(remote: Remote, name: str, file: File, staging: Path) -> None:
    """Fetches one file, cut off at its size and proven."""
    digest = hashlib.sha256()
    count = 0
    with new_file(staging, file.path) as write:

        def sink(block: bytes) -> None:
            nonlocal count
            interrupts.check()
            count += len(block)
            if count > file.bytes:
                raise Refused(
                    Refusal.TOO_LARGE,
                    f"{file.path} is larger than its signed size",
                    file=remote.address,
                )
            digest.update(block)
            # Report disk errors here; otherwise they look like errors of the remote.
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
            f"the digest of {file.path} is not the signed one",
            file=remote.address,
            fix="ask the remote's keeper to ship the version again, which sends damaged files",
        )


def pull_file(
    bundle: Path,
    root: Path,
    *,
    trust: Trust,
    system: str | None = None,
    max_bytes: int | None = None,
) -> tuple[list[Pulled], bool]:
    """Unpacks a bundle of one artifact or of variants; and whether it is one of variants."""
    if holds_variants(bundle):
        pulled = pull_variants(bundle, root, trust=trust, system=system, max_bytes=max_bytes)
        return pulled, True
    return [pull_bundle(bundle, root, trust=trust, system=system, max_bytes=max_bytes)], False


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
        Refused: its content is not as a trusted key signed it.
        AsrbuildError: it does not run on ``system``.
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
        system: the device's system, see ``variants.choose``; None: take all.
    """
    bundled, _ = check_variants(bundle, trust)
    chosen = bundled.variants if system is None else [choose(bundled.variants, system, max_bytes)]
    with ExitStack() as stagings:
        # All are unpacked and proven before the first is published.
        unpacked = []
        for variant in chosen:
            staging = stagings.enter_context(store.staging(root))
            unpacked.append((staging, unpack_variant(bundle, variant, staging, trust)))
        return [_publish_opened(root, staging, opened) for staging, opened in unpacked]


def _publish_opened(root: Path, staging: Path, opened: OpenedBundle) -> Pulled:
    header = opened.header
    name, version = header.name, header.version
    already = store.keep_signed(root, name, version, header.digests, header.raw)
    path = root / name / version if already else _put_in_store(root, header, staging)
    return _pulled(header, opened.key, path, already=already)
