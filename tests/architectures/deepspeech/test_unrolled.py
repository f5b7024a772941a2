"""``coreml.lstm=unrolled``: the package equals the original within all gates, or is refused."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from asrbuild.architectures.deepspeech.network import random_weights
from asrbuild.base.errors import AsrbuildError
from asrbuild.coreml.choices import LstmForm
from asrbuild.proof.cases import build_cases
from asrbuild.proof.execution import execute
from asrbuild.proof.gates import gates_from
from asrbuild.proof.verdict import WordGates, prove
from asrbuild.speech.mfcc import FeatureSettings
from tests.proof import building, numpy_network


@pytest.mark.parametrize(
    "overrides",
    [
        ("n_steps=1",),
        ("n_steps=7", "coreml.precision=fp32"),
        ("n_steps=16",),
        ("n_steps=6", "coreml.state=stateful"),
    ],
    ids=str,
)
def test_the_unrolled_form_passes_all_gates(tmp_path: Path, overrides: tuple[str, ...]) -> None:
    weights = random_weights(32, seed=4)
    form = ("model=dynamic_to_static", "coreml.lstm=unrolled", "verify.require_transcript=false")
    manifest = building.build(tmp_path, weights, *form, *overrides)
    assert manifest.model.lstm == "unrolled"
    samples = {name: each[8_000:30_000] for name, each in building.recordings().items()}
    cases = build_cases(FeatureSettings(), samples, ["sample", "second", "random"])
    cases |= {f"steps_{n}": cases["sample"][:n] for n in (1, 5, 6, 7, 8, 15, 16, 17)}
    reference = {name: numpy_network.run(weights, windows) for name, windows in cases.items()}
    precision = manifest.model.compute_precision
    thresholds = asdict(building.recipe_of().verify.thresholds[precision])
    proof = prove(
        tmp_path,
        manifest,
        cases,
        reference,
        gates_from(thresholds, precision),
        None,
        WordGates(require_transcript=False),
    )
    assert proof.verification.passed, proof.failures


def test_the_unrolled_form_equals_the_native_form(tmp_path: Path) -> None:
    weights, rng = random_weights(32, seed=4), np.random.default_rng(1)
    cases = {"sample": rng.standard_normal((21, 19, 26)).astype(np.float32)}
    forms: tuple[LstmForm, ...] = ("native", "unrolled")
    outputs = {}
    for form in forms:
        recipe = ("model=static", "n_steps=8", f"coreml.lstm={form}", "coreml.precision=fp32")
        manifest = building.build(tmp_path / form, weights, *recipe)
        outputs[form] = execute(tmp_path / form, manifest, cases).outputs["sample"]
    for name, value in outputs["native"].items():
        assert np.max(np.abs(value - outputs["unrolled"][name])) < 1e-5, name


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("model=dynamic",), "requires a fixed number of steps"),
        (("model=enumerated",), "requires a fixed number of steps"),
        (("model=multifunction",), "requires a fixed number of steps"),
        (("model=static", "coreml=neuralnetwork"), "a neuralnetwork has no unrolled LSTM"),
        (("model=static", "n_steps=257"), "too many to unroll"),
        (("model=static", "coreml.compress=int8"), "is not compressed"),
        (("model=static", "coreml.frontend=tensorflow"), "as coremltools' loop"),
    ],
    ids=str,
)
def test_recipes_without_an_unrolled_form_are_refused_by_name(
    tmp_path: Path, overrides: tuple[str, ...], words: str
) -> None:
    from asrbuild.builder.rules import check_recipe
    from asrbuild.builder.sources import settle

    recipe = building.recipe_of("coreml.lstm=unrolled", *overrides)
    with pytest.raises(AsrbuildError, match=words) as refused:
        check_recipe(settle(recipe, tmp_path)[0])
    assert refused.value.fix
