"""Shipping to and pulling from real remotes: a folder, an S3 server, an OCI registry, and HTTP."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from asrbuild.artifact import integrity, proven
from asrbuild.artifact.retention import Rules
from asrbuild.base.digest import tree_digests
from asrbuild.base.errors import AsrbuildError
from asrbuild.handover.ship import cleanup
from asrbuild.handover.ship.channels.chain import history
from asrbuild.handover.ship.channels.move import rollback
from asrbuild.handover.ship.formats.header import MAX_HEADER, File, make_header
from asrbuild.handover.ship.pointing import set_channel
from asrbuild.handover.ship.pull import Pulled, pull
from asrbuild.handover.ship.push import ship
from asrbuild.handover.ship.refusal import Refused
from asrbuild.handover.ship.remotes.address import open_remote
from asrbuild.handover.ship.remotes.objects import ObjectRemote
from asrbuild.handover.ship.remotes.remote import NotifyFile, Remote
from asrbuild.handover.ship.signing.keys import Signer, new_key
from asrbuild.handover.ship.signing.trust import Trust, read_trust
from tests.handover.ship.making import CONTENT, make_artifact, make_versions


@pytest.fixture
def versions(tmp_path: Path) -> list[Path]:
    return make_versions(tmp_path / "artifacts", 3)


@pytest.fixture
def fetch(tmp_path: Path, trust: Trust, config: Path) -> Callable[..., Pulled]:
    def run(spec: str, remote: Remote, to: str = "elsewhere") -> Pulled:
        (pulled,) = pull(spec, remote, tmp_path / to, trust=trust, config=config)
        return pulled

    return run


def noting(sent: list[File]) -> NotifyFile:
    """Notes every file that is sent."""
    return lambda file: nullcontext(sent.append(file))


def test_a_shipped_artifact_is_pulled_unchanged(
    artifact: Path, remote: Remote, signer: Signer, trust: Trust, tmp_path: Path, fetch: Any
):
    sent: list[File] = []
    shipped = ship(
        artifact, remote, signer=signer, trust=trust, channel="stable", notify=noting(sent)
    )
    assert shipped.uploaded == len(sent) == len(tree_digests(artifact))
    for spec in ("demo-dynamic", f"demo-dynamic@{shipped.version}", "demo-dynamic@1.0.0"):
        pulled = fetch(spec, remote, to=spec)
        assert tree_digests(pulled.path) == tree_digests(artifact)
        assert integrity.verify_files(pulled.path) == []
        assert (pulled.signer, pulled.already) == ("default", False)
    assert fetch("demo-dynamic", remote, to="demo-dynamic").already
    assert remote.names() == ["demo-dynamic"]
    assert remote.versions("demo-dynamic") == [shipped.version]
    assert remote.channels("demo-dynamic") == ["stable"]


def test_shipping_again_sends_nothing_and_changes_nothing(
    artifact: Path, remote: Remote, signer: Signer, trust: Trust
):
    first = ship(artifact, remote, signer=signer, trust=trust, channel="beta")
    sent: list[File] = []
    again = ship(artifact, remote, signer=signer, trust=trust, channel="beta", notify=noting(sent))
    assert again.already
    assert not sent
    assert (again.header, again.counter) == (first.header, first.counter) == (first.header, 1)


def test_versions_share_their_files(
    versions: list[Path], remote: Remote, signer: Signer, trust: Trust
):
    ship(versions[0], remote, signer=signer, trust=trust)
    second = ship(versions[1], remote, signer=signer, trust=trust)
    # alphabet.txt, manifest.json and SHA256SUMS differ; the weights exist already.
    assert second.uploaded == 3
    assert sorted(remote.versions("demo-dynamic")) == sorted(v.name for v in versions[:2])


def test_an_interrupted_push_resumes(
    artifact: Path, remote: Remote, signer: Signer, trust: Trust, fetch: Any
):
    """The network fails before each file in turn; an incomplete version is not listed."""
    count = len(tree_digests(artifact))
    real = remote.put
    turns, done = [True], Event()

    def put(name: str, file: File, source: Path) -> None:
        try:
            turns.pop()
        except IndexError:
            done.wait(60)  # other transfers are given up when one fails
            raise AsrbuildError("the network is gone") from None
        real(name, file, source)
        done.set()

    remote.put = put  # type: ignore[method-assign]
    for _ in range(count - 1):
        turns, done = [True], Event()
        with pytest.raises(AsrbuildError, match="the network is gone"):
            ship(artifact, remote, signer=signer, trust=trust, channel="beta")
        assert remote.versions("demo-dynamic") == []
        assert remote.channels("demo-dynamic") == []
    turns = [True]
    assert ship(artifact, remote, signer=signer, trust=trust, channel="beta").uploaded == 1
    assert tree_digests(fetch("demo-dynamic@beta", remote).path) == tree_digests(artifact)


def test_a_version_is_never_overwritten(
    artifact: Path, remote: Remote, signer: Signer, trust: Trust, tmp_path: Path, fetch: Any
):
    ship(artifact, remote, signer=signer, trust=trust)
    forged = make_header(artifact, _manifest(artifact), new_key("other", tmp_path / "o"))
    assert not remote.publish(forged.name, forged.version, forged.raw, forged.files)
    header = remote.header(forged.name, forged.version)
    assert header == make_header(artifact, _manifest(artifact), signer).raw
    # Only tampering gives another content under the same version.
    other = tmp_path / "tampered" / artifact.parent.name / artifact.name
    shutil.copytree(artifact, other)
    store_root = tmp_path / "tampered"
    _rewrite(other, "extra.txt", b"more")
    with pytest.raises(AsrbuildError, match=r"another artifact is on the remote.*extra\.txt"):
        ship(other, remote, signer=signer, trust=trust)
    assert store_root.exists()
    assert tree_digests(fetch("demo-dynamic@1.0.0", remote).path) == tree_digests(artifact)


def test_another_build_of_the_same_content_is_not_sent(
    remote: Remote, signer: Signer, trust: Trust, tmp_path: Path
):
    first = make_artifact(tmp_path / "monday")
    second = make_artifact(
        tmp_path / "tuesday",
        change=lambda m: m["provenance"].update(created="2025-06-02T09:00:00+00:00"),
    )
    assert first.name == second.name
    shipped = ship(first, remote, signer=signer, trust=trust)
    again = ship(second, remote, signer=signer, trust=trust, channel="beta")
    assert (again.already, again.header) == (True, shipped.header)


def test_channels_move_with_a_history_and_go_back(
    versions: list[Path], remote: Remote, signer: Signer, trust: Trust, fetch: Any
):
    names = [v.name for v in versions]
    for version in versions:
        ship(version, remote, signer=signer, trust=trust, channel="beta")
    set_channel(remote, "demo-dynamic", "stable", names[0], signer=signer, trust=trust)
    assert fetch("demo-dynamic@beta", remote).version == names[2]
    assert fetch("demo-dynamic@stable", remote).version == names[0]

    def back() -> str:
        record = rollback(remote, "demo-dynamic", "beta", signer=signer, trust=trust)
        assert record.why == "rollback"
        assert fetch("demo-dynamic@beta", remote).version == record.version
        return record.version

    assert [back(), back()] == [names[1], names[0]]
    with pytest.raises(AsrbuildError, match="no earlier version"):
        back()
    set_channel(remote, "demo-dynamic", "beta", names[2], signer=signer, trust=trust)
    records = history(remote, "demo-dynamic", "beta", trust)
    assert [r.version for r in records] == [*names, names[1], names[0], names[2]]
    assert [r.counter for r in records] == list(range(1, 7))
    assert remote.channels("demo-dynamic") == ["beta", "stable"]


def test_concurrent_moves_of_a_channel_report_their_success(
    versions: list[Path],
    remote: Remote,
    address: str,
    signer: Signer,
    trust: Trust,
    others: None,
):
    if address.startswith("gs:"):
        pytest.skip("the emulator of GCS knows no preconditions: a second writer overwrites")
    for version in versions:
        ship(version, remote, signer=signer, trust=trust)

    def move(version: Path) -> str | None:
        """Moves the channel; returns None, or the error."""
        try:
            set_channel(
                open_remote(address),
                "demo-dynamic",
                "beta",
                version.name,
                signer=signer,
                trust=trust,
            )
        except AsrbuildError as error:
            return str(error)
        return None

    with ThreadPoolExecutor(3) as pool:
        refusals = list(pool.map(move, versions))
    assert None in refusals
    assert all("at the same time" in why for why in refusals if why is not None), refusals
    records = history(remote, "demo-dynamic", "beta", trust)
    moved = {v.name for v, why in zip(versions, refusals, strict=True) if why is None}
    assert {record.version for record in records} == moved


def test_concurrent_pushes_of_one_version_agree(
    artifact: Path, address: str, signer: Signer, trust: Trust, fetch: Any
):
    def once(_: int) -> str:
        return ship(artifact, open_remote(address), signer=signer, trust=trust).header

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(once, range(4)))) == 1
    assert tree_digests(fetch("demo-dynamic@1.0.0", open_remote(address)).path) == tree_digests(
        artifact
    )


def test_missing_artifacts_versions_and_channels_are_reported(
    remote: Remote, artifact: Path, signer: Signer, trust: Trust, fetch
):
    ship(artifact, remote, signer=signer, trust=trust, channel="beta")
    with pytest.raises(AsrbuildError, match="has no channel demo-dynamic@stable") as caught:
        fetch("demo-dynamic", remote)
    assert "beta" in str(caught.value)
    with pytest.raises(AsrbuildError, match=r"the remote has no version 2\.0\.0") as caught:
        fetch("demo-dynamic@2.0.0", remote)
    assert artifact.name in str(caught.value)
    with pytest.raises(AsrbuildError, match="the remote has no version"):
        set_channel(remote, "demo-dynamic", "beta", "2.0.0", signer=signer, trust=trust)
    with pytest.raises(AsrbuildError):
        fetch("nobody@1.0.0", remote)


def test_a_damaged_or_unproven_artifact_is_not_shipped(
    remote: Remote, signer: Signer, trust: Trust, tmp_path: Path
):
    unproven = make_artifact(
        tmp_path / "unproven", change=lambda m: m["verification"].update(passed=False)
    )
    with pytest.raises(AsrbuildError, match="has not passed its proof"):
        ship(unproven, remote, signer=signer, trust=trust)
    damaged = make_artifact(tmp_path / "damaged")
    (damaged / "alphabet.txt").chmod(0o644)
    (damaged / "alphabet.txt").write_bytes(b"z")
    with pytest.raises(AsrbuildError, match=r"not as it was published: alphabet\.txt"):
        ship(damaged, remote, signer=signer, trust=trust)


def test_a_web_server_shows_a_folder(
    web: tuple[Path, str], versions: list[Path], signer: Signer, trust: Trust, fetch: Any
):
    folder, address = web
    inside, outside = open_remote(str(folder)), open_remote(address)
    for version in versions:
        ship(version, inside, signer=signer, trust=trust, channel="stable")
        pulled = fetch("demo-dynamic", outside)
        assert tree_digests(pulled.path) == tree_digests(version)
    assert outside.versions("demo-dynamic") == inside.versions("demo-dynamic")
    assert (outside.names(), outside.channels("demo-dynamic")) == (["demo-dynamic"], ["stable"])
    with pytest.raises(AsrbuildError, match="is read-only"):
        ship(versions[0], outside, signer=signer, trust=trust, channel="beta")


def test_a_web_server_without_an_index_is_reported(web: tuple[Path, str], fetch: Any):
    with pytest.raises(AsrbuildError, match=r"no index\.json"):
        open_remote(web[1]).names()
    with pytest.raises(AsrbuildError, match="did not answer"):
        open_remote("http://127.0.0.1:9/x").names()


def test_spellings_of_a_folder_are_one_remote(
    versions: list[Path],
    signer: Signer,
    trust: Trust,
    fetch: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    """The last seen record of a channel belongs to its folder, not to another one of that name."""
    for project, given in (("one", versions[:2]), ("two", versions[2:])):
        (tmp_path / project / "a b").mkdir(parents=True)
        monkeypatch.chdir(tmp_path / project)
        for version in given:
            ship(version, open_remote("a b"), signer=signer, trust=trust, channel="stable")
    for project, counter in (("one", 2), ("two", 1), ("one", 2)):
        monkeypatch.chdir(tmp_path / project)
        pulled = fetch("demo-dynamic", open_remote("a b"), to=project)
        assert pulled.version == versions[2 if counter == 1 else 1].name
    (tmp_path / "one/a b/artifacts/demo-dynamic/channels/stable/2.json").unlink()
    for address in ("../one/a b", (tmp_path / "one" / "a b").as_uri(), tmp_path / "one/./a b"):
        with pytest.raises(AsrbuildError, match="REPLAYED"):
            fetch("demo-dynamic", open_remote(str(address)), to="elsewhere")


def test_an_index_that_misses_a_concurrent_push_is_written_again(
    versions: list[Path], tmp_path: Path, signer: Signer, trust: Trust, monkeypatch: Any
):
    """The slower of two pushes writes last the index that it made first."""
    mine, other = (open_remote(str(tmp_path / "remote")) for _ in range(2))
    replace = mine.objects.replace  # type: ignore[attr-defined]

    def slowly(path: str, content: bytes) -> None:
        if path == "index.json" and not other.versions("demo-dynamic")[1:]:
            ship(versions[1], other, signer=signer, trust=trust)
        replace(path, content)

    monkeypatch.setattr(mine.objects, "replace", slowly)  # type: ignore[attr-defined]
    ship(versions[0], mine, signer=signer, trust=trust)
    index = json.loads((tmp_path / "remote" / "index.json").read_text())
    listed = index["artifacts"]["demo-dynamic"]["versions"]
    assert listed == sorted(version.name for version in versions[:2])


def test_two_teams_with_their_own_keys_share_a_channel(
    remote: Remote, tmp_path: Path, versions: list[Path], signer: Signer, config: Path, fetch: Any
):
    """Each can move the channel to versions of the other, if they trust each other."""
    from asrbuild.handover.ship.signing.trust import read_key_file, trust_key

    ship(versions[0], remote, signer=signer, trust=read_trust(config), channel="stable")
    other_config = tmp_path / "other"
    other = new_key("other", other_config)
    with pytest.raises(AsrbuildError, match="UNTRUSTED_SIGNER"):
        ship(versions[1], remote, signer=other, trust=read_trust(other_config), channel="stable")
    trust_key(read_key_file(config / "keys" / "default.pub"), None, other_config)
    trust_key(read_key_file(other_config / "keys" / "other.pub"), None, config)
    ship(versions[1], remote, signer=other, trust=read_trust(other_config), channel="stable")
    both = read_trust(config)
    (pulled,) = pull("demo-dynamic", remote, tmp_path / "out", trust=both, config=config)
    assert (pulled.version, pulled.signer) == (versions[1].name, "other")


def _manifest(artifact: Path) -> Any:
    from asrbuild.artifact.reading import read_manifest

    return read_manifest(artifact)


def _rewrite(artifact: Path, name: str, content: bytes) -> None:
    """Adds a file to a published artifact, and makes SHA256SUMS agree."""
    artifact.chmod(0o755)
    (artifact / name).write_bytes(content)
    (artifact / "SHA256SUMS").chmod(0o644)
    integrity.write_sums(artifact)
    proven.remember_proven(artifact)  # as if this machine had built it


# What goes wrong without malice -----------------------------------------------------------------


def test_names_and_versions_may_be_prefixes_of_others(
    remote: Remote, address: str, tmp_path: Path, signer: Signer, trust: Trust, fetch: Any
):
    """A name, a recipe version and a channel are each a prefix of another one."""
    made = {
        (name, version): make_artifact(
            tmp_path / "artifacts",
            name,
            {**CONTENT, "alphabet.txt": f"{name} {version}".encode()},
            recipe_version=version,
        )
        for name, version in (("demo", "1.0.1"), ("demo", "1.0.10"), ("demo-b", "1.0.1"))
    }
    for (name, _), artifact in made.items():
        ship(artifact, remote, signer=signer, trust=trust, channel="beta")
        ship(artifact, remote, signer=signer, trust=trust, channel=f"beta-{name}")
    assert remote.names() == ["demo", "demo-b"]
    for name in ("demo", "demo-b"):
        versions = sorted(path.name for (of, _), path in made.items() if of == name)
        assert remote.versions(name) == versions
        assert remote.channels(name) == ["beta", f"beta-{name}"]
        assert fetch(f"{name}@beta", remote).name == name
    for (name, version), artifact in made.items():
        assert fetch(f"{name}@{version}", remote).version == artifact.name
        assert fetch(f"{name}@{artifact.name[:-3]}", remote).version == artifact.name
    with pytest.raises(AsrbuildError, match=r"1\.0 is the start of 2 versions of demo"):
        fetch("demo@1.0", remote)
    with pytest.raises(AsrbuildError, match="the remote has no artifact dem"):
        fetch("dem@beta", remote)
    if isinstance(remote, ObjectRemote):
        # No shared file is removed with one of the names, at any setting of the clocks.
        for now in (0.0, time.time() + 1e9):
            items = cleanup.survey(remote, Rules(1, 0.0), now)
            assert all(item.keep for item in items)
        _remove(remote, "demo-b")
        gone = {
            item.name for item in cleanup.remove(remote, cleanup.survey(remote, Rules(1, 0), now))
        }
        assert gone == set(tree_digests(made["demo-b", "1.0.1"]).values()) - {
            digest
            for (name, _), path in made.items()
            if name == "demo"
            for digest in tree_digests(path).values()
        }
        assert fetch("demo@beta", open_remote(address), to="later").version.startswith("1.0.10+")


def _remove(remote: ObjectRemote, name: str) -> None:
    for folder in ("versions", *(f"channels/{channel}" for channel in remote.channels(name))):
        for stored in remote.objects.entries(f"artifacts/{name}/{folder}"):
            remote.objects.remove(f"artifacts/{name}/{folder}/{stored.name}")


def test_a_file_that_a_remote_has_lost_is_reported_and_sent_again(
    artifact: Path, remote: Remote, signer: Signer, trust: Trust, fetch: Any
):
    """Every kind of remote reports it, and shipping again sends only that file."""
    if not isinstance(remote, ObjectRemote):
        pytest.skip("a registry is not written to but through its interface")
    ship(artifact, remote, signer=signer, trust=trust, channel="beta")
    path = f"blobs/{tree_digests(artifact)['reference.wav']}"
    remote.objects.remove(path)
    with pytest.raises(Refused, match="FILE_MISSING") as caught:
        fetch("demo-dynamic@beta", remote)
    assert caught.value.file == remote.address
    assert "ship the version again" in str(caught.value)
    for cut in (b"", b"RIFF"):
        remote.objects.replace(path, cut)
        with pytest.raises(Refused, match="TRUNCATED"):
            fetch("demo-dynamic@beta", remote)
    again = ship(artifact, remote, signer=signer, trust=trust, channel="beta")
    assert (again.already, again.uploaded) == (True, 1)
    assert tree_digests(fetch("demo-dynamic@beta", remote).path) == tree_digests(artifact)
    header = f"artifacts/demo-dynamic/versions/{artifact.name}.json"
    remote.objects.replace(header, b"")
    with pytest.raises(Refused, match="HEADER_MALFORMED"):
        fetch("demo-dynamic@beta", remote)


def test_the_texts_of_a_refusal_are_not_misread(
    bucket: str, artifact: Path, signer: Signer, trust: Trust, monkeypatch: pytest.MonkeyPatch
):
    """A refusal has a request's number, which may look like the status of an existing object."""
    import obstore

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("Access Denied (request 77412A)")

    monkeypatch.setattr(obstore, "put", refuse)
    with pytest.raises(AsrbuildError, match="Access Denied"):
        ship(artifact, open_remote(bucket), signer=signer, trust=trust)


def test_a_bad_version_is_a_row_of_the_list(
    command: Callable[..., tuple[int, str, str]], artifact: Path, tmp_path: Path, registry: str
):
    remote = tmp_path / "remote"
    assert command("ship", artifact, remote)[0] == 0
    versions = remote / "artifacts" / "demo-dynamic" / "versions"
    (versions / "9.json").write_bytes(b" " * (MAX_HEADER + 1))
    (versions / "8.json").write_bytes(b"{}")
    (versions / "7.json").write_bytes((versions / f"{artifact.name}.json").read_bytes())
    code, out, err = command("ls", "--remote", remote, "--json")
    assert code == 0, err
    assert {row["version"]: row["refused"] for row in json.loads(out)} == {
        artifact.name: None,
        "9": "TOO_LARGE",
        "8": "HEADER_MALFORMED",
        "7": "IDENTITY_MISMATCH",
    }
    assert command("ls", "--remote", remote)[0] == 0
    code, _, err = command("channel", "set", "demo-dynamic", "beta", "7", "--remote", remote)
    assert (code, "IDENTITY_MISMATCH" in err) == (1, True)
    # A foreign image in a repository of artifacts.
    shared = f"{registry}/shared"
    assert command("ship", artifact, shared)[0] == 0
    there = open_remote(shared)
    there._tag_config("demo-dynamic", "v1", b"{}", "application/x", [], {})  # type: ignore[attr-defined]
    code, out, err = command("ls", "--remote", shared, "--json")
    assert code == 0, err
    assert {row["version"]: row["refused"] for row in json.loads(out)} == {
        artifact.name: None,
        "v1": "RECORD_MALFORMED",
    }
