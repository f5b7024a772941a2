"""What can go from a remote: versions that no channel ever pointed at, and files of no version.

Nothing is locked, and pushes may go on meanwhile. Each side writes first and looks afterwards:

- a version's header is removed, then the channels are read again: one that was pointed at it
  meanwhile brings the header back. Who moves a channel looks for the header after that.
- a file is moved to ``trash/``, then the headers are read again: one that needs it brings it back.
  Who pushes looks for the files once more after the header is written.

What a killed clean-up left in ``trash/`` is brought back or removed by the next one.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence

from asrbuild.collect import Item
from asrbuild.errors import AsrbuildError
from asrbuild.retention import Candidate, Rules, decide
from asrbuild.ship.channels import PAYLOAD_TYPE
from asrbuild.ship.envelope import open_envelope
from asrbuild.ship.header import MAX_HEADER, parse_header, strict_json
from asrbuild.ship.names import check_version
from asrbuild.ship.refusal import Refusal, Refused
from asrbuild.ship.remote import MAX_RECORD, ObjectRemote, Remote, Stored

#: A push sends its files within so long before the header that needs them.
PUSH_SECONDS = 24 * 3600.0
_TRASH = "trash"


def survey(remote: Remote, rules: Rules, now: float | None = None) -> list[Item]:
    """Every version and every file of a remote, and whether it stays; nothing is changed.

    Signatures do not matter here: what somebody else signed stays as well as what we did.

    Raises:
        AsrbuildError: the remote cannot be cleaned up from here, or a header or record cannot be
            read, so that nobody knows what is needed.
    """
    now = time.time() if now is None else now
    place = _place(remote)
    sizes: dict[tuple[str, str], int] = {}
    candidates, pointed = [], {}
    stored_files = place.objects.entries("blobs")
    for name in place.names():
        for stored in place.objects.entries(_versions(name)):
            version = stored.name.removesuffix(".json")
            sizes[name, version] = stored.bytes
            candidates.append(Candidate(name, version, max(0.0, now - stored.modified)))
        for version, channel in _pointed(place, name).items():
            pointed[name, version] = f"in the history of {name}@{channel}"
    versions = [
        Item(
            "version", f"{v.candidate.name}/{v.candidate.version}",
            sizes[v.candidate.name, v.candidate.version], v.candidate.age, v.keep, v.why,
        )
        for v in decide(candidates, rules, pointed)
    ]  # fmt: skip
    going = {item.name for item in versions if not item.keep}
    return [*versions, *_files(place, stored_files, going, now)]


def _place(remote: Remote) -> ObjectRemote:
    if not isinstance(remote, ObjectRemote):
        raise AsrbuildError(
            "a registry is cleaned up by its keeper, not from outside",
            file=remote.address,
            fix="remove tags there, and run its garbage collection",
        )
    return remote


def _versions(name: str) -> str:
    return f"artifacts/{name}/versions"


def _pointed(place: ObjectRemote, name: str) -> dict[str, str]:
    """Version -> channel, for all that a channel says or ever said."""
    pointed = {}
    for channel in place.channels(name):
        folder = f"artifacts/{name}/channels/{channel}"
        for stored in place.objects.entries(folder):
            if stored.name.removesuffix(".json").isdigit():
                raw = place.objects.read(f"{folder}/{stored.name}", MAX_RECORD)
                if raw is not None:
                    pointed[_version_of(raw)] = channel
    return pointed


def _version_of(record: bytes) -> str:
    malformed = Refusal.RECORD_MALFORMED
    payload, _ = open_envelope(strict_json(record, MAX_RECORD, malformed), PAYLOAD_TYPE, malformed)
    fields = strict_json(payload, MAX_RECORD, malformed)
    if not isinstance(fields, dict):
        raise Refused(malformed, "it is no record of a channel")
    return check_version(fields.get("version"))


def _needed(place: ObjectRemote, without: Collection[str] = ()) -> set[str]:
    """Digests of every file of every version but some."""
    needed: set[str] = set()
    for name in place.names():
        for stored in place.objects.entries(_versions(name)):
            if f"{name}/{stored.name.removesuffix('.json')}" in without:
                continue
            raw = place.objects.read(f"{_versions(name)}/{stored.name}", MAX_HEADER)
            if raw is not None:
                needed |= {file.sha256 for file in parse_header(raw).files}
    return needed


def _files(place: ObjectRemote, files: list[Stored], going: set[str], now: float) -> Iterator[Item]:
    needed = _needed(place, without=going)
    for stored in files:
        age = max(0.0, now - stored.modified)
        keep, why = False, "no version needs it"
        if stored.name in needed:
            keep, why = True, "a version needs it"
        elif age < PUSH_SECONDS:
            keep, why = True, "came within a day: somebody may be pushing"
        yield Item("blob", stored.name, stored.bytes, age, keep, why)


def remove(remote: Remote, items: Sequence[Item]) -> Iterator[Item]:
    """Takes away what does not stay, and gives back what really went."""
    place = _place(remote)
    _empty_trash(place)
    for item in items:
        if item.kind == "version" and not item.keep and _remove_version(place, item.name):
            yield item
    place.refresh()
    blobs = {item.name: item for item in items if item.kind == "blob" and not item.keep}
    for digest in sorted(set(blobs) - _needed(place)):
        place.objects.move(f"blobs/{digest}", f"{_TRASH}/{digest}")
    for digest in _empty_trash(place):
        if digest in blobs:
            yield blobs[digest]


def _remove_version(place: ObjectRemote, item: str) -> bool:
    name, _, version = item.partition("/")
    path = f"{_versions(name)}/{version}.json"
    header = place.objects.read(path, MAX_HEADER)
    if header is None:
        return False
    place.objects.remove(path)
    if version in _pointed(place, name):
        place.objects.create(path, header)
        return False
    return True


def _empty_trash(place: ObjectRemote) -> list[str]:
    """Brings back what a version needs, removes the rest and returns its digests."""
    waiting = place.objects.entries(_TRASH)
    if not waiting:
        return []
    needed = _needed(place)
    removed = []
    for stored in waiting:
        path = f"{_TRASH}/{stored.name}"
        if stored.name in needed:
            place.objects.move(path, f"blobs/{stored.name}")
        else:
            place.objects.remove(path)
            removed.append(stored.name)
    return removed
