"""Moves of a channel: rollback, proof, expiry, and the commands."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import time_machine

from asrbuild.base.digest import tree_digests
from asrbuild.base.errors import AsrbuildError
from asrbuild.builder.naming import plain_values
from asrbuild.handover.ship.channels.move import rollback
from asrbuild.handover.ship.pointing import set_channel
from asrbuild.handover.ship.pull import pull
from asrbuild.handover.ship.push import ship
from asrbuild.handover.ship.refusal import Refused
from asrbuild.handover.ship.remotes.address import open_remote
from asrbuild.handover.ship.signing.keys import Signer, new_key
from asrbuild.handover.ship.signing.trust import (
    Trust,
    read_key_file,
    trust_key,
)
from tests.handover.ship.channels.records import NAME, STABLE, fields_of, put
from tests.handover.ship.making import make_artifact


@pytest.mark.parametrize("what", ["the header", "a file", "another header"])
def test_a_rollback_to_a_removed_version_is_refused(
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


def test_a_rollback_to_a_build_of_another_signer_requires_an_option(
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
def test_a_channel_is_moved_only_to_proven_artifacts(
    command: Callable[..., tuple[int, str, str]],
    versions: list[Path],
    tmp_path: Path,
    as_set: bool,
):
    """`channel set` and `rollback` check each artifact of a set, as `ship --channel` does."""
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


def test_a_reader_may_require_an_expiry(
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
        # The version of the channel is signed again, and a rollback skips its earlier record.
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
def test_a_malformed_expiry_is_refused(
    versions: list[Path], move: Any, reader: Any, tmp_path: Path, signer: Signer, expires: Any
):
    move(versions[0], tmp_path / "remote")
    put(tmp_path / "remote", signer, **(fields_of(tmp_path / "remote", 1) | {"expires": expires}))
    with pytest.raises(Refused, match="RECORD_MALFORMED"):
        reader(tmp_path / "remote")


def test_the_commands_move_and_rotate_channels(
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
