"""The witness of a proof: Apple's Core AI runtime, which also runs the published program.

A fault that asrbuild's executor and the converter share would pass every other gate. The witness
shares no kernel with the executor, so a result that both give is what the package specifies. Core
AI's fp16 arithmetic on Linux is not that of a device, so the witness always computes in fp32, for a
package in half precision with its fp16 constants.
"""

from __future__ import annotations

import json
import platform
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import numpy as np

from asrbuild.artifact.layout import PARITY
from asrbuild.artifact.manifest import Execution, Manifest, Metric, Witness, WitnessMetric
from asrbuild.artifact.manifest2 import context_frames
from asrbuild.artifact.named_files import package_path
from asrbuild.base.array import Array
from asrbuild.base.disk import tree_bytes
from asrbuild.coreai import asset
from asrbuild.coreai.environment import VERSION, find
from asrbuild.coreai.handover import NoLoweringError
from asrbuild.coreml.compression import compression
from asrbuild.proof.bisect import AGREEMENT_DB
from asrbuild.proof.cases import RECORDINGS, load_reference
from asrbuild.proof.execution import (
    Outputs,
    Run,
    load_outputs,
    package_function,
    probabilities_of,
    run_case,
    runs,
    save_outputs,
    ways,
)
from asrbuild.proof.gates import PSNR_CAP_DB, WORST, Gates, compare, max_abs_error, psnr_db
from asrbuild.proof.verdict import Proof, in_words
from asrbuild.proof.weaknesses import recorded_gates

OUTPUTS, TWIN, FACTS = "outputs.npz", "twin.npz", "witness.json"
#: Limit of weight bytes times steps for witnessing every input: about two seconds of one core.
_AFFORDABLE = 1e10
#: A smaller difference is rounding, however small the value is.
_ZERO = 1e-7


@dataclass(frozen=True)
class Witnessed:
    """The results of Core AI's runtime.

    Args:
        outputs: label of a run -> name of the output in the original -> value.
        twin: the same for the package with decompressed weights; empty if none are compressed.
        missing_ops: operations without a lowering to Core AI; if there are any, nothing ran.
    """

    outputs: Mapping[str, Outputs]
    twin: Mapping[str, Outputs] = field(default_factory=dict)
    missing_ops: tuple[str, ...] = ()
    version: str = VERSION
    platform: str = f"{platform.system()} {platform.machine()}"

    @property
    def execution(self) -> Execution:
        """The manifest's record of this execution."""
        return Execution(executor="coreai", version=self.version, platform=self.platform)


def witness(
    artifact: Path, manifest: Manifest, cases: Mapping[str, Array], *, every: bool = False
) -> Witnessed:
    """Runs the package in Core AI's runtime.

    It runs every input in an app's way; a large model, only the shorter recording and the awkward
    lengths, which use every operation and constant. Every other way runs one recording.

    Args:
        every: run every case in every way.
        artifact: the directory of the manifest's paths.
        manifest: describes the calls of the package; its ``verification`` is not read.
        cases: name -> features (T, n_window, n_input).

    Raises:
        NoLoweringError: an operation has no lowering; nothing ran.
        AsrbuildError: the environment is missing or the runtime failed.
    """
    package = package_path(artifact, manifest)
    labels = _labels(package, manifest, cases)
    chosen = [run for run in runs(manifest, cases, None, ("",)) if every or run.label in labels]
    outputs = dict(_run(package, chosen))
    twin: dict[str, Outputs] = {}
    if compression(manifest.provenance.recipe.get("coreml", {})):
        twin = dict(_run(package, chosen[:1], decompress=True))
    return Witnessed(outputs, twin)


def _labels(package: Path, manifest: Manifest, cases: Mapping[str, Array]) -> set[str]:
    """The labels of the runs to witness."""
    recording = min(
        (name for name in RECORDINGS if name in cases), key=lambda name: len(cases[name])
    )
    labels = set()
    for way in ways(manifest, cases):
        if way.label:
            labels.add(f"{recording if recording in way.cases else way.cases[0]}@{way.label}")
        elif tree_bytes(package) * sum(len(cases[name]) for name in way.cases) <= _AFFORDABLE:
            labels |= set(way.cases)
        else:
            labels |= {recording} | {name for name in way.cases if name.startswith("steps_")}
    return labels


def _run(
    package: Path, every: Sequence[Run], *, decompress: bool = False
) -> Iterator[tuple[str, Outputs]]:
    with tempfile.TemporaryDirectory(prefix="asrbuild-witness-") as folder:
        lowered = Path(folder) / "model.aimodel"
        asset.lower(package, lowered, wide=True, decompress=decompress)
        for function, group in groupby(every, lambda run: package_function(run.manifest)):
            with asset.load(lowered, function) as model:
                for run in group:
                    yield run.label, run_case(model, run.manifest, run.features)


def with_witness(
    proof: Proof,
    witnessed: Witnessed,
    manifest: Manifest,
    cases: Mapping[str, Array],
    reference: Mapping[str, Mapping[str, Array]],
    gates: tuple[Gates, Gates],
) -> Proof:
    """Adds the metrics of Core AI's outputs to a proof.

    Args:
        proof: the proof of asrbuild's executor, with the same manifest and cases.
        witnessed: from ``witness``.
        reference: case -> probabilities (T, V) and states (1, H) of the original.
        gates: those of the package, for the comparison with the original; and those of its
            precision alone, for the comparison with the executor, which decompresses the same
            weights.
    """
    probabilities = probabilities_of(manifest)
    metrics: list[WitnessMetric] = []
    for run in runs(manifest, cases, None, ("",)):
        if run.label not in witnessed.outputs:
            continue
        found, own = witnessed.outputs[run.label], proof.outputs[run.label]
        expected_of = reference[run.way if run.way in reference else run.case]
        original = {name: expected_of[name] for name in own}
        for other, expected, limits in (
            ("original", original, gates[0]),
            ("executor", own, gates[1]),
        ):
            compared = compare(run.label, expected, found, limits, probabilities)
            metrics += _computed(other, compared)
        if run.label in witnessed.twin:
            metrics += _computed(
                "decompressed", _equal(run.label, witnessed.twin[run.label], found)
            )
    failures = [
        f"Core AI's runtime against the {metric.compared_with}: {in_words(metric)}"
        for metric in metrics
        if not metric.passed
    ]
    found_by = Witness(
        runtime="coreai",
        version=witnessed.version,
        platform=witnessed.platform,
        arithmetic="fp32",
        missing_ops=list(witnessed.missing_ops),
        metrics=metrics,
        passed=not failures,
    )
    passed = proof.verification.passed and not failures
    verification = proof.verification.model_copy(update={"witness": found_by, "passed": passed})
    failed = (*proof.failures, *failures)
    return replace(proof, verification=verification, failures=failed)


def witness_again(artifact: Path, manifest: Manifest, proof: Proof) -> Proof:
    """Adds a witness to the proof of a published artifact, if Core AI's runtime is installed.

    Args:
        proof: from ``prove_again``.
    """
    if find() is None or manifest.model.format != "mlprogram":
        return proof
    gates = recorded_gates(manifest), recorded_gates(manifest, compressed=False)
    cases, reference = load_reference(artifact / PARITY, context_frames(manifest))
    try:
        witnessed = witness(artifact, manifest, cases)
    except NoLoweringError as error:
        witnessed = Witnessed({}, missing_ops=error.ops)
    return with_witness(proof, witnessed, manifest, cases, reference, gates)


def _computed(other: Any, metrics: Sequence[Metric]) -> list[WitnessMetric]:
    return [
        WitnessMetric(**metric.model_dump(), computed_by="coreai", compared_with=other)
        for metric in metrics
    ]


def _equal(label: str, expected: Outputs, found: Outputs) -> list[Metric]:
    """Metrics that require equal outputs: both runtimes decompress weights exactly."""
    metrics = []
    for output, value in expected.items():
        usable = value.shape == found[output].shape and np.isfinite(found[output]).all()
        error = max_abs_error(value, found[output]) if usable else WORST["max_abs_error"]
        metrics.append(
            Metric(
                input=label,
                output=output,
                name="max_abs_error",
                value=error,
                comparison="<=",
                threshold=0.0,
                passed=error == 0.0,
            )
        )
    return metrics


@dataclass(frozen=True)
class Difference:
    """The first value of a program that differs between two runtimes.

    Args:
        value: its name in the package.
        first_step: with ``last_step``, the steps of the utterance in the call, without padding.
        psnr_db: PSNR of the witness's value against the executor's; None if the sizes differ.
    """

    value: str
    first_step: int
    last_step: int
    psnr_db: float | None

    def __str__(self) -> str:
        found = "another size" if self.psnr_db is None else f"{self.psnr_db:.1f} dB"
        return f"{self.value}, steps {self.first_step} to {self.last_step}: {found}"


def first_difference(
    artifact: Path, manifest: Manifest, cases: Mapping[str, Array], found: Witness
) -> Difference | None:
    """The first value, in the package's order, that differs in Core AI's runtime.

    It comes from the first run that failed a gate. Values inside loops and branches are not
    compared: a loop differs in its results.
    """
    from asrbuild.artifact.calls import Acoustic, Contract
    from asrbuild.coreml.executor import load

    label = next(metric.input for metric in found.metrics if not metric.passed)
    failed = next(run for run in runs(manifest, cases, None, ("",)) if run.label == label)
    package, function = package_path(artifact, manifest), package_function(failed.manifest)
    floor = AGREEMENT_DB[manifest.model.compute_precision]
    with asset.open_witness(package, function, keep_all=True) as other:
        both = _Both(load(package, function, keep_all=True), other)
        run = Acoustic(both, Contract.of(failed.manifest))
        steps = len(failed.features)
        size = failed.manifest.streaming.steps_per_chunk or steps
        for start in range(0, steps, size):
            end = min(start + size, steps)
            run.feed(failed.features[start:end])
            if end == steps:
                run.finish()
            for name, psnr in both.differing(floor):
                return Difference(name, start, end - 1, psnr)
    return None


def _differs(value: Array, other: Array | None, floor: float) -> float | Literal[False] | None:
    """The PSNR of a value that differs, or None if its size differs; False if it agrees."""
    if other is None or value.dtype.kind != "f" or not np.isfinite(value).all():
        return False
    if other.size != value.size:
        return None
    found = other.reshape(value.shape)
    if not np.isfinite(found).all():
        return -PSNR_CAP_DB
    # A value of zeros has no peak to compare with.
    agrees = psnr_db(value, found) >= floor or np.abs(value - found).max(initial=0.0) < _ZERO
    return False if agrees else psnr_db(value, found)


@dataclass
class _Both:
    """A package in both runtimes: each call runs in both, each with its own state."""

    own: Any
    other: Any
    calls: list[tuple[Mapping[str, Array], Mapping[str, Array]]] = field(default_factory=list)

    def predict(self, data: Mapping[str, Array], state: Any = None) -> Mapping[str, Any]:
        states = (None, None) if state is None else state
        values: Mapping[str, Any] = self.own.trace(data, states[0])
        self.calls.append((values, self.other.trace(data, states[1])))
        return values

    def make_state(self) -> Any:
        return self.own.make_state(), self.other.make_state()

    def differing(self, floor: float) -> Iterator[tuple[str, float | None]]:
        """Yields name and PSNR of the values that differ in the calls since the last use."""
        calls, self.calls = self.calls, []
        for own, other in calls:
            # A trace starts with the outputs, which come last in the program.
            for name in sorted(own, key=lambda name: name in self.own.outputs):
                psnr = _differs(own[name], other.get(name), floor)
                if psnr is not False:
                    yield name, psnr


def save_witnessed(at: Path, witnessed: Witnessed) -> None:
    """Writes ``outputs.npz``, ``twin.npz`` and ``witness.json`` into a directory."""
    save_outputs(at / OUTPUTS, witnessed.outputs)
    save_outputs(at / TWIN, witnessed.twin)
    facts = {
        "missing_ops": list(witnessed.missing_ops),
        "version": witnessed.version,
        "platform": witnessed.platform,
    }
    (at / FACTS).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def load_witnessed(at: Path) -> Witnessed:
    """Reads the files of ``save_witnessed``."""
    facts = json.loads((at / FACTS).read_text(encoding="utf-8"))
    return Witnessed(
        load_outputs(at / OUTPUTS),
        load_outputs(at / TWIN),
        tuple(facts["missing_ops"]),
        facts["version"],
        facts["platform"],
    )
