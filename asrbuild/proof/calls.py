"""Runs the original in exactly the calls of the package.

A row of a network that is not causal depends on all steps of its call, padding too, so the rows of
a whole recording are not a reference for it. Therefore the loop of an app
(:class:`asrbuild.artifact.calls.Acoustic`) makes the calls, once with a recorder instead of the
package. The original's worker reads them from an npz:

    <sequence>/<number>/<input>     every input; a carried state only in the first call

and runs each sequence in order, carrying its own states; it writes every output as
``<sequence>/<number>/<output>``. The loop runs again on these results. So padding, chunks and
context are the same on both sides, and only the arithmetic differs.

The original also runs on each whole recording in one call, to measure the cost of chunks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
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

#: The end of the label of a whole recording in one call of the original.
WHOLE = "recording"


def original_calls(
    manifest: Manifest, cases: Mapping[str, Array], max_steps: int | None
) -> dict[str, Array]:
    """Every call of a proof, by name in the worker's npz."""
    return _recorded(_every(manifest, cases, max_steps), _signature(manifest))


def calls_as_fed(manifest: Manifest, cases: Mapping[str, Array]) -> dict[str, Array]:
    """Every call of the cases in an app's way alone, as the worker's npz has them."""
    return _recorded(_as_fed(manifest, cases), _signature(manifest))


def outputs_as_fed(
    manifest: Manifest, cases: Mapping[str, Array], results: Mapping[str, Result]
) -> dict[str, Outputs]:
    """Case -> output -> the original's values, from its results for :func:`calls_as_fed`."""
    signature = _signature(manifest)
    return {
        run.label: _feed(_Replay(run.label, results), run, signature)
        for run in _as_fed(manifest, cases)
    }


def _as_fed(manifest: Manifest, cases: Mapping[str, Array]) -> Iterator[Run]:
    yield from (Run(name, "", manifest, name, features) for name, features in cases.items())


def _recorded(every: Iterable[Run], signature: Signature) -> dict[str, Array]:
    arrays: dict[str, Array] = {}
    for run in every:
        recorder = _Recorder(run.manifest, signature)
        _feed(recorder, run, signature)
        arrays |= {f"{run.label}/{key}": value for key, value in recorder.calls.items()}
    return arrays


def calls_of(
    manifest: Manifest, cases: Mapping[str, Array], max_steps: int | None, label: str
) -> tuple[Manifest, dict[str, Array]] | None:
    """The manifest and the calls' inputs of the run with this label; None if there is none."""
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
    """Label of a run -> output -> the original's values, from the worker's results by call.

    ``<recording>@recording`` is the label of a whole recording in one call.
    """
    signature = _signature(manifest)
    return {
        run.label: _feed(_Replay(run.label, results), run, signature)
        for run in _every(manifest, cases, max_steps)
    }


def whole_of(label: str) -> str:
    """The label of the whole recording of a run."""
    return f"{label.partition('@')[0]}@{WHOLE}"


def _every(manifest: Manifest, cases: Mapping[str, Array], max_steps: int | None) -> Iterator[Run]:
    yield from runs(manifest, cases, max_steps, ("",))
    signature = _signature(manifest)
    if signature.states or signature.steps:
        return  # the states carry everything, or no call takes more than a chunk
    for name in (name for name in RECORDINGS if name in cases):
        whole = with_steps(manifest, len(cases[name]))
        yield Run(f"{name}@{WHOLE}", "", whole, name, cases[name])


def _signature(manifest: Manifest) -> Signature:
    architecture, config = of_recorded(manifest.provenance.recipe)
    return architecture.signature(config)


def _feed(package: Any, run: Run, signature: Signature) -> Outputs:
    """Feeds the utterance of a run, with the original's own inputs and outputs."""
    contract = Contract.of(run.manifest)
    states = []
    for pair in signature.states:
        port = signature.port(pair.input)
        shape = [axis.size or 1 for axis in port.axes] if port is not None else []
        # The original has its states as inputs and outputs, whatever the package does.
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
    """Replaces a package and records the inputs of every call; its outputs are dummies."""

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
        # Rows that are valid for any kind of output.
        filled = {"log_probabilities": -np.log(contract.classes)}.get(decoded.meaning, 0.0)
        states = {pair.output: data[pair.input] for pair in self.signature.states}
        return {decoded.name: np.full(shape, filled, np.float32), **states}

    def make_state(self) -> None:
        return None


@dataclass
class _Replay:
    """Replaces a package and gives the original's outputs, call by call."""

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
