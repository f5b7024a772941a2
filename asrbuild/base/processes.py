"""Starts programs and Python modules that import and run nothing from the current folder."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

#: Limit for all calls of git together; a repository on a slow disk takes a tenth of it.
GIT_SECONDS = 20.0
#: ``-c`` puts the current folder first, too, but imports nothing before this.
_START = "import sys; sys.path[:] = {path!r}; {before}import runpy; runpy.{run}"
#: Large pages for large arrays, which numpy asks for itself and other runtimes do not: TensorFlow
#: reads 134 MB of weights a step in an eighth less time (2048 units), and other libcs ignore it.
_LARGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
_WATCH = "from asrbuild.base import processes; processes.end_with_parent(); "


def python_module(module: str, *arguments: str, watch: bool = True) -> list[str]:
    """The command that runs a module of asrbuild in a new process of this interpreter.

    ``python -m`` puts the current folder before the standard library (only Python 3.11 has ``-P``
    against that), and ``-I`` would leave out PYTHONPATH, where asrbuild may be installed. So the
    process is given the path that this one imports from, before it imports anything.

    It ends when its standard input does: start it with :func:`start`. Without ``watch``, it begins
    to look at its standard input when it calls :func:`next_line`.
    """
    run = f"run_module({module!r}, None, '__main__', True)"
    start_code = _START.format(path=module_path(), before=_WATCH if watch else "", run=run)
    return [sys.executable, "-c", start_code, *arguments]


def start(command: Sequence[str], log: IO[bytes]) -> subprocess.Popen[bytes]:
    """Starts a :func:`python_module` whose output goes to ``log``.

    The pipe of its standard input is open as long as this process lives, however it ends.
    """
    environment = _LARGE_PAGES | os.environ
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log, env=environment)


def run(module: str, *arguments: str) -> tuple[int, list[str]]:
    """Runs a :func:`python_module` to its end; it does not outlive this call.

    Returns:
        Its exit code, and the lines that it wrote, at least one.
    """
    with tempfile.TemporaryFile() as log:
        process = start(python_module(module, *arguments), log)
        try:
            code = process.wait()
        except BaseException:
            process.kill()
            process.wait()
            raise
        log.seek(0)
        return code, log.read().decode(errors="replace").strip().splitlines() or ["no message"]


def end(process: subprocess.Popen[bytes]) -> None:
    """Closes the pipes of a process, at which it ends; kills it if it runs two seconds later."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(BrokenPipeError):  # its reader may have ended
                pipe.close()
    try:
        process.wait(timeout=2)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def next_line() -> str:
    """The next line of the standard input, with which this process ends from now on."""
    line = sys.stdin.readline()
    if not line:
        sys.exit(1)
    end_with_parent()
    return line


def end_with_parent() -> None:
    """Ends this process at once when its standard input ends: its parent is gone."""

    def watch() -> None:
        while os.read(0, 1):
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def python_script(script: Path, *arguments: str) -> list[str]:
    """The command that runs a Python file, as :func:`python_module` does for a module."""
    run = f"run_path({str(script)!r}, None, '__main__')"
    return [sys.executable, "-c", _START.format(path=module_path(), before="", run=run), *arguments]


def module_path() -> list[str]:
    """The import path of this process, without the current folder unless it contains asrbuild."""
    own = Path(__file__).resolve().parents[2]
    here = Path.cwd().resolve()
    return [
        entry
        for entry in sys.path
        if entry and (Path(entry).resolve() != here or Path(entry).resolve() == own)
    ]


def repository(folder: Path) -> tuple[str, bool] | None:
    """The commit of a folder's git repository, and whether tracked files differ from it.

    None outside of a repository, or if git does not answer. A repository's configuration can name
    programs for git to run; none of them runs: no fsmonitor, hook, filter, submodule or transport.
    A filter in the user's own or the system's configuration (Git LFS) runs.
    """
    program = shutil.which("git", path=_absolute_path())
    if program is None:
        return None
    base = [
        program,
        "-C",
        str(folder),
        "-c",
        "core.fsmonitor=false",
        "-c",
        f"core.hooksPath={os.devnull}",
        "--no-pager",
    ]
    environment = {
        **os.environ,
        "GIT_OPTIONAL_LOCKS": "0",  # the index is not written, so no hook runs
        "GIT_ALLOW_PROTOCOL": "none",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_TERMINAL_PROMPT": "0",
    }
    commit = _answer([*base, "rev-parse", "--verify", "HEAD"], environment)
    if commit is None or not commit.strip():
        return None
    listed = _answer(
        [*base, "config", "--null", "--show-scope", "--name-only", "--get-regexp", r"^filter\."],
        environment,
        accepted=(0, 1),  # 1: no such key
    )
    dirty: str | None = None
    if listed is not None:
        status = ["status", "--porcelain", "--untracked-files=no", "--ignore-submodules=all"]
        dirty = _answer([*base, *status], environment | _without_filters(listed, environment))
    # A repository counts as clean only if git reports it.
    return commit.strip(), dirty is None or bool(dirty.strip())


def _absolute_path() -> str:
    """PATH without relative folders, so that a ``git`` in the current folder is not run."""
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return os.pathsep.join(folder for folder in folders if os.path.isabs(folder))


def _without_filters(listed: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Variables that empty every filter which the repository itself configures.

    ``listed``: scope and key by turns, each ended by a NUL.
    """
    fields = listed.split("\0")
    own = {
        key.rpartition(".")[0]
        for scope, key in zip(fields[::2], fields[1::2], strict=False)
        if scope not in ("system", "global", "command")
    }
    given = int(environment.get("GIT_CONFIG_COUNT") or 0)
    pairs = [
        (f"{name}.{key}", "false" if key == "required" else "")
        for name in sorted(own)
        for key in ("clean", "smudge", "process", "required")
    ]
    variables = {"GIT_CONFIG_COUNT": str(given + len(pairs))}
    for number, (key, value) in enumerate(pairs, given):
        variables |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    return variables


def _answer(
    command: Sequence[str], environment: Mapping[str, str], accepted: Sequence[int] = (0,)
) -> str | None:
    """The standard output of a program that ends in time; ends it and its child processes."""
    # A file, not a pipe: a pipe that a grandchild holds open would block until that ends.
    with tempfile.TemporaryFile() as output:
        try:
            process = subprocess.Popen(
                command,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError:
            return None
        try:
            code = process.wait(GIT_SECONDS / 3)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        output.seek(0)
        return output.read().decode("utf-8", "surrogateescape") if code in accepted else None
