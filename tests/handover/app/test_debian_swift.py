"""tools/debian_swift.sh: a removal deletes only the toolchain."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.paths import ROOT

SCRIPT = ROOT / "tools" / "debian_swift.sh"
pytestmark = [
    pytest.mark.skipif(not Path("/proc/self/mountinfo").exists(), reason="this is not Linux"),
]


def run(*arguments: object, before: str = "") -> subprocess.CompletedProcess[str]:
    words = ["bash", str(SCRIPT), *map(str, arguments)]
    if before:
        words = ["unshare", "--mount", "bash", "-c", f'{before}; exec "$@"', "x", *words]
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def toolchain(tmp_path: Path) -> Path:
    """A folder in the form that the script makes, with named files."""
    folder = tmp_path / "swift"
    for file in ("bin/swift", "root/usr/libexec/swift/bin/swift", "root/tmp/of-the-toolchain"):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(file)
    return folder


def test_a_removal_deletes_only_files_of_the_script(toolchain: Path) -> None:
    own = toolchain / "own.txt"
    own.write_text("of the user")
    assert run("remove", toolchain).returncode == 0
    assert list(toolchain.iterdir()) == [own]
    own.unlink()
    toolchain.rmdir()
    assert run("remove", toolchain).returncode == 0, "there is nothing left to remove"


def test_another_folder_is_not_removed(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "work.txt").write_text("of the user")
    done = run("remove", tmp_path)
    assert done.returncode == 1
    assert "is not a folder of tools/debian_swift.sh" in done.stderr
    assert (tmp_path / "root" / "work.txt").exists()


@pytest.mark.parametrize("arguments", [(), ("remove",), ("",), ("a", "b")])
def test_a_wrong_command_changes_nothing(arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("usage:")


@pytest.mark.skipif(
    os.name != "posix" or os.geteuid() != 0 or shutil.which("unshare") is None,
    reason="mounting a folder needs root",
)
def test_a_mounted_folder_of_the_machine_stays(toolchain: Path, tmp_path: Path) -> None:
    machine = tmp_path / "machine"
    machine.mkdir()
    (machine / "work.txt").write_text("of the user")
    inside = toolchain / "root" / "tmp"
    for arguments in (("remove", toolchain), (toolchain,)):
        done = run(*arguments, before=f"mount --bind '{machine}' '{inside}'")
        assert done.returncode == 1
        assert f"umount {inside}" in done.stderr
    assert (machine / "work.txt").exists()
    assert (toolchain / "bin" / "swift").exists()
