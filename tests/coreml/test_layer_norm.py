"""Packages of a network trained with ``--layer_norm``, compared with its genuine export."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from asrbuild.architectures.deepspeech.checkpoint import find_checkpoint, read_weights
from asrbuild.architectures.deepspeech.export import write_frozen_graph
from asrbuild.architectures.deepspeech.flags import ExportFlags
from asrbuild.architectures.deepspeech.network import AcousticWeights
from asrbuild.architectures.deepspeech.reference import ReferenceOutput, run_reference
from asrbuild.base.errors import AsrbuildError
from asrbuild.coreml.executor import load
from asrbuild.coreml.request import (
    ConversionRequest,
    EnumeratedSteps,
    FixedSteps,
    RangeSteps,
)
from asrbuild.speech.audio import read_audio
from asrbuild.speech.mfcc import FeatureSettings, features
from tests.coreml.dataflow import op_counts
from tests.coreml.packages import package_of
from tests.paths import GENUINE

TRAINED = GENUINE / "deepspeech-0.9.3-layer-norm"
SAID = "hello world you are currently caller number"
LABELS = " abcdefghijklmnopqrstuvwxyz'"
STEPS = {
    "fixed": FixedSteps(16),
    "range": RangeSteps(1, 16, 400),
    "enumerated": EnumeratedSteps((8, 16), 16),
}
#: Every value of every axis with every value of format, precision and lstm.
CELLS = (
    ("mlprogram", "iOS15", "fixed", "fp32", "native"),
    ("mlprogram", "iOS15", "range", "fp32", "loop"),
    ("mlprogram", "iOS15", "fixed", "fp16", "loop"),
    ("mlprogram", "iOS16", "enumerated", "fp16", "native"),
    ("mlprogram", "iOS17", "range", "fp16", "native"),
    ("mlprogram", "iOS17", "enumerated", "fp16", "loop"),
    ("neuralnetwork", "iOS15", "fixed", "fp32", "native"),
    ("neuralnetwork", "iOS15", "range", "fp32", "loop"),
    ("neuralnetwork", "iOS15", "enumerated", "fp16", "native"),
)
#: Tolerances of probabilities and states; in half precision values between layers have 11 bits.
TOLERANCE = {"fp32": 5e-6, "fp16": 6e-3}


@pytest.fixture(scope="module")
def weights() -> AcousticWeights:
    return read_weights(find_checkpoint(TRAINED / "checkpoint"))


@pytest.fixture(scope="module")
def windows() -> np.ndarray:
    return features(read_audio(GENUINE / "hello.wav", 16_000), FeatureSettings())


@pytest.fixture(scope="module")
def truth(windows) -> dict[str, ReferenceOutput]:
    """Outputs of the genuine graph for the recording, and for its first steps."""
    cases = {"whole": windows} | {str(steps): windows[:steps] for steps in (1, 9, 16)}
    return run_reference(TRAINED / "x_r2_dyn.pb", cases)


def built(folder: Path, weights: AcousticWeights, **fields) -> Path:
    return package_of(folder, weights, ConversionRequest(**fields))


def given(windows: np.ndarray, size: int, real: int, hidden: int) -> dict[str, np.ndarray]:
    padded = np.zeros((1, size, *windows.shape[1:]), np.float32)
    padded[0, :real] = windows[:real]
    zeros = np.zeros((1, hidden), np.float32)
    return {
        "input_node": padded,
        "input_lengths": np.array([real], np.int32),
        "previous_state_c": zeros,
        "previous_state_h": zeros,
    }


def agrees(found: dict, expected: ReferenceOutput, real: int, tolerance: float) -> None:
    np.testing.assert_allclose(found["logits"][:real, 0], expected.logits, rtol=0, atol=tolerance)
    for name in ("new_state_c", "new_state_h"):
        if name in found:
            np.testing.assert_allclose(
                found[name], getattr(expected, name), rtol=0, atol=3 * tolerance, err_msg=name
            )


def words(logits: np.ndarray) -> str:
    best = logits.argmax(-1)
    kept = [i for n, i in enumerate(best) if i < 28 and (n == 0 or i != best[n - 1])]
    return "".join(LABELS[i] for i in kept)


@pytest.mark.parametrize(("form", "target", "kind", "precision", "lstm"), CELLS)
def test_every_form_equals_the_genuine_graph(
    tmp_path, weights, windows, truth, form, target, kind, precision, lstm
) -> None:
    path = built(
        tmp_path,
        weights,
        format=form,
        deployment_target=target,
        steps=STEPS[kind],
        precision=precision,
        lstm=lstm,
    )
    model = load(path)
    for real in (1, 9, 16):
        found = model.predict(given(windows, 16, real, 96))
        agrees(found, truth[str(real)], real, TOLERANCE[precision])
    if form == "mlprogram":
        assert op_counts(path)["layer_norm"] == 4
    if kind == "range":
        whole = model.predict(given(windows, len(windows), len(windows), 96))
        agrees(whole, truth["whole"], len(windows), TOLERANCE[precision])
        assert words(whole["logits"][:, 0]) == words(truth["whole"].logits) == SAID


@pytest.mark.parametrize(
    "fields",
    [
        {"functions": {"chunk": FixedSteps(16), "whole": STEPS["range"]}},
        {"state": "stateful", "steps": FixedSteps(16)},
        {"state": "stateful", "steps": FixedSteps(16), "lstm": "loop"},
        {"steps": FixedSteps(16), "compress": dict.fromkeys(("layer_2", "lstm"), "int8")},
        {"steps": FixedSteps(16), "compress": dict.fromkeys(("layer_3", "layer_5"), "palettize_6")},
    ],
    ids=["functions", "stateful", "stateful loop", "int8", "palettes"],
)
def test_functions_states_and_compression_equal_the_genuine_graph(
    tmp_path, weights, windows, truth, fields
) -> None:
    path = built(tmp_path, weights, deployment_target="iOS18", **fields)
    for name in load(path).functions if "functions" in fields else [None]:
        model = load(path, name) if name else load(path)
        data = given(windows, 16, 9, 96)
        if "state" in fields:
            data = {key: data[key] for key in ("input_node", "input_lengths")}
            found = model.predict(data, model.make_state())
        else:
            found = model.predict(data)
        agrees(found, truth["9"], 9, 0.05 if "compress" in fields else TOLERANCE["fp16"])


@pytest.mark.parametrize(
    ("form", "precision"), [("mlprogram", "fp16"), ("mlprogram", "fp32"), ("neuralnetwork", "fp16")]
)
def test_units_that_are_all_equal_stay_finite(tmp_path, weights, windows, form, precision) -> None:
    """Their variance is 0, so only the epsilon keeps them finite, which would be 0 in fp16."""
    silent = replace(weights, layer_1_bias=np.full(96, -1e4, np.float32))
    graph = tmp_path / "output_graph.pb"
    write_frozen_graph(silent, ExportFlags(16, 96), list(LABELS), graph)
    expected = run_reference(graph, {"case": windows[:16]})["case"]
    assert np.isfinite(expected.logits).all()
    path = built(tmp_path, silent, format=form, precision=precision, steps=STEPS["range"])
    agrees(load(path).predict(given(windows, 16, 16, 96)), expected, 16, TOLERANCE[precision])
    # At the clip TensorFlow's values are rounding errors, multiplied by 1e6.
    loud = replace(weights, layer_1_bias=np.full(96, 1e4, np.float32))
    path = built(tmp_path, loud, format=form, precision=precision, steps=STEPS["range"])
    assert np.isfinite(load(path).predict(given(windows, 16, 16, 96))["logits"]).all()


def test_a_gate_that_the_native_form_cannot_freeze_is_refused(tmp_path, weights) -> None:
    gamma, beta = weights.norms["layer_3"]
    for loud in ((gamma * np.float32(3e3), beta), (gamma, beta + np.float32(3e4))):
        changed = replace(weights, norms={**weights.norms, "layer_3": loud})
        with pytest.raises(AsrbuildError, match="an LSTM gate of this network may reach") as error:
            built(tmp_path, changed, precision="fp32")
        assert error.value.fix == "use coreml.lstm=loop"
        built(tmp_path, changed, precision="fp32", lstm="loop")
