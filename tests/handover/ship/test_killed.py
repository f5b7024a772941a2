"""``ship`` is killed at random moments: the remote stays readable, and a retry completes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from asrbuild.artifact import integrity
from asrbuild.base.digest import tree_digests
from asrbuild.handover.ship.channels.chain import history
from asrbuild.handover.ship.pull import pull
from asrbuild.handover.ship.push import ship, ship_set
from asrbuild.handover.ship.remotes.address import open_remote
from asrbuild.handover.ship.signing.keys import Signer
from asrbuild.handover.ship.signing.trust import Trust
from tests.handover.ship.making import CONTENT, make_artifact
from tests.killing import seeded


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skips fsync in this process; the killed processes use it."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return make_artifact(tmp_path / "artifacts")


@pytest.fixture
def new(tmp_path: Path, old: Path) -> Path:
    return make_artifact(tmp_path / "artifacts", content={**CONTENT, "model.mlmodel": b"x" * 99})


def _kill(artifact: Path, name: str, addresses: list[str], points: list[int]) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.handover.ship.killer", str(artifact), name, *addresses],
        input=" ".join(map(str, points)),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout.splitlines()


def _check(
    address: str,
    old: Path,
    new: Path,
    out: Path,
    config: Path,
    trust: Trust,
    name: str = "demo-dynamic",
) -> str:
    """Asserts that every listed version can be pulled, and that the channel is one of two."""
    remote = open_remote(address)
    truth = {path.name: tree_digests(path) for path in (old, new)}
    for version in remote.versions("demo-dynamic"):
        (pulled,) = pull(
            f"demo-dynamic@{version}", remote, out / version, trust=trust, config=config
        )
        assert tree_digests(pulled.path) == truth[version]
    for version in remote.versions(name):
        assert pull(f"{name}@{version}", remote, out / version, trust=trust, config=config)
    (pulled,) = pull(f"{name}@beta", remote, out / "beta", trust=trust, config=config)
    assert tree_digests(pulled.path) == truth[pulled.version]
    assert integrity.verify_files(pulled.path) == []
    return pulled.version


@pytest.mark.parametrize(
    ("kind", "count", "name"),
    [
        ("folder", 30, "demo-dynamic"),
        ("folder", 16, "demo-set"),
        ("s3", 4, "demo-dynamic"),
        ("oci", 4, "demo-dynamic"),
    ],
)
def test_a_kill_at_a_random_line_leaves_a_readable_remote(
    kind: str,
    count: int,
    name: str,
    old: Path,
    new: Path,
    tmp_path: Path,
    config: Path,
    signer: Signer,
    trust: Trust,
    request: pytest.FixtureRequest,
):
    base = {
        "folder": lambda: str(tmp_path / "remote"),
        "s3": lambda: request.getfixturevalue("bucket"),
        "oci": lambda: request.getfixturevalue("registry"),
    }[kind]()
    addresses = [f"{base}/killed{n}" for n in range(count + 1)]
    of_set = name if name == "demo-set" else ""

    def send(path: Path, address: str) -> None:
        to, more = open_remote(address), {"signer": signer, "trust": trust, "channel": "beta"}
        if of_set:
            ship_set([path], to, name, **more)  # type: ignore[arg-type]
        else:
            ship(path, to, **more)  # type: ignore[arg-type]

    for address in addresses:
        send(old, address)
    (whole,) = _kill(new, of_set, addresses[:1], [0])
    lines = int(whole.removeprefix("lines "))
    assert lines > 300
    points = sorted(seeded(71).sample(range(1, lines + 1), count))
    assert _kill(new, of_set, addresses[1:], points) == [f"signal {int(signal.SIGKILL)}"] * count
    seen = set()
    for number, (address, point) in enumerate(zip(addresses[1:], points, strict=True)):
        out = tmp_path / "out" / str(number)
        seen.add(_check(address, old, new, out / "killed", config, trust, name))
        send(new, address)
        assert _check(address, old, new, out / "again", config, trust, name) == new.name, point
        records = history(open_remote(address), name, "beta", trust)
        assert len({record.version for record in records}) == len(records) == 2
        assert of_set or [record.version for record in records] == [old.name, new.name]
    # The points range from before the first file to after the pointer.
    if kind == "folder":
        assert seen == {old.name, new.name}


def test_a_kill_from_outside_leaves_a_readable_remote(
    old: Path, new: Path, tmp_path: Path, config: Path, signer: Signer, trust: Trust
):
    """The command is killed after a random time."""
    remote = str(tmp_path / "remote")
    ship(old, open_remote(remote), signer=signer, trust=trust, channel="beta")
    command = [
        sys.executable,
        "-m",
        "asrbuild.cli.main",
        "ship",
        str(new),
        remote,
        "--channel",
        "beta",
    ]
    chance = seeded(5)
    for number in range(5):
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(chance.uniform(0.2, 0.7))
        child.kill()
        child.wait()
        _check(remote, old, new, tmp_path / f"out{number}", config, trust)
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    assert _check(remote, old, new, tmp_path / "last", config, trust) == new.name


def test_remains_of_a_killed_writer_are_removed_later(
    old: Path, new: Path, tmp_path: Path, signer: Signer, trust: Trust
):
    remote = tmp_path / "remote"
    ship(old, open_remote(str(remote)), signer=signer, trust=trust)
    for name, age in (("fresh", 60), ("stale", 2 * 24 * 3600)):
        left = remote / "blobs" / f".incoming-{name}"
        left.write_bytes(b"half")
        os.utime(left, (time.time() - age,) * 2)
    ship(new, open_remote(str(remote)), signer=signer, trust=trust)
    assert [path.name for path in remote.rglob(".incoming-*")] == [".incoming-fresh"]
