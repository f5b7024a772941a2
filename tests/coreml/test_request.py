"""Impossible requests are refused at once, by name; nothing heavy is imported for that."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from asrbuild.architectures.deepspeech.signature import SIGNATURE, check_layers
from asrbuild.base.errors import AsrbuildError
from asrbuild.coreml.request import (
    ConversionRequest,
    EnumeratedSteps,
    FixedSteps,
    RangeSteps,
    check_request,
    model_outputs,
    package_suffix,
    specification_version,
)

TARGET = "coreml.minimum_deployment_target"
DEFAULT = ConversionRequest()
IOS16 = replace(DEFAULT, deployment_target="iOS16")
IOS18 = replace(DEFAULT, deployment_target="iOS18")
CHUNKS = {"chunk_16": FixedSteps(16), "whole": RangeSteps(1, 16, 100)}


@pytest.mark.parametrize(
    ("request_", "key", "message"),
    [
        (replace(DEFAULT, format="onnx"), "coreml.format", "'onnx' is not one of"),
        (replace(DEFAULT, precision="int8"), "coreml.precision", "'int8' is not one of"),
        (replace(DEFAULT, lstm="gru"), "coreml.lstm", "'gru' is not one of"),
        (replace(DEFAULT, deployment_target="iOS14"), TARGET, "iOS15, iOS16"),
        (replace(DEFAULT, outputs=()), "coreml.outputs", "no outputs"),
        (replace(DEFAULT, outputs=("logits", "logits")), "coreml.outputs", "twice"),
        (replace(DEFAULT, steps=FixedSteps(0)), "model.steps", "at least 1 time step, got 0"),
        (replace(DEFAULT, steps=RangeSteps(0, 1, 9)), "model.steps", "at least 1 time step"),
        (replace(DEFAULT, steps=RangeSteps(1, 1, None)), "model.steps.upper", "upper bound"),
        (replace(DEFAULT, steps=RangeSteps(9, 9, 8)), "model.steps.upper", "9 to 8 is empty"),
        (replace(DEFAULT, steps=RangeSteps(2, 1, 8)), "model.steps.default", "outside the range"),
        (replace(DEFAULT, steps=RangeSteps(2, 9, 8)), "model.steps.default", "outside the range"),
        (replace(DEFAULT, steps=EnumeratedSteps((), 1)), "model.steps.sizes", "no step counts"),
        (replace(DEFAULT, steps=EnumeratedSteps((1, 1), 1)), "model.steps.sizes", "twice"),
        (replace(DEFAULT, steps=EnumeratedSteps((1, 2), 3)), "model.steps.default", "not one of"),
        (
            replace(DEFAULT, steps=EnumeratedSteps(tuple(range(1, 130)), 1)),
            "model.steps.sizes",
            "at most 128 enumerated shapes, got 129",
        ),
        (
            replace(DEFAULT, lstm="loop", steps=RangeSteps(1, 16, 40_000)),
            "model.steps",
            "40000 is above 32766",
        ),
        (replace(DEFAULT, functions=CHUNKS), TARGET, "iOS18 or later"),
        (
            replace(IOS16, compress={"layer_2": "int8"}, format="neuralnetwork"),
            "coreml.compress",
            "not neural networks",
        ),
        (
            replace(DEFAULT, compress={"layer_2": "int8"}, deployment_target="iOS15"),
            TARGET,
            "came with iOS16",
        ),
        (replace(IOS18, functions={"a b": FixedSteps(1)}), "model.functions", "'a b'"),
        (replace(IOS18, functions={"a": FixedSteps(0)}), "model.steps", "at least 1"),
        (replace(IOS18, functions=CHUNKS, state="stateful"), "coreml.state", "one function"),
        (replace(DEFAULT, state="stateful"), "coreml.state", "iOS18 or later"),
        (replace(IOS18, state="stateful", precision="fp32"), "coreml.precision", "fp16"),
    ],
)
def test_an_impossible_request_is_refused_by_key(
    request_: ConversionRequest, key: str, message: str
) -> None:
    with pytest.raises(AsrbuildError, match=message) as caught:
        check_request(request_)
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
def test_what_core_ml_can_do_passes_without_advice(possible: ConversionRequest) -> None:
    assert check_request(possible) == ()


def test_old_systems_cost_a_native_fp16_lstm_its_size() -> None:
    (advice,) = check_request(replace(DEFAULT, deployment_target="iOS15"))
    assert "stored in fp32" in advice
    (advice,) = check_request(replace(DEFAULT, deployment_target="iOS16"))
    assert "stored in fp16" in advice
    assert check_request(replace(DEFAULT, deployment_target="iOS15", lstm="loop")) == ()


def test_what_a_request_becomes() -> None:
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


def test_checking_a_request_imports_nothing_heavy() -> None:
    code = (
        "import sys; from asrbuild.coreml.request import *; check_request(ConversionRequest()); "
        "print(*sorted({'numpy', 'coremltools', 'tensorflow'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == ""
