"""What runs and what is published is what is there: bytes count, claims do not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asrbuild import digest, processes
from asrbuild.cli import dispatch
from asrbuild.dataset import read_dataset
from asrbuild.errors import AsrbuildError
from asrbuild.evaluation import listen
from asrbuild.manifest import read_manifest
from asrbuild.recipe import resolve_file
from asrbuild.runtime import open_artifact
from tests.acceptance.conftest import Finished
from tests.forging import agree, copy_artifact, spoil_weights

PROGRAM = Path(sys.executable).with_name("asrbuild")
RECIPE = ("model=static", "verify=quick")
SECOND = str(resolve_file("demo:second.wav"))


@dataclass(frozen=True)
class Place:
    """A folder with one build in it; a command runs there as a user runs it."""

    folder: Path
    artifact: Path

    def run(self, *arguments: str, **options: Any) -> Finished:
        return run_program(*arguments, folder=self.folder, **options)


def run_program(
    *arguments: str, folder: Path, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> Finished:
    own = {
        "ASRBUILD_CACHE": str(folder / "cache"), "ASRBUILD_ARTIFACTS": str(folder / "artifacts"),
        "ASRBUILD_CONFIG": str(folder / "config"), "HOME": str(folder / "home"),
        "COLUMNS": "160", "NO_COLOR": "1",
    }  # fmt: skip
    done = subprocess.run(
        [PROGRAM, *arguments], cwd=cwd or folder, env=os.environ | own | dict(env or {}),
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    return Finished(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("place")
    done = run_program(*RECIPE, folder=folder)
    assert done.code == 0, done.err
    (artifact,) = (folder / "artifacts/demo-static-mlprogram").glob("1.0.0+*")
    return Place(folder, artifact)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    shutil.copy(SECOND, folder / "second.wav")
    shutil.copy(resolve_file("demo:second.txt"), folder / "second.txt")
    return folder


# Claims instead of bytes


def refusal(*arguments: str) -> AsrbuildError:
    """What a command says that does not do what it is asked for."""
    with pytest.raises(AsrbuildError) as refused:
        dispatch(list(arguments))
    return refused.value


def test_damaged_weights_are_an_error_that_names_the_file(
    place: Place, data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASRBUILD_CACHE", str(place.folder / "cache"))
    damaged = copy_artifact(place.artifact, data.parent / "damaged")
    weights = spoil_weights(damaged)
    at = str(damaged)
    for arguments in (
        ("transcribe", at, SECOND), ("run", at), ("evaluate", at, str(data)), ("show", at),
        ("diff", at, str(place.artifact)), ("report", at), ("inspect", "model", at),
        ("app", at, "--out", str(data.parent / "app")),
        ("build", *RECIPE, f"verify.compared_with={at}", f"paths.artifacts={data}/a"),
    ):  # fmt: skip
        error = refusal(*arguments)
        assert "the artifact is damaged: model.mlpackage/Data/" in error.message, arguments
        assert error.file == str(weights), arguments
        assert "pull it again" in str(error.fix), arguments
    assert "hvde" not in capsys.readouterr().out


def test_a_file_that_no_digest_covers_is_an_error(place: Place, tmp_path: Path) -> None:
    added = copy_artifact(place.artifact, tmp_path / "added")
    (added / "model.mlpackage" / "more.bin").write_bytes(b"")
    assert "more.bin was added" in refusal("transcribe", str(added), SECOND).message
    unlisted = copy_artifact(place.artifact, tmp_path / "unlisted")
    agree(
        unlisted,
        lambda fields: fields.update(files=[f for f in fields["files"] if f["role"] != "package"]),
    )
    for command in (("transcribe", str(unlisted), SECOND), ("verify", str(unlisted))):
        assert "is not among the files that the manifest lists" in refusal(*command).message


def test_probabilities_are_kept_by_the_bytes_they_come_from(place: Place, data: Path) -> None:
    damaged = copy_artifact(place.artifact, data.parent / "damaged")
    spoil_weights(damaged)  # its manifest still claims what the good one's does
    dataset, cache = read_dataset(data), data.parent / "cache"
    found = {}
    for path in (damaged, place.artifact):
        with open_artifact(path) as transcriber:
            found[path] = listen(transcriber, dataset, cache)[0].probabilities
    assert not np.array_equal(found[damaged], found[place.artifact])


def test_the_memo_of_digests_sees_a_change_of_the_same_size_and_time(tmp_path: Path) -> None:
    file = tmp_path / "large"
    file.write_bytes(bytes(300_000))
    old = time.time_ns() - 10**10
    os.utime(file, ns=(old, old))
    before = digest.file_digest(file, tmp_path / "cache")
    file.write_bytes(b"1" + bytes(299_999))
    os.utime(file, ns=(old, old))
    assert digest.file_digest(file, tmp_path / "cache") != before


# An artifact's manifest never leads out of it

OUTSIDE: dict[str, Callable[[dict[str, Any], str], object]] = {
    "model.package": lambda m, path: m["model"].update(package=path),
    "features.reference.audio": lambda m, path: m["features"]["reference"].update(audio=path),
    "decoder.alphabet_file": lambda m, path: m["decoder"].update(alphabet_file=path),
    "decoder.scorer.path": lambda m, path: m["decoder"].update(
        scorer={"path": path, "sha256": "0" * 64, "lm_alpha": 1.0, "lm_beta": 1.0}
    ),
    "files.0.path": lambda m, path: m["files"][0].update(path=path),
}


@pytest.mark.parametrize("key", OUTSIDE)
@pytest.mark.parametrize("path", ["/etc/hostname", "../x", "a/../../x", "", ".", "a//b", "a\\b"])
def test_a_manifest_that_leads_out_is_refused(
    place: Place, tmp_path: Path, key: str, path: str
) -> None:
    shutil.copyfile(place.artifact / "manifest.json", tmp_path / "manifest.json")
    fields = json.loads((tmp_path / "manifest.json").read_text())
    OUTSIDE[key](fields, path)
    (tmp_path / "manifest.json").write_text(json.dumps(fields))
    with pytest.raises(AsrbuildError, match="leads out of it") as refused:
        read_manifest(tmp_path)
    assert refused.value.key == key


def test_a_link_out_of_the_artifact_is_refused(place: Place, tmp_path: Path) -> None:
    linked = copy_artifact(place.artifact, tmp_path / "linked")
    shutil.move(linked / "model.mlpackage", tmp_path / "elsewhere")
    (linked / "model.mlpackage").symlink_to(tmp_path / "elsewhere")
    assert "is a link" in refusal("transcribe", str(linked), SECOND).message
    assert dispatch(["verify", str(linked)]) == 1


# The current folder


def test_a_build_imports_nothing_from_the_folder_it_runs_in(place: Place, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    names = ("json", "argparse", "numpy", "tensorflow", "signal", "coremltools", "runpy")
    for name in (*names, "sitecustomize"):
        note = f"open({str(ran)!r}, 'a').write(__name__)\n"
        (tmp_path / f"{name}.py").write_text(note)
    (tmp_path / "asrbuild").mkdir()
    (tmp_path / "asrbuild/__init__.py").write_text(f"open({str(ran)!r}, 'a').write('asrbuild')\n")
    done = place.run(
        *RECIPE, "version=1.0.1", "coreml.frontend=tensorflow", "coreml.lstm=loop", cwd=tmp_path
    )
    assert done.code == 0, done.err
    assert not ran.exists(), ran.read_text()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "checkout"
    folder.mkdir()
    (folder / "file").write_text("one\n")
    git(folder, "init", "-q")
    git(folder, "add", "file")
    git(folder, "commit", "-q", "-m", "one")
    return folder


def git(folder: Path, *arguments: str) -> None:
    named = ("-c", "user.name=a", "-c", "user.email=a@b")
    subprocess.run(["git", "-C", str(folder), *named, *arguments], check=True)


def test_git_runs_no_program_of_the_repository(checkout: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    script = checkout.parent / "script"
    script.write_text(f"#!/bin/sh\necho $0 >> {ran}\ncat\n")
    script.chmod(0o755)
    for key in ("core.fsmonitor", "filter.evil.clean", "filter.evil.process", "core.sshCommand"):
        git(checkout, "config", key, str(script))
    (checkout / "included").write_text(f'[filter "Evil = two"]\n\tclean = {script}\n')
    git(checkout, "config", "include.path", str(checkout / "included"))
    git(checkout, "config", "filter.evil.required", "true")
    git(checkout, "config", "core.hooksPath", str(checkout / "hooks"))
    (checkout / "hooks").mkdir()
    shutil.copy(script, checkout / "hooks" / "post-index-change")
    (checkout / ".git/info/attributes").write_text("* filter=evil\n")
    ran.unlink(missing_ok=True)
    # The time has changed and not the content: git has to read the file.
    os.utime(checkout / "file", (1, 1))
    found = processes.repository(checkout)
    assert found is not None
    assert (len(found[0]), found[1]) == (40, False)
    (checkout / "file").write_text("two\n")
    assert processes.repository(checkout) == (found[0], True)
    assert not ran.exists(), ran.read_text()


def test_git_that_hangs_is_given_up(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    (bin_ / "git").write_text(f"#!/bin/sh\nsleep 60 & echo $! >> {tmp_path / 'pids'}\nwait\n")
    (bin_ / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_}:{os.environ['PATH']}")
    monkeypatch.setattr(processes, "GIT_SECONDS", 1.0)
    assert processes.repository(checkout) is None
    for pid in (tmp_path / "pids").read_text().split():
        state = Path(f"/proc/{pid}/stat")
        assert not state.exists() or state.read_text().split()[2] == "Z"


def test_git_of_the_current_folder_is_not_run(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = tmp_path / "ran"
    (checkout / "git").write_text(f"#!/bin/sh\ntouch {ran}\n")
    (checkout / "git").chmod(0o755)
    monkeypatch.chdir(checkout)
    monkeypatch.setenv("PATH", f".::{os.environ['PATH']}")
    assert processes.repository(Path()) is not None
    assert not ran.exists()
