"""Measures how a model's rows follow its input, by running the original in a process of its own.

The process is the architecture's worker, which gets a question instead of cases.

It measures the time axis of each output, the rule of its rows, the kind of its numbers, the steps
that a row depends on, and the effect of padding at the end. Steps far from a row are replaced by
noise ten times as loud; a row that does not change does not depend on them.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from asrbuild.architectures import original
from asrbuild.architectures.run_calls import Session
from asrbuild.base.array import Array
from asrbuild.base.errors import AsrbuildError
from asrbuild.coreml.signature import ProbabilityKind, Rows, measure_rows

_LENGTHS = 4  # times the start: what the context is measured on
_FAR = 65  # times the start: a minute of sound, beyond what tables of positions hold
_SAME = 1e-5  # of values near 1; a row that sees a changed step differs by far more
_CALL = "a call of noise"
_SUM = 1e-2  # what half precision leaves of 1 in a sum of probabilities


@dataclass(frozen=True)
class Question:
    """A question to a worker: the inputs for measuring a network.

    Args:
        input: the input with features or samples, whose axis ``axis`` is time.
        shape: its shape, null at an open time axis.
        start: a length that gives at least one row.
        others: further inputs -> their shapes; they get zeros.
        lengths: inputs with the number of steps.
        decoded: the decoded output; None: the first one with numbers of several classes.
    """

    input: str
    axis: int
    shape: list[int | None]
    start: int
    others: dict[str, list[int]]
    lengths: list[str]
    decoded: str | None


@dataclass(frozen=True)
class Measured:
    """The measured facts; steps of the input, rows of the output.

    Args:
        decoded: the decoded output.
        axes: output -> its shape, null at the time axis.
        kind: the kind of the decoded output's numbers.
        steps, add, most: the rule of its rows.
        causal: whether a row depends only on steps up to its own.
        left, right: steps before and after its own that a row depends on; None: all.
        neutral: whether padding leaves the other rows unchanged, if the real length is given.
    """

    decoded: str
    axes: dict[str, list[int | None]]
    kind: ProbabilityKind
    steps: int
    add: int
    most: int | None
    causal: bool
    left: int | None
    right: int | None
    neutral: bool


def measure(module: str, runtime: str, arguments: Sequence[str], question: Question) -> Measured:
    """Starts a worker with a question and waits for its answer.

    Args:
        module, runtime: the worker's module, and the name of its runtime.
        arguments: its command line, which names the model.

    Raises:
        AsrbuildError: the original does not run, or its rows do not follow a rule.
    """
    with tempfile.TemporaryDirectory(prefix="asrbuild-measure-") as folder:
        cases, out = Path(folder, "cases.npz"), Path(folder, "out.npz")
        original.save_cases(cases, {})
        asked = ("--cases", str(cases), "--question", json.dumps(asdict(question)))
        run = original.start(module, runtime, out, *arguments, *asked)
        try:
            found = run.wait()
        except AsrbuildError as error:
            if question.shape[question.axis] is None and _CALL in error.message:
                error.fix = (
                    "if the model takes one size alone, state it: +source.config.inputs."
                    f"{question.input}.steps=512; otherwise check that {runtime} runs the model"
                )
            raise
        with np.load(found, allow_pickle=False) as stored:
            return Measured(**json.loads(str(stored["answer"])))


def answer_of(session: Session, question: str) -> dict[str, Array]:
    """The results of a worker for a question: the answer as JSON in an array without axes."""
    model = _Model(session, Question(**json.loads(question)))
    return {"answer": np.array(json.dumps(asdict(model.measured())))}


class _Model:
    """The original, fed with noise."""

    def __init__(self, session: Session, question: Question) -> None:
        self.session, self.question = session, question
        fixed = question.shape[question.axis]
        self.fixed = fixed
        rng = np.random.default_rng(0)
        self.length = fixed or question.start * _LENGTHS
        shape = [size or self.length for size in question.shape]
        self.noise = (0.1 * rng.standard_normal(shape)).astype(np.float32)
        self.loud = rng.standard_normal(shape).astype(np.float32)

    def run(self, values: Array, length: int | None = None) -> dict[str, Array]:
        count = values.shape[self.question.axis] if length is None else length
        feeds = {name: np.zeros(shape, np.float32) for name, shape in self.question.others.items()}
        feeds |= {name: np.array([count], np.int32) for name in self.question.lengths}
        return self.session.run(feeds | {self.question.input: values}, _CALL)

    def part(self, values: Array, first: int, last: int) -> Array:
        index = [slice(None)] * values.ndim
        index[self.question.axis] = slice(first, last)
        return values[tuple(index)]

    def measured(self) -> Measured:
        """Measures all facts."""
        whole = self.run(self.noise)
        axes = self.axes(whole)
        decoded = self.question.decoded or next(
            name
            for name, shape in axes.items()
            if None in shape and (shape[-1] or 0) > 1 and whole[name].dtype.kind == "f"
        )
        time = axes[decoded].index(None)
        rule = self.rule(decoded, time, whole[decoded].shape[time])
        causal, left, right = self.context(decoded, time, rule)
        neutral = causal or self.neutral(decoded, time, rule)
        kind = _kind(np.moveaxis(whole[decoded], time, 0))
        return Measured(
            decoded, axes, kind, rule.steps, rule.add, rule.most, causal, left, right, neutral
        )

    def axes(self, whole: dict[str, Array]) -> dict[str, list[int | None]]:
        """Output -> shape, null for an axis that depends on the input's length."""
        if self.fixed:
            shapes: dict[str, list[int | None]] = {n: [*a.shape] for n, a in whole.items()}
            for shape in shapes.values():
                if len(shape) > 1:  # rows before classes, and the batch before both
                    shape[len(shape) - 2] = None
            return shapes
        half = self.run(self.part(self.noise, 0, self.length // 2))
        return {
            name: [
                size if size == other else None
                for size, other in zip(array.shape, half[name].shape, strict=True)
            ]
            for name, array in whole.items()
        }

    def rule(self, decoded: str, time: int, rows: int) -> Rows:
        if self.fixed:
            steps = max(1, self.fixed // rows)
            return Rows(steps, steps * rows - self.fixed)
        repeats = [1] * self.noise.ndim

        def count(length: int) -> int:
            repeats[self.question.axis] = -(-length // self.length)
            noise = np.tile(self.noise, repeats)
            return int(self.run(self.part(noise, 0, length))[decoded].shape[time])

        return measure_rows(count, self.question.start, self.question.start * _FAR)

    def context(self, decoded: str, time: int, rule: Rows) -> tuple[bool, int | None, int | None]:
        """Whether rows are causal, and how many steps before and after a row it depends on."""
        rows = np.moveaxis(self.run(self.noise)[decoded], time, 0)
        end, begin = self.length * 3 // 4, self.length // 4
        after = np.concatenate(
            [self.part(self.noise, 0, end), self.part(self.loud, end, self.length)],
            axis=self.question.axis,
        )
        first = _changed(rows, np.moveaxis(self.run(after)[decoded], time, 0))[0]
        if len(rows) == 1:  # a call has one row, so nothing is before or after it
            return True, 0, 0
        ahead = rule.of(end) - first
        before = np.concatenate(
            [self.part(self.loud, 0, begin), self.part(self.noise, begin, self.length)],
            axis=self.question.axis,
        )
        last = _changed(rows, np.moveaxis(self.run(before)[decoded], time, 0))[-1]
        behind = last + 1 - begin // rule.steps
        left = None if last >= len(rows) - 1 else max(0, behind) * rule.steps
        right = None if first <= 0 < ahead else max(0, ahead) * rule.steps
        return ahead <= 0, left, right

    def neutral(self, decoded: str, time: int, rule: Rows) -> bool:
        if not self.question.lengths or self.fixed:
            return False
        short = self.length // 2
        part = self.part(self.noise, 0, short)
        padded = np.concatenate(
            [part, np.zeros_like(self.part(self.noise, short, self.length))],
            axis=self.question.axis,
        )
        alone = np.moveaxis(self.run(part)[decoded], time, 0)
        among = np.moveaxis(self.run(padded, short)[decoded], time, 0)[: len(alone)]
        return not len(np.flatnonzero(_differs(alone, among)))


def _differs(rows: Array, others: Array) -> Array:
    flat = np.abs(rows - others).reshape(len(rows), -1).max(axis=1)
    differs: Array = flat > _SAME * max(1.0, float(np.abs(rows).max()))
    return differs


def _changed(rows: Array, others: Array) -> tuple[int, int]:
    """The first and the last row that differ; if none differs, the end."""
    found = np.flatnonzero(_differs(rows, others))
    return (int(found[0]), int(found[-1])) if len(found) else (len(rows), -1)


def _kind(rows: Array) -> ProbabilityKind:
    """The kind of the numbers (rows, ..., classes)."""
    flat = rows.reshape(-1, rows.shape[-1]).astype(np.float64)
    if flat.shape[-1] == 1 and (flat >= 0).all() and (flat <= 1).all():
        return "probabilities"
    if (flat >= 0).all() and np.abs(flat.sum(axis=-1) - 1).max() < _SUM:
        return "probabilities"
    if (flat <= 1e-3).all() and np.abs(np.exp(flat).sum(axis=-1) - 1).max() < _SUM:
        return "log_probabilities"
    return "logits"
