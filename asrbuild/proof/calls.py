"""The original run call by call, exactly as the package is run.

A row of a network that is not causal depends on all steps of its call, padding too, so the rows of
a whole recording are no reference for it. The calls are therefore made by the loop that an app uses
(:class:`asrbuild.artifact.calls.Acoustic`), once with a recorder in the place of the package. The
original's worker gets them as an npz:

    <sequence>/<number>/<input>     every input; of a carried state only in the first call

and runs each sequence in order, carrying its own states; it writes, of each output,
``<sequence>/<number>/<output>``. The loop runs again on these results. So padding, chunks and
context cancel out, and what remains is the package's arithmetic.

Recordings also go through the original whole, in one call: what chunks cost is measured by that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from asrbuild.architectures.architecture import of_recorded
from asrbuild.architectures.original import Result
from asrbuild.artifact.calls import Acoustic, Contract
from asrbuild.artifact.manifest import Manifest, State
from asrbuild.base.array import Array
from asrbuild.coreml.signature import Signature
from asrbuild.proof.cases import RECORDINGS
from asrbuild.proof.execution import Outputs, Run, runs, with_steps

#: What marks a recording that went through the original whole.
WHOLE = "recording"


def original_calls(
    manifest: Manifest, cases: Mapping[str, Array], max_steps: int | None
) -> dict[str, Array]:
    """Every call of a proof, as the worker's npz has them."""
    signature = _signature(manifest)
    arrays: dict[str, Array] = {}
    for run in _every(manifest, cases, max_steps):
        recorder = _Recorder(run.manifest, signature)
        _feed(recorder, run, signature)
        arrays |= {f"{run.label}/{key}": value for key, value in recorder.calls.items()}
    return arrays


def calls_of(
    manifest: Manifest, cases: Mapping[str, Array], max_steps: int | None, label: str
) -> tuple[Manifest, dict[str, Array]] | None:
    """The calls of the run with this label, and the inputs of the first; None: there is none."""
    signature = _signature(manifest)
    for run in _every(manifest, cases, max_steps):
        if run.label == label:
            recorder = _Recorder(run.manifest, signature)
            _feed(recorder, run, signature)
            first = {k: v for k, v in recorder.calls.items() if k.startswith("00000/")}
            return run.manifest, {key.removeprefix("00000/"): v for key, v in first.items()}
    return None


def original_outputs(
    manifest: Manifest,
    cases: Mapping[str, Array],
    max_steps: int | None,
    results: Mapping[str, Result],
) -> dict[str, Outputs]:
    """Label of a run -> output -> what the original gave, of the worker's results by call.

    ``<recording>@recording`` is of the whole recording in one call.
    """
    signature = _signature(manifest)
    return {
        run.label: _feed(_Replay(run.label, results), run, signature)
        for run in _every(manifest, cases, max_steps)
    }


def whole_of(label: str) -> str:
    """The label of the whole recording that a run is of."""
    return f"{label.partition('@')[0]}@{WHOLE}"


def _every(manifest: Manifest, cases: Mapping[str, Array], max_steps: int | None) -> Iterator[Run]:
    yield from runs(manifest, cases, max_steps, ("",))
    signature = _signature(manifest)
    if signature.states or signature.steps:
        return  # a chunk carries all that it needs on, or no call takes more than a chunk
    for name in (name for name in RECORDINGS if name in cases):
        whole = with_steps(manifest, len(cases[name]))
        yield Run(f"{name}@{WHOLE}", "", whole, name, cases[name])


def _signature(manifest: Manifest) -> Signature:
    architecture, config = of_recorded(manifest.provenance.recipe)
    return architecture.signature(config)


def _feed(package: Any, run: Run, signature: Signature) -> Outputs:
    """The utterance of a run through the original's own inputs and outputs."""
    contract = Contract.of(run.manifest)
    states = []
    for pair in signature.states:
        port = signature.port(pair.input)
        shape = [axis.size or 1 for axis in port.axes] if port is not None else []
        # The original passes its states in and out, whatever the package does.
        states.append(
            State.model_construct(
                input=pair.input,
                output=pair.output,
                kind="explicit",
                shape=shape,
                initial=pair.initial,
                reset="per_utterance",
            )
        )
    acoustic = Acoustic(
        package,
        Contract(
            contract.model, tuple(states), contract.streaming, contract.rows, contract.context
        ),
    )
    rows = np.concatenate([acoustic.feed(run.features), acoustic.finish()])
    return {signature.probabilities: rows, **acoustic.state}


@dataclass
class _Recorder:
    """Writes down what every call is given; its own outputs mean nothing."""

    manifest: Manifest
    signature: Signature
    calls: dict[str, Array] = field(default_factory=dict)
    count: int = 0

    def predict(self, data: Mapping[str, Array], state: Any = None) -> dict[str, Array]:
        del state
        carried = {pair.input for pair in self.signature.states} if self.count else set()
        for name, value in data.items():
            if name not in carried:
                self.calls[f"{self.count:05d}/{name}"] = value
        self.count += 1
        contract = Contract.of(self.manifest)
        decoded, fed = contract.decoded, contract.features
        size = data[fed.name].shape[[axis.name for axis in fed.shape].index(self.signature.time)]
        port = self.signature.outputs[0]
        shape = [axis.default for axis in decoded.shape]
        shape[port.time or 0] = contract.rows.of(size)
        # Rows that pass for any kind of output.
        filled = {"log_probabilities": -np.log(contract.classes)}.get(decoded.meaning, 0.0)
        states = {pair.output: data[pair.input] for pair in self.signature.states}
        return {decoded.name: np.full(shape, filled, np.float32), **states}

    def make_state(self) -> None:
        return None


@dataclass
class _Replay:
    """Gives what the original gave, call by call."""

    label: str
    results: Mapping[str, Result]
    count: int = 0

    def predict(self, data: Mapping[str, Array], state: Any = None) -> Mapping[str, Array]:
        del data, state
        outputs = self.results[f"{self.label}/{self.count:05d}"].outputs
        self.count += 1
        return outputs

    def make_state(self) -> None:
        return None
