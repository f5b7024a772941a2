"""Runs a package on an utterance, call by call, as its manifest specifies.

A package takes steps (frames of features, or samples) in calls of certain sizes. ``Acoustic`` cuts
an utterance into such calls, carries the state from one call to the next, pads the last call with
zeros and keeps only the rows of real steps, so that no step is lost. Where rows depend on steps
around them (a manifest's ``context``), a call repeats steps of the call before and looks ahead:

    call 1   [ new .......... | right ]
    call 2          [ left | new ...... | right ]
    last call                     [ left | new | padding ]

A package that trims its context gives no rows for the context, and takes zeros before the start and
after the end. If a row needs steps beyond its own, calls overlap by these.

This module does not depend on recipes, originals or coremltools.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from asrbuild.artifact import manifest2
from asrbuild.artifact.manifest import Axis, Manifest, Model, State, Streaming, Tensor
from asrbuild.base.array import Array
from asrbuild.base.errors import AsrbuildError
from asrbuild.coreml.signature import DECODED, Context, ProbabilityKind, Rows, ahead
from asrbuild.speech.outputs import FEWEST_CLASSES, to_probabilities


class Predicts(Protocol):
    """A runtime that has loaded a package: ``asrbuild.coreml.executor`` or Core ML."""

    def predict(self, data: Mapping[str, Array], state: Any = None) -> Mapping[str, Array]:
        """Runs the package once: input -> value, to output -> value; changes ``state`` in place."""

    def make_state(self) -> Any:
        """A new state, for a package that keeps its state."""


@dataclass(frozen=True)
class Contract:
    """The sections of a manifest that describe the calls of a package."""

    model: Model
    state: tuple[State, ...]
    streaming: Streaming
    rows: Rows = field(default_factory=Rows)
    context: Context = field(default_factory=Context)

    @classmethod
    def of(cls, manifest: Manifest) -> Contract:
        """The contract in a manifest."""
        return cls(
            manifest.model,
            tuple(manifest.state),
            manifest.streaming,
            manifest2.rows_of(manifest),
            manifest2.context_of(manifest),
        )

    @property
    def features(self) -> Tensor:
        """The input with the steps: features (1, steps, ...), or samples (1, samples)."""
        return fed_tensor(self.model.inputs)

    @property
    def steps(self) -> Axis:
        """The axis of the steps."""
        return steps_of(self.features)

    @property
    def decoded(self) -> Tensor:
        """The output that is decoded."""
        return decoded_tensor(self.model.outputs)

    @property
    def classes(self) -> int:
        """The number of classes of the decoded output."""
        return max(self.decoded.shape[-1].default, FEWEST_CLASSES)

    @property
    def stateful(self) -> bool:
        """Whether the package keeps its state itself."""
        return any(pair.kind == "stateful" for pair in self.state)

    @property
    def ahead(self) -> int:
        """Steps at the end of a call whose rows come with the next call."""
        return ahead(self.rows, self.context)

    @property
    def around(self) -> int:
        """Steps of a call that are not new, if an utterance has several calls."""
        return self.context.left + self.ahead


def fed_tensor(inputs: Sequence[Tensor]) -> Tensor:
    """The input with the steps of a call."""
    return only(inputs, "features", "samples")


def decoded_tensor(outputs: Sequence[Tensor]) -> Tensor:
    """The output that is decoded."""
    return only(outputs, *DECODED)


def steps_of(tensor: Tensor) -> Axis:
    """The axis of the steps or samples; if the manifest does not name it, the second axis."""
    return tensor.shape[manifest2.time_axis(tensor, 1)]


@dataclass(frozen=True)
class Probabilities:
    """The result for an utterance: ``values`` (rows, classes), and the state after its last step.

    ``state`` maps names of outputs to values; it is empty if the package keeps its state.
    """

    probabilities: Array
    state: dict[str, Array]


def call_size(steps: int, axis: Axis) -> int:
    """The smallest size of a call that has room for ``steps`` steps.

    Raises:
        AsrbuildError: the package does not take a call of so many steps.
    """
    sizes = axis.enumerated if axis.enumerated is not None else [max(steps, axis.min)]
    fitting = [size for size in sizes if size >= steps]
    if not fitting or (axis.max is not None and min(fitting) > axis.max):
        raise AsrbuildError(
            f"{steps} steps do not fit in one call of the package: it takes at most "
            f"{max(axis.enumerated) if axis.enumerated else axis.max}"
        )
    return min(fitting)


class Acoustic:
    """Runs a package on one utterance, call by call; steps arrive in pieces."""

    def __init__(self, package: Predicts, contract: Contract) -> None:
        self._package = package
        self._contract = contract
        for pair in contract.state:
            if manifest2.initial_of(pair) == "given":
                raise AsrbuildError(
                    f"the state {pair.output} begins with values that an app gives, and asrbuild "
                    "has none",
                    key="state.initial",
                    fix="run the package in an app that has them",
                )
        shape = fixed(contract.features)
        at = manifest2.time_axis(contract.features, 1)
        # Here steps are the first axis, whatever their axis is in the package.
        self._waiting = np.zeros((0, *shape[1:at], *shape[at + 1 :]), np.float32)
        #: Of the waiting steps: the number whose rows were given already (left context), and the
        #: first and last index of steps of the recording.
        self._seen, self._begin, self._end = 0, 0, 0
        if contract.context.trimmed:
            self._begin = self._end = contract.context.left
            self._waiting = self._silence(contract.context.left)
        self._explicit = {
            pair.input: np.zeros(pair.shape, np.float32)
            for pair in contract.state
            if pair.kind == "explicit"
        }
        self._primed = 0
        self._kept = package.make_state() if contract.stateful else None

    def feed(self, windows: Array) -> Array:
        """Takes steps (k, ...); returns the rows (n, classes) of the calls that are full now."""
        if windows.ndim != self._waiting.ndim:  # one of the two shapes has axes of size 1
            windows = windows.reshape(len(windows), *self._waiting.shape[1:])
        self._waiting = np.concatenate([self._waiting, windows])
        self._end += len(windows)
        size = self._contract.streaming.steps_per_chunk
        if size is None or not self._prime():
            return self._none()
        # In whole mode the last full chunk may still become part of one call with all steps.
        least = size if self._contract.streaming.mode == "chunked" else size + 1
        rows = [self._none()]
        while len(self._waiting) >= least:
            rows.append(self._next(size))
        return np.concatenate(rows)

    def finish(self) -> Array:
        """Ends the utterance; returns the rows (n, classes) of the remaining steps."""
        rows = [self._none()]
        if self._prime() and self._end > self._begin:
            context, size = self._contract.context, self._contract.streaming.steps_per_chunk
            if context.trimmed:
                self._waiting = np.concatenate([self._waiting, self._silence(context.right)])
            while size is not None and len(self._waiting) > size:
                rows.append(self._next(size))
            waiting = len(self._waiting)
            start, stop = self._seen // self._contract.rows.steps, self._contract.rows.of(waiting)
            if stop > start:
                found = self._call(self._waiting, call_size(waiting, self._contract.steps))
                rows.append(found[start:stop])
        self._waiting = self._waiting[:0]
        self._seen = self._begin = self._end = 0
        return np.concatenate(rows)

    def _next(self, size: int) -> Array:
        """Makes one full call of waiting steps; returns the rows of its new steps."""
        contract = self._contract
        left, rule = contract.context.left, contract.rows
        rows = self._call(self._waiting[:size], size)
        known = size - contract.ahead  # rows up to this step are right
        if contract.context.trimmed:
            start, stop, passed = 0, len(rows), size - contract.ahead - left
        else:
            start, stop, passed = self._seen // rule.steps, known // rule.steps, known - left
            self._seen = min(left, known)
        passed = max(0, passed)
        self._waiting = self._waiting[passed:]
        self._begin, self._end = max(0, self._begin - passed), self._end - passed
        return rows[start:stop]

    def _silence(self, steps: int) -> Array:
        return np.zeros((steps, *self._waiting.shape[1:]), np.float32)

    @property
    def state(self) -> dict[str, Array]:
        """The state after the last step, by name of output; see ``Probabilities``."""
        pairs = self._contract.state
        return {p.output: self._explicit[p.input] for p in pairs if p.kind == "explicit"}

    def _prime(self) -> bool:
        """Sets states that start with the first samples; False if samples are missing."""
        if self._primed:
            return True
        first = [p for p in self._contract.state if manifest2.initial_of(p) == "first_samples"]
        most = max((int(np.prod(pair.shape)) for pair in first), default=0)
        if len(self._waiting) < most:
            return False
        for pair in first:
            count = int(np.prod(pair.shape))
            self._explicit[pair.input] = self._waiting[:count].reshape(pair.shape)
        self._waiting, self._primed = self._waiting[most:], 1
        self._end -= most
        return True

    def _call(self, windows: Array, size: int) -> Array:
        """Calls the package with these steps, padded to ``size``; returns their rows."""
        real = len(windows)
        fed = self._contract.features
        at = manifest2.time_axis(fed, 1)
        padded = np.zeros((size, *windows.shape[1:]), np.float32)
        padded[:real] = windows
        whole = [size if index == at else axis.default for index, axis in enumerate(fed.shape)]
        laid = np.moveaxis(padded, 0, max(at - 1, 0)).reshape(whole)
        data = {fed.name: laid, **self._explicit}
        for tensor in self._contract.model.inputs:
            if tensor.meaning == "step_count":
                data[tensor.name] = np.full(fixed(tensor), real, tensor.dtype)
            elif str(tensor.meaning) == "step_range":
                data[tensor.name] = np.array([self._begin, min(self._end, size)], tensor.dtype)
        outputs = (
            self._package.predict(data, self._kept)
            if self._contract.stateful
            else self._package.predict(data)
        )
        for pair in self._contract.state:
            if pair.kind == "explicit":
                found = np.asarray(_output(outputs, pair.output), np.float32)
                self._explicit[pair.input] = found.reshape(pair.shape)
        decoded = self._contract.decoded
        rows = np.asarray(_output(outputs, decoded.name), np.float32)
        expected, axis = self._contract.rows.of(size), manifest2.time_axis(decoded, 0)
        if axis >= rows.ndim or rows.shape[axis] != expected:
            raise AsrbuildError(
                f"the package gave {decoded.name} {rows.shape} for {size} steps, and its manifest "
                f"says {expected} rows on axis {axis}"
            )
        rows = np.moveaxis(rows, axis, 0).reshape(expected, -1)
        kind: ProbabilityKind = decoded.meaning  # type: ignore[assignment]  # one of DECODED
        return to_probabilities(rows[: self._contract.rows.of(real)], kind)

    def _none(self) -> Array:
        return np.zeros((0, self._classes), np.float32)

    @property
    def _classes(self) -> int:
        return self._contract.classes


def acoustic(package: Predicts, contract: Contract, windows: Array) -> Probabilities:
    """Runs a package on one whole utterance (steps, ...), as the manifest specifies."""
    run = Acoustic(package, contract)
    rows = np.concatenate([run.feed(windows), run.finish()])
    return Probabilities(rows, run.state)


def only(tensors: Sequence[Tensor], *meanings: str) -> Tensor:
    """The only tensor with one of these meanings."""
    found = [tensor for tensor in tensors if tensor.meaning in meanings]
    if len(found) != 1:
        raise AsrbuildError(
            f"the manifest names {len(found)} tensors that mean {' or '.join(meanings)}, "
            "expected one",
            key="model",
        )
    return found[0]


def fixed(tensor: Tensor) -> tuple[int, ...]:
    """The default shape of a tensor."""
    return tuple(axis.default for axis in tensor.shape)


def _output(outputs: Mapping[str, Array], name: str) -> Array:
    if name not in outputs:
        raise AsrbuildError(
            f"the package has no output {name}", fix=f"it has {', '.join(sorted(outputs))}"
        )
    return outputs[name]
