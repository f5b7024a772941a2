"""The signature of a network: inputs, outputs and states by role, and how time runs in it.

An architecture declares it; the conversion request, the package's description, the manifest and
the proof read it, so that no other module knows the name of a tensor. Nothing here imports numpy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from asrbuild.base.errors import AsrbuildError

#: The open axis of a call: input steps (frames of features) or samples in an input, rows in an
#: output; an output with a row for every step may call it steps too.
STEPS, SAMPLES, ROWS = "steps", "samples", "rows"

InputMeaning = Literal["features", "samples", "step_count", "step_range", "state"]
ProbabilityKind = Literal["probabilities", "log_probabilities", "logits"]
OutputMeaning = Literal["probabilities", "log_probabilities", "logits", "row_count", "state"]
InitialState = Literal["zeros", "first_samples", "given"]
Padding = Literal["neutral", "changes_output"]
#: Meanings of the output that is decoded.
DECODED: tuple[ProbabilityKind, ...] = get_args(ProbabilityKind)


@dataclass(frozen=True)
class Axis:
    """One axis; ``size`` None: that of a call (an open axis), or as the weights have it."""

    name: str
    size: int | None = None

    @property
    def open(self) -> bool:
        """Whether its size is that of a call."""
        return self.name in (STEPS, SAMPLES, ROWS)


@dataclass(frozen=True)
class Port:
    """An input or output of the network.

    Args:
        name: of the tensor, in the package as in the original.
        axes: in order; at most one is open.
        meaning: its role. ``step_count``: how many steps (or samples) of a call are real;
            ``step_range``: the first of these and their end; ``row_count``: real rows of an output.
        fill: for the manifest: what an app puts in, or how it reads what comes out.
        dtype: of the package's tensor.
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
    """A state: ``input`` of a call takes what ``output`` of the call before gave.

    ``kept`` is the name of Core ML's own state where the package keeps it. ``initial``: what the
    first call takes; ``first_samples``: the beginning of the recording, ``given``: an app's values.
    """

    input: str
    output: str
    kept: str
    initial: InitialState = "zeros"


@dataclass(frozen=True)
class Rows:
    """The output rows of a call: one for every ``steps`` input steps, ``add`` of them extra.

    A chain of strided convolutions floors at each layer; nested floors of whole divisors are one
    floor, so these two numbers are exact for any such chain. ``most``: the rows that a call can
    have, where the network has a limit, such as a table of positions.
    """

    steps: int = 1
    add: int = 0
    most: int | None = None

    def of(self, steps: int) -> int:
        """Rows of a call of ``steps`` input steps."""
        rows = max(0, (steps + self.add) // self.steps)
        return rows if self.most is None else min(rows, self.most)

    @property
    def longest(self) -> int | None:
        """The most input steps of a call that all have rows; None: any number."""
        return None if self.most is None else self.most * self.steps - self.add

    def needed(self, rows: int) -> int:
        """The fewest input steps of a call that has so many rows."""
        return rows * self.steps - self.add

    def least(self) -> int:
        """The fewest input steps that give a row."""
        return max(1, self.steps - self.add)


def measure_rows(rows: Callable[[int], int], start: int, far: int | None = None) -> Rows:
    """The rule of a network that can be asked for the rows of a call of any length.

    Args:
        rows: what a call of so many steps gives; called about 30 times.
        start: a length that the network takes, long enough for a row or more.
        far: a length that calls may have, to find out whether the network has a limit.

    Raises:
        AsrbuildError: its rows follow no such rule.
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
    """The steps that a row depends on.

    Args:
        causal: on the steps up to its own alone, so the first rows of a recording are those of its
            beginning.
        left: input steps before a chunk that a call takes in addition, so that the chunk's first
            rows are good; 0 where states carry the past, and where the network is causal.
        right: input steps after a chunk, likewise.
        padding: whether steps past the end of a recording leave its rows as they are.
        trimmed: a call has no rows for its ``left`` and ``right``.
    """

    causal: bool = True
    left: int = 0
    right: int = 0
    padding: Padding = "neutral"
    trimmed: bool = False


@dataclass(frozen=True)
class Signature:
    """The declared facts of one network.

    Args:
        inputs: in the order of the package.
        outputs: in the order of the package, the one that is decoded first.
        states: what is carried from call to call; may be empty.
        rows: how many rows a call has.
        context: what a row depends on.
        steps: of a call, where the network takes no other number.
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
        """The input whose open axis is the time of a call: features, or samples."""
        return next(port for port in self.inputs if port.meaning in ("features", "samples"))

    @property
    def time(self) -> str:
        """Name of that axis."""
        port = self.features
        return port.axes[port.time or 0].name

    @property
    def around(self) -> int:
        """Steps of a call that are not new to it, where an utterance has several calls."""
        return self.context.left + ahead(self.rows, self.context)

    @property
    def probabilities(self) -> str:
        """Name of the output that is decoded."""
        return self.outputs[0].name

    @property
    def output_names(self) -> tuple[str, ...]:
        return tuple(port.name for port in self.outputs)

    def with_classes(self, count: int) -> Signature:
        """With the size of the axis of the classes, where it is not known: the last of the output
        that is decoded."""
        *axes, last = self.outputs[0].axes
        sizes = [axis.size for axis in axes]
        return self.sized(self.probabilities, *sizes, last.size or count)

    def sized(self, name: str, *sizes: int | None) -> Signature:
        """With these sizes of a tensor's axes."""

        def of(port: Port) -> Port:
            if port.name != name:
                return port
            pairs = zip(port.axes, sizes, strict=True)
            return replace(port, axes=tuple(Axis(axis.name, size) for axis, size in pairs))

        return replace(
            self, inputs=tuple(map(of, self.inputs)), outputs=tuple(map(of, self.outputs))
        )


def ahead(rows: Rows, context: Context) -> int:
    """Steps at the end of a call whose rows the next call gives."""
    inside = context.right + (context.left if context.trimmed else 0)
    return context.right + max(0, -rows.add - inside)


def compared_name(states: Sequence[StatePair], name: str) -> str:
    """The output of the original that a package's state is compared with.

    ``name``: the package's output, or Core ML's own state where the package keeps it.
    """
    return next((pair.output for pair in states if name in (pair.output, pair.kept)), name)


def check_signature(signature: Signature) -> None:
    """Refuses a network whose declared facts contradict each other.

    Raises:
        AsrbuildError: naming the key of the recipe.
    """
    decoded, context, rows = signature.outputs[0], signature.context, signature.rows
    problems = {
        "outputs": decoded.meaning not in DECODED
        and "no output has probabilities, log probabilities or logits, so nothing can be decoded",
        "inputs": not any(p.meaning in ("features", "samples") for p in signature.inputs)
        and "no input takes features or samples",
        "rows": rows.steps < 1 and f"an output has a row for every {rows.steps} steps",
        # A call that gives no rows to its context may have any.
        "context": not context.trimmed
        and (
            context.left % max(rows.steps, 1)
            # A row that needs steps beyond its own may find them in the context.
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
