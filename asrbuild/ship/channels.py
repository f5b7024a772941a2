"""Channels: signed pointers with a counter, so that an old one cannot pass for the newest.

A record says "the n-th value of this channel of this artifact is this version, whose header has
this digest", and is signed. Records are only ever added, so a channel's history is its records.
Whoever pulls remembers the highest counter that a remote's channel has shown, and refuses a lower
one: moving an old record back into place, or deleting the newer ones, is noticed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from asrbuild import locks
from asrbuild.digest import canonical_json
from asrbuild.disk import disk_errors, write_atomically
from asrbuild.errors import AsrbuildError
from asrbuild.ship.envelope import AnySigner, check_signatures, open_envelope, sign
from asrbuild.ship.header import strict_json
from asrbuild.ship.names import check_channel, check_name, check_version
from asrbuild.ship.refusal import Refusal, Refused, refusing, shown
from asrbuild.ship.remote import MAX_RECORD, Remote
from asrbuild.ship.trust import Trust

PAYLOAD_TYPE = "application/vnd.asrbuild.channel+json"
FORMAT = "asrbuild-channel/1"
#: More records than a channel moved every hour for ten years makes.
_MAX_COUNTER = 100_000
_SEEN = "seen.json"
_HEX = re.compile(r"[0-9a-f]{64}")
_KEYS = {"channel", "counter", "format", "header", "name", "previous", "time", "version", "why"}


@dataclass(frozen=True)
class Record:
    """The ``counter``-th value of a channel.

    ``header``: digest of the bundle header it means; ``previous``: digest of the record before,
    None for the first; ``why``: set or rollback; ``signer``: the trusted key's label.
    """

    name: str
    channel: str
    counter: int
    version: str
    header: str
    previous: str | None
    time: str
    why: str
    signer: str
    digest: str


def parse_record(raw: bytes, name: str, channel: str, counter: int, trust: Trust) -> Record:
    """A record that a trusted key signed for exactly this place.

    Raises:
        Refused: RECORD_MALFORMED, IDENTITY_MISMATCH, or what is wrong with its signature.
    """
    envelope = strict_json(raw, MAX_RECORD, Refusal.RECORD_MALFORMED)
    payload, signatures = open_envelope(envelope, PAYLOAD_TYPE, Refusal.RECORD_MALFORMED)
    key = check_signatures(PAYLOAD_TYPE, payload, signatures, trust)
    fields = strict_json(payload, MAX_RECORD, Refusal.RECORD_MALFORMED)
    if (
        not isinstance(fields, dict)
        or set(fields) != _KEYS
        or fields["format"] != FORMAT
        or type(fields["counter"]) is not int
        or not _is_digest(fields["header"])
        or not (fields["previous"] is None or _is_digest(fields["previous"]))
        or not isinstance(fields["time"], str)
        or fields["why"] not in ("set", "rollback")
    ):
        raise Refused(Refusal.RECORD_MALFORMED, "it is no record of a channel")
    place = (fields["name"], fields["channel"], fields["counter"])
    if place != (name, channel, counter):
        raise Refused(
            Refusal.IDENTITY_MISMATCH,
            f"record {counter} of {name}@{channel} was signed as {shown(place)}",
        )
    del fields["format"]
    version = check_version(fields.pop("version"))
    return Record(
        **fields, version=version, signer=key.label, digest=hashlib.sha256(raw).hexdigest()
    )


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and _HEX.fullmatch(value) is not None


def newest(remote: Remote, name: str, channel: str, trust: Trust) -> Record | None:
    """The channel's last record, None when it has none; nothing is compared with what was seen.

    Raises:
        Refused: a record on the way to it is none that a trusted key signed.
    """
    check_name(name)
    check_channel(channel)
    found: Record | None = None
    hint = remote.hint(name, channel)
    counter, raw = hint, remote.record(name, channel, hint) if hint else None
    if raw is None:
        counter, raw = 1, remote.record(name, channel, 1)
    # Each is proven before the next is asked for: a server may answer anything to any question.
    while raw is not None and counter <= _MAX_COUNTER:
        with refusing(remote.address):
            found = parse_record(raw, name, channel, counter, trust)
        counter += 1
        raw = remote.record(name, channel, counter)
    return found


def current(remote: Remote, name: str, channel: str, trust: Trust, config: Path) -> Record:
    """What a channel says now, not older than what it was seen to say; it is remembered.

    Raises:
        Refused: REPLAYED, FORKED, or what is wrong with its record.
        AsrbuildError: there is no such channel.
    """
    record = newest(remote, name, channel, trust)
    with _seen_lock(config):
        return _compare_with_seen(remote, name, channel, record, config)


def _compare_with_seen(
    remote: Remote, name: str, channel: str, record: Record | None, config: Path
) -> Record:
    seen = _read_seen(config)
    place = _place(remote, name, channel)
    counter, digest = _seen_of(seen.get(place))
    if record is None:
        if counter:
            raise Refused(
                Refusal.REPLAYED,
                f"{name}@{channel} has no record, its record {counter} was seen before",
                file=remote.address,
            )
        raise no_channel(remote, name, channel)
    if record.counter < counter:
        raise Refused(
            Refusal.REPLAYED,
            f"{name}@{channel} shows record {record.counter}, its record {counter} was seen before",
            file=remote.address,
            fix="somebody put an old state back; ask who keeps the remote",
        )
    if record.counter == counter and record.digest != digest:
        raise Refused(
            Refusal.FORKED,
            f"record {counter} of {name}@{channel} was another one when it was seen before",
            file=remote.address,
            fix="two different records were signed for one place; ask who keeps the key",
        )
    if record.counter > counter:
        seen[place] = _sight(record)
        _write_seen(config, seen)
    return record


@contextmanager
def _seen_lock(config: Path) -> Iterator[None]:
    """One process at a time compares and remembers, or one would forget what another saw."""
    doing = "remembering a channel"
    with disk_errors(doing, config):
        config.mkdir(parents=True, exist_ok=True, mode=0o700)
    with locks.hold(config / "seen.lock", waiting=lambda _: None, doing=doing):
        yield


def no_channel(remote: Remote, name: str, channel: str) -> AsrbuildError:
    """Says that there is no such channel, and what there is."""
    known, versions = remote.channels(name), remote.versions(name)
    if known:
        fix = f"its channels are {', '.join(known)}"
    elif versions:
        fix = (
            f"name a version, {versions[-1]}, or point the channel at one: "
            f"`asrbuild channel set {name} {channel} VERSION`"
        )
    else:
        names = ", ".join(remote.names()) or "nothing"
        return AsrbuildError(
            f"there is no {name}", file=remote.address, fix=f"what was shipped there: {names}"
        )
    return AsrbuildError(f"there is no channel {name}@{channel}", file=remote.address, fix=fix)


def _seen_of(entry: Any) -> tuple[int, str]:
    if isinstance(entry, dict) and type(entry.get("counter")) is int:
        return entry["counter"], str(entry.get("digest"))
    return 0, ""


def _read_seen(config: Path) -> dict[str, Any]:
    path = config / _SEEN
    try:
        seen = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(seen, dict):
            raise ValueError("it is no object")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        # To go on would forget what protects against old states.
        raise AsrbuildError(
            f"what channels were seen to say cannot be read: {error}",
            file=path,
            fix="repair or remove it; removing it forgets which states are old",
        ) from None
    return seen


def _write_seen(config: Path, seen: dict[str, Any]) -> None:
    with disk_errors("remembering a channel", config):
        text = json.dumps(seen, indent=2, sort_keys=True) + "\n"
        write_atomically(config / _SEEN, text)


def seen_versions(config: Path) -> set[tuple[str, str]]:
    """Name and version of everything that a channel pointed at when it was last pulled."""
    entries = [entry for entry in _read_seen(config).values() if isinstance(entry, dict)]
    found = {(one["name"], one["version"]) for one in entries if {"name", "version"} <= set(one)}
    return found.union(*(map(tuple, entry.get("variants", ())) for entry in entries))


def seen_channels(config: Path) -> list[tuple[str, str, str]]:
    """Address, name and channel of every channel that was ever pulled from or moved here."""
    places = (place.rpartition("#") for place in _read_seen(config))
    return sorted((address, *name.rpartition("@")[::2]) for address, found, name in places if found)


def remember(
    remote: Remote, record: Record, config: Path, variants: Sequence[tuple[str, str]] = ()
) -> None:
    """Remembers what the user has just made a channel say; ``variants``: of the set it is."""
    with _seen_lock(config):
        seen = _read_seen(config)
        place = _place(remote, record.name, record.channel)
        counter, _ = _seen_of(seen.get(place))
        if record.counter > counter or (variants and record.counter == counter):
            seen[place] = _sight(record) | ({"variants": [*variants]} if variants else {})
            _write_seen(config, seen)


def _place(remote: Remote, name: str, channel: str) -> str:
    return f"{remote.address}#{name}@{channel}"


def _sight(record: Record) -> dict[str, Any]:
    return {
        "counter": record.counter, "digest": record.digest,
        "name": record.name, "version": record.version,
    }  # fmt: skip


def history(remote: Remote, name: str, channel: str, trust: Trust) -> list[Record]:
    """Every record, oldest first, each signed and linked to the one before.

    Raises:
        Refused: FORKED where a link is broken, or what is wrong with a record.
    """
    last = newest(remote, name, channel, trust)
    records: list[Record] = []
    for counter in range(1, last.counter + 1 if last else 1):
        raw = remote.record(name, channel, counter)
        if raw is None:
            raise Refused(
                Refusal.FORKED, f"record {counter} of {name}@{channel} is missing",
                file=remote.address,
            )  # fmt: skip
        with refusing(remote.address):
            record = parse_record(raw, name, channel, counter, trust)
        if record.previous != (records[-1].digest if records else None):
            raise Refused(
                Refusal.FORKED,
                f"record {counter} of {name}@{channel} does not follow the one before it",
                file=remote.address,
            )
        records.append(record)
    return records


def point(
    remote: Remote,
    name: str,
    channel: str,
    version: str,
    header: str,
    *,
    signer: AnySigner,
    trust: Trust,
    why: str = "set",
) -> Record:
    """Moves a channel to a version; one that is there already is let be.

    Raises:
        AsrbuildError: somebody else moved the channel at the same time.
    """
    before = newest(remote, name, channel, trust)
    if before is not None and (before.version, before.header) == (version, header):
        return before
    counter = before.counter + 1 if before else 1
    fields = {
        "channel": channel,
        "counter": counter,
        "format": FORMAT,
        "header": header,
        "name": name,
        "previous": before.digest if before else None,
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "version": version,
        "why": why,
    }
    envelope = sign(PAYLOAD_TYPE, canonical_json(fields).encode(), signer)
    raw = canonical_json(envelope).encode()
    if not remote.add_record(name, channel, counter, raw):
        raise AsrbuildError(
            f"somebody else moved {name}@{channel} at the same time",
            file=remote.address,
            fix="look at `asrbuild channel history`, and set it again if need be",
        )
    return parse_record(raw, name, channel, counter, {**trust, **signer.trust})


def rollback(remote: Remote, name: str, channel: str, *, signer: AnySigner, trust: Trust) -> Record:
    """Moves a channel to the version it had before the present one, by a new record.

    Raises:
        AsrbuildError: it never had another version.
    """
    records = history(remote, name, channel, trust)
    # Undo what rollbacks undid: walking back from a rollback goes on from where it went to.
    stack: list[Record] = []
    for record in records:
        if record.why == "rollback" and len(stack) > 1:
            stack.pop()
        else:
            stack.append(record)
    if len(stack) < 2:
        raise AsrbuildError(
            f"{name}@{channel} has no earlier version to go back to",
            file=remote.address,
            fix=f"set one with `asrbuild channel set {name} {channel} VERSION`",
        )
    target = stack[-2]
    return point(
        remote, name, channel, target.version, target.header,
        signer=signer, trust=trust, why="rollback",
    )  # fmt: skip
