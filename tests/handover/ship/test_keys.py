"""Key pairs are written completely or not at all, and only in folders of this user alone."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from asrbuild.base.errors import AsrbuildError
from asrbuild.handover.ship.signing import keys, trust
from asrbuild.handover.ship.signing.keys import find_signer, new_key
from asrbuild.handover.ship.signing.trust import (
    read_key_file,
    read_trust,
    trust_identity,
    trust_key,
)
from tests.killing import PACKAGE, run_until


def halves(config: Path) -> dict[str, set[str]]:
    """Name -> the existing parts of the key: private, public, trusted."""
    found: dict[str, set[str]] = {}
    for path in sorted((config / "keys").glob("[!.]*")):
        found.setdefault(path.stem, set()).add(path.suffix)
    trusted = {one.label for one in read_trust(config).values()}
    return {
        name: {*have, *({"trusted"} & {"trusted" if name in trusted else ""})}
        for name, have in found.items()
    }


WHOLE = {".key", ".pub", "trusted"}


@pytest.mark.parametrize("step", ["write_atomically", "trust_key", "rename", "fsync", "chmod"])
def test_a_full_disk_leaves_no_half_of_a_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
):
    config = tmp_path / "config"
    new_key("there", config)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(keys if hasattr(keys, step) else os, step, refuse)
        with pytest.raises(AsrbuildError, match="no space is left"):
            new_key("new", config)
    assert halves(config) == {"there": WHOLE}
    assert len(read_trust(config)) == 1
    assert not [p for p in (config / "keys").iterdir() if ".key-" in p.name]
    new_key("new", config)
    assert halves(config) == {"there": WHOLE, "new": WHOLE}


def test_a_key_is_complete_or_absent_after_a_kill_at_every_line(tmp_path: Path):
    """After a kill the name can be used again."""

    def child(point: int, config: Path) -> int:
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            lines = run_until(
                point, lambda: new_key("default", config), PACKAGE / "handover" / "ship"
            )
            os.write(writing, str(lines).encode())
            os._exit(0)
        os.close(writing)
        _, status = os.waitpid(pid, 0)
        with os.fdopen(reading) as answer:
            return int(answer.read() or 0) if not os.WIFSIGNALED(status) else -1

    lines = child(0, tmp_path / "whole")
    assert lines > 20
    seen = set()
    for point in range(1, lines + 1, 2):
        config = tmp_path / str(point)
        assert child(point, config) == -1
        if (config / "keys" / "default.key").exists():
            assert halves(config) == {"default": WHOLE}, point
            assert find_signer(None, config).keyid in read_trust(config)
            seen.add("made")
        else:
            new_key("default", config)
            assert halves(config)["default"] == WHOLE, point
            assert not [p for p in (config / "keys").iterdir() if ".key-" in p.name]
            seen.add("again")
    assert seen == {"made", "again"}


def test_an_existing_key_is_not_changed(tmp_path: Path):
    first = new_key("default", tmp_path)
    before = {p.name: p.read_bytes() for p in (tmp_path / "keys").iterdir()}
    with pytest.raises(AsrbuildError, match="the key 'default' exists already"):
        new_key("default", tmp_path)
    assert {p.name: p.read_bytes() for p in (tmp_path / "keys").iterdir()} == before
    assert set(read_trust(tmp_path)) == {first.keyid}


@pytest.mark.parametrize("mask", [0o022, 0o002, 0o000])
def test_keys_are_not_made_in_folders_that_others_may_write_to(tmp_path: Path, mask: int):
    config = tmp_path / "config"
    before = os.umask(mask)
    try:
        new_key("default", config)
        trust_identity("ana@example.com", "https://accounts.example.com", None, config)
    finally:
        os.umask(before)
    for path in [config, *config.rglob("*")]:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert not mode & 0o022, (path, oct(mode))
    assert stat.S_IMODE((config / "keys" / "default.key").stat().st_mode) == 0o600
    assert len(read_trust(config)) == 2


@pytest.mark.parametrize("which", [".", "trusted", "trusted/*.pub", "keys", "keys/default.key"])
@pytest.mark.parametrize("mode", [0o020, 0o002])
def test_keys_that_others_may_write_to_are_not_trusted(
    command: Callable[..., tuple[int, str, str]],
    config: Path,
    which: str,
    mode: int,
    artifact: Path,
    tmp_path: Path,
):
    (place,) = config.glob(which) if which != "." else (config,)
    place.chmod(stat.S_IMODE(place.stat().st_mode) | mode)
    lines: list[tuple[Any, ...]] = [("ship", artifact, tmp_path / "remote")]
    if "keys" not in which:
        lines += [("key", "ls"), ("pull", "demo", "--remote", tmp_path), ("key", "distrust", "x")]
    for line in lines:
        code, _, err = command(*line)
        assert (code, "others may write to it" in err or "read by others" in err) == (1, True), err
        assert f"file: {place}" in err
    assert not (tmp_path / "remote").exists()
    os.system(f"chmod go-w {place}")
    assert command("ship", artifact, tmp_path / "remote")[0] == 0


def test_keys_of_other_owners_are_not_trusted(
    config: Path, signer: object, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(trust.os, "geteuid", lambda: os.getuid() + 4711)
    owner = (config / "trusted").stat().st_uid
    if owner == 0:
        os.chown(config / "trusted", 4242, -1)
    with pytest.raises(AsrbuildError, match="belongs to another user"):
        read_trust(config)


def test_a_pipe_is_not_read_as_a_key(tmp_path: Path):
    os.mkfifo(tmp_path / "x.pub")
    for path in (tmp_path / "x.pub", tmp_path):
        with pytest.raises(AsrbuildError):
            trust_key(read_key_file(path), None, tmp_path / "config")
