"""``asrbuild`` in a fork of a process whose imports are done: it starts within milliseconds."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import hydra  # noqa: F401

from asrbuild.builder import publish, stages, sweep  # noqa: F401
from asrbuild.cli import main as cli
from asrbuild.coreml.speedups.importing import import_coremltools

import_coremltools()


def run(folder: Path, arguments: list[str], output: Path) -> None:
    """Runs the command line in ``folder``, in a process group of its own; never returns."""
    os.setsid()
    os.chdir(folder)
    log = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(log, stream)
    sys.argv = ["asrbuild", *arguments]
    cli.main()
