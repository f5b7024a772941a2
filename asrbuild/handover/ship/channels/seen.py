"""The last record that was seen of each channel, in ``<config>/seen.json``.

A reader remembers the last record that it saw of a channel, and requires the chain from there to
the newest: an old state put back, another history and a history cut short are noticed.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from asrbuild.base import locks
from asrbuild.base.disk import disk_errors, write_atomically
from asrbuild.base.errors import AsrbuildError
from asrbuild.handover.ship.channels.chain import Chain, Sight, no_channel, walk
from asrbuild.handover.ship.channels.record import Record, is_digest
from asrbuild.handover.ship.refusal import Refusal, Refused
from asrbuild.handover.ship.remotes.remote import Remote, is_identity
from asrbuild.handover.ship.signing.trust import (
    Trust,
    TrustedKey,
    public_pem,
    read_trust,
    require_own_file,
    trust_key,
)

_SEEN = "seen.json"
#: Walks begin anew this often when another process saves a newer record meanwhile.
_MOST_WALKS = 5


def follow(
    remote: Remote, name: str, channel: str, trust: Trust, config: Path, *, fresh: bool = False
) -> tuple[Record, Trust]:
    """The newest record of a channel, which is remembered, and the signers trusted for its target.

    A key that a rotation hands the channel over to is trusted from now on.

    Args:
        fresh: require an expiry that is not over.

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
                continue  # another process remembered a newer record meanwhile
            before = dict(seen)
            for keyid in chain.granted - since.granted - set(trust):
                handed = chain.trust[keyid]
                if isinstance(handed, TrustedKey):
                    trust_key(public_pem(handed.public, handed.label), None, config)
            _remember(seen, remote, record, chain)
            if seen != before:
                _write_seen(config, seen)
        return record, chain.trust
    raise AsrbuildError(f"{name}@{channel} changes too often to be read", file=remote.address)


def require_seen(remote: Remote, name: str, channel: str, trust: Trust, config: Path) -> None:
    """Refuses a channel that lacks the record that was last seen here; to call before moving it.

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
            fix="ask its keeper to sign a new record: `asrbuild channel set "
            f"{record.name} {record.channel} {record.version} --remote "
            f"{shlex.quote(remote.address)} --expires 30d`; or pull without --fresh",
        )


@contextmanager
def _seen_lock(config: Path) -> Iterator[None]:
    """One process at a time compares and writes, so that none overwrites a newer record."""
    doing = "saving the state of a channel"
    with disk_errors(doing, config):
        config.mkdir(parents=True, exist_ok=True, mode=0o700)
        require_own_file(config)
    with locks.hold(config / "seen.lock", waiting=lambda _: None, doing=doing):
        yield


def _read_seen(config: Path) -> dict[str, Any]:
    path = config / _SEEN
    try:
        seen = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(seen, dict):
            raise ValueError("it is not a JSON object")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        # Without it, an old state could not be noticed.
        raise AsrbuildError(
            f"the saved state of the channels cannot be read: {error}",
            file=path,
            fix="repair or remove it; without it, old states are not noticed",
        ) from None
    return seen


def _write_seen(config: Path, seen: dict[str, Any]) -> None:
    with disk_errors("saving the state of a channel", config):
        text = json.dumps(seen, indent=2, sort_keys=True) + "\n"
        write_atomically(config / _SEEN, text)


def seen_versions(config: Path) -> set[tuple[str, str]]:
    """Name and version of everything that a channel pointed at when it was last seen."""
    entries = [entry for entry in _read_seen(config).values() if isinstance(entry, dict)]
    versions = {(one["name"], one["version"]) for one in entries if {"name", "version"} <= set(one)}
    return versions.union(*(map(tuple, entry.get("variants", ())) for entry in entries))


def seen_channels(config: Path) -> list[tuple[str, str, str]]:
    """Address, name and channel of every channel that was pulled from or moved here."""
    places = (place.rpartition("#") for place in _read_seen(config))
    return sorted(
        (address, *name.rpartition("@")[::2]) for address, separator, name in places if separator
    )


def remember(
    remote: Remote, record: Record, config: Path, variants: Sequence[tuple[str, str]] = ()
) -> None:
    """Remembers a record that was just added; ``variants``: the members of the set it points at."""
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
    """The last record seen of a channel; the remote's identity is shared by its channels."""
    identity = remote.required_identity
    if identity is None:
        of = (e for place, e in seen.items() if place.rpartition("#")[0] == remote.address)
        known = (entry.get("remote") for entry in of if isinstance(entry, dict))
        identity = next((one for one in known if is_identity(one)), None)
    entry = seen.get(_place(remote, name, channel))
    if not isinstance(entry, dict) or type(entry.get("counter")) is not int:
        return Sight(remote=identity, bound=remote.required_identity is not None)
    retired, granted = (
        frozenset(filter(is_digest, entry[key] if isinstance(entry.get(key), list) else ()))
        for key in ("retired", "granted")
    )
    bound = remote.required_identity is not None or is_identity(entry.get("remote"))
    return Sight(entry["counter"], str(entry.get("digest")), identity, bound, retired, granted)


def _remember(
    seen: dict[str, Any], remote: Remote, record: Record, chain: Chain | None = None
) -> None:
    place = _place(remote, record.name, record.channel)
    before = seen.get(place)
    entry = dict(before) if isinstance(before, dict) else {}
    if (entry.get("name"), entry.get("version")) != (record.name, record.version):
        entry.pop("variants", None)
    entry |= {
        "counter": record.counter,
        "digest": record.digest,
        "name": record.name,
        "version": record.version,
    }
    if record.remote is not None:
        entry["remote"] = record.remote
    for key in ("retired", "granted"):
        if chain is not None and (ids := getattr(chain, key)):
            entry[key] = sorted(ids)
    seen[place] = entry
