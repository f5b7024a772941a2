"""Records of a channel form a chain without gaps, which readers remember."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from asrbuild.handover.ship.refusal import Refused
from asrbuild.handover.ship.signing.keys import Signer
from tests.handover.ship.channels.records import (
    NAME,
    STABLE,
    aged,
    copied,
    digest_of,
    fields_of,
    put,
)


@pytest.mark.parametrize("how", ["below the newest", "a hole", "a hole and no hint", "cut short"])
def test_another_history_than_the_seen_one_is_refused(
    versions: list[Path], move: Any, reader: Any, tmp_path: Path, signer: Signer, how: str
):
    """The key's holder signed two histories, or an attacker hides a part of one."""
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
            # Records after the gap are not visible, so the reader keeps the last seen one.
            (remote / STABLE / "current.json").unlink()
            assert reader(remote).version == versions[1].name
            return
    with pytest.raises(Refused, match=r"FORKED|REPLAYED"):
        reader(remote)


def test_a_record_that_does_not_follow_the_seen_one_is_refused(
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
    # A record without a remote must not follow one that names its remote.
    unbound = {key: value for key, value in good.items() if key not in ("expires", "remote")}
    put(remote, signer, **(unbound | {"counter": 4, "previous": digest_of(remote, 3)}))
    for who in ("reader", "somebody"):
        with pytest.raises(Refused, match="does not name the remote"):
            reader(remote, who)


def test_a_move_first_compares_the_channel_with_the_seen_state(
    command: Callable[..., tuple[int, str, str]], versions: list[Path], tmp_path: Path
):
    """Otherwise the key's holder would sign a second history after an attack with an old state."""
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
    remote.rename(tmp_path / "not mounted")
    code, _, err = command("pull", f"{NAME}@stable", "--remote", remote)
    assert (code, err.splitlines()[0]) == (1, "error: the remote does not exist")


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
