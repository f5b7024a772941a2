"""Moving a channel: to a version, back to the version before, and over to another key."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import Any

from asrbuild.base.digest import canonical_json
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.threads import run_concurrently
from asrbuild.handover.ship.channels.chain import history, newest, no_channel, walk
from asrbuild.handover.ship.channels.record import (
    FORMAT,
    FORMAT_EVIDENCE,
    PAYLOAD_TYPE,
    ROTATE,
    Accepted,
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
    sign,
)
from asrbuild.handover.ship.signing.keys import Signer
from asrbuild.handover.ship.signing.signer import AnySigner
from asrbuild.handover.ship.signing.trust import (
    Trust,
)

#: Raises where a channel must not point at an artifact or a set of them.
Require = Callable[[Header | VariantSet], None]
#: As ``Require``; returns the evidence on which the channel may point at it.
Accept = Callable[[Header | VariantSet], Accepted]


def anything(published: Header | VariantSet) -> None:
    """Allows a channel to point at any version."""


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
    accepted: Accepted | None = None,
) -> Record:
    """Moves a channel to a version; a channel that points there already is left unchanged.

    Args:
        seconds: how long the record is valid; a new record is signed even if the channel points
            there already. None: it does not expire.
        to: the key that the channel is handed over to, which signs as well; None: none.
        accepted: the evidence on which it moves; None: none is asked for, unless the channel has
            moved on evidence before.

    Raises:
        AsrbuildError: the channel moves on evidence, and none is given; another writer moved the
            channel at the same time, or the remote has no conditional writes, so that this could
            not be noticed.
    """
    chain = walk(remote, name, channel, trust)
    before = chain.records[-1] if chain.records else None
    same = before is not None and (before.version, before.header) == (version, header)
    if accepted is None and before is not None and same:
        accepted = before.evidence  # a new record of the same target stands on the same evidence
    if before is not None and same and seconds is None and to is None:
        if before.evidence == accepted:
            return before
    elif (
        accepted is None
        and why == "set"
        and to is None
        and any(one.evidence for one in chain.records)
    ):
        raise AsrbuildError(
            f"{name}@{channel} moves on evidence of devices, and none is required now",
            key="--require",
            file=remote.address,
            fix=f"`asrbuild channel set {name} {channel} {version} --require policy.yaml`, or give "
            "--without-evidence and the reason, which is signed",
        )
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
    if accepted is not None:
        fields |= {"evidence": asdict(accepted), "format": FORMAT_EVIDENCE}
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
            f"another writer moved {name}@{channel} at the same time",
            file=remote.address,
            fix="see `asrbuild channel history`, and set it again if needed",
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
    """Hands a channel over to another key, by a record that both sign; its target stays.

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
        remote,
        name,
        channel,
        before.version,
        before.header,
        signer=signer,
        trust=trust,
        seconds=seconds,
        to=to,
    )


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
        other_signer: also to a version that only another signer signed.
        require: raises where the channel must not point at this artifact or set.

    Raises:
        AsrbuildError: it never had another version, or that one is no longer on the remote, whole
            and unchanged.
    """
    records = history(remote, name, channel, trust)
    # Rollbacks are undone: going back from a rollback continues from its target.
    stack: list[Record] = []
    for record in records:
        if stack and (record.version, record.header) == (stack[-1].version, stack[-1].header):
            continue  # a new record for the same target
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
    published = _target(remote, target, trust)
    require(published)
    if not other_signer:
        require_own(remote, published, signer, trust, "the channel is not moved")
    return point(
        remote,
        name,
        channel,
        target.version,
        target.header,
        signer=signer,
        trust=trust,
        why="rollback",
        seconds=seconds,
        accepted=target.evidence,
    )


def _target(remote: Remote, target: Record, trust: Trust) -> Header | VariantSet:
    """The artifact or set that an earlier record pointed at, if it is still whole on the remote."""
    name, version = target.name, target.version
    gone = AsrbuildError(
        f"{name} {version}, which {name}@{target.channel} pointed at before, is no longer on the "
        "remote",
        file=remote.address,
        fix=f"ship it again, or set another: `asrbuild channel set {name} {target.channel} "
        f"VERSION`; there are {', '.join(remote.versions(name)[-10:]) or 'none'}",
    )
    raw = remote.header(name, version)
    if raw is None or hashlib.sha256(raw).hexdigest() != target.header:
        raise gone
    with refusing(remote.address):
        published = parse_published(raw)
        check_published(published, trust)
        for part in artifacts_of(published):
            raw = remote.header(*part)
            if raw is None:
                raise gone
            header = parse_header(raw)
            if not all(run_concurrently(partial(remote.has, header.name), header.files)):
                raise gone
    return published


def require_own(
    remote: Remote, published: Header | VariantSet, signer: AnySigner, trust: Trust, so: str
) -> None:
    """Refuses a version that only another signer signed; ``so`` names what is not done then.

    One version may have several builds, whose reports and source code differ.
    """
    by = signers_of(published, trust)
    if any(one.keyid in signer.trust for one in by):
        return
    raise AsrbuildError(
        f"{published.name} {published.version} on the remote is signed by {by[0].label}, not by "
        f"{signer.name}; {so}",
        key="--other-signer",
        file=remote.address,
        fix=f"if you trust the build of {by[0].label} like your own, add --other-signer; otherwise "
        "raise the recipe's version, build and ship that",
    )
