"""Channels: signed pointers with a counter, so that an old one cannot pass for the newest.

A record says "the n-th value of this channel of this artifact on this remote is this version, whose
header has this digest; the record before has that digest", and is signed. Records are only ever
added, so a channel's history is its records, each of which vouches for all before it. Whoever pulls
remembers the last record that a remote's channel has shown, and demands the chain from there to the
newest: an old state put back, another history and a history cut short are noticed. A record may
expire, and one that the old and the new key sign hands a channel over; docs/bundle-format.md.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from asrbuild.base import locks
from asrbuild.base.digest import canonical_json
from asrbuild.base.disk import disk_errors, write_atomically
from asrbuild.base.errors import AsrbuildError
from asrbuild.handover.ship.envelope import AnySigner, Signatures, open_envelope, sign, signers
from asrbuild.handover.ship.header import Header, parse_header, strict_json
from asrbuild.handover.ship.keys import Signer
from asrbuild.handover.ship.names import check_channel, check_name, check_version
from asrbuild.handover.ship.parallel import AT_ONCE, abreast
from asrbuild.handover.ship.refusal import Refusal, Refused, refusing, shown
from asrbuild.handover.ship.remote import MAX_RECORD, Remote, is_identity
from asrbuild.handover.ship.sets import (
    VariantSet,
    artifacts_of,
    check_published,
    parse_published,
    signers_of,
)
from asrbuild.handover.ship.trust import (
    Trust,
    Trusted,
    TrustedKey,
    public_pem,
    raw_key,
    read_trust,
    require_own_file,
    trust_key,
)

PAYLOAD_TYPE = "application/vnd.asrbuild.channel+json"
FORMAT = "asrbuild-channel/1"
#: More records than a channel moved every hour for ten years makes.
_MAX_COUNTER = 100_000
_SEEN = "seen.json"
_HEX = re.compile(r"[0-9a-f]{64}")
#: An expiry, in UTC.
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00")
_KEYS = {"channel", "counter", "format", "header", "name", "previous", "time", "version", "why"}
#: Records have these since they are bound to a remote; those from before have neither.
_BOUND = {"expires", "remote"}
_ROTATE = "rotate"
#: How often a walk begins anew because another process went further meanwhile.
_MOST_WALKS = 5


@dataclass(frozen=True)
class Record:
    """The ``counter``-th value of a channel.

    ``header``: digest of the bundle header it means; ``previous``: digest of the record before,
    None for the first; ``why``: set, rollback or rotate; ``signer``: the trusted key's label, or
    the ids of the keys where none is trusted; ``remote``: the identity of the remote it is for,
    None in records from before they had one; ``expires``: ISO 8601, None for never; ``key``: the
    public key that a rotation hands over to, base64 of its 32 bytes.
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
    remote: str | None = None
    expires: str | None = None
    key: str | None = None

    @property
    def expired(self) -> bool:
        """Whether its time is over by this machine's clock."""
        return self.expires is not None and _time(self.expires) <= datetime.now(timezone.utc)


@dataclass(frozen=True)
class Sight:
    """What a channel was last seen to say.

    ``remote``: the identity of its remote, where one of its channels said so; ``bound``: its
    records must name it; ``retired``: ids of keys that sign its records no more; ``granted``: of
    those that a rotation handed it over to.
    """

    counter: int = 0
    digest: str = ""
    remote: str | None = None
    bound: bool = False
    retired: frozenset[str] = frozenset()
    granted: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Chain:
    """Records that follow one another to the newest, oldest first, proven.

    ``trust``: who is believed, with those that rotations handed the channel over to;
    ``granted`` and ``retired``: as in :class:`Sight`.
    """

    records: tuple[Record, ...]
    trust: Trust
    granted: frozenset[str]
    retired: frozenset[str]


def parse_record(raw: bytes, name: str, channel: str, counter: int, trust: Trust) -> Record:
    """A record that a trusted key signed for exactly this place.

    Raises:
        Refused: RECORD_MALFORMED, IDENTITY_MISMATCH, or what is wrong with its signature.
    """
    record, _, failure = _read_record(raw, name, channel, counter, trust)
    if failure is not None:
        raise failure
    return record


def _read_record(
    raw: bytes, name: str, channel: str, counter: int, trust: Trust
) -> tuple[Record, list[Trusted], Refused | None]:
    """A record, who signed it, and why it is not believed where nobody who is trusted did.

    Raises:
        Refused: RECORD_MALFORMED, IDENTITY_MISMATCH; BAD_SIGNATURE of one who is trusted.
    """
    envelope = strict_json(raw, MAX_RECORD, Refusal.RECORD_MALFORMED)
    payload, signatures = open_envelope(envelope, PAYLOAD_TYPE, Refusal.RECORD_MALFORMED)
    by: list[Trusted] = []
    failure = None
    try:
        by = signers(PAYLOAD_TYPE, payload, signatures, trust)
    except Refused as refused:
        if refused.reason is Refusal.BAD_SIGNATURE:
            raise
        failure = refused
    fields = strict_json(payload, MAX_RECORD, Refusal.RECORD_MALFORMED)
    if not _is_record(fields):
        raise Refused(Refusal.RECORD_MALFORMED, "it is no record of a channel")
    place = (fields["name"], fields["channel"], fields["counter"])
    if place != (name, channel, counter):
        raise Refused(
            Refusal.IDENTITY_MISMATCH,
            f"record {counter} of {name}@{channel} was signed as {shown(place)}",
        )
    del fields["format"]
    version = check_version(fields.pop("version"))
    label = by[0].label if by else _unknown(signatures)
    record = Record(**fields, version=version, signer=label, digest=hashlib.sha256(raw).hexdigest())
    return record, by, failure


def _is_record(fields: Any) -> bool:
    if not isinstance(fields, dict):
        return False
    extra = set(fields) - _KEYS
    rotates = fields.get("why") == _ROTATE
    if (
        not set(fields) >= _KEYS
        or extra not in ((set(), _BOUND) if not rotates else (_BOUND | {"key"},))
        or fields["format"] != FORMAT
        or type(fields["counter"]) is not int
        or not _is_digest(fields["header"])
        or not (fields["previous"] is None or _is_digest(fields["previous"]))
        or not isinstance(fields["time"], str)
        or fields["why"] not in ("set", "rollback", _ROTATE)
    ):
        return False
    if extra and not is_identity(fields["remote"]):
        return False
    expires, key = fields.get("expires"), fields.get("key")
    return (expires is None or _is_time(expires)) and (key is None or isinstance(key, str))


def _unknown(signatures: Signatures) -> str:
    ids = ", ".join(str(one["keyid"])[:12] for one in signatures.keys if one["keyid"].isalnum())
    return f"not trusted here: {shown(ids)}"


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and _HEX.fullmatch(value) is not None


def _is_time(text: Any) -> bool:
    try:
        return isinstance(text, str) and bool(_TIME.fullmatch(text) and _time(text))
    except ValueError:
        return False


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


# Walking a chain -------------------------------------------------------------------------------


def newest(remote: Remote, name: str, channel: str, trust: Trust) -> Record | None:
    """The channel's last record, None when it has none; nothing is compared with what was seen.

    Raises:
        Refused: FORKED, IDENTITY_MISMATCH, or what is wrong with a record.
    """
    records = walk(remote, name, channel, trust).records
    return records[-1] if records else None


def history(remote: Remote, name: str, channel: str, trust: Trust) -> list[Record]:
    """Every record, oldest first, each linked to the one before; the newest is signed by one who
    is trusted, and so vouches for the others."""
    return list(walk(remote, name, channel, trust).records)


def walk(
    remote: Remote,
    name: str,
    channel: str,
    trust: Trust,
    since: Sight | None = None,
) -> Chain:
    """The records from the one that was seen last, or from the first, to the newest.

    Raises:
        Refused: FORKED where a link is broken or a record is missing, REPLAYED where the one that
            was seen is not there, IDENTITY_MISMATCH where one is of another remote or place, or
            what is wrong with a record; or nobody who is trusted signed the newest.
    """
    since = since or Sight()
    check_name(name)
    check_channel(channel)
    place = f"{name}@{channel}"
    believed, retired, granted = dict(trust), set(since.retired), set(since.granted)
    records: list[Record] = []
    failure: Refused | None = None
    identity: str | None = None
    hint = remote.hint(name, channel)
    start = max(1, since.counter)
    for counter, raw in enumerate(_raw_records(remote, name, channel, start, hint), start):
        with refusing(remote.address):
            signing = {keyid: one for keyid, one in believed.items() if keyid not in retired}
            record, by, failure = _read_record(raw, name, channel, counter, signing)
            _require_link(record, records, since, failure, place)
            if record.remote is not None and identity is None:
                identity = since.remote or remote.identity()
                if identity is None:
                    raise Refused(
                        Refusal.IDENTITY_MISMATCH,
                        f"{place} was signed for one remote, and this one does not say which it is",
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
            if record.why == _ROTATE and by:
                new = _handed_over(record, raw, by[0].label)
                believed[new.keyid] = believed.get(new.keyid, new)
                retired |= {one.keyid for one in by if one.keyid != new.keyid}
                retired.discard(new.keyid)
                granted.add(new.keyid)
        records.append(record)
    last = start + len(records) - 1
    if since.counter and not records:
        raise Refused(
            Refusal.REPLAYED,
            f"record {since.counter} of {place}, which was seen before, is not there",
            file=remote.address,
            fix="somebody put an old state back; ask who keeps the remote",
        )
    if hint > last and remote.record(name, channel, hint) is not None:
        raise Refused(
            Refusal.FORKED,
            f"record {last + 1} of {place} is missing, record {hint} is there",
            file=remote.address,
        )
    if failure is not None:
        with refusing(remote.address):
            raise failure
    return Chain(tuple(records), believed, frozenset(granted), frozenset(retired))


def _raw_records(
    remote: Remote, name: str, channel: str, counter: int, hint: int
) -> Iterator[bytes]:
    """The records from ``counter`` on, to the first that is missing.

    Each batch is proven before the next is asked for: a server may answer anything to anything.
    """
    while counter <= _MAX_COUNTER:
        ahead = range(counter, counter + min(AT_ONCE, max(1, hint - counter + 1)))
        if len(ahead) == 1:
            batch = [remote.record(name, channel, counter)]
        else:
            batch = abreast(lambda number: remote.record(name, channel, number), ahead)
        for raw in batch:
            if raw is None:
                return
            yield raw
        counter = ahead.stop


def _require_link(
    record: Record, before: Sequence[Record], since: Sight, failure: Refused | None, place: str
) -> None:
    """Refuses a record that is not the one that was seen, or does not follow the one before it."""
    broken = None
    if record.counter == since.counter:
        if record.digest != since.digest:
            broken = "was another one when it was seen before"
    elif record.previous != (before[-1].digest if before else None):
        broken = "does not follow the one before it"
    if record.remote is None and (before[-1].remote is not None if before else since.bound):
        broken = broken or "does not say which remote it is for"
    if broken is not None:
        raise failure or Refused(
            Refusal.FORKED,
            f"record {record.counter} of {place} {broken}",
            fix="two histories were signed for one channel; ask who keeps the key and the remote",
        )


def _handed_over(record: Record, raw: bytes, by: str) -> TrustedKey:
    """The key that a rotation hands over to, which signed it as well.

    Raises:
        Refused: RECORD_MALFORMED, NOT_SIGNED or BAD_SIGNATURE.
    """
    try:
        public = raw_key(base64.b64decode(str(record.key), validate=True))
    except (ValueError, binascii.Error, AsrbuildError):
        raise Refused(Refusal.RECORD_MALFORMED, "the key it hands over to is none") from None
    keyid = hashlib.sha256(public.public_bytes_raw()).hexdigest()
    new = TrustedKey(keyid, f"{by[:40]}-{keyid[:8]}", public)
    envelope = strict_json(raw, MAX_RECORD, Refusal.RECORD_MALFORMED)
    payload, signatures = open_envelope(envelope, PAYLOAD_TYPE, Refusal.RECORD_MALFORMED)
    try:
        signers(PAYLOAD_TYPE, payload, signatures, {keyid: new})
    except Refused as refused:
        if refused.reason is Refusal.BAD_SIGNATURE:
            raise
        raise Refused(
            Refusal.NOT_SIGNED, "the key that the channel is handed over to has not signed that"
        ) from None
    return new


def follow(
    remote: Remote, name: str, channel: str, trust: Trust, config: Path, *, fresh: bool = False
) -> tuple[Record, Trust]:
    """What a channel says now, and who may sign what it points at; it is remembered.

    A key that a rotation hands the channel over to is trusted from now on.

    Args:
        fresh: demand an expiry that is not over.

    Raises:
        Refused: see :func:`walk`; EXPIRED.
        AsrbuildError: there is no such channel.
    """
    for _ in range(_MOST_WALKS):
        since = _sight(_read_seen(config), remote, name, channel)
        known = read_trust(config) if since.granted else {}
        granted = {keyid: known[keyid] for keyid in since.granted if keyid in known}
        chain = walk(remote, name, channel, {**trust, **granted}, since)
        if not chain.records:
            raise no_channel(remote, name, channel)
        record = chain.records[-1]
        if fresh:
            _require_fresh(remote, record)
        with _seen_lock(config):
            seen = _read_seen(config)
            if _sight(seen, remote, name, channel) != since:
                continue  # another process went further meanwhile
            before = dict(seen)
            for keyid in chain.granted - since.granted - set(trust):
                handed = chain.trust[keyid]
                if isinstance(handed, TrustedKey):
                    trust_key(public_pem(handed.public, handed.label), None, config)
            _remember(seen, remote, record, chain)
            if seen != before:
                _write_seen(config, seen)
        return record, chain.trust
    raise AsrbuildError(f"{name}@{channel} moves too often to be read", file=remote.address)


def current(
    remote: Remote, name: str, channel: str, trust: Trust, config: Path, *, fresh: bool = False
) -> Record:
    """What a channel says now, see :func:`follow`."""
    return follow(remote, name, channel, trust, config, fresh=fresh)[0]


def require_seen(remote: Remote, name: str, channel: str, trust: Trust, config: Path) -> None:
    """Before a channel is moved: it still says what it was seen to say here, or more.

    Raises:
        Refused: see :func:`walk`.
    """
    since = _sight(_read_seen(config), remote, name, channel)
    if since.counter:
        walk(remote, name, channel, trust, since)


def _require_fresh(remote: Remote, record: Record) -> None:
    if record.expires is None or record.expired:
        what = "has no expiry" if record.expires is None else f"expired at {record.expires}"
        raise Refused(
            Refusal.EXPIRED,
            f"record {record.counter} of {record.name}@{record.channel} {what}",
            file=remote.address,
            fix="ask its keeper to sign it anew: `asrbuild channel set "
            f"{record.name} {record.channel} {record.version} --expires 30d`; or pull without "
            "--fresh",
        )


# What was seen ---------------------------------------------------------------------------------


@contextmanager
def _seen_lock(config: Path) -> Iterator[None]:
    """One process at a time compares and remembers, or one would forget what another saw."""
    doing = "remembering a channel"
    with disk_errors(doing, config):
        config.mkdir(parents=True, exist_ok=True, mode=0o700)
        require_own_file(config)
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
        counter = _sight(seen, remote, record.name, record.channel).counter
        if record.counter > counter or (variants and record.counter == counter):
            _remember(seen, remote, record)
            if variants:
                seen[_place(remote, record.name, record.channel)]["variants"] = [*variants]
            _write_seen(config, seen)


def _place(remote: Remote, name: str, channel: str) -> str:
    return f"{remote.address}#{name}@{channel}"


def _sight(seen: dict[str, Any], remote: Remote, name: str, channel: str) -> Sight:
    """What was seen of a channel; the remote's identity is one for all its channels."""
    told = remote.told
    if told is None:
        of = (e for place, e in seen.items() if place.rpartition("#")[0] == remote.address)
        known = (entry.get("remote") for entry in of if isinstance(entry, dict))
        told = next((one for one in known if is_identity(one)), None)
    entry = seen.get(_place(remote, name, channel))
    if not isinstance(entry, dict) or type(entry.get("counter")) is not int:
        return Sight(remote=told, bound=remote.told is not None)
    retired, granted = (
        frozenset(filter(_is_digest, entry[key] if isinstance(entry.get(key), list) else ()))
        for key in ("retired", "granted")
    )
    bound = remote.told is not None or is_identity(entry.get("remote"))
    return Sight(entry["counter"], str(entry.get("digest")), told, bound, retired, granted)


def _remember(
    seen: dict[str, Any], remote: Remote, record: Record, chain: Chain | None = None
) -> None:
    place = _place(remote, record.name, record.channel)
    before = seen.get(place)
    entry = dict(before) if isinstance(before, dict) else {}
    if (entry.get("name"), entry.get("version")) != (record.name, record.version):
        entry.pop("variants", None)
    entry |= {
        "counter": record.counter, "digest": record.digest,
        "name": record.name, "version": record.version,
    }  # fmt: skip
    if record.remote is not None:
        entry["remote"] = record.remote
    for key in ("retired", "granted"):
        if chain is not None and (ids := getattr(chain, key)):
            entry[key] = sorted(ids)
    seen[place] = entry


# Moving a channel ------------------------------------------------------------------------------


#: Raises where a channel must not point at an artifact or a set of them.
Require = Callable[[Header | VariantSet], None]


def anything(found: Header | VariantSet) -> None:
    """Allows a channel to point at whatever is on the remote."""


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
    seconds: float | None = None,
    to: Signer | None = None,
) -> Record:
    """Moves a channel to a version; one that is there already is let be.

    Args:
        seconds: how long the record is good for; one that is there already is signed anew. None:
            it does not expire.
        to: the key that the channel is handed over to, which signs as well.

    Raises:
        AsrbuildError: somebody else moved the channel at the same time, or the remote has no
            conditional writes, so that nobody would notice.
    """
    chain = walk(remote, name, channel, trust)
    before = chain.records[-1] if chain.records else None
    same = before is not None and (before.version, before.header) == (version, header)
    if same and seconds is None and to is None:
        return before  # type: ignore[return-value]
    if signer_retired := chain.retired & set(signer.trust):
        raise AsrbuildError(
            f"the key {min(signer_retired)[:12]} has handed {name}@{channel} over",
            key="--key",
            file=remote.address,
            fix="sign with the key that it was handed over to; `asrbuild channel history`",
        )
    counter = before.counter + 1 if before else 1
    now = datetime.now(timezone.utc)
    expires = None if seconds is None else now + timedelta(seconds=seconds)
    fields: dict[str, Any] = {
        "channel": channel,
        "counter": counter,
        "expires": None if expires is None else expires.isoformat(timespec="seconds"),
        "format": FORMAT,
        "header": header,
        "name": name,
        "previous": before.digest if before else None,
        "remote": remote.claim(),
        "time": now.isoformat(timespec="seconds"),
        "version": version,
        "why": why,
    }
    if to is not None:
        raw_public = to.private.public_key().public_bytes_raw()
        fields |= {"key": base64.b64encode(raw_public).decode(), "why": _ROTATE}
    payload = canonical_json(fields).encode()
    envelope = sign(PAYLOAD_TYPE, payload, signer)
    if to is not None:
        envelope["signatures"] += sign(PAYLOAD_TYPE, payload, to)["signatures"]
    raw = canonical_json(envelope).encode()
    if not remote.add_record(name, channel, counter, raw):
        raise AsrbuildError(
            f"somebody else moved {name}@{channel} at the same time",
            file=remote.address,
            fix="look at `asrbuild channel history`, and set it again if need be",
        )
    return parse_record(raw, name, channel, counter, {**trust, **signer.trust})


def rotate(
    remote: Remote,
    name: str,
    channel: str,
    *,
    signer: AnySigner,
    to: Signer,
    trust: Trust,
    seconds: float | None = None,
) -> Record:
    """Hands a channel over to another key, by a record that both sign; what it points at stays.

    Raises:
        AsrbuildError: there is no such channel, or it is the same key.
    """
    before = newest(remote, name, channel, trust)
    if before is None:
        raise no_channel(remote, name, channel)
    if to.keyid in signer.trust:
        raise AsrbuildError(
            f"{to.name} is the key that signs now", key="--to", fix="name another key"
        )
    return point(
        remote, name, channel, before.version, before.header,
        signer=signer, trust=trust, seconds=seconds, to=to,
    )  # fmt: skip


def rollback(
    remote: Remote,
    name: str,
    channel: str,
    *,
    signer: AnySigner,
    trust: Trust,
    seconds: float | None = None,
    other_signer: bool = False,
    require: Require = anything,
) -> Record:
    """Moves a channel to the version it had before the present one, by a new record.

    Args:
        other_signer: also to a version that only somebody else signed.
        require: raises where the channel must not point at what was found.

    Raises:
        AsrbuildError: it never had another version, or that one is not on the remote any more, as
            it was then and whole.
    """
    records = history(remote, name, channel, trust)
    # Undo what rollbacks undid: walking back from a rollback goes on from where it went to.
    stack: list[Record] = []
    for record in records:
        if stack and (record.version, record.header) == (stack[-1].version, stack[-1].header):
            continue  # signed anew
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
    found = _target(remote, target, trust)
    require(found)
    if not other_signer:
        require_own(remote, found, signer, trust, "the channel is not moved")
    return point(
        remote, name, channel, target.version, target.header,
        signer=signer, trust=trust, why="rollback", seconds=seconds,
    )  # fmt: skip


def _target(remote: Remote, target: Record, trust: Trust) -> Header | VariantSet:
    """What an earlier record pointed at, where all of it is still on the remote."""
    name, version = target.name, target.version
    gone = AsrbuildError(
        f"{name} {version}, which {name}@{target.channel} pointed at before, is not on the remote "
        "any more",
        file=remote.address,
        fix=f"ship it again, or set another: `asrbuild channel set {name} {target.channel} "
        f"VERSION`; there are {', '.join(remote.versions(name)[-10:]) or 'none'}",
    )
    raw = remote.header(name, version)
    if raw is None or hashlib.sha256(raw).hexdigest() != target.header:
        raise gone
    with refusing(remote.address):
        found = parse_published(raw)
        check_published(found, trust)
        for part in artifacts_of(found):
            raw = remote.header(*part)
            if raw is None:
                raise gone
            header = parse_header(raw)
            there = abreast(lambda file, of=header: remote.has(of.name, file), header.files)
            if not all(there):
                raise gone
    return found


def require_own(
    remote: Remote, found: Header | VariantSet, signer: AnySigner, trust: Trust, so: str
) -> None:
    """Refuses what only somebody else signed; ``so`` says what is not done then.

    Of one version there may be several builds, whose reports and source code differ.
    """
    by = signers_of(found, trust)
    if any(one.keyid in signer.trust for one in by):
        return
    raise AsrbuildError(
        f"{found.name} {found.version} on the remote is signed by {by[0].label}, not by "
        f"{signer.name}; {so}",
        key="--other-signer",
        file=remote.address,
        fix=f"if you trust what {by[0].label} shipped as you do your own, add --other-signer; else "
        "raise the recipe's version, build and ship that",
    )
