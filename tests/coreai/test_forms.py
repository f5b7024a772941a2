"""The demo's network in every form: Apple's runtime compared with asrbuild's executor."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asrbuild.architectures.deepspeech.checkpoint import find_checkpoint, read_weights
from asrbuild.architectures.deepspeech.from_weights import convert_weights
from asrbuild.architectures.deepspeech.network import VARIABLES, AcousticWeights
from asrbuild.coreai import asset
from asrbuild.coreml.executor import load
from asrbuild.coreml.executor.signature import Enumerated, Fixed
from asrbuild.coreml.request import ConversionRequest
from tests.coreai.conftest import FORMS, given
from tests.marks import needs_core_ai
from tests.paths import DEMO

pytestmark = needs_core_ai
Form = Callable[[str], Path]
Values = Mapping[str, np.ndarray]


def sizes_of(model: Any) -> list[int]:
    shape = model.inputs["input_node"].shape
    if isinstance(shape, Fixed):
        return [shape.shape[1]]
    return [one[1] for one in shape.shapes] if isinstance(shape, Enumerated) else [1, 16, 45]


def run(model: Any, steps: int, real: int) -> dict[str, np.ndarray]:
    """Outputs of two calls with carried states, then the states."""
    first = given(model, steps, real)
    if model.states:
        state = model.make_state()
        one = model.predict(first, state)
        two = model.predict(given(model, steps, real, seed=1), state)
        kept = {name: state.read(name) for name in model.states}
        return {f"1 {k}": v for k, v in one.items()} | {f"2 {k}": v for k, v in two.items()} | kept
    one = model.predict(first)
    second = given(model, steps, real, seed=1)
    second |= {f"previous_state_{k}": one[f"new_state_{k}"] for k in "ch"}
    return {f"1 {k}": v for k, v in one.items()} | {
        f"2 {k}": v for k, v in model.predict(second).items()
    }


def agree(apples: Any, ours: Any) -> None:
    """Asserts agreement within 1e-5 of the values, for all sizes, with and without padding."""
    for steps in sizes_of(apples):
        for real in {steps, max(0, steps - 3)}:
            got, wanted = run(apples, steps, real), run(ours, steps, real)
            assert got.keys() == wanted.keys()
            for name, value in wanted.items():
                scale = max(1.0, float(np.abs(value).max()))
                np.testing.assert_allclose(
                    got[name].astype(np.float64),
                    value.astype(np.float64),
                    rtol=0,
                    atol=1e-5 * scale,
                    err_msg=f"{name}, {real} of {steps} steps",
                )


@pytest.mark.parametrize("name", [n for n, o in FORMS.items() if o["precision"] == "fp32"])
def test_a_form_in_single_precision_agrees(form: Form, name: str) -> None:
    package = form(name)
    with asset.open_witness(package) as apples:
        for function in apples.functions:
            agree(asset.CoreAIModel(apples.path, function), load(package, function))


def rounded() -> AcousticWeights:
    """The demo's weights rounded to half precision."""
    weights = read_weights(find_checkpoint(DEMO / "checkpoint"))
    arrays = {name: getattr(weights, name) for name in VARIABLES}
    return replace(
        weights,
        **{name: array.astype(np.float16).astype(np.float32) for name, array in arrays.items()},
    )


@pytest.mark.parametrize("name", ["half", "half_range", "half_loop"])
def test_half_precision_is_witnessed_with_its_own_constants(
    form: Form, name: str, tmp_path: Path
) -> None:
    """Widened, it is the network in single precision with weights rounded to half."""
    options = FORMS[name] | {"precision": "fp32"}
    convert_weights(rounded(), ConversionRequest(**options), tmp_path / "wide.mlpackage")
    with asset.open_witness(form(name)) as apples:
        agree(apples, load(tmp_path / "wide.mlpackage"))


@pytest.mark.parametrize("name", ["half_stateful", "half_stateful_range"])
def test_states_are_kept_between_calls(form: Form, name: str, tmp_path: Path) -> None:
    """The same network with explicit states gives the same outputs in every call."""
    explicit = "half" if name == "half_stateful" else "half_range"
    with asset.open_witness(form(name)) as kept, asset.open_witness(form(explicit)) as passed:
        for steps in sizes_of(kept)[:2]:
            state = kept.make_state()
            carried = {f"previous_state_{k}": np.zeros((1, 256), np.float32) for k in "ch"}
            for seed in range(3):
                one = kept.predict(given(kept, steps, steps, seed), state)
                two = passed.predict(given(passed, steps, steps, seed) | carried)
                np.testing.assert_array_equal(one["logits"], two["logits"])
                carried = {f"previous_state_{k}": two[f"new_state_{k}"] for k in "ch"}
            for k in "ch":
                np.testing.assert_array_equal(state.read(f"state_{k}"), two[f"new_state_{k}"])


@pytest.mark.parametrize("name", [n for n, o in FORMS.items() if "compress" in o])
def test_compressed_weights_are_bit_equal_to_their_decompressed_twin(form: Form, name: str) -> None:
    with (
        asset.open_witness(form(name)) as stored,
        asset.open_witness(form(name), decompress=True) as twin,
    ):
        got, wanted = run(stored, 16, 16), run(twin, 16, 16)
        for key, value in wanted.items():
            np.testing.assert_array_equal(got[key], value, err_msg=key)


def digests(package: Path, folder: Path) -> dict[str, str]:
    made = folder / "made.aimodel"
    about = asset.AssetMetadata("A", "CC0-1.0", "ü", {"manifest": "ab", "numbers": [1, 2.5]})
    asset.lower(package, made, metadata=about)
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in made.iterdir()}


def test_the_same_package_gives_the_same_bytes_in_another_process(
    form: Form, tmp_path: Path
) -> None:
    """Python's hashes differ between processes, and so would coreai-core's constants."""
    first = {name: digests(form(name), tmp_path) for name in FORMS}
    for worker in asset._workers.values():
        worker.close()
    assert {name: digests(form(name), tmp_path) for name in FORMS} == first


@pytest.mark.parametrize("name", ["static", "half", "half_int8", "half_palette"])
def test_an_asset_is_no_larger_than_its_weights(form: Form, name: str, tmp_path: Path) -> None:
    made = tmp_path / "made.aimodel"
    asset.lower(form(name), made)
    size = sum(file.stat().st_size for file in made.iterdir())
    weights = sum(file.stat().st_size for file in form(name).rglob("weight.bin"))
    # The program of an unrolled loop is 32 kB.
    assert size <= 1.02 * weights + 32_768


def test_every_value_of_a_run_is_traced(form: Form, tmp_path: Path) -> None:
    ours = load(form("static"), keep_all=True)
    wanted = ours.trace(given(ours, 16, 16))
    with asset.open_witness(form("static"), keep_all=True) as apples:
        got = apples.trace(given(apples, 16, 16))
    assert set(got) == set(wanted)
    for name, value in wanted.items():
        scale = max(1.0, float(np.abs(value).max(initial=0)))
        np.testing.assert_allclose(got[name], value, rtol=0, atol=1e-5 * scale, err_msg=name)


def test_an_asset_describes_itself(form: Form, tmp_path: Path) -> None:
    made = tmp_path / "made.aimodel"
    about = asset.AssetMetadata("Ann", "CC0-1.0", "A demo", {"manifest": "ab"})
    asset.lower(form("half_stateful"), made, metadata=about)
    found = asset.inspect(made)
    assert (found["author"], found["license"], found["minimum_os"]) == ("Ann", "CC0-1.0", "27.0")
    assert found["values"] == {"manifest": "ab"}
    assert set(found["functions"]["main"]["states"]) == {"state_c", "state_h"}
    assert found["ops"]["batch_matmul"] > 5
    assert found["hash_agrees"]
    model = asset.load(made)
    assert model.states["state_c"].shape == Fixed((1, 256))
