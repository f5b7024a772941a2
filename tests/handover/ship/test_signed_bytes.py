"""Reported signatures cover every byte of an artifact, in the store and on the remote."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from asrbuild.artifact import integrity, lookup, proven, signatures, store
from asrbuild.base import disk
from asrbuild.base.digest import tree_digests
from asrbuild.base.errors import AsrbuildError
from asrbuild.handover.ship.formats.bundle import write_bundle
from asrbuild.handover.ship.origin import prove_origin
from asrbuild.handover.ship.pointing import set_channel
from asrbuild.handover.ship.pull import pull, pull_bundle
from asrbuild.handover.ship.push import ship, ship_set
from asrbuild.handover.ship.refusal import Refused
from asrbuild.handover.ship.remotes.address import open_remote
from asrbuild.handover.ship.remotes.objects import ObjectRemote
from asrbuild.handover.ship.remotes.remote import Remote
from asrbuild.handover.ship.signing.keys import Signer, new_key
from asrbuild.handover.ship.signing.trust import (
    Trust,
    distrust,
    read_key_file,
    read_trust,
    trust_key,
)
from asrbuild.handover.ship.verify import check_remote
from tests.handover.ship.making import CONTENT, make_artifact
from tests.killing import run_until, seeded

NAME = "demo-dynamic"
#: Files that may differ between two builds of one version, which the manifest does not list.
BESIDE = {
    "report.html": b"<p>fine</p>",
    "ASRKit/Sources/Transcriber.swift": b"// honest\n",
    "conformance/check.py": b"print('fine')\n",
}


@pytest.fixture
def built(tmp_path: Path) -> Path:
    artifact = make_artifact(tmp_path / "artifacts")
    edit(artifact, **BESIDE)
    return artifact


def changed(artifact: Path, to: Path, *, sums: bool = True, **content: bytes) -> Path:
    """A copy with other files; ``sums``: with a new ``SHA256SUMS``, which needs no key."""
    shutil.copytree(artifact, to, copy_function=shutil.copyfile, dirs_exist_ok=True)
    edit(to, sums=sums, **content)
    return to


def edit(artifact: Path, *, sums: bool = True, **content: bytes) -> None:
    for path in [artifact, *artifact.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    for name, data in content.items():
        path = artifact / {"swift": "ASRKit/Sources/Transcriber.swift"}.get(name, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    if sums:
        integrity.write_sums(artifact)
        proven.remember_proven(artifact)  # as if this machine had built it


# The store -------------------------------------------------------------------------------------


@pytest.fixture
def fetch(tmp_path: Path, trust: Trust, config: Path) -> Callable[..., Any]:
    def run(address: object, spec: str = f"{NAME}@stable") -> Any:
        (pulled,) = pull(
            spec, open_remote(str(address)), tmp_path / "mine", trust=trust, config=config
        )
        return pulled

    return run


@pytest.fixture
def shipped(built: Path, tmp_path: Path, signer: Signer, trust: Trust) -> Path:
    folder = tmp_path / "remote"
    ship(built, open_remote(str(folder)), signer=signer, trust=trust, channel="stable")
    return folder


CHANGES: dict[str, Callable[[Path], None]] = {
    "code": lambda path: edit(path, swift=b"// EVIL\n"),
    "report and alphabet": lambda path: edit(
        path, **{"report.html": b"<script>", "alphabet.txt": b"z"}
    ),
    "code, sums as they were": lambda path: edit(path, sums=False, swift=b"// EVIL\n"),
    "a file more": lambda path: edit(path, **{"ASRKit/Evil.swift": b"x"}),
    "a file less": lambda path: (edit(path), (path / "report.html").unlink(), edit(path))[0],
    "a link": lambda path: (
        edit(path),
        (path / "report.html").unlink(),
        (path / "report.html").symlink_to("x"),
    )[0],
    "no sums": lambda path: (edit(path), (path / "SHA256SUMS").unlink())[0],
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("swaps", [True, False], ids=["in one step", "in two"])
def test_a_pull_reports_only_signed_bytes_as_signed(
    shipped: Path,
    built: Path,
    fetch: Any,
    trust: Trust,
    change: Callable[[Path], None],
    swaps: bool,
    monkeypatch: pytest.MonkeyPatch,
):
    """Any change of an existing copy is repaired completely."""
    if not swaps:
        monkeypatch.setattr(store, "exchange_paths", lambda one, other: False)
    path = fetch(shipped).path
    change(path)
    again = fetch(shipped)
    assert (again.already, again.path) == (False, path)
    assert tree_digests(path) == tree_digests(built)
    assert prove_origin(path, trust).label == "default"  # type: ignore[union-attr]
    assert not os.access(path / "manifest.json", os.W_OK) or os.geteuid() == 0
    assert not path.stat().st_mode & 0o222
    third = fetch(shipped)
    assert (third.already, third.bytes) == (True, 0)
    assert not [left for left in path.parents[1].iterdir() if left.name.startswith(".staging")]


def test_a_version_that_is_a_link_is_replaced(
    shipped: Path, built: Path, fetch: Any, tmp_path: Path
):
    path = fetch(shipped).path
    elsewhere = tmp_path / "elsewhere"
    changed(path, elsewhere)
    edit(path)
    shutil.rmtree(path)
    path.symlink_to(elsewhere)
    assert not fetch(shipped).already
    assert not path.is_symlink()
    assert tree_digests(path) == tree_digests(built)
    assert elsewhere.is_dir()


def test_a_pull_replaces_an_own_build_once(
    shipped: Path, built: Path, fetch: Any, tmp_path: Path, trust: Trust
):
    """Another build of one version differs in facts of its run; the signed one takes its place."""
    own = changed(built, tmp_path / "mine" / NAME / built.name, **{"report.html": b"mine"})
    assert prove_origin(own, trust) is None
    assert [fetch(shipped).already for _ in range(3)] == [False, True, True]
    assert tree_digests(own) == tree_digests(built)
    assert lookup.read_latest(tmp_path / "mine", NAME) == built.name


@pytest.mark.parametrize("seed", [7])
def test_a_killed_pull_over_an_own_build_leaves_one_of_the_two(
    shipped: Path, built: Path, fetch: Any, tmp_path: Path, trust: Trust, config: Path, seed: int
):
    """Killed at any line, the version is completely the own build or the signed one, and a
    signature exists only for its own bytes."""
    own = changed(built, tmp_path / "own", **{"report.html": b"mine"})
    truth = {"own": tree_digests(own), "signed": tree_digests(built)}

    def killed_at(point: int, root: Path) -> int:
        changed(own, root / NAME / built.name)
        (root / NAME / "latest").write_text(built.name + "\n")
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            remote = open_remote(str(shipped))
            work = partial(pull, f"{NAME}@stable", remote, root, trust=trust, config=config)
            os.write(writing, str(run_until(point, work)).encode())
            os._exit(0)
        os.close(writing)
        _, status = os.waitpid(child, 0)
        with os.fdopen(reading) as answer:
            return int(answer.read() or 0) if not os.WIFSIGNALED(status) else -1

    lines = killed_at(0, tmp_path / "whole")
    points = seeded(seed).sample(range(1, lines + 1), 20) + list(range(lines - 120, lines, 8))
    seen = set()
    for point in points:
        root = tmp_path / f"at{point}"
        killed_at(point, root)
        path = root / NAME / built.name
        digests = tree_digests(path)
        (which,) = [name for name, want in truth.items() if want == digests]
        seen.add(which)
        assert integrity.verify_files(path) == []
        assert lookup.read_latest(root, NAME) == built.name
        # A signature exists only for the signed bytes.
        if signatures.signature_path(path).exists():
            assert which == "signed"
            assert prove_origin(path, trust)
        (again,) = pull(
            f"{NAME}@stable", open_remote(str(shipped)), root, trust=trust, config=config
        )
        assert tree_digests(again.path) == truth["signed"]
        assert prove_origin(path, trust)
    assert seen == {"own", "signed"}


def test_two_paths_are_swapped_in_one_step(tmp_path: Path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    if not disk.exchange_paths(tmp_path / "one", tmp_path / "two"):
        pytest.skip("this file system cannot swap")
    assert (tmp_path / "one" / "two").exists()
    assert (tmp_path / "two" / "one").exists()
    assert not disk.exchange_paths(tmp_path / "one", tmp_path / "none")


def test_a_signature_belongs_to_the_pulled_bytes_only(
    shipped: Path,
    built: Path,
    fetch: Any,
    tmp_path: Path,
    trust: Trust,
    signer: Signer,
    config: Path,
):
    assert prove_origin(built, trust) is None
    path = fetch(shipped).path
    assert prove_origin(path, trust).keyid == signer.keyid  # type: ignore[union-attr]
    edit(path, swift=b"// EVIL\n")
    with pytest.raises(Refused, match=r"DIGEST_MISMATCH.*Transcriber\.swift is not as default"):
        prove_origin(path, trust)
    fetch(shipped)
    distrust("default", config)
    with pytest.raises(Refused, match="UNTRUSTED_SIGNER"):
        prove_origin(path, read_trust(config))
    # The signature is removed with the version, and a later own build does not count as signed.
    root = tmp_path / "mine"
    make_artifact(root, content={**CONTENT, "alphabet.txt": b"later"})
    assert store.remove(root, NAME, built.name)
    assert not signatures.signature_path(path).exists()
    signatures.keep_signature(path, b"{}")
    again = make_artifact(root)
    assert again == path
    assert prove_origin(again, trust) is None


@pytest.mark.parametrize("what", ["pipe", "link", "large", "nonsense", "another's"])
def test_a_planted_signature_is_refused_and_replaced(
    shipped: Path, fetch: Any, trust: Trust, tmp_path: Path, signer: Signer, what: str
):
    path = fetch(shipped).path
    place = signatures.signature_path(path)
    raw = place.read_bytes()
    place.unlink()
    if what == "pipe":
        os.mkfifo(place)
    elif what == "link":
        (tmp_path / "x").write_bytes(raw)
        place.symlink_to(tmp_path / "x")
    elif what == "large":
        place.write_bytes(b" " * (1 << 21))
    elif what == "nonsense":
        place.write_bytes(b"{}")
    else:
        other = make_artifact(tmp_path / "other", name="other")
        ship(other, open_remote(str(tmp_path / "r2")), signer=signer, trust=trust)
        header = open_remote(str(tmp_path / "r2")).header("other", other.name)
        assert header
        place.write_bytes(header)
    with pytest.raises(AsrbuildError):
        prove_origin(path, trust)
    assert fetch(shipped).already
    assert prove_origin(path, trust)


def test_a_bundle_replaces_a_changed_copy(
    built: Path, tmp_path: Path, signer: Signer, trust: Trust
):
    bundle = tmp_path / "x.asrb"
    write_bundle(built, bundle, signer)
    root = tmp_path / "mine"
    changed(built, root / NAME / built.name, swift=b"// EVIL\n")
    assert [pull_bundle(bundle, root, trust=trust).already for _ in range(2)] == [False, True]
    path = root / NAME / built.name
    assert tree_digests(path) == tree_digests(built)
    assert prove_origin(path, trust)


# Signers ---------------------------------------------------------------------------------------


@pytest.fixture
def intern(tmp_path: Path, config: Path, signer: Signer) -> tuple[Signer, Trust]:
    """Another signer; both trust each other."""
    theirs = tmp_path / "theirs"
    other = new_key("intern", theirs)
    trust_key(read_key_file(config / "keys" / "default.pub"), None, theirs)
    trust_key(read_key_file(theirs / "keys" / "intern.pub"), None, config)
    return other, read_trust(theirs)


@pytest.mark.parametrize("address", ["folder", "oci"], indirect=True)
def test_a_channel_refuses_builds_of_another_signer(
    address: str,
    built: Path,
    tmp_path: Path,
    signer: Signer,
    config: Path,
    intern: tuple[Signer, Trust],
):
    """The option permits it. Another signer's build of the same version may have other code."""
    remote, trust = open_remote(address), read_trust(config)
    other, their_trust = intern
    theirs = changed(built, tmp_path / "t" / NAME / built.name, swift=b"// EVIL by intern\n")
    first = ship(theirs, remote, signer=other, trust=their_trust, channel="beta")
    assert first.signer == "intern"
    for attempt in (
        lambda: ship(built, remote, signer=signer, trust=trust, channel="stable"),
        lambda: set_channel(remote, NAME, "stable", built.name, signer=signer, trust=trust),
        lambda: ship_set([built], remote, "demo-set", signer=signer, trust=trust),
    ):
        with pytest.raises(AsrbuildError, match=r"signed by intern, not by default; ") as refused:
            attempt()
        assert "--other-signer" in str(refused.value)
    assert (remote.channels(NAME), remote.versions("demo-set")) == (["beta"], [])
    there = ship(built, remote, signer=signer, trust=trust)
    assert (there.already, there.signer, there.header) == (True, "intern", first.header)
    said = ship(built, remote, signer=signer, trust=trust, channel="stable", other_signer=True)
    assert (said.signer, said.counter) == ("intern", 1)


def test_the_command_names_the_signer_of_an_existing_version(
    command: Callable[..., tuple[int, str, str]],
    built: Path,
    tmp_path: Path,
    signer: Signer,
    intern: tuple[Signer, Trust],
):
    other, their_trust = intern
    remote = tmp_path / "remote"
    ship(built, open_remote(str(remote)), signer=other, trust=their_trust)
    code, out, _ = command("ship", built, remote)
    assert code == 0
    assert "was there already, signed by intern" in out
    for line in (
        ("ship", built, remote, "--channel", "stable"),
        ("channel", "set", NAME, "stable", built.name, "--remote", remote),
    ):
        code, _, err = command(*line)
        assert (code, "add --other-signer" in err) == (1, True), err
        code, out, err = command(*line, "--other-signer", "--json")
        assert code == 0, err
        assert json.loads(out)["counter"] == 1
    code, out, _ = command("pull", NAME, "--remote", remote, "--artifacts", tmp_path / "mine")
    assert "signed by intern" in out


# The remote ------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["folder", "s3"], indirect=True)
def test_shipping_again_repairs_a_damaged_file_on_a_remote(
    remote: Remote,
    built: Path,
    signer: Signer,
    trust: Trust,
    fetch: Any,
    config: Path,
    tmp_path: Path,
):
    """It is found even at the right size, by the store's own checksum if there is one."""
    assert isinstance(remote, ObjectRemote)
    ship(built, remote, signer=signer, trust=trust, channel="stable")
    assert check_remote(remote, trust).faults == ()
    digests = tree_digests(built)
    path = f"blobs/{digests['model.mlmodel']}"
    content = bytearray((built / "model.mlmodel").read_bytes())
    content[1000] ^= 1
    remote.objects.replace(path, bytes(content))
    (fault,) = check_remote(remote, trust).faults
    assert (fault.what, fault.path) == (f"{NAME}/{built.name}", "model.mlmodel")
    with pytest.raises(Refused, match="DIGEST_MISMATCH") as refused:
        pull(NAME, remote, tmp_path / "out", trust=trust, config=config)
    assert "ship the version again" in str(refused.value)
    again = ship(built, remote, signer=signer, trust=trust, channel="stable")
    assert (again.already, again.uploaded, again.counter) == (True, 1, 1)
    assert check_remote(remote, trust).faults == ()
    assert ship(built, remote, signer=signer, trust=trust).uploaded == 0
    (pulled,) = pull(NAME, remote, tmp_path / "out", trust=trust, config=config)
    assert tree_digests(pulled.path) == digests
    # A new version over damaged files of another version's interrupted push.
    remote.objects.remove(f"artifacts/{NAME}/versions/{built.name}.json")
    remote.objects.replace(path, bytes(content))
    assert ship(built, remote, signer=signer, trust=trust).uploaded == 1
    assert check_remote(remote, trust).faults == ()


def test_verify_checks_a_remote(
    command: Callable[..., tuple[int, str, str]], built: Path, tmp_path: Path
):
    remote = tmp_path / "remote"
    assert command("ship", built, remote, "--channel", "beta")[0] == 0
    code, out, _ = command("verify", remote)
    assert (code, "1 version, " in out, "all as signed" in out) == (0, True, True)
    digests = tree_digests(built)
    (remote / "blobs" / digests["report.html"]).write_bytes(b"<p>evil</p>")
    (remote / "blobs" / digests["alphabet.txt"]).unlink()
    (remote / "artifacts" / NAME / "versions" / "8.json").write_bytes(b"{}")
    (remote / "artifacts" / NAME / "channels" / "beta" / "2.json").write_bytes(b"{}")
    code, out, _ = command("verify", remote)
    assert code == 1
    assert f"{NAME}/{built.name} report.html: its bytes are not those that were signed" in out
    assert f"{NAME}/{built.name} alphabet.txt: refused (FILE_MISSING)" in out
    assert f"{NAME}/8: refused (HEADER_MALFORMED)" in out
    assert f"{NAME}@beta: refused (RECORD_MALFORMED)" in out
    fix = f"  fix: asrbuild ship {NAME}/{built.name} {remote}, from a store that has it whole"
    assert fix in out
    code, out, _ = command("verify", remote, "--json")
    assert (code, json.loads(out)["passed"], len(json.loads(out)["faults"])) == (1, False, 4)
    (remote / "artifacts" / NAME / "channels" / "beta" / "2.json").unlink()
    assert command("ship", built, remote)[0] == 0
    code, out, _ = command("verify", remote, "--json")
    assert [fault["what"] for fault in json.loads(out)["faults"]] == [f"{NAME}/8"]


def test_damaged_or_unproven_artifacts_are_not_bundled(
    command: Callable[..., tuple[int, str, str]], built: Path, tmp_path: Path
):
    """A signature would certify it."""
    unproven = make_artifact(
        tmp_path / "unproven", change=lambda m: m["verification"].update(passed=False)
    )
    damaged = changed(built, tmp_path / "damaged", sums=False, swift=b"// EVIL\n")
    for path, why in ((unproven, "has not passed its proof"), (damaged, "not as it was published")):
        code, _, err = command("bundle", path, tmp_path / "x.asrb")
        assert (code, why in err) == (1, True), err
    assert not (tmp_path / "x.asrb").exists()
