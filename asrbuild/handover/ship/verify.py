"""Proof of a whole remote: every signature, every byte, every channel's newest record."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass

from asrbuild.base import interrupts
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.threads import run_concurrently
from asrbuild.handover.ship.channels.chain import newest
from asrbuild.handover.ship.formats.header import File, Header
from asrbuild.handover.ship.lookup import proven
from asrbuild.handover.ship.refusal import Refused
from asrbuild.handover.ship.remotes.remote import NotifyFile, Remote
from asrbuild.handover.ship.signing.trust import Trust


@dataclass(frozen=True)
class Fault:
    """A fault of a version (``what``: name/version) or a channel (``what``: name@channel).

    ``path``: the file of the version that is missing or has other bytes; None: the fault is in the
    signed header or record.
    """

    what: str
    path: str | None
    message: str


@dataclass(frozen=True)
class CheckSummary:
    """The numbers of checked versions, files and bytes, and the faults."""

    versions: int
    files: int
    bytes: int
    faults: tuple[Fault, ...]


def check_remote(remote: Remote, trust: Trust, notify: NotifyFile = nullcontext) -> CheckSummary:
    """Proves every version and channel of a remote; each file is read once."""
    names = remote.names()
    versions = [
        (name, version)
        for name, listed in zip(names, run_concurrently(remote.versions, names), strict=True)
        for version in listed
    ]
    faults: list[Fault] = []

    def header(of: tuple[str, str]) -> Header | None:
        try:
            published, _ = proven(remote, *of, trust)
        except AsrbuildError as error:
            faults.append(Fault("/".join(of), None, error.message))
            return None
        return published if isinstance(published, Header) else None

    headers = [one for one in run_concurrently(header, versions) if one is not None]
    # Equal contents are one object, but in a registry each artifact has its own.
    needed: dict[tuple[str, str], list[tuple[Header, File]]] = {}
    for one in headers:
        for file in one.files:
            needed.setdefault((one.name, file.sha256), []).append((one, file))
    damage = run_concurrently(lambda uses: _damage(remote, *uses[0], notify), needed.values())
    for uses, message in zip(needed.values(), damage, strict=True):
        if message is not None:
            faults += [Fault(f"{of.name}/{of.version}", f.path, message) for of, f in uses]
    faults += _channel_faults(remote, names, trust)
    return CheckSummary(
        len(versions),
        len(needed),
        sum(uses[0][1].bytes for uses in needed.values()),
        tuple(sorted(faults, key=lambda fault: (fault.what, fault.path or ""))),
    )


def _damage(remote: Remote, header: Header, file: File, notify: NotifyFile) -> str | None:
    """The fault of a file on a remote, None if there is none; it is read to its end."""
    digest = hashlib.sha256()
    count = 0

    def sink(block: bytes) -> None:
        nonlocal count
        interrupts.check()
        count += len(block)
        digest.update(block)

    try:
        with notify(file):
            remote.fetch(header.name, file, sink)
    except Refused as error:
        return error.message
    if count != file.bytes:
        return f"it has {count} bytes, {file.bytes} were signed"
    return None if digest.hexdigest() == file.sha256 else "its bytes are not those that were signed"


def _channel_faults(remote: Remote, names: list[str], trust: Trust) -> Iterator[Fault]:
    for name in names:
        for channel in remote.channels(name):
            try:
                record = newest(remote, name, channel, trust)
                if record is not None:
                    published, _ = proven(remote, name, record.version, trust)
                    if published.digest != record.header:
                        raise AsrbuildError(
                            f"{name} {record.version} is not what the channel was pointed at"
                        )
            except AsrbuildError as error:
                yield Fault(f"{name}@{channel}", None, error.message)
