"""Moving a channel: to a version, back to the version before, and over to another key."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

from asrbuild.base.digest import canonical_json
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.threads import run_concurrently
from asrbuild.handover.ship.channels.chain import history, newest, no_channel, walk
from asrbuild.handover.ship.channels.record import (
    FORMAT,
    PAYLOAD_TYPE,
    ROTATE,
    Record,
    parse_record,
)
from asrbuild.handover.ship.formats.header import Header, parse_header
from asrbuild.handover.ship.formats.sets import (
    VariantSet,
    artifacts_of,
    check_published,
    parse_published,
    signers_of,
)
from asrbuild.handover.ship.refusal import refusing
from asrbuild.handover.ship.remotes.remote import Remote
from asrbuild.handover.ship.signing.envelope import (
    AnySigner,
    sign,
)
from asrbuild.handover.ship.signing.keys import Signer
from asrbuild.handover.ship.signing.trust import (
    Trust,
)

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
        fields |= {"key": base64.b64encode(raw_public).decode(), "why": ROTATE}
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
            there = run_concurrently(
                lambda file, of=header: remote.has(of.name, file), header.files
            )
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
