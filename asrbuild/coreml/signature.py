"""The signature of a network: its inputs, outputs and states by role, and its use of time.

An architecture declares it; conversion, package, manifest and proof read it, so that no other
module contains the name of a tensor. This module does not import numpy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from asrbuild.base.errors import AsrbuildError

#: Names of the open axis: ``steps`` (frames of features) or ``samples`` in an input, ``rows`` in an
#: output; an output with a row for every step may use ``steps`` too.
STEPS, SAMPLES, ROWS = "steps", "samples", "rows"

InputMeaning = Literal["features", "samples", "step_count", "step_range", "state"]
ProbabilityKind = Literal["probabilities", "log_probabilities", "logits"]
OutputMeaning = Literal["probabilities", "log_probabilities", "logits", "row_count", "state"]
InitialState = Literal["zeros", "first_samples", "given"]
Padding = Literal["neutral", "changes_output"]
#: The meanings that the decoded output can have.
DECODED: tuple[ProbabilityKind, ...] = get_args(ProbabilityKind)


@dataclass(frozen=True)
class Axis:
    """One axis; ``size`` None: the call decides it (an open axis), or the weights."""

    name: str
    size: int | None = None

    @property
    def open(self) -> bool:
        """Whether the call decides its size."""
        return self.name in (STEPS, SAMPLES, ROWS)


@dataclass(frozen=True)
class Port:
    """An input or output of the network.

    Args:
        name: name of the tensor, in the package and in the original.
        axes: in order; at most one is open.
        meaning: its role. ``step_count``: the number of steps (or samples) of a call without
            padding; ``step_range``: the first of these and their end; ``row_count``: the number of
            rows of an output without padding.
        fill: for the manifest: the rule by which an app fills the input or reads the output.
        dtype: type of the package's tensor.
    """

    name: str
    axes: tuple[Axis, ...]
    meaning: InputMeaning | OutputMeaning
    fill: str
    dtype: Literal["float32", "int32"] = "float32"

    @property
    def time(self) -> int | None:
        """Index of the open axis; None if there is none."""
        return next((at for at, axis in enumerate(self.axes) if axis.open), None)


@dataclass(frozen=True)
class StatePair:
    """A state: a call's ``input`` takes the value of the previous call's ``output``.

    ``kept`` is the name of Core ML's own state in a package that keeps it. ``initial``: its value
    in the first call: zeros, ``first_samples`` of the recording, or ``given`` by an app.
    """

    input: str
    output: str
    kept: str
    initial: InitialState = "zeros"


@dataclass(frozen=True)
class Rows:
    """The number of output rows of a call of n input steps: ``max(0, (n + add) // steps)``.

    A chain of strided convolutions rounds down at each layer; nested divisions by integers are one
    division, so these two numbers are exact for any such chain. ``most``: the limit of rows in a
    call, if the network has one, such as a table of positions.
    """

    steps: int = 1
    add: int = 0
    most: int | None = None

    def of(self, steps: int) -> int:
        """The number of rows of a call of ``steps`` input steps."""
        rows = max(0, (steps + self.add) // self.steps)
        return rows if self.most is None else min(rows, self.most)

    @property
    def longest(self) -> int | None:
        """The greatest number of input steps that all have rows; None: any number."""
        return None if self.most is None else self.most * self.steps - self.add

    def needed(self, rows: int) -> int:
        """The smallest number of input steps that gives so many rows."""
        return rows * self.steps - self.add

    def least(self) -> int:
        """The smallest number of input steps that gives a row."""
        return max(1, self.steps - self.add)


def measure_rows(rows: Callable[[int], int], start: int, far: int | None = None) -> Rows:
    """Finds the rule of rows of a network by measuring calls of several lengths.

    Args:
        rows: measures the rows of a call of so many steps; called about 30 times.
        start: a length that the network takes and that gives at least a row.
        far: a great length, to find a limit of the network.

    Raises:
        AsrbuildError: its rows do not follow such a rule.
    """

    def next_change(at: int) -> int:
        """The first length above ``at`` that gives more rows than ``at``."""
        here, ahead = rows(at), 1
        while rows(at + ahead) <= here:
            ahead *= 2
            if ahead > 1 << 20:
                raise _no_rule(f"{at} and {at + ahead} steps both give {here} rows")
        low, high = at, at + ahead
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if rows(middle) > here else (middle, high)
        return high

    first = next_change(start)
    second = next_change(first)
    steps = second - first
    found = Rows(steps, rows(first) * steps - first)
    for steps in (start, first - 1, second, 2 * second + 1, 3 * second):
        if (count := rows(steps)) != found.of(steps):
            raise _no_rule(f"{steps} steps give {count} rows, by {found} {found.of(steps)}")
    if far is not None and (most := rows(far)) < found.of(far):
        limited = replace(found, most=most)
        if (count := rows(limited.longest or far)) != most:
            raise _no_rule(f"{limited.longest} steps give {count} rows, and {far} steps {most}")
        return limited
    return found


def _no_rule(found: str) -> AsrbuildError:
    return AsrbuildError(
        f"the network's output does not have a row for every so many input steps: {found}",
        key="source.config.rows",
        fix="only networks with evenly spaced rows, as CTC networks have, can be built",
    )


@dataclass(frozen=True)
class Context:
    """The input steps that a row depends on.

    Args:
        causal: whether a row depends only on steps up to its own, so that the rows of a prefix are
            the first rows of the recording.
        left: input steps before a chunk that a call repeats, so that the chunk's first rows are
            right; 0 if states carry the past or the network is causal.
        right: input steps after a chunk, likewise.
        padding: whether steps past the end of a recording leave its rows unchanged.
        trimmed: whether a call has no rows for its ``left`` and ``right``.
    """

    causal: bool = True
    left: int = 0
    right: int = 0
    padding: Padding = "neutral"
    trimmed: bool = False


@dataclass(frozen=True)
class Signature:
    """The signature of one network, which its architecture declares.

    Args:
        inputs: in the order of the package.
        outputs: in the order of the package, the decoded output first.
        states: the states that calls carry; may be empty.
        rows: the rule for the number of rows in a call.
        context: the steps that a row depends on.
        steps: the only number of steps that a call can have; None: any.
    """

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    states: tuple[StatePair, ...] = ()
    rows: Rows = Rows()
    context: Context = Context()
    steps: int | None = None

    def port(self, name: str) -> Port | None:
        """The input or output of this name; None if there is none."""
        return next((port for port in (*self.inputs, *self.outputs) if port.name == name), None)

    @property
    def features(self) -> Port:
        """The input with the axis of time: features, or samples."""
        return next(port for port in self.inputs if port.meaning in ("features", "samples"))

    @property
    def time(self) -> str:
        """The name of the axis of time: ``steps`` or ``samples``."""
        port = self.features
        return port.axes[port.time or 0].name

    @property
    def around(self) -> int:
        """Steps of a call that are not new, if an utterance has several calls."""
        return self.context.left + ahead(self.rows, self.context)

    @property
    def probabilities(self) -> str:
        """The name of the decoded output."""
        return self.outputs[0].name

    @property
    def output_names(self) -> tuple[str, ...]:
        """The names of the outputs, in order."""
        return tuple(port.name for port in self.outputs)

    def with_classes(self, count: int) -> Signature:
        """The signature with this size for the axis of classes, the decoded output's last axis."""
        *axes, last = self.outputs[0].axes
        sizes = [axis.size for axis in axes]
        return self.sized(self.probabilities, *sizes, last.size or count)

    def sized(self, name: str, *sizes: int | None) -> Signature:
        """The signature with these sizes for the axes of a tensor."""

        def of(port: Port) -> Port:
            if port.name != name:
                return port
            pairs = zip(port.axes, sizes, strict=True)
            return replace(port, axes=tuple(Axis(axis.name, size) for axis, size in pairs))

        return replace(
            self, inputs=tuple(map(of, self.inputs)), outputs=tuple(map(of, self.outputs))
        )


def ahead(rows: Rows, context: Context) -> int:
    """Steps at the end of a call whose rows come with the next call."""
    inside = context.right + (context.left if context.trimmed else 0)
    return context.right + max(0, -rows.add - inside)


def compared_name(states: Sequence[StatePair], name: str) -> str:
    """The name of the original's output that a package's state is compared with.

    ``name``: the package's output, or Core ML's own state in a package that keeps it.
    """
    return next((pair.output for pair in states if name in (pair.output, pair.kept)), name)


def check_signature(signature: Signature) -> None:
    """Raises if the declared facts of a network contradict each other.

    Raises:
        AsrbuildError: it names the key of the recipe.
    """
    decoded, context, rows = signature.outputs[0], signature.context, signature.rows
    problems = {
        "outputs": decoded.meaning not in DECODED
        and "no output has probabilities, log probabilities or logits, so nothing can be decoded",
        "inputs": not any(p.meaning in ("features", "samples") for p in signature.inputs)
        and "no input takes features or samples",
        "rows": rows.steps < 1 and f"an output has a row for every {rows.steps} steps",
        # A call without rows for its context may have any context.
        "context": not context.trimmed
        and (
            context.left % max(rows.steps, 1)
            # A row that needs steps beyond its own can take them from the context.
            or context.right % max(rows.steps, 1) not in (0, -rows.add % max(rows.steps, 1))
        )
        and f"the context of {context.left} and {context.right} steps is not a whole number of "
        f"rows of {rows.steps} steps",
    }
    for key, problem in problems.items():
        if problem:
            raise AsrbuildError(
                problem,
                key=f"source.config.{key}",
                fix="`asrbuild inspect FILE --recipe` writes a draft of the whole section",
            )
    for pair in signature.states:
        ends = signature.port(pair.input), signature.port(pair.output)
        if None in ends or [a.size for a in ends[0].axes] != [a.size for a in ends[1].axes]:  # type: ignore[union-attr]
            raise AsrbuildError(
                f"the state {pair.input} -> {pair.output} is not an input and an output of one "
                "shape",
                key="source.config.states",
                fix="name an input and the output that the next call's input takes",
            )
