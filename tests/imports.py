"""The modules that a piece of code imports, in a Python of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def run_python(code: str, *arguments: object, cwd: Path | None = None) -> tuple[str, set[str]]:
    """Standard output of ``python -c code``, and the modules that it has imported at its end."""
    code += "\nimport sys; print('\\n' + ' '.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    text, _, modules = done.stdout.rstrip("\n").rpartition("\n")
    return text, set(modules.split())


def run_command(*arguments: object, cwd: Path | None = None) -> tuple[str, set[str]]:
    """The same for a command line of asrbuild that succeeds."""
    code = "import sys; from asrbuild.cli.main import dispatch; assert dispatch(sys.argv[1:]) == 0"
    return run_python(code, *arguments, cwd=cwd)
