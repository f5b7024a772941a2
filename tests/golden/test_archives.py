"""Today's code reads a store, a bundle, a remote and a cache of earlier versions.

Formats outlive code. Keys of the cache are not a format: they hold digests of the code, so a later
version lists and cleans up the entries of an earlier one, but does not use them in a build.
"""

from __future__ import annotations

import json
import shutil
import sys
import tarfile
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import golden
from tests.golden.archive import GENUINE, HOME, move_seen

ARCHIVES = sorted(path.name for path in golden.FOLDER.glob("written-by-*.tar.xz"))
WORDS = (GENUINE / "hello.txt").read_text(encoding="utf-8").strip()
#: The entry point of the command `asrbuild`.
(COMMAND,) = entry_points(group="console_scripts", name="asrbuild")
Run = Callable[..., Any]


@pytest.fixture(params=ARCHIVES)
def home(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of a user of that version, unpacked for each test."""
    folder = tmp_path_factory.mktemp("home")
    with tarfile.open(golden.FOLDER / request.param) as packed:
        packed.extractall(folder, filter="tar")
    move_seen(folder, HOME, str(folder))
    return folder


@pytest.fixture
def run(home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs a command that must succeed, in the home: its JSON with ``--json``, else its output."""
    monkeypatch.chdir(home)
    monkeypatch.setenv("ASRBUILD_CONFIG", str(home / "config"))
    for variable in ("ASRBUILD_ARTIFACTS", "ASRBUILD_CACHE"):
        monkeypatch.delenv(variable, raising=False)

    def run(*arguments: object) -> Any:
        monkeypatch.setattr(sys, "argv", ["asrbuild", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            COMMAND.load()()
        told = capfd.readouterr()
        assert not left.value.code, told.out + told.err
        if arguments[-1] != "--json":
            return told.out
        golden.check_keys(" ".join(Path(word).name for word in map(str, arguments)), told.out)
        return json.loads(told.out)

    return run


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): golden.digest(path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def version(home: Path, start: str) -> Path:
    (found,) = (home / "artifacts").glob(start)
    return found


def test_the_store_is_read(home: Path, run: Run, tmp_path: Path) -> None:
    listed = run("ls", "--json")
    assert [(row["name"], row["version"][:6], row["latest"]) for row in listed] == [
        ("old", "1.0.0+", False),
        ("old", "1.1.0+", True),
        ("old-network", "1.0.0+", True),
    ]
    assert run("show", "old/1.0.0", "--json")["name"] == "old"
    for name in ("old", "old-network"):
        verified = run("verify", name, "--json")
        assert verified["passed"]
        said = run("transcribe", name, GENUINE / "hello.wav", "--json")
        assert said["recordings"][0]["text"] == WORDS
    assert run("diff", "old/1.0.0", "old/1.1.0", "--json")
    (tmp_path / "data").mkdir()
    for name in ("hello.wav", "hello.txt"):
        shutil.copy(GENUINE / name, tmp_path / "data")
    assert run("evaluate", "old", tmp_path / "data", "--json")
    shapes = [("input_node", (1, 16, 19, 26)), *((f"previous_state_{s}", (1, 96)) for s in "ch")]
    np.save(tmp_path / "input_lengths.npy", np.array([16], np.int32))
    for name, shape in shapes:
        np.save(tmp_path / f"{name}.npy", np.zeros(shape, np.float32))
    names = (*dict(shapes), "input_lengths")
    given = [f"--input={name}={tmp_path}/{name}.npy" for name in names]
    assert run("run", "old", *given, "--json")
    assert run("run", "old", "--json")


def test_the_bundle_is_read_and_written_again_with_the_same_bytes(
    home: Path, run: Run, tmp_path: Path
) -> None:
    assert run("verify", "old.asrb", "--json")["passed"]
    assert run("variants", "old.asrb", "--json")
    assert WORDS in run("transcribe", "old.asrb", GENUINE / "hello.wav")
    pulled = Path(run("pull", "old.asrb", "--artifacts", tmp_path / "pulled", "--json")["path"])
    assert digests(version(home, "old/1.0.0+*")).items() <= digests(pulled).items()
    run("bundle", "old/1.0.0", tmp_path / "again.asrb")
    assert (tmp_path / "again.asrb").read_bytes() == (home / "old.asrb").read_bytes()


def test_the_remote_is_read(home: Path, run: Run, tmp_path: Path) -> None:
    before = digests(home / "remote")
    assert run("verify", "remote", "--json")
    assert len(run("ls", "--remote", "remote", "--json")) == 4
    assert run("channel", "history", "old", "stable", "--remote", "remote", "--json")
    for asked, start in (("old@stable", "old/1.0.0+*"), ("choice@stable", "old/1.1.0+*")):
        system = ("--os", "iOS17") if asked.startswith("choice") else ()
        store = tmp_path / asked.partition("@")[0]
        pulled = run("pull", asked, "--from", "remote", *system, "--artifacts", store, "--json")
        assert digests(version(home, start)).items() <= digests(Path(pulled["path"])).items()
    assert run("gc", "--remote", "remote", "--json")["gone"] == []
    assert digests(home / "remote") == before


def test_the_cache_is_read(home: Path, run: Run) -> None:
    before = digests(home / ".asrbuild"), digests(home / "artifacts")
    entries = {path.name for path in home.glob(".asrbuild/cache/[a-z]*/*")}
    assert len(entries) == 18
    assert {row["fingerprint"] for row in run("cache", "ls", "--json")} == entries
    survey = run("gc", "--last", "1", "--json")
    kept = {item["name"] for item in survey["kept"] if item["kind"] == "artifact"}
    assert len(kept) == 3
    assert survey["notes"] == []
    assert (digests(home / ".asrbuild"), digests(home / "artifacts")) == before
    assert run("plan", "model=static", "--json")
