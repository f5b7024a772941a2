"""Artifacts from a remote or a bundle into a store: nothing appears before all of it is proven."""

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
from asrbuild.handover.ship.formats.bundle import Opened, unpack_bundle
from asrbuild.handover.ship.formats.frame import new_file
from asrbuild.handover.ship.formats.header import File, Header, check_manifest
from asrbuild.handover.ship.formats.variants import (
    Variant,
    check_variant,
    check_variants,
    choose,
    describe_variant,
    unpack_variant,
)
from asrbuild.handover.ship.lookup import find, proven, require_digest, split_spec
from asrbuild.handover.ship.refusal import Refusal, Refused
from asrbuild.handover.ship.remotes.remote import Notify, Remote
from asrbuild.handover.ship.signing.trust import Trust, Trusted


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
    fresh: bool = False,
) -> list[Pulled]:
    """Fetches an artifact, or artifacts of a set, into the store ``root``.

    Signatures are checked before anything is fetched, every digest before anything appears; each
    file is cut off at the size that was signed.

    Args:
        system: the device's system, see :func:`~asrbuild.handover.ship.formats.variants.choose`;
            the manifest is checked before anything else is fetched. None: all of a set.
        fresh: demand of a channel that its record has an expiry, which is not over.

    Raises:
        Refused: something is not as a trusted key signed it; nothing is kept of it then.
        AsrbuildError: it does not run on ``system``, or there is no such artifact.
    """
    found, key = find(remote, *split_spec(spec), trust, config, fresh=fresh)
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
            if store.keep_signed(root, header.name, header.version, header.digests, header.raw):
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
    require_digest(remote, header, variant.header, "the one that is in the set")
    if not isinstance(header, Header):
        raise Refused(Refusal.UNKNOWN_FORMAT, "there is a set in the set", file=remote.address)
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
    """Refuses an artifact that the device of ``system`` cannot load, or that is too large; and one
    that is not what its set says of it, by which it was chosen."""
    from asrbuild.artifact.manifest import read_manifest

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
    from asrbuild.artifact.manifest import read_manifest

    def fetch(file: File) -> None:
        with notify(file):
            _fetch(remote, header.name, file, directory)

    run_concurrently(fetch, [file for file in header.files if wanted(file.path)])
    check_manifest(header, read_manifest(directory))


def _put_in_store(root: Path, header: Header, staging: Path) -> Path:
    """The store has exactly what was signed afterwards, whatever was there, and the signature."""
    return store.publish_signed(
        root, header.name, staging, header.version, header.digests, header.raw
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
            interrupts.check()
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
            fix="ask who keeps it to ship the version again, which sends what is damaged",
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
        system: of the device the one is for, see ``variants.choose``; None: all.
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
    name, version = header.name, header.version
    already = store.keep_signed(root, name, version, header.digests, header.raw)
    path = root / name / version if already else _put_in_store(root, header, staging)
    return _pulled(header, opened.key, path, already=already)
