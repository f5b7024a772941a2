"""Runs the original in its own runtime, in a process of its own, as the reference of a proof.

The build itself does not import that runtime. A worker is a module that ends in
``sys.exit(serve(run))``; :func:`start` starts it with a file of cases, and :class:`OriginalRun`
waits for its results. :func:`begun` starts it earlier, so that it imports its runtime while the
cases are made. The results are an npz:

    <case>/<output>         the value of an output; for a state, that after the last step
    <case>/steps/<output>   a state after every step, (steps, ...), if the network is causal
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from asrbuild.base import interrupts, processes
from asrbuild.base.array import Array
from asrbuild.base.disk import full_disk_errors
from asrbuild.base.errors import AsrbuildError

_POLL_SECONDS = 0.1
_STEPS = "/steps"


@dataclass(frozen=True)
class Result:
    """The original's results for one case.

    ``outputs``: name -> value. ``steps``: output of a state -> its value after every step, (steps,
    ...).
    """

    outputs: Mapping[str, Array]
    steps: Mapping[str, Array] = field(default_factory=dict)


@dataclass(frozen=True)
class OriginalRun:
    """A running worker."""

    process: subprocess.Popen[bytes]
    out_path: Path
    log: IO[bytes]
    runtime: str

    def wait(self, timeout: float | None = None) -> Path:
        """Waits for the file of results.

        Raises:
            AsrbuildError: the worker's error, or the worker took longer than ``timeout`` seconds.
        """
        end = math.inf if timeout is None else time.monotonic() + timeout
        try:
            while (code := self._poll()) is None:
                interrupts.check()
                if time.monotonic() > end:
                    raise AsrbuildError(f"{self.runtime} did not finish in {timeout:g} s")
        except BaseException:  # the process must end with the build
            self.stop()
            raise
        with self.log:
            self.log.seek(0)
            lines = self.log.read().decode(errors="replace").strip().splitlines()
        if code:
            raise _error_of(code, lines, self.runtime)
        return self.out_path

    def _poll(self) -> int | None:
        try:
            return self.process.wait(_POLL_SECONDS)
        except subprocess.TimeoutExpired:
            return None

    def stop(self) -> None:
        """Ends the process, without partial files."""
        _end(self.process, self.log)


def _end(process: subprocess.Popen[bytes], log: IO[bytes]) -> None:
    process.kill()
    process.wait()
    log.close()


def _error_of(code: int, lines: list[str], runtime: str) -> AsrbuildError:
    """The error in the last line of the process, or an error about its end."""
    last = lines[-1] if lines else "no message"
    try:
        fields = json.loads(last)
        return AsrbuildError(fields.pop("message"), **fields)
    except (ValueError, TypeError, KeyError, AttributeError):
        cause = f"signal {-code}" if code < 0 else f"code {code}"
        error = AsrbuildError(
            f"running the model in {runtime} ended with {cause}: {last}",
            fix=f"`asrbuild doctor` tells whether {runtime} can be imported",
        )
        error.__cause__ = RuntimeError(last)
        return error


#: The process of a worker without arguments yet, and its log.
_Worker = tuple[subprocess.Popen[bytes], IO[bytes]]
_begun: defaultdict[str, list[_Worker]] = defaultdict(list)


@contextmanager
def begun(module: str) -> Iterator[None]:
    """Starts a worker without arguments, for the next :func:`start` of its module in the block.

    It starts none if one of that module waits for its arguments already.
    """
    if _begun[module]:
        yield
        return
    worker = _begin(module)
    _begun[module].append(worker)
    try:
        yield
    finally:
        with suppress(ValueError):  # it was asked
            _begun[module].remove(worker)
            _end(*worker)


def _begin(module: str) -> _Worker:
    # A pipe could fill up while the caller converts; `wait` and `stop` close the file.
    log = tempfile.TemporaryFile()  # noqa: SIM115
    return processes.start(processes.python_module(module, watch=False), log), log


def start(module: str, runtime: str, out: Path, *arguments: str) -> OriginalRun:
    """Gives a worker its arguments, which are those of its command line without ``--out``."""
    try:
        process, log = _begun[module].pop()
    except IndexError:
        process, log = _begin(module)
    assert process.stdin is not None
    with suppress(BrokenPipeError):  # it has ended already, and `wait` reports its error
        process.stdin.write(json.dumps([*arguments, "--out", str(out)]).encode() + b"\n")
        process.stdin.flush()
    return OriginalRun(process, out, log, runtime)


def serve(
    run: Callable[[argparse.Namespace, Mapping[str, Array]], Mapping[str, Array]],
    prepare: Callable[[], object],
    *options: str,
) -> int:
    """The main function of a worker: calls ``run`` with options and cases, and writes its arrays.

    Its arguments are those of its command line, or else a line of JSON on its standard input. It
    prints an error as one JSON line and returns 1.

    Args:
        prepare: imports the runtime.
        options: names of further options.
    """
    # Ctrl-C ends it at once: the import of a runtime could swallow a KeyboardInterrupt.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    parser = argparse.ArgumentParser()
    for option in ("--cases", "--out"):
        parser.add_argument(option, type=Path, required=True)
    for option in options:
        parser.add_argument(option)
    try:
        prepare()
        parsed = parser.parse_args(sys.argv[1:] or json.loads(processes.next_line()))
        try:
            with np.load(parsed.cases, allow_pickle=False) as stored:
                cases = dict(stored)
        except (OSError, ValueError) as error:
            raise AsrbuildError(f"cannot read the cases: {error}", file=parsed.cases) from error
        results: dict[str, Any] = dict(run(parsed, cases))
        partial = parsed.out.with_name(parsed.out.name + f".{os.getpid()}.npz")
        with full_disk_errors("writing the original's results", parsed.out.parent):
            np.savez(partial, **results)
            partial.replace(parsed.out)
    except AsrbuildError as error:
        sys.stderr.write(json.dumps(error.fields) + "\n")  # noqa: TID251 - the parent process reads it
        return 1
    gc.freeze()  # The caller waits for the end, whose collections take 0.1 s after TensorFlow.
    return 0


def read_results(path: Path) -> dict[str, Result]:
    """Reads a file of results in the form of this module's docstring: case -> result."""
    outputs: dict[str, dict[str, Array]] = {}
    steps: dict[str, dict[str, Array]] = {}
    with np.load(path, allow_pickle=False) as stored:
        for key in stored.files:
            case, _, output = key.rpartition("/")
            into = steps if case.endswith(_STEPS) else outputs
            into.setdefault(case.removesuffix(_STEPS), {})[output] = stored[key]
    return {case: Result(own, steps.get(case, {})) for case, own in outputs.items()}


def save_cases(path: Path, cases: Mapping[str, Array]) -> None:
    """Writes a file of cases for :func:`serve`."""
    arrays: dict[str, Any] = dict(cases)
    np.savez(path, **arrays)
