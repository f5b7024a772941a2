"""``asrbuild`` in forks of one process whose imports are done: it starts within milliseconds."""

from __future__ import annotations

import functools
import multiprocessing
import os
import sys
from collections.abc import Mapping
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from pathlib import Path

#: Variables that Python or a library reads at its start: a fork would not see another value.
_AT_START = ("PYTHON", "LC_", "LANG", "TZ", "OPENBLAS_", "OMP_", "TF_", "LD_", "ASRBUILD_COREAI")
_START = dict(os.environ)


@functools.cache
def context() -> ForkServerContext:
    """Starts processes as forks of one server without threads."""
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(["tests.preloaded"])
    now = dict(os.environ)
    os.environ.clear()
    os.environ.update(_START)
    try:
        forkserver.ensure_running()
    finally:
        os.environ.clear()
        os.environ.update(now)
    return found


def may_be_forked(environment: Mapping[str, str]) -> bool:
    """Whether a fork sees all of an environment."""
    names = environment.keys() | _START.keys()
    changed = {name for name in names if environment.get(name) != _START.get(name)}
    return not any(name.startswith(_AT_START) for name in changed)


def run(
    folder: Path,
    arguments: list[str],
    out: Path,
    err: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Runs a command line in ``folder``, in this process and a group of its own; never returns.

    Its errors go to the file ``err``, or to ``out`` as well.
    """
    os.setsid()
    os.chdir(folder)
    if environment is not None:
        os.environ.clear()
        os.environ.update(environment)
    to_out = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(to_out, 1)
    os.dup2(os.open(err, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) if err else to_out, 2)
    sys.argv = ["asrbuild", *arguments]
    from asrbuild.cli import main as cli

    cli.main()


def run_ahead(folder: Path, arguments: list[str], out: Path) -> None:
    """As :func:`run`, for a sweep whose second process starts at the size of the demo."""
    from asrbuild.builder import ahead

    ahead.LEAST_BYTES = 0
    run(folder, arguments, out)
