"""Conversions in a process of their own, for runtimes that the caller's process must not import.

A module that converts has ``serve_job`` as its main function; the job and the error of asrbuild
that it raises are JSON files.
"""

from __future__ import annotations

import json
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from asrbuild.base.errors import AsrbuildError
from asrbuild.base.processes import run
from asrbuild.coreml.request import (
    ConversionRequest,
    EnumeratedSteps,
    FixedSteps,
    RangeSteps,
    Steps,
)

_STEPS = {"fixed": FixedSteps, "range": RangeSteps, "enumerated": EnumeratedSteps}
#: Converts a job, with its request, to the package at the path.
Convert = Callable[[Mapping[str, Any], ConversionRequest, Path], None]


def run_job(
    module: str, request: ConversionRequest, destination: Path, **job: Any
) -> tuple[int, str]:
    """Runs a module that converts; ``job``: further values for it.

    Returns:
        The exit code of its process, and the last line that it wrote.

    Raises:
        AsrbuildError: the error of the conversion.
    """
    with tempfile.TemporaryDirectory() as scratch:
        path, outcome = Path(scratch, "job.json"), Path(scratch, "outcome.json")
        places = {"destination": str(destination.absolute()), "outcome": str(outcome)}
        whole = job | places | {"request": encoded_request(request)}
        path.write_text(json.dumps(whole), encoding="utf-8")
        code, lines = run(module, str(path))
        error = json.loads(outcome.read_text("utf-8")) if outcome.exists() else None
    if error:
        raise AsrbuildError(error.pop("message"), **error)
    return code, lines[-1]


def serve_job(path: str, convert: Convert) -> None:
    """Runs a job in this process, which may import the model's runtime."""
    # Ctrl-C ends it at once: a runtime that is being imported could swallow a KeyboardInterrupt.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    job = json.loads(Path(path).read_text("utf-8"))
    try:
        convert(job, decoded_request(job["request"]), Path(job["destination"]))
    except AsrbuildError as error:
        Path(job["outcome"]).write_text(json.dumps(error.fields), encoding="utf-8")
        sys.exit(1)


def encoded_request(request: ConversionRequest) -> dict[str, Any]:
    """A request as JSON."""
    functions = {name: _encoded_steps(steps) for name, steps in request.functions.items()}
    return asdict(request) | {"steps": _encoded_steps(request.steps), "functions": functions}


def decoded_request(plain: dict[str, Any]) -> ConversionRequest:
    """The request of :func:`encoded_request`."""
    functions = {name: _decoded_steps(steps) for name, steps in plain["functions"].items()}
    lists = {key: tuple(plain[key]) for key in ("outputs", "fp32") if isinstance(plain[key], list)}
    steps = {"steps": _decoded_steps(plain["steps"]), "functions": functions}
    return ConversionRequest(**(plain | steps | lists))


def _encoded_steps(steps: Steps) -> dict[str, Any]:
    kind = next(name for name, kind in _STEPS.items() if isinstance(steps, kind))
    return {"kind": kind} | asdict(steps)


def _decoded_steps(plain: Mapping[str, Any]) -> Any:
    given = {name: value for name, value in plain.items() if name != "kind"}
    if "sizes" in given:
        given["sizes"] = tuple(given["sizes"])
    return _STEPS[plain["kind"]](**given)
