"""Real models in wheels of the package index, fetched once for all runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

PACKAGES = ("hama==1.3.13", "silero-vad==6.2.3", "basic-pitch==0.4.0")


def fetched() -> Path:
    """The folder with the unpacked wheels, without their dependencies.

    Skips the test where the index cannot be reached.
    """
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = base / "asrbuild" / "wheels"
    mark = folder / "complete"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not mark.is_file() or mark.read_text() != "\n".join(PACKAGES):
            pip = [sys.executable, "-m", "uv", "pip"] if _has_uv() else ["uv", "pip"]
            # Outside of this project, where uv would apply the project's own pins.
            done = subprocess.run(
                [
                    *pip,
                    "install",
                    "--quiet",
                    "--no-deps",
                    "--target",
                    str(folder),
                    "--python",
                    sys.executable,
                    *PACKAGES,
                ],
                capture_output=True,
                text=True,
                cwd=folder,
                timeout=300,
                check=False,
            )
            if done.returncode:
                pytest.skip(f"cannot fetch {', '.join(PACKAGES)}: {done.stderr.strip()}")
            mark.write_text("\n".join(PACKAGES))
    return folder


def _has_uv() -> bool:
    from importlib.util import find_spec

    return find_spec("uv") is not None
