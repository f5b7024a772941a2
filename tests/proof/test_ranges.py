"""The ranges of float16 values and sums: bounds, exact sums, and warnings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st

from asrbuild.architectures.deepspeech.network import AcousticWeights, random_weights
from asrbuild.coreml.executor.recording import Site
from asrbuild.handover.fit.page import remarks, report_rows
from asrbuild.handover.fit.verdict import fit_of_artifact
from asrbuild.proof.execution import execute
from asrbuild.proof.ranges import (
    LIMIT,
    Ranges,
    Reach,
    load_reaches,
    magnitude,
    reaching,
    save_reaches,
)
from tests.proof import building

HALF = np.dtype(np.float16)


@given(st.lists(st.floats(width=16), min_size=1, max_size=20))
def test_a_magnitude_is_the_largest_absolute_value(values: list[float]) -> None:
    array = np.array(values, np.float16)
    wanted = np.max(np.abs(array.astype(np.float64)))
    assert magnitude(array) == (np.inf if np.isnan(wanted) else wanted)


@given(st.integers(0, 2**32 - 1), st.sampled_from([1.0, 30.0, 1000.0]), st.integers(1, 6))
def test_a_recorded_sum_is_an_upper_bound(seed: int, scale: float, rows: int) -> None:
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal((rows, 7)) * scale).astype(np.float16)
    weight = rng.standard_normal((5, 7)).astype(np.float32) * scale
    bias = rng.standard_normal(5).astype(np.float32)
    names = ("x", "weight", "bias")
    ranges = Ranges()
    seen = ranges(Site("node", "linear", names, (HALF,) * 3, (False, True, True)))
    assert seen is not None
    seen((x, weight, bias), np.zeros((rows, 5), np.float16))
    (reach,) = ranges.reaches()
    terms = np.abs(x.astype(np.float64)) @ np.abs(weight.astype(np.float64)).T + np.abs(bias)
    exact = float(terms.max())
    assert reach.total >= exact * (1 - 1e-5)
    # Only a sum that reaches the limit gives a warning, and then the exact sum is recorded.
    assert (reach.total >= LIMIT) == (exact >= LIMIT) or exact == pytest.approx(LIMIT, rel=1e-4)
    if exact >= LIMIT * 1.001:
        assert reach.total == pytest.approx(exact, rel=1e-4)


def ran(folder: Path, weights: AcousticWeights, *overrides: str):
    manifest = building.build(folder, weights, *overrides)
    rng = np.random.default_rng(0)
    cases = {"sample": rng.standard_normal((9, 19, 26)).astype(np.float32) * 20}
    return manifest, execute(folder, manifest, cases, 12)


def test_the_largest_values_of_a_package_are_found_with_their_nodes(tmp_path: Path) -> None:
    weights = random_weights(16, seed=0)
    manifest, small = ran(tmp_path / "small", weights, "model=static", "n_steps=4")
    assert reaching(small.reaches) == ()
    by_node = {reach.node: reach for reach in small.reaches}
    # Past the end an input column has 16,384, and the sum stays below twice that.
    assert by_node["past_end"].value == 16384
    assert 16384 < by_node["lstm"].total < LIMIT
    assert by_node["layer_1_BiasAdd"].value > 0
    fit = fit_of_artifact(tmp_path / "small", manifest, small.reaches)
    assert "R11" not in fit.ids("contested")
    assert tuple(row[0] for row in report_rows(fit, small.reaches)[-1:]) == ("fp16 values",)

    large = replace(weights, layer_1_weights=weights.layer_1_weights * 500)
    manifest, found = ran(tmp_path / "large", large, "model=static", "n_steps=4")
    nodes = {reach.node for reach in reaching(found.reaches)}
    assert nodes == {"layer_1_BiasAdd"}
    fit = fit_of_artifact(tmp_path / "large", manifest, found.reaches)
    assert "R11" in fit.ids("contested")
    assert remarks(fit)[-1].startswith("layer_1_BiasAdd reaches")
    assert any("layer_1_BiasAdd" in text and "R11" in text for _, text in report_rows(fit))


def test_a_package_of_fp32_has_no_float16_values(tmp_path: Path) -> None:
    for overrides in (("coreml.precision=fp32",), ("coreml=neuralnetwork",)):
        _, found = ran(
            tmp_path / overrides[0], random_weights(8, seed=0), "model=static", *overrides
        )
        assert found.reaches == ()


def test_reaches_are_saved_and_loaded(tmp_path: Path) -> None:
    reaches = (Reach("a", "linear", 1.5, float("inf")), Reach("b", "mul", 2.0, 0.0))
    save_reaches(tmp_path, reaches)
    assert load_reaches(tmp_path) == reaches
