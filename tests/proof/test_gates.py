"""The metrics, compared with other formulas, and values that every gate refuses."""

from __future__ import annotations

import math
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays

from asrbuild.base.errors import AsrbuildError
from asrbuild.proof import gates as parity
from asrbuild.proof.gates import ARGMAX_TIE, Gates, compare, gates_from, gates_of, used, worst
from tests.proof import building

FP16 = Gates(0.999, 1e-3, 2e-2, 60.0, 0.1, 45.0, ARGMAX_TIE["fp16"])
FP32 = Gates(1.0, 1e-6, 1e-4, 100.0, 1e-4, 100.0, ARGMAX_TIE["fp32"])
finite = st.floats(-1e3, 1e3, width=32)
pairs = st.tuples(st.integers(1, 6), st.integers(2, 5)).flatmap(
    lambda shape: st.tuples(*[arrays(np.float32, shape, elements=finite)] * 2)
)


def softmax(logits: np.ndarray) -> np.ndarray:
    exponents = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return (exponents / exponents.sum(axis=-1, keepdims=True)).astype(np.float32)


def probabilities(steps: int = 40, classes: int = 29, seed: int = 0, sharp: float = 4.0):
    rng = np.random.default_rng(seed)
    return softmax(sharp * rng.standard_normal((steps, classes)))


def failed(metrics) -> set[str]:
    return {metric.name for metric in metrics if not metric.passed}


@given(pairs)
def test_max_abs_error_is_the_largest_difference(pair):
    left, right = pair
    expected = max(abs(float(a) - float(b)) for a, b in zip(left.flat, right.flat, strict=True))
    assert parity.max_abs_error(left, right) == expected


@given(pairs)
def test_psnr_is_the_peak_over_the_rms_error(pair):
    left, right = pair
    squares = [(float(a) - float(b)) ** 2 for a, b in zip(left.flat, right.flat, strict=True)]
    rms = math.sqrt(math.fsum(squares) / len(squares))
    peak = max(abs(float(a)) for a in left.flat)
    if rms == 0.0:
        assert parity.psnr_db(left, right) == 200.0
    elif peak == 0.0:
        assert parity.psnr_db(left, right) == -200.0
    else:
        expected = min(200.0, max(-200.0, 20.0 * math.log10(peak / rms)))
        assert parity.psnr_db(left, right) == pytest.approx(expected, abs=1e-6)


@given(pairs)
def test_kl_is_the_worst_rows_sum_and_never_negative(pair):
    left, right = (softmax(array / 100.0) for array in pair)
    rows = []
    for p_row, q_row in zip(left, right, strict=True):
        p = [max(float(x), parity.PROBABILITY_FLOOR) for x in p_row]
        q = [max(float(x), parity.PROBABILITY_FLOOR) for x in q_row]
        terms = zip(p, q, strict=True)
        rows.append(math.fsum(a / sum(p) * math.log(a / sum(p) * sum(q) / b) for a, b in terms))
    value = parity.kl_divergence(left, right)
    assert value == pytest.approx(max(rows), abs=1e-9)
    assert value >= -1e-12


@given(pairs, st.sampled_from([0.0, 2.0**-8]))
def test_agreement_counts_rows_whose_choice_equals_the_best(pair, tie):
    left, right = (softmax(array / 100.0) for array in pair)
    good = 0
    for expected, found in zip(left.tolist(), right.tolist(), strict=True):
        good += expected[found.index(max(found))] >= max(expected) * (1.0 - tie)
    assert parity.argmax_agreement(left, right, tie) == pytest.approx(good / len(left))


def test_only_ties_may_differ():
    reference = np.array([[0.5000, 0.4995, 0.0005]], np.float32)
    other = np.array([[0.4995, 0.5000, 0.0005]], np.float32)
    assert parity.argmax_agreement(reference, other, ARGMAX_TIE["fp16"]) == 1.0
    assert parity.argmax_agreement(reference, other, ARGMAX_TIE["fp32"]) == 0.0
    clear = np.array([[0.51, 0.489, 0.001]], np.float32)
    assert parity.argmax_agreement(clear, other, ARGMAX_TIE["fp16"]) == 0.0


@pytest.mark.parametrize("gates", [FP16, FP32])
def test_identical_outputs_pass_every_gate(gates):
    outputs = {"logits": probabilities(), "new_state_c": np.ones((1, 8), np.float32)}
    metrics = compare("sample", outputs, outputs, gates, "logits")
    assert [metric.name for metric in metrics] == [
        "argmax_agreement",
        "kl_divergence",
        "max_abs_error",
        "psnr_db",
        "max_abs_error",
        "psnr_db",
    ]
    assert not failed(metrics)


@pytest.mark.parametrize("sharp", [0.5, 1.0, 4.0, 8.0])
def test_a_uniform_predictor_fails_every_gate_on_probabilities(sharp):
    reference = {"logits": probabilities(sharp=sharp)}
    uniform = {"logits": np.full((40, 29), 1 / 29, np.float32)}
    assert failed(compare("sample", reference, uniform, FP16, "logits")) == {
        "argmax_agreement",
        "kl_divergence",
        "max_abs_error",
        "psnr_db",
    }


def test_a_uniform_predictor_fails_where_closeness_alone_would_pass():
    """With nearly even probabilities the largest error is small, but the gates still refuse."""
    rng = np.random.default_rng(1)
    reference = {"logits": softmax(0.1 * rng.standard_normal((40, 29)))}
    uniform = {"logits": np.full((40, 29), 1 / 29, np.float32)}
    names = failed(compare("random", reference, uniform, FP16, "logits"))
    assert "max_abs_error" not in names
    assert {"argmax_agreement", "kl_divergence", "psnr_db"} <= names


@settings(max_examples=30)
@given(
    st.sampled_from([np.nan, np.inf, -np.inf]),
    st.integers(0, 39),
    st.integers(0, 28),
    st.sampled_from(["package", "reference"]),
)
def test_one_value_that_is_not_finite_fails_every_gate(value, row, column, where):
    good = probabilities()
    bad = good.copy()
    bad[row, column] = value
    pair = (good, bad) if where == "package" else (bad, good)
    metrics = compare("sample", {"logits": pair[0]}, {"logits": pair[1]}, FP16, "logits")
    assert not any(metric.passed for metric in metrics)
    assert all(math.isfinite(metric.value) for metric in metrics)


@pytest.mark.parametrize(
    "package", [{}, {"logits": probabilities(39)}, {"logits": probabilities(classes=28)}]
)
def test_a_missing_or_misshapen_output_fails_every_gate(package):
    metrics = compare("sample", {"logits": probabilities()}, package, FP16, "logits")
    assert len(metrics) == 4
    assert not any(metric.passed for metric in metrics)


def test_one_wrong_step_in_a_long_recording_is_refused():
    reference = probabilities(2000)
    package = reference.copy()
    package[1234] = np.roll(package[1234], 1)
    names = failed(compare("sample", {"logits": reference}, {"logits": package}, FP16, "logits"))
    assert {"kl_divergence", "max_abs_error"} <= names


@pytest.mark.parametrize(
    ("peak", "error", "passes"),
    [(0.5, 0.09, True), (0.5, 0.11, False), (100.0, 9.0, True), (100.0, 11.0, False)],
)
def test_a_states_error_is_relative_to_its_size_above_one(peak, error, passes):
    reference = np.full((1, 4), peak, np.float32)
    package = reference + np.float32([[error, 0, 0, 0]])
    (metric, _) = compare("x", {"new_state_c": reference}, {"new_state_c": package}, FP16, "logits")
    assert metric.threshold == pytest.approx(0.1 * max(1.0, peak))
    assert metric.passed is passes


def test_the_worst_metric_is_the_one_that_used_most_of_its_gate():
    reference = {"logits": probabilities()}
    noisy = reference["logits"].copy()
    noisy[7, 3] += np.float32(0.019)  # of 0.02 allowed; it uses less of the other gates
    metrics = compare("sample", reference, {"logits": noisy}, FP16, "logits")
    shares = {metric.name: used(metric) for metric in metrics}
    assert shares["argmax_agreement"] == 0.0
    assert shares["max_abs_error"] == pytest.approx(0.95, abs=1e-3)
    for metric in metrics:
        assert (used(metric) <= 1.0) is metric.passed, metric
    wrong = {"logits": np.full((40, 29), 1 / 29, np.float32)}
    refused = worst(compare("sample", reference, wrong, FP16, "logits"))
    assert refused is not None
    assert refused.name == "kl_divergence"  # nats, multiplied by 1000
    assert worst([]) is None


THRESHOLDS = {
    "argmax_agreement": 0.999,
    "kl_divergence": 1e-3,
    "max_abs_error": 2e-2,
    "psnr_db": 60.0,
    "state_max_abs_error": 0.1,
    "state_psnr_db": 45.0,
}


@pytest.mark.parametrize(("precision", "gates"), [("fp16", FP16), ("fp32", FP32)])
def test_gates_come_from_the_recipe(precision, gates):
    assert gates_from(THRESHOLDS, "fp16") == FP16
    packaged = asdict(building.recipe_of().verify.thresholds[precision])
    assert gates_from(packaged, precision) == gates


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"psnr": 60.0}, "unknown threshold 'psnr'"),
        ({"psnr_db": None}, "psnr_db is None, not a number"),
        ({"argmax_agreement": True}, "argmax_agreement is True, not a number"),
        ({"argmax_agreement": 0.5}, "argmax_agreement is 0.5, outside 0.9 to 1.0"),
        ({"kl_divergence": 3.0}, "kl_divergence is 3.0, outside 0.0 to 0.1"),
        ({"max_abs_error": float("nan")}, "max_abs_error is nan, outside 0.0 to 0.1"),
        ({"psnr_db": -1.0}, "psnr_db is -1.0, outside 30.0 to 200.0"),
    ],
)
def test_a_gate_that_would_pass_anything_is_refused(change, message):
    with pytest.raises(AsrbuildError, match="^" + message) as caught:
        gates_from({**THRESHOLDS, **change}, "fp16")
    assert caught.value.key == f"verify.thresholds.fp16.{next(iter(change))}"


def test_a_missing_threshold_is_named():
    with pytest.raises(AsrbuildError, match=r"^missing threshold 'psnr_db'"):
        gates_from({k: v for k, v in THRESHOLDS.items() if k != "psnr_db"}, "fp16")


def test_the_loosest_gate_of_those_in_use_counts():
    coarse = THRESHOLDS | {"argmax_agreement": 0.97, "kl_divergence": 0.3, "psnr_db": 36.0}
    coarse |= {"max_abs_error": 0.4, "state_psnr_db": 50.0}
    found = gates_of({"fp16": THRESHOLDS, "int8": coarse}, "fp16", ("fp16", "int8"))
    assert found == Gates(
        argmax_agreement=0.97,
        kl_divergence=0.3,
        max_abs_error=0.4,
        psnr_db=36.0,
        state_max_abs_error=0.1,
        state_psnr_db=45.0,
        argmax_tie=ARGMAX_TIE["fp16"],
    )
    assert gates_of({"fp16": THRESHOLDS, "int8": coarse}, "fp16", ("fp16",)) == FP16


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kl_divergence": 1.01}, "kl_divergence is 1.01, outside 0.0 to 1.0"),
        ({"max_abs_error": 0.61}, "max_abs_error is 0.61, outside 0.0 to 0.6"),
        ({"argmax_agreement": 0.89}, "argmax_agreement is 0.89, outside 0.9 to 1.0"),
    ],
)
def test_gates_of_compressed_weights_have_bounds_too(change, message):
    with pytest.raises(AsrbuildError, match="^" + message) as caught:
        gates_of({"prune": THRESHOLDS | change}, "fp16", ("prune",))
    assert caught.value.key == f"verify.thresholds.prune.{next(iter(change))}"


def test_a_uniform_output_fails_the_gates_of_every_compression():
    thresholds = asdict(building.recipe_of().verify)["thresholds"]
    reference = {"logits": probabilities()}
    uniform = {"logits": np.full((40, 29), 1 / 29, np.float32)}
    for name in thresholds.keys() - {"fp16", "fp32"}:
        gates = gates_of(thresholds, "fp16", ("fp16", name))
        assert not any(
            metric.passed for metric in compare("x", reference, uniform, gates, "logits")
        )
