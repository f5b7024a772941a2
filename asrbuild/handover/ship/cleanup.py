"""Clean-up of a remote: removes versions that nothing needs, and files that no version has.

A version is needed if a channel ever pointed to it, or a kept set has it. Nothing is locked, and
pushes may go on meanwhile. Each side writes first and checks afterwards:

- a version's header is removed, then channels and sets are read again; if one needs it by now, the
  header is restored. A writer that moves a channel, or adds a set, checks for the header
  afterwards. Sets are removed before the versions they need.
- a file is moved to ``trash/``, then the headers are read again; a file that one needs is restored.
  A push checks for the files once more after the header is written.

Files that a killed clean-up left in ``trash/`` are restored or removed by the next one.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from itertools import chain

from asrbuild.artifact.cleanup import Item
from asrbuild.artifact.names import is_version
from asrbuild.artifact.retention import Candidate, Rules, Version, decide
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.threads import run_concurrently
from asrbuild.handover.ship.channels.record import PAYLOAD_TYPE
from asrbuild.handover.ship.formats.header import MAX_HEADER, Header, strict_json
from asrbuild.handover.ship.formats.sets import VariantSet, artifacts_of, parse_published
from asrbuild.handover.ship.names import check_version
from asrbuild.handover.ship.refusal import Refusal, Refused
from asrbuild.handover.ship.remotes.objects import ObjectRemote, Stored
from asrbuild.handover.ship.remotes.remote import MAX_RECORD, Remote
from asrbuild.handover.ship.signing.envelope import open_envelope

#: A push sends its files at most this long before the header that needs them.
PUSH_SECONDS = 24 * 3600.0
_TRASH = "trash"


def survey(remote: Remote, rules: Rules, now: float | None = None) -> list[Item]:
    """Every version and every file of a remote, and whether it stays; nothing is changed.

    Signatures do not matter here: versions of all signers are treated alike. A version that cannot
    be read stays, and every file with it; a channel's record that cannot be read keeps every
    version of its name.

    Raises:
        AsrbuildError: the remote cannot be cleaned up from here.
    """
    now = time.time() if now is None else now
    place = _place(remote)
    stored_files = place.objects.entries("blobs")
    present = _present(place)
    unread = _unreadable(place)
    candidates = [
        Candidate(*version, max(0.0, now - stored.modified))
        for version, stored in present.items()
        if version not in unread  # it does not count among the last
    ]
    pointed = {
        (name, version): f"in the history of {name}@{channel}"
        for name in place.names()
        for version, channel in _pointed(place, name).items()
    }
    staying = {
        (v.candidate.name, v.candidate.version)
        for v in decide(candidates, rules, pointed)
        if v.keep
    }
    for of, needed in _sets(place, {}).items():
        if of in staying:
            pointed = dict.fromkeys(needed, f"the set {'@'.join(of)} needs it") | pointed
    versions = [
        Item(
            "version",
            f"{v.candidate.name}/{v.candidate.version}",
            present[v.candidate.name, v.candidate.version].bytes,
            v.candidate.age,
            v.keep,
            v.why,
        )
        for v in decide(candidates, rules, pointed)
    ]
    why = "it cannot be read, so the files it needs are unknown"
    versions += [
        Item(
            "version",
            "/".join(version),
            present[version].bytes,
            max(0.0, now - present[version].modified),
            True,
            why,
        )
        for version in unread
        if version in present
    ]
    going = {item.name for item in versions if not item.keep}
    return [*versions, *_files(place, stored_files, going, now)]


def _place(remote: Remote) -> ObjectRemote:
    if not isinstance(remote, ObjectRemote):
        raise AsrbuildError(
            "a registry is cleaned up by its keeper, not by asrbuild",
            file=remote.address,
            fix="remove tags there, and run its garbage collection",
        )
    return remote


def _path(version: Version) -> str:
    return "artifacts/{}/versions/{}.json".format(*version)


def _present(place: ObjectRemote) -> dict[Version, Stored]:
    """Every version, artifact or set, as it is stored."""
    names = place.names()
    entries = run_concurrently(
        lambda name: place.objects.entries(f"artifacts/{name}/versions"), names
    )
    return {
        (name, stored.name.removesuffix(".json")): stored
        for name, listed in zip(names, entries, strict=True)
        for stored in listed
        if stored.name.endswith(".json") and is_version(stored.name.removesuffix(".json"))
    }


def _read(place: ObjectRemote, versions: Collection[Version]) -> list[Header | VariantSet]:
    """The headers and sets of these versions; one that is gone or unreadable is left out."""
    results = run_concurrently(lambda version: _parsed(place, version), versions)
    return [one for one in results if one is not None and not isinstance(one, AsrbuildError)]


def _parsed(place: ObjectRemote, version: Version) -> Header | VariantSet | AsrbuildError | None:
    """The header or set of a version; None if it is gone, or the error if it cannot be read."""
    path = _path(version)
    try:
        raw = place.objects.read(path, MAX_HEADER)
        if raw is None:
            return None
        return parse_published(raw)
    except Refused as why:
        why.file = f"{place.address}/{path}"
        why.fix = "remove that file, and ship the version again if it was one; until then every "
        why.fix += "file stays"
        return why


def _unreadable(place: ObjectRemote) -> dict[Version, AsrbuildError]:
    """The versions that cannot be read, and the errors."""
    present = [*_present(place)]
    results = zip(
        present, run_concurrently(lambda version: _parsed(place, version), present), strict=True
    )
    return {version: one for version, one in results if isinstance(one, AsrbuildError)}


def _sets(place: ObjectRemote, known: dict[Version, list[Version]]) -> dict[Version, list[Version]]:
    """The versions that each present set needs; ``known`` saves reading a version twice."""
    present = _present(place)
    for published in _read(place, [version for version in present if version not in known]):
        needed = artifacts_of(published) if isinstance(published, VariantSet) else []
        known[published.name, published.version] = needed
    return {version: known[version] for version in present if known.get(version)}


def _pointed(
    place: ObjectRemote, name: str, problems: list[AsrbuildError] | None = None
) -> dict[str, str]:
    """Version -> channel, of all present and past targets; every version if one is unreadable."""
    pointed: dict[str, str] = {}
    for channel in place.channels(name):
        folder = f"artifacts/{name}/channels/{channel}"
        for stored in place.objects.entries(folder):
            if stored.name.removesuffix(".json").isdigit():
                try:
                    raw = place.objects.read(f"{folder}/{stored.name}", MAX_RECORD)
                    if raw is not None:
                        pointed[_version_of(raw)] = channel
                except Refused as refused:
                    unread = dict.fromkeys(place.versions(name), f"{channel}, unreadable")
                    pointed = unread | pointed
                    if problems is not None:
                        refused.file = f"{place.address}/{folder}/{stored.name}"
                        refused.fix = f"put that record back; until then every {name} stays"
                        problems.append(refused)
    return pointed


def _version_of(record: bytes) -> str:
    malformed = Refusal.RECORD_MALFORMED
    payload, _ = open_envelope(strict_json(record, MAX_RECORD, malformed), PAYLOAD_TYPE, malformed)
    fields = strict_json(payload, MAX_RECORD, malformed)
    if not isinstance(fields, dict):
        raise Refused(malformed, "it is no record of a channel")
    return check_version(fields.get("version"))


def _needed(place: ObjectRemote, without: Collection[str] = ()) -> tuple[set[str], Version | None]:
    """Digests of the files of all versions but some, and an unreadable version, if any.

    An unreadable version may need any file.
    """
    versions = [one for one in _present(place) if "/".join(one) not in without]
    results = run_concurrently(lambda version: _parsed(place, version), versions)
    headers = [one for one in results if isinstance(one, Header)]
    unread = [v for v, one in zip(versions, results, strict=True) if isinstance(one, AsrbuildError)]
    return {f.sha256 for header in headers for f in header.files}, min(unread, default=None)


def _files(place: ObjectRemote, files: list[Stored], going: set[str], now: float) -> Iterator[Item]:
    needed, unread = _needed(place, without=going)
    for stored in files:
        age = max(0.0, now - stored.modified)
        keep, why = False, "no version needs it"
        if unread is not None:
            keep, why = True, f"{'/'.join(unread)} cannot be read and may need it"
        elif stored.name in needed:
            keep, why = True, "a version needs it"
        elif age < PUSH_SECONDS:
            keep, why = True, "it is less than a day old: a push may be under way"
        yield Item("blob", stored.name, stored.bytes, age, keep, why)


def remove(remote: Remote, items: Sequence[Item]) -> Iterator[Item]:
    """Removes the items that are not kept, and yields those that were removed.

    Raises:
        Refused: at the end, if a version or a record cannot be read, so that more stays than
            needed.
    """
    place = _place(remote)
    _empty_trash(place)
    known: dict[Version, list[Version]] = {}
    sets = _sets(place, known)
    going = [item for item in items if item.kind == "version" and not item.keep]
    for item in sorted(going, key=lambda item: _version(item) not in sets):
        if _remove_version(place, _version(item), known):
            yield item
    place.refresh()
    blobs = {item.name: item for item in items if item.kind == "blob" and not item.keep}
    needed, unread = _needed(place)
    for digest in sorted(set(blobs) - needed) if unread is None else ():
        place.objects.move(f"blobs/{digest}", f"{_TRASH}/{digest}")
    for digest in _empty_trash(place):
        if digest in blobs:
            yield blobs[digest]
    problems: list[AsrbuildError] = [*_unreadable(place).values()]
    for name in place.names():
        _pointed(place, name, problems)
    if problems:
        raise problems[0]


def _version(item: Item) -> Version:
    name, _, version = item.name.partition("/")
    return name, version


def _remove_version(
    place: ObjectRemote, version: Version, known: dict[Version, list[Version]]
) -> bool:
    header = place.objects.read(_path(version), MAX_HEADER)
    if header is None:
        return False
    place.objects.remove(_path(version))
    name, which = version
    if which in _pointed(place, name) or version in chain(*_sets(place, known).values()):
        place.objects.create(_path(version), header)
        return False
    return True


def _empty_trash(place: ObjectRemote) -> list[str]:
    """Restores the files that a version needs, removes the rest and returns their digests."""
    waiting = place.objects.entries(_TRASH)
    if not waiting:
        return []
    needed, unread = _needed(place)
    removed = []
    for stored in waiting:
        path = f"{_TRASH}/{stored.name}"
        if unread is not None or stored.name in needed:
            place.objects.move(path, f"blobs/{stored.name}")
        else:
            place.objects.remove(path)
            removed.append(stored.name)
    return removed
