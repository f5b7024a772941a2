"""From build to transcript on the command line: build, ship, channel, pull, transcribe.

The app team's home has no keys, store or cache, only the public key and an address.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.acceptance.conftest import Finished, run_asrbuild
from tests.paths import DEMO

NAME = "demo-static-mlprogram"


@dataclass(frozen=True)
class Home:
    """A person's machine: one folder that is both the working folder and the home."""

    folder: Path

    def run(self, *arguments: str) -> Finished:
        """Runs a command in ``folder``, which is also its home."""
        return run_asrbuild(
            *arguments,
            cwd=self.folder,
            env={"HOME": str(self.folder), "XDG_CONFIG_HOME": str(self.folder / ".config")},
        )

    def json(self, *arguments: str) -> object:
        done = self.run(*arguments, "--json")
        assert done.code == 0, done.out + done.err
        return json.loads(done.out)


@pytest.fixture(scope="module")
def maker(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """The speech engineer, with a key and one artifact in two versions: 16 and 32 steps."""
    home = Home(tmp_path_factory.mktemp("maker"))
    built = home.run("-m", f"name={NAME}", "model=static", "n_steps=16,32")
    assert built.code == 0, built.out + built.err
    key = home.run("key", "new", "release")
    assert key.code == 0, key.err
    return home


@pytest.fixture(scope="module")
def versions(maker: Home) -> dict[int, str]:
    """The versions by the steps of a chunk."""
    found = {}
    for path in (maker.folder / "artifacts" / NAME).iterdir():
        if path.is_dir() and not path.is_symlink():
            manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
            found[manifest["streaming"]["steps_per_chunk"]] = path.name
    assert sorted(found) == [16, 32]
    return found


@pytest.fixture(params=["folder", "s3", "oci", "web"])
def addresses(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    """The addresses for shipping and for pulling."""
    if request.param == "s3":
        bucket = request.getfixturevalue("bucket")
        return bucket, bucket
    if request.param == "oci":
        place = f"{request.getfixturevalue('registry')}/whole-way"
        return place, place
    if request.param == "web":
        folder, address = request.getfixturevalue("web")
        return str(folder), address
    (tmp_path / "remote").mkdir()
    return str(tmp_path / "remote"), str(tmp_path / "remote")


def test_an_app_team_transcribes_with_a_shipped_artifact(
    maker: Home, versions: dict[int, str], addresses: tuple[str, str], tmp_path: Path
) -> None:
    to, at = addresses
    for steps in (16, 32):
        shipped = maker.run("ship", f"{NAME}/{versions[steps]}", to, "--channel", "beta")
        assert shipped.code == 0, shipped.err
    moved = maker.run("channel", "set", NAME, "stable", versions[16], "--remote", to)
    assert moved.code == 0, moved.err

    team = Home(tmp_path / "team")
    team.folder.mkdir()
    refused = team.run("pull", f"{NAME}@stable", "--remote", at)
    assert refused.code == 1
    assert "asrbuild key trust" in refused.err
    assert "Traceback" not in refused.err
    assert list(team.folder.rglob("*.mlpackage")) == []

    public = maker.folder / ".config" / "asrbuild" / "keys" / "release.pub"
    assert team.run("key", "trust", str(public)).code == 0
    listed = team.json("ls", "--remote", at)
    assert NAME in json.dumps(listed)
    for channel, steps in (("stable", 16), ("beta", 32)):
        path = _pull(team, channel, at)
        assert path.name == versions[steps]
        _speaks(team, path)

    # The channel moves forth and back; pulls follow it.
    assert maker.run("channel", "set", NAME, "stable", versions[32], "--remote", to).code == 0
    assert _pull(team, "stable", at).name == versions[32]
    assert maker.run("channel", "rollback", NAME, "stable", "--remote", to).code == 0
    assert _pull(team, "stable", at).name == versions[16]
    history = team.json("channel", "history", NAME, "stable", "--remote", at)
    assert [record["version"] for record in history] == [  # type: ignore[attr-defined]
        versions[16],
        versions[32],
        versions[16],
    ]


def test_an_app_team_transcribes_with_a_bundle(
    maker: Home, versions: dict[int, str], tmp_path: Path
) -> None:
    """The bundle is one file, which can be sent in any way."""
    file = tmp_path / "demo.asrb"
    assert maker.run("bundle", f"{NAME}/{versions[16]}", str(file)).code == 0
    team = Home(tmp_path / "team")
    team.folder.mkdir()
    public = maker.folder / ".config" / "asrbuild" / "keys" / "release.pub"
    untrusted = team.run("transcribe", str(file), str(DEMO / "second.wav"))
    assert (untrusted.code, untrusted.out) == (1, "")
    assert "UNTRUSTED_SIGNER" in untrusted.err
    assert f"file: {file}" in untrusted.err
    assert team.run("key", "trust", str(public)).code == 0
    # The bundle is inspected before its artifact is in the store.
    _speaks(team, file)
    assert team.run("verify", str(file)).out.splitlines()[-1] == str(file)
    shown = team.json("show", str(file))
    assert shown["version"] == versions[16]  # type: ignore[index]
    made = team.json("app", str(file), "--out", "kit", "--no-check")
    assert made["artifact"] == f"{NAME}/{versions[16]}"  # type: ignore[index]
    assert (team.folder / "kit" / "ASRKit" / "Package.swift").is_file()
    pulled = team.json("pull", str(file))
    path = Path(pulled["path"])  # type: ignore[index]
    assert path.name == versions[16]
    _speaks(team, path)


def _pull(team: Home, channel: str, at: str) -> Path:
    pulled = team.json("pull", f"{NAME}@{channel}", "--remote", at)
    assert pulled["signer"] == "release"  # type: ignore[index]
    return Path(pulled["path"])  # type: ignore[index]


def _speaks(team: Home, path: Path) -> None:
    """Verifies the pulled artifact again from its bytes, and transcribes with it."""
    verified = team.run("verify", str(path))
    assert verified.code == 0, verified.out + verified.err
    assert "every file is as release (" in verified.out
    said = team.run("transcribe", str(path), str(DEMO / "second.wav"))
    assert said.code == 0, said.err
    expected = (DEMO / "second.txt").read_text(encoding="utf-8").strip()
    assert expected in said.out
