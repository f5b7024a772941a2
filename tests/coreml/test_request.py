"""Impossible requests are refused, without the import of a heavy library.

Rules that a recipe breaks by its keys alone are in tests/acceptance/config_errors.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from asrbuild.architectures.deepspeech.signature import SIGNATURE, check_layers
from asrbuild.base.errors import AsrbuildError
from asrbuild.coreml.request import (
    ConversionRequest,
    EnumeratedSteps,
    FixedSteps,
    RangeSteps,
    advice,
    model_outputs,
    package_suffix,
    specification_version,
)
from tests.imports import run_python

DEFAULT = ConversionRequest()
IOS16 = replace(DEFAULT, deployment_target="iOS16")
IOS18 = replace(DEFAULT, deployment_target="iOS18")
CHUNKS = {"chunk_16": FixedSteps(16), "whole": RangeSteps(1, 16, 100)}


@pytest.mark.parametrize(
    ("make", "key", "message"),
    [
        (lambda: replace(DEFAULT, outputs=()), "coreml.outputs", "name each output once"),
        (lambda: replace(DEFAULT, outputs=("a", "a")), "coreml.outputs", "name each output once"),
        (lambda: FixedSteps(0), "model.steps", "at least 1 step, not 0"),
        (lambda: RangeSteps(0, 1, 9), "model.steps", "at least 1 step"),
        (lambda: RangeSteps(9, 9, 8), "model.steps", "not in the range 9 to 8"),
        (lambda: RangeSteps(2, 1, None), "model.steps", "not in the range 2 to any"),
        (lambda: RangeSteps(2, 9, 8), "model.steps", "not in the range"),
        (lambda: EnumeratedSteps((), 1), "model.steps.sizes", "0 entries"),
        (lambda: EnumeratedSteps((0, 1), 1), "model.steps", "at least 1 step"),
        (lambda: EnumeratedSteps((1, 2), 3), "model.steps.sizes", "not one of 1, 2"),
        (lambda: EnumeratedSteps(tuple(range(1, 130)), 1), "model.steps.sizes", "129 entries"),
        (
            lambda: replace(DEFAULT, lstm="loop", steps=RangeSteps(1, 16, 40_000)),
            "model.steps",
            "40000 is above 32766",
        ),
        (
            lambda: replace(IOS18, functions={"a b": FixedSteps(1)}),
            "model.functions",
            "'a b' is not a function name",
        ),
        (
            lambda: replace(IOS18, functions=CHUNKS, state="stateful"),
            "coreml.state",
            "one function",
        ),
        (lambda: replace(DEFAULT, state="stateful"), "coreml.state", "iOS18 or later"),
    ],
)
def test_an_impossible_request_is_refused_by_key(
    make: Callable[[], object], key: str, message: str
) -> None:
    with pytest.raises(AsrbuildError, match=message) as caught:
        make()
    assert caught.value.key == key


@pytest.mark.parametrize(
    "possible",
    [
        DEFAULT,
        replace(DEFAULT, steps=EnumeratedSteps(tuple(range(1, 129)), 128)),
        replace(DEFAULT, format="neuralnetwork", steps=RangeSteps(1, 16, None)),
        replace(DEFAULT, steps=RangeSteps(1, 16, 40_000)),
        replace(DEFAULT, lstm="loop", steps=RangeSteps(1, 16, 32_766)),
        replace(IOS18, functions=CHUNKS),
        replace(IOS18, state="stateful"),
    ],
)
def test_requests_that_core_ml_supports_get_no_advice(possible: ConversionRequest) -> None:
    assert advice(possible) == ()


def test_old_systems_get_advice_on_the_size_of_a_native_fp16_lstm() -> None:
    (sentence,) = advice(replace(DEFAULT, deployment_target="iOS15"))
    assert "stored in fp32" in sentence
    (sentence,) = advice(replace(DEFAULT, deployment_target="iOS16"))
    assert "stored in fp16" in sentence
    assert advice(replace(DEFAULT, deployment_target="iOS15", lstm="loop")) == ()


def test_a_request_decides_suffix_version_and_outputs() -> None:
    network = replace(DEFAULT, format="neuralnetwork")
    assert (package_suffix(DEFAULT.format), package_suffix(network.format)) == (
        ".mlpackage",
        ".mlmodel",
    )
    assert (specification_version(DEFAULT), specification_version(network)) == (8, 4)
    assert model_outputs(DEFAULT, SIGNATURE) == ("logits", "new_state_c", "new_state_h")
    assert model_outputs(replace(IOS18, state="stateful"), SIGNATURE) == ("logits",)


@pytest.mark.parametrize("outputs", [("new_state_c",), ("mfccs",)])
def test_an_output_that_the_package_cannot_have_is_refused(outputs: tuple[str, ...]) -> None:
    with pytest.raises(AsrbuildError, match=outputs[0]) as caught:
        model_outputs(replace(IOS18, state="stateful", outputs=outputs), SIGNATURE)
    assert caught.value.key == "coreml.outputs"


def test_the_lstm_of_iOS16_cannot_be_compressed() -> None:  # noqa: N802
    with pytest.raises(AsrbuildError, match="go through a cast already") as caught:
        check_layers(replace(IOS16, compress={"lstm": "int8"}))
    assert caught.value.key == "coreml.compress_layers.lstm"


def test_checking_a_request_imports_no_heavy_library() -> None:
    code = "from asrbuild.coreml.request import *; advice(ConversionRequest())"
    _, modules = run_python(code)
    assert not modules & {"numpy", "coremltools", "tensorflow"}
