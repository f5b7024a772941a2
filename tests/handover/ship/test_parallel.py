"""Concurrent transfers: progress, and failures of a disk or a server."""

from __future__ import annotations

import functools
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from asrbuild.base.digest import tree_digests
from asrbuild.base.errors import AsrbuildError
from asrbuild.handover.ship.formats.header import File
from asrbuild.handover.ship.pull import pull
from asrbuild.handover.ship.push import ship
from asrbuild.handover.ship.refusal import Refused
from asrbuild.handover.ship.remotes.address import open_remote
from asrbuild.handover.ship.signing.keys import Signer
from asrbuild.handover.ship.signing.trust import Trust
from tests.handover.ship.conftest import Quiet, serving

NAME = "demo-dynamic"


def test_files_are_sent_concurrently(address: str, artifact: Path, signer: Signer, trust: Trust):
    """No file arrives before all are being sent."""
    remote = open_remote(address)
    all_under_way = threading.Barrier(len(tree_digests(artifact)))
    real = remote.put

    def put(name: str, file: File, source: Path) -> None:
        all_under_way.wait(60)
        real(name, file, source)

    remote.put = put  # type: ignore[method-assign]
    assert ship(artifact, remote, signer=signer, trust=trust).uploaded == all_under_way.parties


def test_a_file_that_changes_while_it_is_shipped_is_reported(
    address: str, artifact: Path, signer: Signer, trust: Trust
):
    """It is not stored under a wrong digest, and the error does not name the remote."""
    remote = open_remote(address)
    real = remote.has
    alphabet = artifact / "alphabet.txt"
    before = alphabet.read_bytes()

    def has(name: str, file: File) -> bool:
        if file.path == "alphabet.txt":
            alphabet.chmod(0o644)
            alphabet.write_bytes(before.upper())
        return real(name, file)

    remote.has = has  # type: ignore[method-assign]
    expected = "answered 400" if address.startswith("oci") else r"DIGEST_MISMATCH.*alphabet\.txt"
    with pytest.raises(AsrbuildError, match=expected):
        ship(artifact, remote, signer=signer, trust=trust)
    remote.has = lambda name, file: (alphabet.unlink(missing_ok=True), real(name, file))[1]
    alphabet.write_bytes(before)
    with pytest.raises(AsrbuildError, match="while reading an artifact"):
        ship(artifact, remote, signer=signer, trust=trust)
    remote.has = real  # type: ignore[method-assign]
    assert remote.versions(NAME) == []
    alphabet.write_bytes(before)
    ship(artifact, remote, signer=signer, trust=trust)


@pytest.fixture
def small_files() -> Iterator[None]:
    """Limits files to 100 kB, like a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_named_when_pulling_fails(
    address: str,
    artifact: Path,
    signer: Signer,
    trust: Trust,
    config: Path,
    tmp_path: Path,
    request: pytest.FixtureRequest,
):
    remote = open_remote(address)
    ship(artifact, remote, signer=signer, trust=trust)
    request.getfixturevalue("small_files")
    with pytest.raises(AsrbuildError) as caught:
        pull(f"{NAME}@1.0.0", remote, tmp_path / "store", trust=trust, config=config)
    assert caught.value.message == (
        "the file is larger than this system allows, while pulling an artifact"
    )
    assert str(caught.value.file).startswith(str(tmp_path / "store"))


def test_a_full_disk_is_named_when_shipping_fails(
    artifact: Path, signer: Signer, trust: Trust, tmp_path: Path, small_files: None
):
    with pytest.raises(AsrbuildError, match="allows, while writing to a remote") as caught:
        ship(artifact, open_remote(str(tmp_path / "remote")), signer=signer, trust=trust)
    assert str(caught.value.file).startswith(str(tmp_path / "remote"))
    assert not list((tmp_path / "remote").rglob(".incoming-*"))


class Silent(Quiet):
    """Serves a folder except the weights, and records the request for them."""

    asked, over = threading.Event(), threading.Event()
    weights = ""

    def do_GET(self) -> None:  # noqa: N802 - what http.server calls
        if self.path.endswith(self.weights):
            self.asked.set()
            self.over.wait(60)
        else:
            super().do_GET()


@pytest.fixture
def silent(
    artifact: Path, tmp_path: Path, signer: Signer, trust: Trust, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """An artifact on a web server that stops answering."""
    ship(artifact, open_remote(str(tmp_path / "remote")), signer=signer, trust=trust)
    for event in ("asked", "over"):
        monkeypatch.setattr(Silent, event, threading.Event())
    monkeypatch.setattr(Silent, "weights", tree_digests(artifact)["model.mlmodel"])
    with serving(functools.partial(Silent, directory=str(tmp_path / "remote"))) as address:
        yield address
        Silent.over.set()


def test_an_interrupt_does_not_wait_for_a_silent_server(
    silent: str, artifact: Path, tmp_path: Path
):
    store = tmp_path / "store"
    command = ["pull", f"{NAME}@{artifact.name}", "--remote", silent, "--artifacts", str(store)]
    child = subprocess.Popen(
        [sys.executable, "-m", "asrbuild.cli.main", *command], stderr=subprocess.PIPE, text=True
    )
    assert Silent.asked.wait(60)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=15)  # the server may be silent for 30 s
    assert (child.returncode, err) == (130, "error: interrupted; nothing incomplete was kept\n")
    assert not [path for path in store.rglob("*") if path.is_file() and path.name[0] != "."]


def test_a_refusal_does_not_wait_for_a_silent_server(
    silent: str, artifact: Path, tmp_path: Path, trust: Trust, config: Path
):
    (tmp_path / "remote" / "blobs" / tree_digests(artifact)["alphabet.txt"]).unlink()
    begun = time.monotonic()
    with pytest.raises(Refused, match="FILE_MISSING"):
        pull(f"{NAME}@1.0.0", open_remote(silent), tmp_path / "s", trust=trust, config=config)
    assert time.monotonic() - begun < 20  # the server may be silent for 30 s


@pytest.mark.parametrize("way", ["ship", "pull"])
def test_a_terminal_shows_one_line_of_progress(
    way: str, artifact: Path, tmp_path: Path, signer: Signer, trust: Trust
):
    """Most tests have no terminal."""
    remote = str(tmp_path / "remote")
    arguments = ["ship", str(artifact), remote]
    if way == "pull":
        ship(artifact, open_remote(remote), signer=signer, trust=trust)
        store = str(tmp_path / "store")
        arguments = ["pull", f"{NAME}@1.0.0", "--remote", remote, "--artifacts", store]
    ours, theirs = os.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "asrbuild.cli.main", *arguments],
        stderr=theirs,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"TERM": "xterm"},
    )
    os.close(theirs)
    shown = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert done.returncode == 0, shown
    assert f"{NAME} {artifact.name}" in done.stdout
    assert f"{len(tree_digests(artifact))} done" in shown
