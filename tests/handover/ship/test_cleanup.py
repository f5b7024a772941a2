"""``asrbuild gc --remote``: a folder, S3 and GCS servers, races with pushes, and kills."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from asrbuild.artifact.cleanup import Item
from asrbuild.artifact.retention import Rules
from asrbuild.base.digest import tree_digests
from asrbuild.base.errors import AsrbuildError
from asrbuild.handover.ship import cleanup
from asrbuild.handover.ship.channels import move
from asrbuild.handover.ship.channels.chain import history
from asrbuild.handover.ship.formats.header import MAX_HEADER
from asrbuild.handover.ship.pointing import set_channel
from asrbuild.handover.ship.pull import pull
from asrbuild.handover.ship.push import ship
from asrbuild.handover.ship.refusal import Refused
from asrbuild.handover.ship.remotes.address import open_remote
from asrbuild.handover.ship.remotes.objects import ObjectRemote
from asrbuild.handover.ship.signing.keys import Signer
from asrbuild.handover.ship.signing.trust import Trust
from tests import command
from tests.handover.ship.making import CONTENT, make_artifact, make_versions, next_second

NAME = "demo-dynamic"
STRICT = Rules(1, 0.0)
#: After this time everything is old, by the server's clock too.
LATER = 3 * 86400.0


@pytest.fixture(params=["folder", "s3", "gs"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "folder":
        return str(tmp_path / "remote")
    if request.param == "gs":
        request.getfixturevalue("gcs")
        return f"gs://models/clean{abs(hash(request.node.nodeid))}"
    return request.getfixturevalue("bucket")


@pytest.fixture
def folder(tmp_path: Path) -> ObjectRemote:
    return _open(str(tmp_path / "remote"))


def _open(address: str) -> ObjectRemote:
    remote = open_remote(address)
    assert isinstance(remote, ObjectRemote)
    return remote


@pytest.fixture
def versions(tmp_path: Path) -> list[Path]:
    return make_versions(tmp_path / "artifacts", 5)


@pytest.fixture
def send(signer: Signer, trust: Trust) -> Callable[..., Any]:
    return lambda path, remote, **more: ship(path, remote, signer=signer, trust=trust, **more)


def clean(remote: ObjectRemote, rules: Rules = STRICT) -> list[Item]:
    return list(cleanup.remove(remote, cleanup.survey(remote, rules, time.time() + LATER)))


def digests_of(remote: ObjectRemote) -> set[str]:
    return {stored.name for stored in remote.objects.entries("blobs")}


def whole(remote: ObjectRemote, paths: list[Path], out: Path, trust: Trust, config: Path) -> None:
    """Asserts that the remote lists exactly these, and that each is pulled byte for byte."""
    assert sorted(remote.versions(NAME)) == sorted(path.name for path in paths)
    for path in paths:
        (pulled,) = pull(f"{NAME}@{path.name}", remote, out, trust=trust, config=config)
        assert tree_digests(pulled.path) == tree_digests(path)


def test_versions_that_no_channel_ever_pointed_at_go(
    address: str, versions: list[Path], send: Any, trust: Trust, config: Path, tmp_path: Path
):
    remote = _open(address)
    # 0 was stable once, 1 is; 3 is pinned, 4 is the newest of all; 2 is not needed.
    for path, channel in zip(versions, ("stable", "stable", None, None, None), strict=True):
        if path is versions[4]:
            next_second(address)
        send(path, remote, channel=channel)
    left = b"left by a push that was killed"
    remote.objects.create(f"blobs/{'ab' * 32}", left)
    rules = Rules(1, 0.0, (f"{NAME}@{versions[3].name}",))
    # Files younger than a day stay, because a push may still need them.
    young = cleanup.survey(remote, rules)
    assert all(item.keep for item in young)
    items = cleanup.survey(remote, rules, time.time() + LATER)
    assert {i.name.partition("/")[2] for i in items if not i.keep and i.kind == "version"} == {
        versions[2].name
    }
    own = set(tree_digests(versions[2]).values())
    for path in (versions[0], versions[1], versions[3], versions[4]):
        own -= set(tree_digests(path).values())
    assert len(own) == 3  # alphabet, manifest, sums
    assert {i.name for i in items if not i.keep and i.kind == "blob"} == {*own, "ab" * 32}
    before = digests_of(remote)
    gone = list(cleanup.remove(remote, items))
    assert gone == [item for item in items if not item.keep]
    assert digests_of(remote) == before - own - {"ab" * 32}
    assert remote.objects.entries("trash") == []
    rest = [path for path in versions if path is not versions[2]]
    whole(remote, rest, tmp_path / "out", trust, config)
    index = json.loads(remote.objects.read("index.json", MAX_HEADER) or b"")
    assert sorted(index["artifacts"][NAME]["versions"]) == sorted(path.name for path in rest)
    assert clean(remote, rules) == []
    # A channel can still go back, and a removed version can be shipped again.
    assert [r.version for r in history(remote, NAME, "stable", trust)] == [
        path.name for path in versions[:2]
    ]
    assert send(versions[2], remote).uploaded == 3
    whole(remote, versions, tmp_path / "out", trust, config)


def test_a_push_that_relies_on_a_removed_file_succeeds(
    address: str, versions: list[Path], send: Any, trust: Trust, config: Path, tmp_path: Path
):
    """The push finds the file; the clean-up removes it before the header is written."""
    remote, other = _open(address), _open(address)
    for path in versions[:3]:
        if path is versions[2]:
            next_second(address)
        send(path, remote)
    real = remote.publish
    went: list[Item] = []

    def publish(*arguments: Any) -> bool:
        went.extend(clean(other))
        return real(*arguments)

    # The files of 0 stay without a header, as after a killed push.
    remote.objects.remove(f"artifacts/{NAME}/versions/{versions[0].name}.json")
    remote.publish = publish  # type: ignore[method-assign]
    shipped = send(versions[0], remote)
    assert {item.kind for item in went} == {"version", "blob"}
    assert shipped.uploaded == 3
    whole(remote, [versions[0], versions[2]], tmp_path / "out", trust, config)


def test_files_of_a_header_that_comes_during_a_clean_up_are_restored(
    folder: ObjectRemote,
    versions: list[Path],
    send: Any,
    trust: Trust,
    config: Path,
    tmp_path: Path,
):
    """The header is written after the clean-up has listed the needed files."""
    for path in versions[:2]:
        send(path, folder)
    header = f"artifacts/{NAME}/versions/{versions[0].name}.json"
    raw = folder.objects.read(header, MAX_HEADER)
    assert raw
    folder.objects.remove(header)
    items = cleanup.survey(folder, STRICT, time.time() + LATER)
    assert sum(not item.keep for item in items) == 3
    real = folder.objects.move

    def move(path: str, to: str) -> None:
        real(path, to)
        folder.objects.create(header, raw)

    folder.objects.move = move  # type: ignore[method-assign]
    assert list(cleanup.remove(folder, items)) == []
    whole(folder, versions[:2], tmp_path / "out", trust, config)


def test_a_version_that_a_channel_moves_to_during_a_clean_up_is_restored(
    folder: ObjectRemote,
    versions: list[Path],
    send: Any,
    signer: Signer,
    trust: Trust,
    config: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    for path in versions[:3]:
        send(path, folder)
        time.sleep(0.01)
    items = cleanup.survey(folder, STRICT, time.time() + LATER)
    real = folder.objects.remove

    # The channel moves just before the removal: the header is restored.
    def remove(path: str) -> None:
        if versions[0].name in path:
            move.point(
                folder, NAME, "beta", versions[0].name, "ab" * 32, signer=signer, trust=trust
            )
        real(path)

    monkeypatch.setattr(folder.objects, "remove", remove)
    gone = {item.name for item in cleanup.remove(folder, items) if item.kind == "version"}
    assert gone == {f"{NAME}/{versions[1].name}"}
    whole(folder, [versions[0], versions[2]], tmp_path / "out", trust, config)
    # The version is removed between the check and the record: moving the channel is an error.
    monkeypatch.undo()
    monkeypatch.setenv("ASRBUILD_CONFIG", str(config))
    real_point = move.point

    def point(*arguments: Any, **more: Any) -> Any:
        real(f"artifacts/{NAME}/versions/{versions[2].name}.json")
        return real_point(*arguments, **more)

    monkeypatch.setattr(move, "point", point)
    with pytest.raises(AsrbuildError, match=r"has removed demo-dynamic .* meanwhile"):
        set_channel(folder, NAME, "stable", versions[2].name, signer=signer, trust=trust)
    monkeypatch.setattr(move, "point", real_point)
    assert not send(versions[2], folder, channel="stable").already
    whole(folder, [versions[0], versions[2]], tmp_path / "out", trust, config)


def test_a_killed_clean_up_is_finished_by_the_next(
    folder: ObjectRemote,
    versions: list[Path],
    send: Any,
    trust: Trust,
    config: Path,
    tmp_path: Path,
):
    """It is killed after every step in turn; the other versions can still be pulled."""
    for path in versions[:3]:
        send(path, folder, channel="stable" if path is versions[0] else None)
        time.sleep(0.01)
    wanted = [versions[0], versions[2]]
    points = 0
    while True:
        send(versions[1], folder)
        os.utime(tmp_path / "remote" / f"artifacts/{NAME}/versions/{versions[1].name}.json", (1, 1))
        child = os.fork()
        if child == 0:
            _die_after(folder, points)
            clean(folder)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        for path in wanted:
            (pulled,) = pull(
                f"{NAME}@{path.name}", folder, tmp_path / f"{points}", trust=trust, config=config
            )
            assert tree_digests(pulled.path) == tree_digests(path)
        clean(folder)
        assert folder.objects.entries("trash") == []
        assert digests_of(folder) == {d for p in wanted for d in tree_digests(p).values()}
        whole(folder, wanted, tmp_path / f"{points}", trust, config)
        if not os.WIFSIGNALED(status):
            break
        points += 1
    assert points > 6


def _die_after(remote: ObjectRemote, count: int) -> None:
    """Kills this process at the change of the remote that follows ``count`` others."""
    left = [count]

    def dying(real: Callable[..., Any]) -> Callable[..., Any]:
        def change(*arguments: Any) -> Any:
            if not left[0]:
                os.kill(os.getpid(), 9)
            left[0] -= 1
            return real(*arguments)

        return change

    for name in ("move", "remove", "create", "replace"):
        setattr(remote.objects, name, dying(getattr(remote.objects, name)))


@pytest.mark.parametrize("what", ["header", "record"])
def test_a_remote_with_unreadable_needs_is_not_cleaned(
    what: str, folder: ObjectRemote, versions: list[Path], send: Any, tmp_path: Path
):
    for path in versions[:3]:
        send(path, folder, channel="beta")
    root = tmp_path / "remote" / f"artifacts/{NAME}"
    path = root / "channels/beta/1.json"
    if what == "header":
        path = root / f"versions/{versions[0].name}.json"
    path.write_bytes(b'{"envelope": "garbled"}')
    before = tree_digests(tmp_path / "remote")
    with pytest.raises(Refused):
        clean(folder)
    assert tree_digests(tmp_path / "remote") == before


def test_the_command_lists_and_removes(
    address: str, versions: list[Path], send: Any, monkeypatch: pytest.MonkeyPatch
):
    remote = _open(address)
    for path in versions[:2]:
        send(path, remote)
    arguments = ["gc", "--remote", address, "--last", "1", "--newer-than", "0s"]
    # All versions are younger than an hour.
    assert "nothing to remove" in command.output(*arguments)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + LATER)
    assert "1 version, 3 files would go" in command.output(*arguments)
    assert len(command.values(*arguments, "--remove")["gone"]) == 4
    assert len(remote.versions(NAME)) == 1


@pytest.mark.parametrize("what", ["header", "record", "name"])
def test_one_damaged_file_does_not_block_the_clean_up(
    what: str,
    folder: ObjectRemote,
    versions: list[Path],
    send: Any,
    trust: Trust,
    config: Path,
    tmp_path: Path,
):
    """Files that it may need stay, and an error at the end names it; all others go."""
    other = [
        make_artifact(tmp_path / "artifacts", "other", {**CONTENT, "alphabet.txt": b"o%d" % n})
        for n in range(2)
    ]
    for path in (*other, *versions[:2]):
        send(path, folder)
        time.sleep(0.01)
    root = tmp_path / "remote" / f"artifacts/{NAME}"
    blobs = digests_of(folder)
    odd = {
        "header": root / "versions/9.json",
        "record": root / "channels/beta/1.json",
        "name": root / "versions/$(id).json",
    }[what]
    odd.parent.mkdir(parents=True, exist_ok=True)
    odd.write_bytes(b'{"envelope": "garbled"}')
    items = cleanup.survey(folder, STRICT, time.time() + LATER)
    told = None
    try:
        clean(folder)
    except Refused as refused:
        told = refused.file
    assert told == (None if what == "name" else str(odd))
    gone = {item.name for item in items if item.kind == "version"} - {
        f"{name}/{version}" for name in folder.names() for version in folder.versions(name)
    }
    assert f"other/{other[0].name}" in gone
    assert (f"{NAME}/{versions[0].name}" in gone) is (what != "record")
    # An unreadable version may need any file, so the files of removed versions stay.
    assert (digests_of(folder) == blobs) is (what == "header")
    kept = [versions[1], *([versions[0]] if what == "record" else [])]
    for path in (*kept, other[1]):
        (pulled,) = pull(
            f"{path.parent.name}@{path.name}", folder, tmp_path / "out", trust=trust, config=config
        )
        assert tree_digests(pulled.path) == tree_digests(path)
    odd.unlink()
    clean(folder)
    assert digests_of(folder) == {
        digest for path in (versions[1], other[1]) for digest in tree_digests(path).values()
    }
