"""The chain of a channel's records, proven link by link to the newest.

Records are only ever added, so the history of a channel is its records, each of which vouches for
all before it. A chain begins at the record that was seen last, or at the first.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from asrbuild.base.errors import AsrbuildError
from asrbuild.base.threads import IO_THREADS, run_concurrently
from asrbuild.handover.ship.channels.record import ROTATE, Record, handed_over, read_record
from asrbuild.handover.ship.names import check_channel, check_name
from asrbuild.handover.ship.refusal import Refusal, Refused, refusing, shown
from asrbuild.handover.ship.remotes.remote import Remote
from asrbuild.handover.ship.signing.trust import (
    Trust,
)

#: More records than a channel moved every hour for ten years makes.
_MAX_COUNTER = 100_000


@dataclass(frozen=True)
class Sight:
    """The last record that was seen of a channel.

    Attributes:
        counter: of the record, 0 if none was seen; ``digest``: of it.
        remote: the identity of its remote, if one of that remote's channels named it.
        bound: records must name the remote.
        retired: ids of keys whose newer records are refused.
        granted: ids of keys that rotations handed the channel over to.
    """

    counter: int = 0
    digest: str = ""
    remote: str | None = None
    bound: bool = False
    retired: frozenset[str] = frozenset()
    granted: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Chain:
    """Proven records that follow one another to the newest, oldest first.

    ``trust``: the trusted signers, with the keys that rotations handed the channel over to;
    ``granted`` and ``retired``: as in :class:`Sight`.
    """

    records: tuple[Record, ...]
    trust: Trust
    granted: frozenset[str]
    retired: frozenset[str]


def newest(remote: Remote, name: str, channel: str, trust: Trust) -> Record | None:
    """The channel's last record, None when it has none; not compared with what was seen before.

    Raises:
        Refused: FORKED, IDENTITY_MISMATCH, or the fault of a record.
    """
    records = walk(remote, name, channel, trust).records
    return records[-1] if records else None


def history(remote: Remote, name: str, channel: str, trust: Trust) -> list[Record]:
    """Every record, oldest first, each linked to the previous one.

    A trusted signer signed the newest record, which vouches for the others.
    """
    return list(walk(remote, name, channel, trust).records)


def walk(
    remote: Remote,
    name: str,
    channel: str,
    trust: Trust,
    since: Sight | None = None,
) -> Chain:
    """Proves the records from the one that was seen last, or from the first, to the newest.

    Raises:
        Refused: FORKED if a link is broken or a record is missing, REPLAYED if the record that
            was seen is gone, IDENTITY_MISMATCH if one is of another remote or channel; the fault
            of a record; or no trusted signer signed the newest.
    """
    since = since or Sight()
    check_name(name)
    check_channel(channel)
    place = f"{name}@{channel}"
    trusted, retired, granted = dict(trust), set(since.retired), set(since.granted)
    records: list[Record] = []
    failure: Refused | None = None
    identity: str | None = None
    hint = remote.hint(name, channel)
    start = max(1, since.counter)
    for counter, raw in enumerate(_raw_records(remote, name, channel, start, hint), start):
        with refusing(remote.address):
            signing = {keyid: one for keyid, one in trusted.items() if keyid not in retired}
            record, by, failure = read_record(raw, name, channel, counter, signing)
            _require_link(record, records, since, failure, place)
            if record.remote is not None and identity is None:
                identity = since.remote or remote.identity()
                if identity is None:
                    raise Refused(
                        Refusal.IDENTITY_MISMATCH,
                        f"{place} was signed for one remote, and this one states no identity",
                        fix="if this is a mirror of that remote, pull with --remote-id "
                        f"{shlex.quote(record.remote)}",
                    )
            if record.remote is not None and record.remote != identity:
                raise Refused(
                    Refusal.IDENTITY_MISMATCH,
                    f"record {counter} of {place} was signed for the remote "
                    f"{shown(record.remote)}, this one is {shown(identity)}",
                    fix="if this is a mirror of that remote, pull with --remote-id "
                    f"{shlex.quote(record.remote)}",
                )
            if record.why == ROTATE and by:
                new = handed_over(record, raw, by[0].label)
                trusted[new.keyid] = trusted.get(new.keyid, new)
                retired |= {one.keyid for one in by if one.keyid != new.keyid}
                retired.discard(new.keyid)
                granted.add(new.keyid)
        records.append(record)
    last = start + len(records) - 1
    if since.counter and not records:
        remote.names()  # raises if the whole remote is gone, such as a disk that is not mounted
        raise Refused(
            Refusal.REPLAYED,
            f"record {since.counter} of {place}, which was seen before, is gone",
            file=remote.address,
            fix="an old state was put back; ask the keeper of the remote",
        )
    if hint > last and remote.record(name, channel, hint) is not None:
        raise Refused(
            Refusal.FORKED,
            f"record {last + 1} of {place} is missing, but the remote has record {hint}",
            file=remote.address,
        )
    if failure is not None:
        with refusing(remote.address):
            raise failure
    return Chain(tuple(records), trusted, frozenset(granted), frozenset(retired))


def _raw_records(
    remote: Remote, name: str, channel: str, counter: int, hint: int
) -> Iterator[bytes]:
    """The records from ``counter`` on, to the first that is missing.

    Each batch is proven before the next is requested: a server may send any answer.
    """
    while counter <= _MAX_COUNTER:
        ahead = range(counter, counter + min(IO_THREADS, max(1, hint - counter + 1)))
        if len(ahead) == 1:
            batch = [remote.record(name, channel, counter)]
        else:
            batch = run_concurrently(lambda number: remote.record(name, channel, number), ahead)
        for raw in batch:
            if raw is None:
                return
            yield raw
        counter = ahead.stop


def _require_link(
    record: Record, before: Sequence[Record], since: Sight, failure: Refused | None, place: str
) -> None:
    """Refuses a record that differs from the one that was seen, or does not follow the last."""
    broken = None
    if record.counter == since.counter:
        if record.digest != since.digest:
            broken = "is not the one that was seen before"
    elif record.previous != (before[-1].digest if before else None):
        broken = "does not follow the one before it"
    if record.remote is None and (before[-1].remote is not None if before else since.bound):
        broken = broken or "does not name the remote it is for"
    if broken is not None:
        raise failure or Refused(
            Refusal.FORKED,
            f"record {record.counter} of {place} {broken}",
            fix="two histories were signed for one channel; ask who keeps the key and the remote",
        )


def no_channel(remote: Remote, name: str, channel: str) -> AsrbuildError:
    """The error that there is no such channel; its fix lists the channels or versions there."""
    known, versions = remote.channels(name), remote.versions(name)
    at = f"--remote {shlex.quote(remote.address)}"
    if known:
        fix = f"its channels are {', '.join(known)}: name one, {name}@{known[0]}"
    elif versions:
        fix = (
            f"take a version, `asrbuild pull {name}@{versions[-1]} {at}`, or point the channel "
            f"at one, `asrbuild channel set {name} {channel} {versions[-1]} {at}`"
        )
    else:
        names = ", ".join(remote.names()) or "nothing"
        return AsrbuildError(
            f"the remote has no artifact {name}", file=remote.address, fix=f"it has: {names}"
        )
    return AsrbuildError(
        f"the remote has no channel {name}@{channel}", file=remote.address, fix=fix
    )
