"""Second opinions: Apple's runtime on programs of the executor's tests.

``record`` is called for every program of one op that the conformance tests of the executor build.
``check`` lowers the records of a module together and compares every output. Apple's runtime
computes in single precision, so half-precision outputs are compared within the executor's rounding.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest

from asrbuild.coreai import asset
from asrbuild.coreai.handover import PROGRAM, WEIGHTS, FunctionWriter, NoLoweringError
from asrbuild.coreml.executor.literals import Blobs
from asrbuild.coreml.executor.model import StateCell

Values = Mapping[str, Any]
#: Programs of one test often differ in numbers alone: more than these add little.
_MOST_OF_A_TEST = 12
#: Texts of expected refusals.
_NOT_LOWERED = (
    "list_",
    "resize",
    "upsample",
    "crop",
    "resample",
    "affine",
    "random_",
    "classify",
    "non_maximum_suppression",
    "indices that may repeat",
    "scatter_along_axis with mode",
)
#: Programs that are compiled together.
_BATCH = 150


@dataclass
class Case:
    """A program, its inputs and the executor's outputs."""

    test: str
    function: dict[str, Any]
    given: dict[str, np.ndarray]
    outputs: list[Any]
    states: dict[str, np.ndarray]
    after: dict[str, np.ndarray]

    @property
    def ops(self) -> set[str]:
        return set(_ops(self.function["block"]))


@dataclass
class Record:
    """The programs that a module of tests ran."""

    folder: Path
    weights: IO[bytes]
    cases: list[Case] = field(default_factory=list)
    tests: Counter[str] = field(default_factory=Counter)


_records: list[Record] = []


@contextmanager
def runtime(folder: Path) -> Iterator[None]:
    """Lets the block run Apple's runtime of an environment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ASRBUILD_COREAI", str(folder))
        yield


def expected(reason: str) -> bool:
    """Whether Core AI is known to have no counterpart, or speech models to have no use."""
    return any(op in reason for op in _NOT_LOWERED)


@contextmanager
def recording() -> Iterator[Record]:
    """Records the programs that run in the block."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with (folder / WEIGHTS).open("wb") as weights:
            record = Record(folder, weights)
            _records.append(record)
            try:
                yield record
            finally:
                _records.pop()


def record(program: Any, folder: Path, before: Values, after: Values, outputs: list[Any]) -> None:
    """Notes a run of the function ``main``; states before and after are by their input's name."""
    if not _records:
        return
    found = _records[-1]
    test = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" ")[0]
    found.tests[test] += 1
    if found.tests[test] > _MOST_OF_A_TEST or not all(_is_array(v) for v in [*outputs]):
        return
    function = program.functions["main"]
    name = f"case_{len(found.cases)}"
    writer = FunctionWriter(Blobs(folder), found.weights, name, function.opset)
    states = {n: np.array(v.value) for n, v in before.items() if isinstance(v, StateCell)}
    written = writer.function(function) | {"states": list(states), "sizes": []}
    given = {n: np.array(v) for n, v in before.items() if n not in states}
    last = {n: np.array(after[n].value) for n in states}
    found.cases.append(Case(test, written, given, outputs, states, last))


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray | np.generic)


def _ops(block: Mapping[str, Any]) -> Iterator[str]:
    for operation in block["operations"]:
        yield operation["type"]
        for inner in operation["blocks"]:
            yield from _ops(inner)


@dataclass
class Opinions:
    """The result: op -> programs in which both runtimes agree; the others with their reason."""

    agreeing: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    differing: list[str] = field(default_factory=list)


def check(found: Record) -> Opinions:
    """Runs the recorded programs in Apple's runtime."""
    opinions = Opinions()
    if not found.cases:
        return opinions
    found.weights.flush()
    known = set(asset.ask(found.folder, "ops")[0]["ops"])
    cases = []
    for case in found.cases:
        unknown = sorted(case.ops - known)
        if unknown:
            opinions.refused[f"no lowering of {', '.join(unknown)}"] += 1
        else:
            cases.append(case)
    for start in range(0, len(cases), _BATCH):
        _check_batch(found, cases[start : start + _BATCH], opinions)
    return opinions


def _check_batch(found: Record, cases: list[Case], opinions: Opinions) -> None:
    """Checks cases; a batch that cannot be lowered is halved until the faulty case is alone."""
    if not cases:
        return
    program = {"functions": [case.function for case in cases]}
    (found.folder / PROGRAM).write_text(json.dumps(program), encoding="utf-8")
    made = found.folder / "batch.aimodel"
    try:
        asset.ask(
            found.folder,
            "lower",
            handover=str(found.folder),
            asset=str(made),
            metadata=asset.AssetMetadata().written(),
            wide=True,
            keep_all=False,
        )
        asset.ask(found.folder, "open", asset=str(made))
    except NoLoweringError as error:
        if len(cases) == 1:
            opinions.refused[error.message] += 1
            return
    except Exception as error:
        if len(cases) == 1:
            opinions.differing.append(f"{cases[0].test}: {error}")
            return
    else:
        for case in cases:
            _check_case(found, made, case, opinions)
        asset.ask(found.folder, "close", asset=str(made))
        return
    middle = len(cases) // 2
    _check_batch(found, cases[:middle], opinions)
    _check_batch(found, cases[middle:], opinions)


def _check_case(found: Record, made: Path, case: Case, opinions: Opinions) -> None:
    try:
        wide = {n: _widened(v) for n, v in (case.given | case.states).items()}
        _, results = asset.ask(
            found.folder,
            "run",
            wide,
            asset=str(made),
            function=case.function["name"],
            states=list(case.states),
        )
        half = "float16" in json.dumps(case.function)
        for name, output in zip(case.function["block"]["given"], case.outputs, strict=True):
            _compare(name, results[name], output, half=half)
        for name, value in case.after.items():
            _compare(name, results[name], value, half=half)
    except Exception as error:
        words = " ".join(str(error).split())
        opinions.differing.append(f"{case.test} ({', '.join(sorted(case.ops))}): {words}")
    else:
        opinions.agreeing.update(case.ops)


def _widened(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float32) if array.dtype == np.float16 else array


def _compare(name: str, got: np.ndarray, wanted: Any, *, half: bool) -> None:
    wanted = np.asarray(wanted)
    assert got.shape == wanted.shape, f"{name} is {got.shape}, the executor gives {wanted.shape}"
    if wanted.dtype.kind != "f":
        np.testing.assert_array_equal(got, wanted, err_msg=name)
        return
    tolerance = 2e-3 if half else 1e-5
    if half:
        # Values beyond 65504, the limit of half precision, are finite in single.
        got = np.where(np.isinf(wanted) & (np.abs(got) > 65504), wanted, got)
    scale = float(np.abs(wanted[np.isfinite(wanted)]).max(initial=1.0))
    np.testing.assert_allclose(
        got.astype(np.float64),
        wanted.astype(np.float64),
        rtol=tolerance,
        atol=tolerance * scale,
        err_msg=name,
    )
