"""The runs of a proof: every way and size that a manifest allows, and the transcripts."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asrbuild.architectures.deepspeech.network import random_weights
from asrbuild.artifact.manifest import Manifest
from asrbuild.base.errors import AsrbuildError
from asrbuild.coreml import executor
from asrbuild.proof.cases import build_cases, edge_lengths
from asrbuild.proof.execution import ways
from asrbuild.proof.gates import gates_from
from asrbuild.proof.prefixes import edge_cases
from asrbuild.proof.verdict import Proof, WordGates, prove, summary, unproven
from asrbuild.speech.mfcc import FeatureSettings
from tests.proof import building, numpy_network as network

WEIGHTS = random_weights(32, seed=3)


@pytest.fixture(scope="module")
def cases() -> dict[str, np.ndarray]:
    samples = {name: samples[8_000:30_000] for name, samples in building.recordings().items()}
    cases = build_cases(FeatureSettings(), samples, ["sample", "second"])
    return cases | edge_cases(cases, edge_lengths(16, [16, 32, 48]), 3000)


@pytest.fixture(scope="module")
def reference(cases) -> dict[str, network.Outputs]:
    return {name: network.run(WEIGHTS, windows) for name, windows in cases.items()}


def run(folder: Path, manifest: Manifest, cases, reference, **given: Any) -> Proof:
    precision = manifest.model.compute_precision
    gates = gates_from(asdict(building.recipe_of().verify.thresholds[precision]), precision)
    given.setdefault("words", WordGates(require_transcript=False))
    return prove(folder, manifest, cases, reference, gates, **given)


def sizes_run(monkeypatch) -> list[tuple[str, int]]:
    """Records (function, steps) of every later call."""
    calls: list[tuple[str, int]] = []
    predict = executor.Model.predict

    def watched(self, data, state=None):
        calls.append((self.function, data["input_node"].shape[1]))
        return predict(self, data, state)

    monkeypatch.setattr(executor.Model, "predict", watched)
    return calls


def test_every_enumerated_size_is_run_at_its_size(tmp_path, cases, reference, monkeypatch):
    calls = sizes_run(monkeypatch)
    manifest = building.build(tmp_path, WEIGHTS, "model=enumerated", "model.steps.sizes=[16,32,48]")
    proof = run(tmp_path, manifest, cases, reference)
    assert proof.failures == ()
    inputs = {metric.input for metric in proof.verification.metrics}
    assert inputs == set(cases) | {f"{n}@{s}" for s in (32, 48) for n in ("sample", f"steps_{s}")}
    assert {size for _, size in calls} == {16, 32, 48}


def test_every_function_is_run_on_every_case(tmp_path, cases, reference, monkeypatch):
    calls = sizes_run(monkeypatch)
    manifest = building.build(tmp_path, WEIGHTS, "model=multifunction")
    proof = run(tmp_path, manifest, cases, reference)
    assert proof.failures == ()
    inputs = {metric.input for metric in proof.verification.metrics}
    others = {f"{name}@{function}" for name in cases for function in ("chunk_32", "whole")}
    padded = {f"{name}@whole_16" for name in cases if name == "sample" or "steps" in name}
    assert inputs == set(cases) | others | padded
    assert {size for function, size in calls if function == "chunk_32"} == {32}
    lengths = {len(windows) for windows in cases.values()}
    assert {size for function, size in calls if function == "whole"} == lengths | {16}
    assert {t.input for t in proof.verification.transcripts} == {
        f"{name}{way}" for name in ("sample", "second") for way in ("", "@chunk_32", "@whole")
    } | {"sample@whole_16"}


def test_a_range_that_is_fed_in_chunks_is_run_whole_too(tmp_path, cases):
    manifest = building.build(
        tmp_path, WEIGHTS, "model=dynamic", "model.streaming=chunked", "coreml.range_upper=64"
    )
    found = {way.label: way for way in ways(manifest, cases)}
    assert set(found) == {"", "16", "whole"}
    assert found["whole"].cases == tuple(name for name in cases if name.startswith("steps_"))
    assert found["whole"].manifest.streaming.mode == "whole"


@pytest.mark.parametrize("coreml", ["mlprogram", "neuralnetwork"])
def test_a_range_is_run_in_padded_chunks_too(tmp_path, cases, reference, monkeypatch, coreml):
    """Only chunks carry a state from call to call, and have input_lengths below T."""
    calls: list[tuple[int, int]] = []
    predict = executor.Model.predict

    def watched(self, data, state=None):
        calls.append((data["input_node"].shape[1], int(data["input_lengths"][0])))
        return predict(self, data, state)

    monkeypatch.setattr(executor.Model, "predict", watched)
    manifest = building.build(tmp_path, WEIGHTS, "model=dynamic", f"coreml={coreml}")
    proof = run(tmp_path, manifest, cases, reference)
    assert proof.failures == ()
    padded = {m.input.split("@")[0] for m in proof.verification.metrics if "@16" in m.input}
    assert padded == {name for name in cases if name == "sample" or name.startswith("steps_")}
    assert {steps for size, steps in calls if steps < size} >= {1, 15}
    whole = {len(windows) for windows in cases.values()}
    assert {size for size, _ in calls} == whole | {16}


@pytest.mark.parametrize(
    ("max_steps", "name", "longest"), [(3000, "steps_200", 200), (150, "steps_150_of_200", 150)]
)
def test_the_upper_bound_of_a_range_is_run_against_shorter_calls(
    tmp_path, cases, reference, monkeypatch, max_steps, name, longest
):
    calls = sizes_run(monkeypatch)
    manifest = building.build(tmp_path, WEIGHTS, "model=dynamic", "coreml.range_upper=200")
    proof = run(tmp_path, manifest, cases, reference, max_steps=max_steps)
    assert proof.failures == ()
    assert {m.output for m in proof.verification.metrics if m.input == f"{name}@self"} == {
        "logits",
        "new_state_c",
        "new_state_h",
    }
    last = proof.verification.inputs[-1]
    assert (last.name, last.steps) == (name, longest)
    assert max(size for _, size in calls) == longest
    assert len(cases["sample"]) < longest


def test_a_fault_at_the_upper_bound_alone_is_refused(tmp_path, cases, reference, monkeypatch):
    """The fault is like an index overflow at 128 steps: shorter calls cannot show it."""
    predict = executor.Model.predict

    def wraps(self, data, state=None):
        found = predict(self, data, state)
        if len(found["logits"]) > 128:
            found["logits"] = np.roll(found["logits"], 128, axis=0)
        return found

    monkeypatch.setattr(executor.Model, "predict", wraps)
    manifest = building.build(tmp_path, WEIGHTS, "model=dynamic", "coreml.range_upper=200")
    proof = run(tmp_path, manifest, cases, reference, max_steps=3000)
    failed = {m.input for m in proof.verification.metrics if not m.passed}
    assert failed == {"steps_200@self"}
    assert run(tmp_path, manifest, cases, reference).verification.passed


def test_a_bound_that_the_cases_reach_is_not_run_again(tmp_path, cases, reference):
    manifest = building.build(tmp_path, WEIGHTS, "model=dynamic", "coreml.range_upper=50")
    proof = run(tmp_path, manifest, cases, reference, max_steps=3000)
    assert proof.verification.passed
    assert [entry.name for entry in proof.verification.inputs] == list(cases)


@pytest.mark.parametrize(
    "overrides",
    [
        ("model=dynamic", "coreml.lstm=loop"),
        ("model=dynamic", "coreml=neuralnetwork"),
        ("model=static", "coreml=neuralnetwork", "coreml.precision=fp16", "coreml.lstm=loop"),
        ("model=static", "coreml.state=stateful"),
        ("model=dynamic_to_static", "n_steps=32", "coreml.precision=fp32"),
    ],
)
def test_every_form_of_package_passes(tmp_path, cases, reference, overrides):
    manifest = building.build(tmp_path, WEIGHTS, *overrides)
    proof = run(tmp_path, manifest, cases, reference)
    assert proof.failures == ()
    outputs = {metric.output for metric in proof.verification.metrics}
    assert outputs == {"logits", "new_state_c", "new_state_h"}


@pytest.fixture(scope="module")
def package(tmp_path_factory) -> tuple[Path, Manifest]:
    folder = tmp_path_factory.mktemp("words")
    return folder, building.build(folder, WEIGHTS, "model=static", "coreml.precision=fp32")


def test_other_words_than_tensorflows_are_refused(package, cases, reference):
    """The gates on numbers pass. Such a package is rare, so the outputs are synthetic."""
    folder, manifest = package
    wrong = {name: dict(outputs) for name, outputs in reference.items()}
    wrong["sample"] = {
        **wrong["sample"],
        "logits": np.eye(29, dtype=np.float32)[np.full(len(cases["sample"]), 3)],
    }
    proof = run(folder, manifest, cases, wrong, words=WordGates())
    sample = next(t for t in proof.verification.transcripts if t.input == "sample")
    assert sample.reference == "c"
    assert not sample.match
    assert not proof.verification.passed
    assert any("sample: the transcript is" in failure for failure in proof.failures)


def test_the_word_error_rate_may_be_a_gate(package, cases, reference):
    folder, manifest = package
    texts = {"sample": "hello world", "second": None}
    loose = run(folder, manifest, cases, reference, texts=texts)
    assert loose.verification.passed
    strict = WordGates(require_transcript=False, max_wer=0.1, max_wer_increase=0.0)
    proof = run(folder, manifest, cases, reference, texts=texts, words=strict)
    assert not proof.verification.passed
    # Random weights give the same wrong words as the reference: no rise.
    (failure,) = proof.failures
    assert failure.startswith("sample: the word error rate is ")
    assert failure.endswith("above 10.0%")


def test_outputs_that_are_not_probabilities_match_no_transcript(
    package, cases, reference, monkeypatch
):
    folder, manifest = package
    predict = executor.Model.predict

    def broken(self, data, state=None):
        return predict(self, data, state) | {"logits": np.full((16, 1, 29), np.nan, "f4")}

    monkeypatch.setattr(executor.Model, "predict", broken)
    proof = run(folder, manifest, cases, reference, words=WordGates())
    assert not any(t.match for t in proof.verification.transcripts)
    assert not any(m.passed for m in proof.verification.metrics if m.output == "logits")


def test_a_proof_of_nothing_is_refused(tmp_path, cases):
    manifest = building.build(tmp_path, WEIGHTS, "model=static")
    with pytest.raises(AsrbuildError, match="no reference of the original for sample"):
        run(tmp_path, manifest, cases, {})
    with pytest.raises(AsrbuildError, match="nothing to compare with"):
        run(tmp_path, manifest, {}, {})
    assert not unproven("tensorflow").passed
    assert summary(unproven("tensorflow")) == "not executed"


def test_on_macos_core_ml_runs_too_with_the_same_gates(tmp_path, cases, reference, monkeypatch):
    """The executor stands in for Core ML here; on a Mac the acceptance tests run Core ML itself."""
    from asrbuild.coreml.executor import coreml_backend
    from asrbuild.proof import execution as module

    units = []

    def core_ml(path, function=None, compute_units="ALL"):
        units.append(compute_units)
        return executor.load(path, function)

    monkeypatch.setattr(coreml_backend, "load", core_ml)
    monkeypatch.setattr(module.sys, "platform", "darwin")
    manifest = building.build(tmp_path, WEIGHTS, "model=static", "coreml.compute_units=CPU_ONLY")
    proof = run(tmp_path, manifest, cases, reference)
    assert proof.verification.passed
    assert proof.verification.core_ml_executed
    assert [e.executor for e in proof.verification.executions] == ["asrbuild", "coreml"]
    assert {m.input for m in proof.verification.metrics} == {
        *cases,
        *(f"{n}@coreml" for n in cases),
    }
    assert units == ["CPU_ONLY"]

    monkeypatch.setattr(
        coreml_backend,
        "load",
        lambda *a, **k: (_ for _ in ()).throw(AsrbuildError("Core ML cannot compile the model")),
    )
    with pytest.raises(AsrbuildError, match="Core ML cannot compile"):
        run(tmp_path, manifest, cases, reference)
