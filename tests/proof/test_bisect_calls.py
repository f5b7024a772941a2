"""The first value of an ONNX model that its package does not reproduce."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from asrbuild.architectures.architecture import Original
from asrbuild.architectures.onnx import architecture as onnx
from asrbuild.architectures.onnx.convert import convert_graph
from asrbuild.architectures.onnx.section import OnnxConfig, read_section
from asrbuild.architectures.onnx.settle import settled
from asrbuild.coreml.executor import load
from asrbuild.coreml.request import ConversionRequest, FixedSteps
from asrbuild.proof.bisect import AGREEMENT_DB
from asrbuild.proof.bisect_calls import compare_values
from tests.architectures.onnx import models


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_first_changed_value_is_named_with_its_node(tmp_path: Path, precision: str) -> None:
    path = models.quartznet(tmp_path / "quartznet.onnx")
    given = OnnxConfig(features={"kind": "log_mel_nemo", "n_mels": 64})
    config = settled(path, given, tmp_path, keep=False).config
    request = ConversionRequest(
        precision=precision,  # type: ignore[arg-type]
        deployment_target="iOS18",
        steps=FixedSteps(100),
    )
    convert_graph(path, read_section(config), request, tmp_path / "package.mlpackage")
    package = load(tmp_path / "package.mlpackage", keep_all=True)
    (name,) = package.inputs
    noise = np.random.default_rng(0).standard_normal((1, 64, 100)).astype(np.float32)
    landmarks = onnx.landmarks_of_call(Original(path), config, {name: noise})
    values = package.trace({name: noise})
    floor = AGREEMENT_DB[precision]
    assert compare_values(landmarks, values, floor) is None
    # A wrong weight of one convolution would change these values.
    suffix = "_cast_fp16" if precision == "fp16" else ""
    after = list(values).index(f"conv_6{suffix}")
    changed = list(values)[after:]
    wrong = values | {key: values[key] + np.ptp(values[key]) for key in changed}
    found = compare_values(landmarks, wrong, floor)
    assert found is not None
    assert found.startswith("Conv /conv_6, its value conv_6 in the first call: "), found
