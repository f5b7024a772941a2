"""Packages of the DeepSpeech network in every form, compared with TensorFlow's kernels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from asrbuild.architectures.deepspeech.network import random_weights
from asrbuild.base.errors import AsrbuildError
from asrbuild.coreml.executor import Enumerated, Fixed, Model, Ranged, load
from asrbuild.coreml.request import ConversionRequest, EnumeratedSteps, FixedSteps, RangeSteps
from tests.coreml.executor.recipes import case, reference
from tests.coreml.packages import package_of

HIDDEN, STEPS = 24, 8
WEIGHTS = random_weights(HIDDEN)
RANGE = RangeSteps(1, STEPS, 40)
LIMITS = {"fp32": (1e-6, 5e-6), "fp16": (1e-3, 6e-3)}


@pytest.fixture(scope="module")
def truth() -> dict[int, dict[str, np.ndarray]]:
    """Length -> TensorFlow's outputs for 8 windows, so many of which are real."""
    windows, c, h = case(HIDDEN, STEPS)
    return {length: reference(WEIGHTS, windows, length, c, h) for length in (1, 5, STEPS)}


def built(directory: Path, **fields) -> Path:
    return package_of(directory, WEIGHTS, ConversionRequest(**fields))


def inputs(windows: np.ndarray, length: int, c: np.ndarray, h: np.ndarray) -> dict:
    return {
        "input_node": windows,
        "input_lengths": np.array([length], np.int32),
        "previous_state_c": c,
        "previous_state_h": h,
    }


def agrees(got: dict, want: dict, length: int, precision: str) -> None:
    logits, states = LIMITS[precision]
    assert got["logits"].shape == want["logits"].shape
    rows = slice(0, length)  # rows past the end have no meaning
    np.testing.assert_allclose(got["logits"][rows], want["logits"][rows], rtol=0, atol=logits)
    for name in ("new_state_c", "new_state_h"):
        if name in got:
            np.testing.assert_allclose(got[name], want[name], rtol=0, atol=states)


STEPS_KINDS = {
    "fixed": FixedSteps(STEPS),
    "range": RANGE,
    "enumerated": EnumeratedSteps((4, STEPS, 12), STEPS),
}


#: Every value of every axis with every value of format, precision and lstm; the acceptance tests
#: build and prove all cells.
CELLS = (
    ("mlprogram", "iOS15", "fixed", "fp32", "native"),
    ("mlprogram", "iOS15", "range", "fp32", "loop"),
    ("mlprogram", "iOS15", "fixed", "fp16", "loop"),
    ("mlprogram", "iOS16", "enumerated", "fp16", "native"),
    ("mlprogram", "iOS17", "range", "fp16", "native"),
    ("mlprogram", "iOS17", "enumerated", "fp16", "loop"),
    ("mlprogram", "iOS17", "enumerated", "fp32", "native"),
    ("neuralnetwork", "iOS15", "fixed", "fp32", "loop"),
    ("neuralnetwork", "iOS15", "range", "fp32", "native"),
    ("neuralnetwork", "iOS15", "range", "fp16", "loop"),
    ("neuralnetwork", "iOS15", "enumerated", "fp16", "native"),
)


@pytest.mark.parametrize(("form", "target", "kind", "precision", "lstm"), CELLS)
def test_a_package_equals_tensorflow(tmp_path, truth, form, target, kind, precision, lstm) -> None:
    path = built(
        tmp_path,
        format=form,
        precision=precision,
        deployment_target=target,
        steps=STEPS_KINDS[kind],
        lstm=lstm,
    )
    model = load(path)
    shape = {"fixed": Fixed, "range": Ranged, "enumerated": Enumerated}[kind]
    assert isinstance(model.inputs["input_node"].shape, shape)
    windows, c, h = case(HIDDEN, STEPS)
    for length, want in truth.items():
        agrees(model.predict(inputs(windows, length, c, h)), want, length, precision)


@pytest.mark.parametrize(("precision", "lstm"), [("fp32", "loop"), ("fp16", "native")])
def test_functions_equal_tensorflow(tmp_path, truth, precision, lstm) -> None:
    path = built(
        tmp_path,
        precision=precision,
        deployment_target="iOS18",
        lstm=lstm,
        functions={"chunk_8": FixedSteps(STEPS), "whole": RANGE},
    )
    first = load(path)
    assert set(first.functions) == {"chunk_8", "whole"}
    windows, c, h = case(HIDDEN, STEPS)
    for name in first.functions:
        got = load(path, name).predict(inputs(windows, 5, c, h))
        agrees(got, truth[5], 5, precision)
    with pytest.raises(AsrbuildError, match="no function whol in the package"):
        load(path, "whol")


@pytest.mark.parametrize("lstm", ["native", "loop"])
def test_a_stateful_package_equals_explicit_states(tmp_path, lstm) -> None:
    """One stream through a stateful package and through one with explicit states."""
    request = {"deployment_target": "iOS18", "lstm": lstm, "steps": FixedSteps(STEPS)}
    (tmp_path / "inside").mkdir()
    stateful = load(built(tmp_path / "inside", state="stateful", **request))
    explicit = load(built(tmp_path, **request))
    windows, _, _ = case(HIDDEN, 3 * STEPS)
    streams = [stateful.make_state() for _ in range(2)]
    c = h = np.zeros((1, HIDDEN), np.float32)
    for start in range(0, 3 * STEPS, STEPS):
        part = windows[:, start : start + STEPS]
        want = explicit.predict(inputs(part, STEPS, c, h))
        c, h = want["new_state_c"], want["new_state_h"]
        given = {"input_node": part, "input_lengths": np.array([STEPS], np.int32)}
        got = stateful.predict(given, streams[0])
        np.testing.assert_array_equal(got["logits"], want["logits"])
        np.testing.assert_array_equal(streams[0].read("state_c"), c)
    assert not streams[1].read("state_c").any()  # streams do not share their state
    with pytest.raises(AsrbuildError, match="needs this package's state"):
        stateful.predict(given)
    with pytest.raises(AsrbuildError, match="keeps no state inside"):
        explicit.predict(inputs(part, STEPS, c, h), streams[0])


@pytest.mark.parametrize(("precision", "lstm"), [("fp32", "native"), ("fp16", "loop")])
def test_chunks_equal_one_shot(tmp_path, precision, lstm) -> None:
    model = load(built(tmp_path, precision=precision, steps=RANGE, lstm=lstm))
    windows, c, h = case(HIDDEN, 23)
    whole = model.predict(inputs(windows, 23, c, h))
    rows = []
    for start in range(0, 23, STEPS):
        part = windows[:, start : start + STEPS]
        got = model.predict(inputs(part, part.shape[1], c, h))
        rows.append(got["logits"])
        c, h = got["new_state_c"], got["new_state_h"]
    tolerance = 1e-6 if precision == "fp32" else 2e-4
    np.testing.assert_allclose(np.concatenate(rows), whole["logits"], atol=tolerance)
    np.testing.assert_allclose(c, whole["new_state_c"], atol=20 * tolerance)


def predictable(tmp_path: Path, **fields) -> Model:
    return load(built(tmp_path, precision="fp32", **fields))


def test_inputs_are_checked(tmp_path) -> None:
    model = predictable(tmp_path, steps=RangeSteps(2, STEPS, 10))
    windows, c, h = case(HIDDEN, STEPS)
    good = inputs(windows, STEPS, c, h)
    wrong = {
        r"no such input: input_nod": {**good, "input_nod": windows},
        r"missing input: previous_state_h": {k: v for k, v in good.items() if not k.endswith("h")},
        r"shape \(1, 1, 19, 26\), the package takes \(1, 2..10, 19, 26\)": {
            **good,
            "input_node": windows[:, :1],
        },
        r"shape \(1, 11, 19, 26\)": {**good, "input_node": np.zeros((1, 11, 19, 26), np.float32)},
        r"shape \(8, 19, 26\)": {**good, "input_node": windows[0]},
        r"input_lengths is float32, the package takes int32": {
            **good,
            "input_lengths": np.array([8.0], np.float32),
        },
        r"input_lengths is int64": {**good, "input_lengths": np.array([2**40])},
        r"input_node is complex128": {**good, "input_node": windows.astype(complex)},
        r"inputs must be a dict": [windows],
        r"inputs must be a dict of arrays by name, got str": "input_node",
        r"input_node is not an array": {**good, "input_node": [[1.0], [1.0, 2.0]]},
        r"input_node is <U4": {**good, "input_node": np.full(windows.shape, "loud")},
        r"input_node is bool": {**good, "input_node": windows > 0},
    }
    for message, given in wrong.items():
        with pytest.raises(AsrbuildError, match=message) as caught:
            model.predict(given)
        assert caught.value.fix


@pytest.mark.parametrize(
    "taken",
    [
        {"input_node": np.float64},
        {"input_node": np.float16},
        {"input_node": np.ndarray.tolist},
        {"input_lengths": np.int64},
        {"input_lengths": np.uint8},
        {"input_lengths": list},
        {"previous_state_c": np.ndarray.tolist, "input_node": np.asfortranarray},
    ],
)
def test_numbers_of_other_types_are_taken_as_coremltools_takes_them(tmp_path, taken) -> None:
    model = predictable(tmp_path, steps=FixedSteps(STEPS))
    windows, c, h = case(HIDDEN, STEPS)
    windows = windows.astype(np.float16).astype(np.float32)
    good = inputs(windows, STEPS, c, h)
    given = dict(good)
    for name, change in taken.items():
        numpy_type = isinstance(change, type) and issubclass(change, np.generic)
        given[name] = given[name].astype(change) if numpy_type else change(given[name])
    for name, value in model.predict(given).items():
        np.testing.assert_array_equal(value, model.predict(good)[name])


def test_a_list_of_inputs_gives_a_list_of_results(tmp_path) -> None:
    (tmp_path / "inside").mkdir()
    model = predictable(tmp_path, steps=RangeSteps(1, STEPS, 40))
    several = [inputs(case(HIDDEN, n)[0], n, *case(HIDDEN, n)[1:]) for n in (STEPS, 3, STEPS)]
    results = model.predict(several)
    assert [len(result["logits"]) for result in results] == [STEPS, 3, STEPS]
    for one, result in zip(several, results, strict=True):
        for name, value in model.predict(one).items():
            np.testing.assert_array_equal(result[name], value)
    assert model.predict([]) == []
    stateful = load(
        built(
            tmp_path / "inside",
            state="stateful",
            deployment_target="iOS18",
            steps=FixedSteps(STEPS),
        )
    )
    with pytest.raises(AsrbuildError, match="one call at a time"):
        stateful.predict([{}], stateful.make_state())


def test_enumerated_shapes_are_enforced(tmp_path) -> None:
    model = predictable(tmp_path, steps=EnumeratedSteps((4, STEPS), STEPS))
    windows, c, h = case(HIDDEN, 6)
    with pytest.raises(AsrbuildError, match=r"takes one of .*\(1, 4, 19, 26\)"):
        model.predict(inputs(windows, 6, c, h))


def test_outputs_belong_to_the_caller(tmp_path) -> None:
    model = predictable(tmp_path, steps=FixedSteps(STEPS))
    windows, c, h = case(HIDDEN, STEPS)
    given = inputs(windows, STEPS, c, h)
    kept = {name: np.array(value) for name, value in given.items()}
    first = model.predict(given)
    expected = {name: value.copy() for name, value in first.items()}
    for value in first.values():
        assert value.flags.writeable
        value[...] = 7
    again = model.predict(given)
    for name in expected:
        np.testing.assert_array_equal(again[name], expected[name])
    for name in given:
        np.testing.assert_array_equal(given[name], kept[name])
