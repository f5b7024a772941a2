"""The second runtime: agreement, and faults that it alone finds.

Packages are built from random weights, and run by Apple's runtime.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asrbuild.architectures.deepspeech.network import AcousticWeights, random_weights
from asrbuild.artifact.manifest import Manifest, Witness
from asrbuild.builder.record import record
from asrbuild.coreai.handover import NoLoweringError
from asrbuild.coreml.compression import gate_names
from asrbuild.coreml.executor.registry import MIL_OPS
from asrbuild.proof import witness
from asrbuild.proof.cases import build_cases
from asrbuild.proof.gates import gates_of
from asrbuild.proof.verdict import Proof, WordGates, prove
from asrbuild.speech.mfcc import FeatureSettings
from tests.coreai.handover import hand_over_with
from tests.marks import needs_core_ai
from tests.proof import building, numpy_network as network

pytestmark = [needs_core_ai, pytest.mark.usefixtures("core_ai")]
WEIGHTS = random_weights(32, seed=3)
#: A recipe's overrides -> the largest error of a probability against the executor.
FORMS = {
    "model=static coreml.precision=fp32": 1e-5,
    "model=enumerated coreml.precision=fp32 coreml.compress=int8": 1e-5,
    "model=multifunction": 1e-3,
}


@pytest.fixture(scope="module")
def cases() -> dict[str, np.ndarray]:
    """A second of speech, and random features."""
    samples = {name: samples[8_000:24_000] for name, samples in building.recordings().items()}
    return build_cases(FeatureSettings(), samples, ["sample", "random"])


def proven(
    folder: Path,
    manifest: Manifest,
    cases: dict[str, np.ndarray],
    weights: AcousticWeights,
    *overrides: str,
) -> tuple[Proof, Witness]:
    """The proofs without and with the witness; ``weights`` are the original's."""
    recipe = building.recipe_of(*overrides)
    thresholds, precision = asdict(recipe.verify)["thresholds"], recipe.coreml.precision
    names = gate_names(record(recipe)["coreml"])
    gates = gates_of(thresholds, precision, names), gates_of(thresholds, precision, (precision,))
    reference = {name: network.run(weights, windows) for name, windows in cases.items()}
    words = WordGates(require_transcript=False)
    proof = prove(folder, manifest, cases, reference, gates[0], words=words)
    found = witness.witness(folder, manifest, cases)
    witness.save_witnessed(folder, found)
    found = witness.load_witnessed(folder)
    both = witness.with_witness(proof, found, manifest, cases, reference, gates)
    assert both.verification.witness is not None
    return proof, both.verification.witness


@pytest.mark.parametrize("form", FORMS)
def test_both_runtimes_agree_on_a_correct_package(
    form: str, cases: dict[str, np.ndarray], tmp_path: Path
) -> None:
    overrides = form.split()
    manifest = building.build(tmp_path, WEIGHTS, *overrides)
    if "compress" in form:
        manifest = manifest.model_copy(
            update={
                "provenance": manifest.provenance.model_copy(
                    update={"recipe": record(building.recipe_of(*overrides))}
                )
            }
        )
    _, found = proven(tmp_path, manifest, cases, WEIGHTS, *overrides)
    against = {
        other: [m for m in found.metrics if m.compared_with == other]
        for other in ("executor", "original", "decompressed")
    }
    assert {m.input for m in against["executor"]} >= {"sample", "random"}
    worst = max(
        m.value for m in against["executor"] if (m.output, m.name) == ("logits", "max_abs_error")
    )
    assert worst < FORMS[form]
    assert all(m.passed for m in (*against["executor"], *against["decompressed"]))
    # Small random weights are not a speech model: compressed, they fail its gates.
    assert found.passed or "compress" in form
    assert bool(against["decompressed"]) == ("compress" in form)
    assert {m.value for m in against["decompressed"]} <= {0.0}
    ways = {m.input for m in against["executor"]}
    assert {"sample@chunk_32", "sample@whole"} <= ways or "multifunction" not in form
    assert {"sample@32", "sample@64"} <= ways or "enumerated" not in form


def test_a_constant_that_the_executor_misreads_is_found_and_its_node_named(
    cases: dict[str, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The package has another bias than the original, and the executor reads it as zero."""
    right = replace(WEIGHTS, layer_6_bias=np.zeros(29, np.float32))
    wrong = replace(WEIGHTS, layer_6_bias=np.linspace(-1, 1, 29, dtype=np.float32))
    overrides = ("model=static", "coreml.precision=fp32")
    manifest = building.build(tmp_path, wrong, *overrides)
    linear = MIL_OPS["linear"]

    def misread(x: Any, weight: Any, bias: Any = None) -> Any:
        return linear.run(x, weight, None if weight.shape[0] == 29 else bias)

    monkeypatch.setitem(MIL_OPS, "linear", replace(linear, run=misread))
    proof, found = proven(tmp_path, manifest, cases, right, *overrides)
    assert proof.verification.passed  # the proof without a witness
    assert not found.passed
    failed = {(m.compared_with, m.output) for m in found.metrics if not m.passed}
    assert failed == {("executor", "logits"), ("original", "logits")}
    first = witness.first_difference(tmp_path, manifest, cases, found)
    assert first is not None
    assert "layer_6" in first.value
    assert (first.first_step, first.last_step) == (0, 15)


def test_a_fault_of_the_lowered_program_is_found(
    cases: dict[str, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault of the witness is a disagreement too; here a maximum replaces a minimum."""
    hand_over_with(monkeypatch, '"type": "minimum"', '"type": "maximum"')
    overrides = ("model=static", "coreml.precision=fp32")
    manifest = building.build(tmp_path, WEIGHTS, *overrides)
    proof, found = proven(tmp_path, manifest, cases, WEIGHTS, *overrides)
    assert proof.verification.passed
    assert not found.passed
    first = witness.first_difference(tmp_path, manifest, cases, found)
    assert first is not None
    assert first.first_step == 0


def test_a_large_model_is_witnessed_on_a_recording_and_the_edge_lengths(
    cases: dict[str, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = building.build(tmp_path, WEIGHTS, "model=static")
    cases = {"steps_17": cases["sample"][:17], **cases}
    assert set(witness.witness(tmp_path, manifest, cases).outputs) == set(cases)
    monkeypatch.setattr(witness, "_AFFORDABLE", 1e6)
    found = witness.witness(tmp_path, manifest, cases)
    assert set(found.outputs) == {"sample", "steps_17"}


def test_an_operation_without_a_lowering_is_named(
    cases: dict[str, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hand_over_with(monkeypatch, '"type": "softmax"', '"type": "hardmax"')
    manifest = building.build(tmp_path, WEIGHTS, "model=static")
    with pytest.raises(NoLoweringError) as caught:
        witness.witness(tmp_path, manifest, cases)
    assert caught.value.ops == ("hardmax",)
