"""An environment of Python 3.9 with the genuine deepspeech 0.9.3, cached in the user's folder.

Its wheels exist for CPython 3.9 and older only. Tests are skipped, with the reason, where no Python
3.9 is found or the packages cannot be had; with ASRBUILD_REQUIRE_GENUINE=1 they fail instead.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

PACKAGES = ["deepspeech==0.9.3", "ds-ctcdecoder==0.9.3", "numpy<2"]


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.genuine)


def candidates() -> Iterator[str]:
    """Possible interpreters of Python 3.9: uv's, pyenv's, and the one on PATH."""
    for command in (["uv", "python", "find", "3.9"], ["pyenv", "root"]):
        if shutil.which(command[0]) is None:
            continue
        done = subprocess.run(command, capture_output=True, text=True)
        answer = done.stdout.strip()
        if done.returncode == 0 and answer:
            if command[0] == "uv":
                yield answer
            else:
                versions = Path(answer, "versions").glob("3.9*/bin/python3.9")
                yield from map(str, sorted(versions, reverse=True))
    if found := shutil.which("python3.9"):
        yield found


def find_python() -> str | None:
    # The interpreter is run: a pyenv shim on PATH fails when its version is not active.
    question = "import sys; sys.exit(sys.version_info[:2] != (3, 9))"
    for python in candidates():
        if subprocess.run([python, "-c", question], capture_output=True).returncode == 0:
            return python
    return None


def cache_folder() -> Path:
    if sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "asrbuild" / "genuine-py39"


def give_up(reason: str) -> None:
    if os.environ.get("ASRBUILD_REQUIRE_GENUINE") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


def make_environment(python: str, folder: Path) -> None:
    """Creates a virtual environment with the packages; the mark is written last."""
    if shutil.which("uv"):
        create = ["uv", "venv", "--quiet", "--clear", "--python", python, str(folder)]
        install = ["uv", "pip", "install", "--quiet", "--python", str(folder / "bin" / "python")]
    else:
        create = [python, "-m", "venv", "--clear", str(folder)]
        install = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    for command in (create, [*install, *PACKAGES]):
        # Outside of this project, where uv would apply the project's own pins.
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder.parent)
        if done.returncode:
            give_up(f"cannot install {', '.join(PACKAGES)} for Python 3.9: {done.stderr.strip()}")
    (folder / "complete").write_text("\n".join(PACKAGES))


@pytest.fixture(scope="session")
def genuine():
    """A function that runs ``client.py`` in the environment: request -> answer."""
    python = find_python()
    if python is None:
        give_up("no Python 3.9 found (uv python find 3.9, pyenv, PATH)")
    folder = cache_folder()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        mark = folder / "complete"
        if not mark.is_file() or mark.read_text() != "\n".join(PACKAGES):
            make_environment(python, folder)

    def ask(request: dict) -> dict:
        done = subprocess.run(
            [folder / "bin" / "python", Path(__file__).with_name("client.py")],
            input=json.dumps(request),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.strip().splitlines()[-1])

    return ask
