"""The LSTM state that a package returns is the state after exactly ``input_lengths`` steps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from asrbuild.architectures.deepspeech.from_weights import convert_weights
from asrbuild.architectures.deepspeech.network import random_weights
from asrbuild.base.errors import AsrbuildError
from asrbuild.coreml import executor
from asrbuild.coreml.inspect import inspect_model
from asrbuild.coreml.request import ConversionRequest, FixedSteps, RangeSteps
from asrbuild.coreml.speedups.importing import import_coremltools
from tests.coreml.dataflow import op_counts, read_spec
from tests.coreml.packages import package_for_each
from tests.proof import numpy_network

HIDDEN = 24
CHUNK = 7
WEIGHTS = random_weights(HIDDEN, seed=5)
ZERO = np.zeros((1, HIDDEN), np.float32)
STATES = (("previous_state_c", "new_state_c"), ("previous_state_h", "new_state_h"))
TOLERANCE = {"fp32": 5e-6, "fp16": 1e-2}

EXPLICIT = [
    ConversionRequest(
        format=form, precision=precision, deployment_target=target, lstm=lstm, steps=FixedSteps(7)
    )
    for form, precision, target, lstm in (
        ("mlprogram", "fp32", "iOS15", "native"),
        ("mlprogram", "fp16", "iOS15", "native"),
        ("mlprogram", "fp16", "iOS16", "native"),
        ("mlprogram", "fp16", "iOS17", "native"),
        ("mlprogram", "fp16", "iOS17", "loop"),
        ("neuralnetwork", "fp32", "iOS17", "native"),
        ("neuralnetwork", "fp16", "iOS17", "native"),
    )
]
STATEFUL = [
    ConversionRequest(deployment_target="iOS18", state="stateful", lstm=lstm, steps=FixedSteps(7))
    for lstm in ("native", "loop")
]


def label(request: ConversionRequest) -> str:
    return "-".join((request.format, request.precision, request.deployment_target, request.lstm))


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory):
    return package_for_each(tmp_path_factory.mktemp("packages"), WEIGHTS)


def features(steps: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((steps, 19, 26)).astype(np.float32)


def padded(steps: np.ndarray, filler: float = 0.0) -> np.ndarray:
    whole = np.full((1, CHUNK, 19, 26), filler, np.float32)
    whole[0, : len(steps)] = steps
    return whole


def in_pieces(model, whole: np.ndarray, cuts: list[int], stateful: bool):
    """Feeds ``cuts`` steps a call, each padded to the chunk, and keeps only the real rows."""
    rows, state, at = [], model.make_state() if stateful else None, 0
    carried = {} if stateful else {name: ZERO for name, _ in STATES}
    for length in cuts:
        given_ = {"input_node": padded(whole[at : at + length], filler=3.0)}
        given_["input_lengths"] = np.array([length], np.int32)
        found = model.predict(given_ | carried, state)
        rows.append(found["logits"][:length])
        if not stateful:
            carried = {name: found[output] for name, output in STATES}
        at += length
    return np.concatenate(rows), carried


@settings(max_examples=15)
@given(cuts=st.lists(st.integers(0, CHUNK), min_size=1, max_size=8))
@pytest.mark.parametrize("request_", EXPLICIT + STATEFUL, ids=label)
def test_any_cut_gives_the_outputs_of_one_shot(build, request_, cuts: list[int]) -> None:
    # Calls without a real step, and short calls in the middle, neither lose nor add steps.
    total = sum(cuts)
    if not total:
        return
    whole = features(total)
    expected = numpy_network.run(WEIGHTS, whole)
    stateful = request_.state == "stateful"
    rows, carried = in_pieces(executor.load(build(request_)), whole, cuts, stateful)
    tolerance = TOLERANCE[request_.precision]
    np.testing.assert_allclose(rows[:, 0], expected["logits"], atol=tolerance, rtol=0)
    for name, output in STATES if not stateful else ():
        np.testing.assert_allclose(carried[name], expected[output], atol=2 * tolerance, rtol=0)


@pytest.mark.parametrize("request_", EXPLICIT, ids=label)
@pytest.mark.parametrize("length", [0, 1, 4, 6])
def test_values_past_the_end_do_not_change_a_bit(build, request_, length: int) -> None:
    model = executor.load(build(request_))
    start = np.random.default_rng(1).standard_normal((2, 1, HIDDEN)).astype(np.float32)
    found = [
        model.predict(
            {
                "input_node": padded(features(length), filler),
                "input_lengths": np.array([length], np.int32),
                "previous_state_c": start[0],
                "previous_state_h": start[1],
            }
        )
        for filler in (0.0, 50.0, -50.0)
    ]
    for output in ("logits", "new_state_c", "new_state_h"):
        for other in found[1:]:
            np.testing.assert_array_equal(found[0][output], other[output])
    if length == 0:
        half = request_.precision == "fp16" and request_.format == "mlprogram"
        for (name, output), given_ in zip(STATES, start, strict=True):
            # The cell of an lstm that computes in fp32 is never rounded to fp16.
            exact = found[0][output] == given_
            rounded = found[0][output] == given_.astype(np.float16).astype(np.float32)
            assert np.all(exact | rounded) if half else np.all(exact), name


@pytest.mark.parametrize("form", ["mlprogram", "neuralnetwork"])
def test_native_is_one_lstm_and_no_loop(build, form: str) -> None:
    request = ConversionRequest(format=form, steps=RangeSteps(1, 16, 50))
    native = op_counts(build(request))
    loop = op_counts(build(replace(request, lstm="loop")))
    one = "lstm" if form == "mlprogram" else "uniDirectionalLSTM"
    assert native[one] == 1
    assert not {"while_loop", "loop", "scatter"} & native.keys()
    assert {"while_loop", "loop"} & loop.keys()
    assert sum(native.values()) < 0.7 * sum(loop.values())


def test_a_network_whose_gates_could_outrun_the_freeze_is_refused(tmp_path: Path) -> None:
    kernel = WEIGHTS.lstm_kernel * np.float32(2000)
    wild = replace(WEIGHTS, lstm_kernel=kernel)
    with pytest.raises(AsrbuildError, match="could not hold its state") as caught:
        convert_weights(wild, ConversionRequest(precision="fp32"), tmp_path / "m.mlpackage")
    assert caught.value.key == "coreml.lstm"
    convert_weights(
        wild, ConversionRequest(precision="fp32", lstm="loop"), tmp_path / "m.mlpackage"
    )


def test_functions_share_their_weights_and_agree(build) -> None:
    functions = {
        "chunk_7": FixedSteps(7),
        "chunk_14": FixedSteps(14),
        "whole": RangeSteps(1, 16, 100),
    }
    request = ConversionRequest(deployment_target="iOS18", functions=functions)
    path, single = build(request), build(replace(request, functions={}, steps=FixedSteps(7)))
    summary = inspect_model(path)
    assert [function.name for function in summary.functions] == list(functions)
    assert summary.default_function == "chunk_7"
    assert read_spec(path).specificationVersion == 9
    half = inspect_model(single).weight_bytes["float16"]
    assert summary.weight_bytes["float16"] == half
    # The rest is alignment and a few indices of each function, not a second copy.
    weights = "Data/com.apple.CoreML/weights/weight.bin"
    assert (path / weights).stat().st_size < (single / weights).stat().st_size + 4096

    whole = features(28)
    inputs = {"input_lengths": np.array([28], np.int32)} | {name: ZERO for name, _ in STATES}
    expected = executor.load(path, "whole").predict({"input_node": whole[None]} | inputs)
    for name, steps in (("chunk_7", 7), ("chunk_14", 14)):
        model = executor.load(path, name)
        carried, rows = {state: ZERO for state, _ in STATES}, []
        for at in range(0, 28, steps):
            found = model.predict(
                {
                    "input_node": whole[None, at : at + steps],
                    "input_lengths": np.array([steps], np.int32),
                }
                | carried
            )
            rows.append(found["logits"])
            carried = {state: found[output] for state, output in STATES}
        np.testing.assert_allclose(np.concatenate(rows), expected["logits"], atol=2e-3, rtol=0)


def test_a_stateful_package_has_no_state_inputs_or_outputs(build) -> None:
    (function,) = inspect_model(build(STATEFUL[0])).functions
    assert [item.name for item in function.inputs] == ["input_node", "input_lengths"]
    assert [item.name for item in function.outputs] == ["logits"]
    assert [(item.name, item.dtype, item.default) for item in function.states] == [
        ("state_c", "float16", (1, HIDDEN)),
        ("state_h", "float16", (1, HIDDEN)),
    ]


def test_the_native_form_can_be_materialized_at_fixed_shapes(build, tmp_path: Path) -> None:
    # coremltools' tool for that refuses a while_loop over a flexible axis.
    coremltools = import_coremltools()
    flexible = build(ConversionRequest(steps=RangeSteps(1, 16, 50)))
    model = coremltools.models.MLModel(str(flexible), skip_model_load=True)
    fixed = tmp_path / "fixed.mlpackage"
    shapes = {"chunk_7": {"input_node": (1, CHUNK, 19, 26)}}
    coremltools.utils.materialize_dynamic_shape_mlmodel(model, shapes, str(fixed))
    assert not {"shape", "range_1d"} & op_counts(fixed, "chunk_7").keys()
    inputs = {"input_node": padded(features(4)), "input_lengths": np.array([4], np.int32)}
    inputs |= {name: ZERO for name, _ in STATES}
    found = executor.load(fixed, "chunk_7").predict(inputs)
    for output, expected in executor.load(flexible).predict(inputs).items():
        np.testing.assert_array_equal(found[output], expected)
