"""Channels: bound to their remote, a chain without a gap, with an expiry, from key to key."""

from __future__ import annotations

import base64
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import time_machine

from asrbuild.base.digest import canonical_json, tree_digests
from asrbuild.base.errors import AsrbuildError
from asrbuild.builder.naming import plain_values
from asrbuild.handover.ship.channels.chain import history
from asrbuild.handover.ship.channels.move import rollback, rotate
from asrbuild.handover.ship.channels.record import PAYLOAD_TYPE
from asrbuild.handover.ship.origin import prove_origin
from asrbuild.handover.ship.pointing import set_channel
from asrbuild.handover.ship.pull import Pulled, pull
from asrbuild.handover.ship.push import ship
from asrbuild.handover.ship.refusal import Refused
from asrbuild.handover.ship.remotes.address import open_remote
from asrbuild.handover.ship.signing.envelope import sign
from asrbuild.handover.ship.signing.keys import Signer, new_key
from asrbuild.handover.ship.signing.trust import (
    Trust,
    read_key_file,
    read_trust,
    trust_key,
)
from tests.handover.ship.making import CONTENT, make_artifact

NAME = "demo-dynamic"
STABLE = Path("artifacts", NAME, "channels", "stable")


@pytest.fixture
def versions(tmp_path: Path) -> list[Path]:
    return [
        make_artifact(tmp_path / "artifacts", content={**CONTENT, "alphabet.txt": b"%d" % n})
        for n in range(4)
    ]


@pytest.fixture
def move(signer: Signer, trust: Trust) -> Callable[..., Any]:
    """Ships a version to a folder, and points stable at it."""

    def run(version: Path, folder: Path, by: Signer = signer, **more: Any) -> Any:
        return ship(
            version,
            open_remote(str(folder)),
            signer=by,
            trust={**trust, **by.trust},
            channel="stable",
            other_signer=True,
            **more,
        )

    return run


@pytest.fixture
def reader(tmp_path: Path, config: Path, signer: Signer) -> Callable[..., Pulled]:
    """Somebody who trusts the key alone, and remembers."""

    def run(
        address: object, who: str = "reader", identity: str | None = None, **more: Any
    ) -> Pulled:
        theirs = tmp_path / who
        if not theirs.exists():
            trust_key(read_key_file(config / "keys" / "default.pub"), None, theirs)
        (pulled,) = pull(
            f"{NAME}@stable",
            open_remote(str(address), identity),
            tmp_path / f"{who}s-store",
            trust=read_trust(theirs),
            config=theirs,
            **more,
        )
        return pulled

    return run


def copied(source: Path, to: Path) -> None:
    """Records put on a remote by an attacker who can write to it but has no key."""
    for part in ("artifacts", "blobs"):
        shutil.copytree(source / part, to / part, dirs_exist_ok=True)


def aged(folder: Path, signer: Signer) -> None:
    """Makes all records as they were before records were bound to a remote."""
    previous = None
    for counter in range(1, 1 + len([p for p in (folder / STABLE).iterdir() if p.stem.isdigit()])):
        path = folder / STABLE / f"{counter}.json"
        fields = json.loads(base64.b64decode(json.loads(path.read_text())["payload"]))
        fields = {k: v for k, v in fields.items() if k not in ("expires", "remote")}
        previous = put(folder, signer, **(fields | {"previous": previous}))
    for left in folder.glob("remote.json"):
        left.unlink()


def put(folder: Path, signer: Signer, **fields: Any) -> str:
    """Writes a signed record whatever it says; its digest."""
    import hashlib

    raw = canonical_json(sign(PAYLOAD_TYPE, canonical_json(fields).encode(), signer)).encode()
    (folder / STABLE / f"{fields['counter']}.json").write_bytes(raw)
    return hashlib.sha256(raw).hexdigest()


def fields_of(folder: Path, counter: int) -> dict[str, Any]:
    raw = (folder / STABLE / f"{counter}.json").read_text()
    return json.loads(base64.b64decode(json.loads(raw)["payload"]))


# The remote ------------------------------------------------------------------------------------


@pytest.mark.parametrize("era", ["new", "old"])
@pytest.mark.parametrize("seen", [0, 1, 2])
def test_records_of_another_remote(
    versions: list[Path],
    move: Any,
    reader: Any,
    tmp_path: Path,
    signer: Signer,
    era: str,
    seen: int,
):
    """Staging has more records, and ends on a build that must never reach users."""
    prod, staging = tmp_path / "prod", tmp_path / "staging"
    for version in (versions[3], versions[0], versions[3]):
        move(version, staging)
    for number, version in enumerate(versions[:2], 1):
        move(version, prod)
        if era == "old":
            aged(prod, signer)
        if number <= seen:
            assert reader(prod).version == version.name
    if era == "old":
        aged(staging, signer)
    copied(staging, prod)
    if era == "old" and not seen:
        # Old records name no remote; who has never looked has nothing to compare with.
        assert reader(prod).version == versions[3].name
        return
    with pytest.raises(Refused, match=r"IDENTITY_MISMATCH|FORKED"):
        reader(prod)


def test_the_remotes_number_copied_as_well(
    versions: list[Path], move: Any, reader: Any, tmp_path: Path
):
    """Who has looked at any channel of the remote knows it by its number."""
    prod, staging = tmp_path / "prod", tmp_path / "staging"
    move(versions[0], prod)
    reader(prod)
    for version in (versions[0], versions[3]):
        move(version, staging)
    copied(staging, prod)
    shutil.rmtree(prod / STABLE)
    shutil.copytree(staging / STABLE, prod / STABLE.parent / "stable")
    for name in ("remote.json", "index.json"):
        shutil.copy(staging / name, prod / name)
    with pytest.raises(Refused, match=r"FORKED|IDENTITY_MISMATCH"):
        reader(prod)
    (tmp_path / "reader" / "seen.json").write_text(
        (tmp_path / "reader" / "seen.json").read_text().replace("@stable", "@beta")
    )
    with pytest.raises(Refused, match="IDENTITY_MISMATCH"):
        reader(prod)


def test_a_mirror_is_named(
    versions: list[Path], move: Any, reader: Any, tmp_path: Path, web: tuple[Path, str]
):
    """A web server shows a folder's own number; a copy without it is told what it is a copy of."""
    folder, address = web
    move(versions[0], folder)
    assert reader(address).version == versions[0].name
    mirror = tmp_path / "mirror"
    copied(folder, mirror)
    with pytest.raises(Refused, match=r"IDENTITY_MISMATCH(?s:.*)--remote-id (urn:uuid:\S+)") as no:
        reader(mirror)
    told = str(no.value).split("--remote-id ")[1].split()[0]
    assert reader(mirror, identity=told).version == versions[0].name
    assert reader(mirror, identity=told).already
    with pytest.raises(Refused, match="IDENTITY_MISMATCH"):
        reader(folder, "somebody", identity="s3://models/asr")
    with pytest.raises(AsrbuildError, match="cannot be the identity"):
        reader(folder, identity="two words")


def test_a_bucket_and_a_registry_are_called_by_their_address(
    bucket: str, versions: list[Path], signer: Signer, trust: Trust, reader: Any
):
    ship(versions[0], open_remote(bucket), signer=signer, trust=trust, channel="stable")
    (record,) = history(open_remote(bucket), NAME, "stable", trust)
    assert record.remote == bucket
    assert reader(bucket).version == versions[0].name
    assert open_remote("oci://Example.com/a").identity() == "oci://example.com/a"


def test_no_path_of_the_keepers_machine_is_in_a_record(
    versions: list[Path], move: Any, tmp_path: Path
):
    move(versions[0], tmp_path / "alice-secret")
    for path in (tmp_path / "alice-secret").rglob("*.json"):
        assert b"alice" not in path.read_bytes()
        assert b"alice" not in base64.b64decode(json.loads(path.read_text()).get("payload", ""))


# The chain -------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["below the newest", "a hole", "a hole and no hint", "cut short"])
def test_a_history_that_is_another_one(
    versions: list[Path], move: Any, reader: Any, tmp_path: Path, signer: Signer, how: str
):
    """The key's holder signed two histories, or somebody hides a part of one."""
    remote, other = tmp_path / "remote", tmp_path / "other"
    for version in versions[:2]:
        move(version, remote)
    shutil.copytree(remote, other)
    reader(remote)
    if how == "below the newest":
        shutil.rmtree(other / STABLE)
        for version in (versions[3], versions[1], versions[3]):
            move(version, other)
        copied(other, remote)
    else:
        for version in versions[2:]:
            move(version, remote)
        (remote / STABLE / ("3.json" if "hole" in how else "2.json")).unlink()
        if how == "cut short":
            for name in ("3.json", "4.json", "current.json"):
                (remote / STABLE / name).unlink()
        elif how == "a hole and no hint":
            # What is behind it is not shown to anybody; the reader keeps to what was seen.
            (remote / STABLE / "current.json").unlink()
            assert reader(remote).version == versions[1].name
            return
    with pytest.raises(Refused, match=r"FORKED|REPLAYED"):
        reader(remote)


def test_a_record_that_does_not_follow_what_was_seen(
    versions: list[Path], move: Any, reader: Any, tmp_path: Path, signer: Signer
):
    remote = tmp_path / "remote"
    for version in versions[:3]:
        move(version, remote)
    reader(remote)
    good = fields_of(remote, 3)
    for broken in ({"previous": "0" * 64}, {"previous": None}, {"previous": good["previous"]}):
        put(remote, signer, **(good | {"counter": 4} | broken))
        for who in ("reader", "somebody"):
            with pytest.raises(Refused, match="FORKED"):
                reader(remote, who)
    # After a record that is bound to its remote, one that is not is none.
    unbound = {key: value for key, value in good.items() if key not in ("expires", "remote")}
    put(remote, signer, **(unbound | {"counter": 4, "previous": _digest(remote, 3)}))
    for who in ("reader", "somebody"):
        with pytest.raises(Refused, match="does not name the remote"):
            reader(remote, who)


def _digest(remote: Path, counter: int) -> str:
    import hashlib

    return hashlib.sha256((remote / STABLE / f"{counter}.json").read_bytes()).hexdigest()


def test_who_moves_a_channel_looks_first_what_was_seen(
    command: Callable[..., tuple[int, str, str]], versions: list[Path], tmp_path: Path
):
    """Else the key's holder would sign a second history after an attacker restored an old state."""
    remote = tmp_path / "remote"
    for version in versions[:3]:
        assert command("ship", version, remote, "--channel", "stable")[0] == 0
    for name in ("2.json", "3.json", "current.json"):
        (remote / STABLE / name).unlink()
    for line in (
        ("ship", versions[3], remote, "--channel", "stable"),
        ("channel", "set", NAME, "stable", versions[0].name, "--remote", remote),
        ("channel", "rollback", NAME, "stable", "--remote", remote),
    ):
        code, _, err = command(*line)
        assert (code, "REPLAYED" in err) == (1, True), err
    assert not (remote / STABLE / "2.json").exists()


def test_old_records_are_read_and_followed_by_new_ones(
    versions: list[Path], move: Any, reader: Any, tmp_path: Path, signer: Signer
):
    remote = tmp_path / "remote"
    for version in versions[:2]:
        move(version, remote)
    aged(remote, signer)
    assert "remote" not in fields_of(remote, 2)
    assert reader(remote).version == versions[1].name
    move(versions[2], remote)
    assert fields_of(remote, 3)["remote"].startswith("urn:uuid:")
    for who in ("reader", "somebody"):
        assert reader(remote, who).version == versions[2].name
    with pytest.raises(Refused, match="EXPIRED"):
        reader(remote, fresh=True)


# Going back ------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["the header", "a file", "another header"])
def test_going_back_to_what_is_there_no_more(
    versions: list[Path], move: Any, tmp_path: Path, signer: Signer, trust: Trust, what: str
):
    folder = tmp_path / "remote"
    for version in versions[:2]:
        move(version, folder)
    header = folder / f"artifacts/{NAME}/versions/{versions[0].name}.json"
    if what == "the header":
        header.unlink()
    elif what == "a file":
        (folder / "blobs" / tree_digests(versions[0])["alphabet.txt"]).unlink()
    else:
        header.write_bytes(header.with_name(f"{versions[1].name}.json").read_bytes())
    remote = open_remote(str(folder))
    with pytest.raises(AsrbuildError, match="is no longer on the remote") as no:
        rollback(remote, NAME, "stable", signer=signer, trust=trust)
    assert versions[1].name in str(no.value)
    assert not (folder / STABLE / "3.json").exists()


def test_going_back_to_what_another_signed(
    versions: list[Path], tmp_path: Path, signer: Signer, trust: Trust
):
    other = new_key("other", tmp_path / "theirs")
    both = {**trust, **other.trust}
    remote = open_remote(str(tmp_path / "remote"))
    for version, by in zip(versions, (other, signer), strict=False):
        ship(version, remote, signer=by, trust=both, channel="stable")
    with pytest.raises(AsrbuildError, match="signed by other, not by default"):
        rollback(remote, NAME, "stable", signer=signer, trust=both)
    record = rollback(remote, NAME, "stable", signer=signer, trust=both, other_signer=True)
    assert record.version == versions[0].name


@pytest.mark.parametrize("as_set", [False, True], ids=["artifact", "set"])
def test_a_channel_is_moved_to_nothing_that_is_not_proven(
    command: Callable[..., tuple[int, str, str]],
    versions: list[Path],
    tmp_path: Path,
    as_set: bool,
):
    """`channel set` and `rollback` ask as `ship --channel` does, of each artifact of a set."""
    remote, name = tmp_path / "remote", "demo-set" if as_set else NAME

    def quick(fields: dict[str, Any]) -> None:
        fields["provenance"]["recipe"]["verify"] = plain_values("verify", "quick")

    look = make_artifact(tmp_path / "artifacts", "demo-quick" if as_set else NAME, change=quick)
    shipped = []
    for several in ([versions[0], look], [versions[1]]):
        given = [*several, remote, "--set", name] if as_set else [several[-1], remote]
        code, out, err = command("ship", *given, "--json")
        assert code == 0, err
        shipped.append(json.loads(out)["version"])
    at = (name, "stable", "--remote", remote)
    pointed = remote / "artifacts" / name / "channels" / "stable"

    def refused(*line: object) -> None:
        before = len(list(pointed.glob("*")))
        code, _, err = command(*line)
        assert (code, "is proven by verify=quick only" in err) == (1, True), err
        assert "--allow-unproven" in err
        assert len(list(pointed.glob("*"))) == before

    refused("channel", "set", *at[:2], shipped[0], *at[2:])
    assert command("channel", "set", *at[:2], shipped[0], *at[2:], "--allow-unproven")[0] == 0
    assert command("channel", "set", *at[:2], shipped[1], *at[2:])[0] == 0
    refused("channel", "rollback", *at)
    assert command("channel", "rollback", *at, "--allow-unproven")[0] == 0


# Expiry ----------------------------------------------------------------------------------------


def test_an_expiry_is_demanded(
    versions: list[Path], move: Any, reader: Any, tmp_path: Path, signer: Signer, trust: Trust
):
    folder = tmp_path / "remote"
    move(versions[0], folder)
    with pytest.raises(Refused, match=r"EXPIRED.*has no expiry"):
        reader(folder, fresh=True)
    move(versions[1], folder, seconds=3600.0)
    assert reader(folder, fresh=True).version == versions[1].name
    with time_machine.travel(time.time() + 3700):
        with pytest.raises(Refused, match=r"EXPIRED.*expired at"):
            reader(folder, fresh=True)
        assert reader(folder).version == versions[1].name
        # What is there already is signed anew, and going back skips what was.
        remote = open_remote(str(folder))
        record = set_channel(
            remote, NAME, "stable", versions[1].name, signer=signer, trust=trust, seconds=60
        )
        assert (record.counter, record.expired) == (3, False)
        assert reader(folder, fresh=True).already
        back = rollback(remote, NAME, "stable", signer=signer, trust=trust)
        assert back.version == versions[0].name
    with pytest.raises(AsrbuildError, match="a version has no expiry"):
        pull(
            f"{NAME}@{versions[0].name}",
            open_remote(str(folder)),
            tmp_path / "x",
            trust=trust,
            config=tmp_path / "y",
            fresh=True,
        )


@pytest.mark.parametrize(
    "expires", ["tomorrow", 7, "2026-01-01", "2026-01-01T00:00:00Z", "2026-13-01T00:00:00+00:00"]
)
def test_an_expiry_that_is_none(
    versions: list[Path], move: Any, reader: Any, tmp_path: Path, signer: Signer, expires: Any
):
    move(versions[0], tmp_path / "remote")
    put(tmp_path / "remote", signer, **(fields_of(tmp_path / "remote", 1) | {"expires": expires}))
    with pytest.raises(Refused, match="RECORD_MALFORMED"):
        reader(tmp_path / "remote")


# From key to key -------------------------------------------------------------------------------


@pytest.fixture
def new(tmp_path: Path) -> Signer:
    return new_key("next", tmp_path / "theirs")


@pytest.mark.parametrize("seen", [True, False])
def test_a_channel_is_handed_over(
    versions: list[Path],
    move: Any,
    reader: Any,
    tmp_path: Path,
    signer: Signer,
    trust: Trust,
    new: Signer,
    seen: bool,
):
    """Who trusts the old key alone follows, before and after; the old key's records are over."""
    folder = tmp_path / "remote"
    remote = open_remote(str(folder))
    move(versions[0], folder)
    if seen:
        reader(folder)
    record = rotate(remote, NAME, "stable", signer=signer, to=new, trust=trust)
    assert (record.why, record.version) == ("rotate", versions[0].name)
    both = {**trust, **new.trust}
    ship(versions[1], remote, signer=new, trust=both, channel="stable")
    pulled = reader(folder)
    assert pulled.version == versions[1].name
    assert reader(folder).already
    # What the new key signed can be proven where it came to.
    theirs = read_trust(tmp_path / "reader")
    assert set(theirs) == {signer.keyid, new.keyid}
    assert prove_origin(pulled.path, theirs).keyid == new.keyid  # type: ignore[union-attr]
    # The old key, which may be in other hands by now, moves it no more.
    with pytest.raises(AsrbuildError, match="has handed demo-dynamic@stable over"):
        ship(versions[2], remote, signer=signer, trust=both, channel="stable")
    put(folder, signer, **(fields_of(folder, 3) | {"counter": 4, "previous": _digest(folder, 3)}))
    for who in ("reader", "somebody"):
        with pytest.raises(Refused, match="UNTRUSTED_SIGNER"):
            reader(folder, who)
    (folder / STABLE / "4.json").unlink()
    # And on to a third, by the second.
    third = new_key("third", tmp_path / "thirds")
    rotate(remote, NAME, "stable", signer=new, to=third, trust=both)
    ship(versions[3], remote, signer=third, trust={**both, **third.trust}, channel="stable")
    for who in ("reader", "somebody"):
        assert reader(folder, who).version == versions[3].name


@pytest.mark.parametrize("how", ["by the old alone", "by the new alone", "by a stranger", "no key"])
def test_a_channel_that_is_not_handed_over_by_both(
    versions: list[Path],
    move: Any,
    reader: Any,
    tmp_path: Path,
    signer: Signer,
    new: Signer,
    stranger: Signer,
    how: str,
):
    folder = tmp_path / "remote"
    move(versions[0], folder)
    key = base64.b64encode(new.private.public_key().public_bytes_raw()).decode()
    fields = fields_of(folder, 1) | {
        "counter": 2,
        "previous": _digest(folder, 1),
        "why": "rotate",
        "key": key,
    }
    if how == "no key":
        for nonsense in ("", "AA==", base64.b64encode(bytes(32)).decode(), None):
            put(folder, signer, **(fields | {"key": nonsense}))
            with pytest.raises(Refused, match="RECORD_MALFORMED"):
                reader(folder)
        return
    by = {"by the old alone": [signer], "by the new alone": [new], "by a stranger": [stranger, new]}
    payload = canonical_json(fields).encode()
    envelope = sign(PAYLOAD_TYPE, payload, by[how][0])
    for one in by[how][1:]:
        envelope["signatures"] += sign(PAYLOAD_TYPE, payload, one)["signatures"]
    (folder / STABLE / "2.json").write_text(canonical_json(envelope))
    with pytest.raises(Refused, match=r"NOT_SIGNED|UNTRUSTED_SIGNER"):
        reader(folder)
    assert set(read_trust(tmp_path / "reader")) == {signer.keyid}


def test_the_commands(
    command: Callable[..., tuple[int, str, str]], versions: list[Path], tmp_path: Path, config: Path
):
    remote, mine = tmp_path / "remote", ("--artifacts", tmp_path / "mine")
    where = ("--remote", remote)
    code, _, err = command("ship", versions[0], remote, "--expires", "1h")
    assert (code, "--expires requires --channel" in err) == (2, True)
    code, _, err = command("ship", versions[0], remote, "--channel", "stable", "--expires", "1y")
    assert (code, "is not a time for which" in err) == (1, True)
    assert command("ship", versions[0], remote, "--channel", "stable", "--expires", "1h")[0] == 0
    code, out, err = command("pull", NAME, "--remote", remote, "--fresh", *mine)
    assert code == 0, err
    trusting = tmp_path / "trusting"
    trust_key(read_key_file(config / "keys" / "default.pub"), None, trusting)
    assert command("key", "new", "next")[0] == 0
    line = ("channel", "rotate", NAME, "stable", "--key", "default", "--to")
    code, _, err = command(*line, "default", *where)
    assert (code, "is the key that signs now" in err) == (1, True)
    code, out, err = command(*line, "next", *where)
    assert (code, "(record 2, rotate, signed by" in out) == (0, True), err
    code, _, err = command("pull", NAME, "--remote", remote, "--fresh", *mine)
    assert (code, "EXPIRED" in err) == (1, True)
    code, out, _ = command("channel", "history", NAME, "stable", *where)
    assert (code, "rotate" in out) == (0, True)
    code, _, err = command(
        "channel",
        "set",
        NAME,
        "stable",
        versions[0].name,
        "--key",
        "default",
        "--expires",
        "1d",
        *where,
    )
    assert (code, "has handed" in err) == (1, True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ASRBUILD_CONFIG", str(trusting))
        code, _, err = command("pull", NAME, "--remote", remote, *mine)
        assert (code, "because its channel was handed over" in err) == (
            0,
            True,
        )
    code, _, err = command("pull", tmp_path / "x.asrb", "--fresh")
    assert (code, "--fresh and --remote-id require a remote" in err) == (2, True)


# Keys ------------------------------------------------------------------------------------------
