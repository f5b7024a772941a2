"""Paths that are not UTF-8: a build, its inputs, and every command on its artifact."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.acceptance.conftest import run_asrbuild
from tests.paths import DEMO

ODD = os.fsdecode(b"caf\xe9")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder named by one byte that is not UTF-8, with an artifact that was built there."""
    folder = tmp_path_factory.mktemp("odd") / ODD
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"this file system takes no such name: {error}")
    shutil.copyfile(DEMO / "second.wav", folder / f"{ODD}.wav")
    shutil.copyfile(DEMO / "second.txt", folder / f"{ODD}.txt")
    done = run_asrbuild(
        "model=static",
        "verify=quick",
        "verify.inputs=[sample,second]",
        "name=odd",
        f"source.second.audio={folder}/{ODD}.wav",
        f"source.second.text={folder}/{ODD}.txt",
        cwd=folder,
    )
    assert done.code == 0, done.err
    return folder


@pytest.mark.skipif(sys.platform == "darwin", reason="APFS takes UTF-8 names only")
@pytest.mark.parametrize(
    "arguments",
    [
        ["ls"],
        ["ls", "--json"],
        ["show", "odd"],
        ["verify", "odd"],
        ["transcribe", "odd", f"{ODD}.wav"],
        ["transcribe", "odd", f"{ODD}.wav", "--json"],
        ["evaluate", "odd", "."],
        ["report", "odd", "-o", f"{ODD}.html"],
        ["app", "odd", "--out", f"{ODD}-kit", "--no-check"],
        ["plan", "model=static"],
        ["cache", "ls"],
        ["gc"],
        ["ls", "--remote", "."],
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_every_command_takes_such_paths(arguments: list[str], place: Path) -> None:
    done = run_asrbuild(*arguments, cwd=place)
    assert "unexpected" not in done.err
    assert "Traceback" not in done.err
    if arguments[:2] != ["ls", "--remote"]:
        assert done.code == 0, done.err


def test_the_manifest_shows_the_odd_bytes(place: Path) -> None:
    (text,) = ((p / "manifest.json").read_text() for p in (place / "artifacts/odd").glob("1*"))
    assert r'"caf\\xe9.wav"' in text
