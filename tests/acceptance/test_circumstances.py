"""Errors of circumstances: missing homes and permissions, closed streams, odd names of files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from asrbuild.builder.compose import compose_recipe
from tests import golden
from tests.acceptance.conftest import Workshop, run_asrbuild
from tests.command import run_main
from tests.paths import DEMO


@pytest.mark.parametrize("variable", ["ASRBUILD_ARTIFACTS", "ASRBUILD_CACHE"])
def test_a_file_in_the_place_of_a_folder_is_an_error(
    variable: str, at: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (at / "taken").touch()
    monkeypatch.setenv(variable, "taken")
    command = ["ls"] if variable == "ASRBUILD_ARTIFACTS" else ["cache", "ls"]
    code, _, err = run_main([*command, "--json"], monkeypatch, capfd)
    assert code == 1
    assert f"this is a file, not a folder\n  key: {variable}\n  file: taken" in err
    golden.check_error(f"{variable}=taken", code, err, at)


def test_a_missing_home_is_an_error(
    at: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    path = "~nobody-is-called-so/x"
    for arguments, message in (
        (["verify", path], "a path begins with ~, and that user has no home folder\n  fix: "),
        (["plan", f"paths.cache={path}"], f"paths.cache={path} is in the home of a user who has"),
    ):
        code, _, err = run_main(arguments, monkeypatch, capfd)
        assert code == 1
        assert err.startswith(f"error: {message}")
        golden.check_error(" ".join(arguments), code, err, at)
    monkeypatch.setenv("HOME", str(at / "home"))
    assert compose_recipe(["paths.cache=~/cache"]).paths.cache == f"{at}/home/cache"


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="permissions are POSIX")
@pytest.mark.parametrize(
    "arguments",
    [
        ["ls", "--artifacts", "locked/x"],
        ["verify", "locked"],
        ["run", "locked"],
        ["inspect", "model", "locked/x"],
        ["source=checkpoint", "source.checkpoint_dir=locked"],
        ["evaluate", "{static}", "secret.csv"],
        ["verify.evaluation=secret.csv"],
    ],
)
def test_an_unreadable_file_or_folder_is_an_error(
    arguments: list[str],
    at: Path,
    workshop: Workshop,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    (at / "locked").mkdir()
    (at / "secret.csv").write_text("wav_filename,transcript\n")
    for path in at.iterdir():
        path.chmod(0)
    static = workshop.artifact("static", "mlprogram")
    arguments = [a.format(static=static) for a in arguments]
    # Root may read all files, so the process becomes another user after the imports of the command,
    # and of what prints an error.
    user = os.geteuid()
    if user == 0:
        run_main(arguments, monkeypatch, capfd)
        run_main(["show", "nothing"], monkeypatch, capfd)
        os.seteuid(65534)
    try:
        code, _, err = run_main(arguments, monkeypatch, capfd)
    finally:
        os.seteuid(user)
    assert code in (1, 2)
    assert err.startswith("error: ")
    assert "permission denied" in err.lower() or "not readable" in err
    assert "unexpected" not in err
    assert "cannot be written" not in err


def test_a_group_without_a_command_shows_its_commands(at: Path) -> None:
    done = run_asrbuild("cache", cwd=at)
    assert done.code == 2
    assert "remove" in done.out + done.err
    assert "error" not in done.err


#: (shell script, exit code, error as printed): circumstances of a process.
CIRCUMSTANCES = [
    ("{run} schema >&-", 0, ""),
    (
        "{run} schema >/dev/full",
        1,
        "no space is left on the disk, while running asrbuild\n  file: standard output",
    ),
    (
        "mkdir gone && cd gone && rmdir ../gone && {run} -m model=static",
        1,
        "the current folder no longer exists",
    ),
    ("LC_ALL=C PYTHONUTF8=0 PYTHONIOENCODING=ascii {run} name=é", 1, "cannot name a folder"),
    ("env -u HOME {run} schema", 0, ""),
]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a file that is always full")
@pytest.mark.parametrize(("script", "code", "message"), CIRCUMSTANCES)
def test_odd_circumstances_give_a_clear_error(
    script: str, code: int, message: str, at: Path
) -> None:
    done = subprocess.run(
        ["sh", "-c", script.format(run=f"{sys.executable} -m asrbuild.cli.main")],
        cwd=at,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert "unexpected" not in done.stderr
    golden.check_error(script, code, done.stderr, at)


def test_odd_names_of_folders_and_files_work(workshop: Workshop, at: Path) -> None:
    """Hydra's grammar has neither letters with accents nor brackets nor a second `=`."""
    folder = at / "ünï (1) a=b ☃"
    shutil.copytree(DEMO / "checkpoint", folder / "check point~é")
    shutil.copy(DEMO / "sample.wav", folder / "it's me, ö.wav")
    (folder / "my conf" / "model").mkdir(parents=True)
    (folder / "my conf" / "model" / "mine.yaml").write_text(
        "name: mine\nexport_n_steps: -1\nstreaming: chunked\nsteps: {kind: fixed, default: 20}\n"
    )
    done = run_asrbuild(
        "--config-dir",
        "my conf",
        "model=mine",
        "source=checkpoint",
        "verify=quick",
        "source.checkpoint_dir=check point~é",
        "source.sample.audio=it's me, ö.wav",
        f"paths.cache={workshop.folder}/.asrbuild/cache",
        f"paths.artifacts={folder}/art é",
        cwd=folder,
    )
    assert done.code == 0, done.err
    assert (folder / "art é" / "deepspeech-mine-mlprogram-quick" / "latest").is_file()
