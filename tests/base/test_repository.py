"""The state of a git repository is read without running its programs."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from asrbuild.base import processes
from tests.scripts import write_script


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
    script = write_script(checkout.parent / "script", f"echo $0 >> {ran}\ncat")
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
    # Only the time of the file has changed, so git must read its content.
    os.utime(checkout / "file", (1, 1))
    found = processes.repository(checkout)
    assert found is not None
    assert (len(found[0]), found[1]) == (40, False)
    (checkout / "file").write_text("two\n")
    assert processes.repository(checkout) == (found[0], True)
    assert not ran.exists(), ran.read_text()


def test_git_is_ended_if_it_hangs(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bin_ = tmp_path / "bin"
    write_script(bin_ / "git", f"sleep 60 & echo $! >> {tmp_path / 'pids'}\nwait")
    monkeypatch.setenv("PATH", f"{bin_}:{os.environ['PATH']}")
    monkeypatch.setattr(processes, "GIT_SECONDS", 1.0)
    assert processes.repository(checkout) is None
    for pid in (tmp_path / "pids").read_text().split():
        end = time.monotonic() + 20
        while _runs(pid) and time.monotonic() < end:
            time.sleep(0.05)
        assert not _runs(pid)


def _runs(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


def test_git_of_the_current_folder_is_not_run(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = tmp_path / "ran"
    write_script(checkout / "git", f"touch {ran}")
    monkeypatch.chdir(checkout)
    monkeypatch.setenv("PATH", f".::{os.environ['PATH']}")
    assert processes.repository(Path()) is not None
    assert not ran.exists()
