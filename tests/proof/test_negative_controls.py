"""Packages with faults are each built and refused; the correct package passes.

The tiny network has random weights. The demo model is trained, and its gates are those of a user's
build.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asrbuild.architectures.deepspeech.network import AcousticWeights, random_weights
from asrbuild.artifact import runtime
from asrbuild.artifact.manifest import Manifest
from asrbuild.coreml import executor
from asrbuild.coreml.speedups import SWITCH
from asrbuild.proof import execution
from asrbuild.proof.cases import build_cases, edge_lengths
from asrbuild.proof.gates import gates_from
from asrbuild.proof.prefixes import edge_cases
from asrbuild.proof.verdict import Proof, WordGates, prove
from asrbuild.speech.mfcc import FeatureSettings
from tests.paths import DEMO
from tests.proof import building, numpy_network as network

ALL_ON_LOGITS = {"argmax_agreement", "kl_divergence", "max_abs_error", "psnr_db"}


@dataclass(frozen=True)
class Subject:
    """A network, its expected outputs, and its packages on disk."""

    name: str
    weights: AcousticWeights
    folder: Path
    cases: dict[str, np.ndarray]
    reference: dict[str, network.Outputs]
    built: dict[tuple[str, ...], Manifest]

    def package(self, fault: str, *overrides: str) -> tuple[Path, Manifest]:
        """The artifact folder and manifest of a package with the fault, built once."""
        key = (fault, *overrides)
        folder = self.folder / "-".join(key).replace("=", "_")
        if key not in self.built:
            wrong = getattr(network, fault)(self.weights) if fault else self.weights
            self.built[key] = building.build(folder, wrong, *overrides)
        return folder, self.built[key]

    def prove(
        self,
        artifact: Path,
        manifest: Manifest,
        reference: dict[str, network.Outputs] | None = None,
    ) -> Proof:
        precision = manifest.model.compute_precision
        thresholds = asdict(building.recipe_of().verify.thresholds[precision])
        return prove(
            artifact,
            manifest,
            self.cases,
            reference or self.reference,
            gates_from(thresholds, precision),
            # Random weights give no words: their letters are ties, so they are not compared.
            words=WordGates(require_transcript=self.name == "demo"),
        )


def _demo_weights() -> AcousticWeights:
    from asrbuild.architectures.deepspeech.checkpoint import find_checkpoint, read_weights

    folder = DEMO / "checkpoint"
    if not folder.is_dir():
        pytest.skip("the demo checkpoint is not here")
    return read_weights(find_checkpoint(folder, "auto"))


@pytest.fixture(scope="module", params=["tiny", "demo"])
def subject(request, tmp_path_factory) -> Subject:
    weights = random_weights(32, seed=3) if request.param == "tiny" else _demo_weights()
    samples = {name: samples[8_000:40_000] for name, samples in building.recordings().items()}
    cases = build_cases(FeatureSettings(), samples, ["sample", "silence", "random"])
    cases |= edge_cases(cases, edge_lengths(16), 3000)
    reference = {name: network.run(weights, windows) for name, windows in cases.items()}
    folder = tmp_path_factory.mktemp(request.param)
    return Subject(request.param, weights, folder, cases, reference, {})


def refusals(proof: Proof) -> set[tuple[str, str]]:
    """(output, metric) of every gate that failed on any input."""
    metrics = proof.verification.metrics
    return {(m.output, m.name) for m in metrics if not m.passed}


def on_logits(proof: Proof) -> set[str]:
    return {name for output, name in refusals(proof) if output == "logits"}


def on_states(proof: Proof) -> set[str]:
    return {output for output, _ in refusals(proof) if output != "logits"}


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_the_correct_package_passes_every_gate(subject, precision):
    proof = subject.prove(*subject.package("", "model=static", f"coreml.precision={precision}"))
    assert proof.failures == ()
    assert proof.verification.passed
    assert {m.input for m in proof.verification.metrics} == set(subject.cases)
    assert proof.verification.executed


@pytest.mark.parametrize(
    ("fault", "gates", "states"),
    [
        ("uniform", ALL_ON_LOGITS, set()),
        ("shift_classes", ALL_ON_LOGITS, set()),
        ("swap_layers", ALL_ON_LOGITS, {"new_state_c", "new_state_h"}),
        ("permute_gates", ALL_ON_LOGITS, {"new_state_c", "new_state_h"}),
    ],
)
def test_wrong_weights_are_refused(subject, fault, gates, states):
    proof = subject.prove(*subject.package(fault, "model=static", "coreml.precision=fp16"))
    assert not proof.verification.passed
    assert on_logits(proof) == gates
    assert on_states(proof) == states


@pytest.mark.parametrize("fault", ["uniform", "shift_classes", "swap_layers", "permute_gates"])
def test_products_of_a_correct_package_do_not_hide_a_fault_of_the_next(subject, fault, monkeypatch):
    """A sweep shares products whose bytes are all equal."""
    monkeypatch.setattr(executor.products, "LARGE", 1)
    right, wrong = (subject.package(f, "coreml.precision=fp16") for f in ("", fault))
    passing = execution.execute(*right, subject.cases).outputs
    found = execution.execute(*wrong, subject.cases).outputs
    again = execution.execute(*right, subject.cases).outputs
    monkeypatch.setenv(SWITCH, "products")
    alone = execution.execute(*wrong, subject.cases).outputs
    for name in subject.cases:
        assert not np.array_equal(found[name]["logits"], passing[name]["logits"])
        for output in ("logits", "new_state_c", "new_state_h"):
            # Rows of other batches are summed in another order, so half precision may round.
            np.testing.assert_allclose(found[name][output], alone[name][output], atol=4e-3)
            assert np.array_equal(again[name][output], passing[name][output])
    assert subject.prove(*right).verification.passed


def test_half_precision_overflow_is_refused_and_single_precision_is_not(subject):
    wide = network.overflow(subject.weights)
    reference = {name: network.run(wide, windows) for name, windows in subject.cases.items()}
    half = subject.prove(
        *subject.package("overflow", "model=static", "coreml.precision=fp16"), reference
    )
    assert on_logits(half) == ALL_ON_LOGITS
    single = subject.prove(
        *subject.package("overflow", "model=static", "coreml.precision=fp32"), reference
    )
    assert not {m.input for m in single.verification.metrics if m.value == 1e9}


@dataclass
class Faulty:
    """A model with a fault in every call."""

    model: Any
    mistake: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]

    def predict(self, data: dict[str, np.ndarray], state: Any = None) -> Any:
        return self.model.predict(self.mistake(dict(data)))

    def make_state(self) -> Any:
        return self.model.make_state()


def _forget(data: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {n: np.zeros_like(v) if n.startswith("previous") else v for n, v in data.items()}


def _swap_states(data: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    c, h = data["previous_state_c"], data["previous_state_h"]
    return data | {"previous_state_c": h, "previous_state_h": c}


def _count_padding(data: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return data | {
        "input_lengths": np.full_like(data["input_lengths"], data["input_node"].shape[1])
    }


@pytest.mark.parametrize(
    ("mistake", "gates", "unharmed"),
    [
        (_forget, ALL_ON_LOGITS, {"steps_1", "steps_15", "steps_16"}),
        (_swap_states, ALL_ON_LOGITS, {"steps_1", "steps_15", "steps_16"}),
        # The rows are correct in any case: only the state shows the fault.
        (_count_padding, set(), {"steps_16"}),
    ],
)
def test_a_wrongly_carried_state_is_refused(subject, monkeypatch, mistake, gates, unharmed):
    load = executor.load
    monkeypatch.setattr(executor, "load", lambda *a, **k: Faulty(load(*a, **k), mistake))
    proof = subject.prove(*subject.package("", "model=static", "coreml.precision=fp16"))
    assert not proof.verification.passed
    assert on_logits(proof) == gates
    assert on_states(proof) == {"new_state_c", "new_state_h"}
    # One chunk from a zero state cannot show it, so there are longer inputs.
    refused = {m.input for m in proof.verification.metrics if not m.passed}
    assert refused == set(subject.cases) - unharmed


@pytest.mark.parametrize("mistake", [_forget, _swap_states, _count_padding])
@pytest.mark.parametrize(
    ("overrides", "way"),
    [
        (("model=dynamic", "coreml=neuralnetwork"), "16"),
        (("model=dynamic", "coreml.range_upper=200"), "16"),
        (("model=multifunction", "coreml.range_upper=200"), "whole_16"),
    ],
)
def test_whole_utterances_do_not_hide_a_wrongly_carried_state(
    subject, monkeypatch, mistake, overrides, way
):
    """A call of a whole utterance starts from zeros without padding, so it cannot show it."""
    folder, manifest = subject.package("", *overrides)
    load = executor.load
    monkeypatch.setattr(
        executor,
        "load",
        lambda path, function=None, **given: (
            Faulty(load(path, function, **given), mistake)
            if function in (None, "whole")
            else load(path, function, **given)
        ),
    )
    proof = subject.prove(folder, manifest)
    failed = {m.input for m in proof.verification.metrics if not m.passed}
    assert f"sample@{way}" in failed
    assert all(name.endswith(f"@{way}") for name in failed)


def test_a_dropped_tail_is_refused(subject, monkeypatch):
    monkeypatch.setattr(
        runtime.Acoustic, "finish", lambda self: np.zeros((0, self._classes), np.float32)
    )
    proof = subject.prove(*subject.package("", "model=static", "coreml.precision=fp16"))
    assert on_logits(proof) == ALL_ON_LOGITS
    refused = {m.input for m in proof.verification.metrics if not m.passed}
    whole = {name for name, windows in subject.cases.items() if len(windows) % 16 == 0}
    assert refused == set(subject.cases) - whole


@pytest.mark.parametrize("position", [0.2, 0.5, 0.8])
def test_a_flipped_bit_in_the_weights_is_refused(subject, tmp_path, position):
    """The bit is the top one of an exponent: a weight becomes 65,536 times as large."""
    import shutil

    folder, manifest = subject.package("", "model=static", "coreml.precision=fp16")
    damaged = tmp_path / "damaged"
    shutil.copytree(folder, damaged)
    (weights,) = damaged.rglob("weight.bin")
    data = bytearray(weights.read_bytes())
    # A weight of ordinary size, in a row that is in use.
    numbers = np.frombuffer(bytes(data), np.float16)
    start = int(len(numbers) * position)
    ordinary = np.flatnonzero((np.abs(numbers[start:]) > 0.05) & (np.abs(numbers[start:]) < 0.5))
    data[2 * (start + int(ordinary[0])) + 1] ^= 0x40
    weights.write_bytes(bytes(data))
    proof = subject.prove(damaged, manifest)
    assert not proof.verification.passed
    assert refusals(proof)
