"""Operations and weights of a package, compared with coremltools' reading of the same bytes."""

from __future__ import annotations

from collections import Counter

import pytest

from asrbuild.architectures.deepspeech.network import random_weights
from asrbuild.coreml.inspect import inspect_model
from asrbuild.handover.report.anatomy import anatomy
from tests.proof import building


@pytest.mark.parametrize(
    ("overrides", "inside"),
    [
        (("model=static",), {"lstm": 1, "linear": 5, "softmax": 1}),
        (("model=static", "coreml.lstm=loop"), {"while_loop": 1, "linear": 6, "softmax": 1}),
        (("model=multifunction",), {"lstm": 3, "linear": 15}),
        (("model=static", "coreml=neuralnetwork"), {"uniDirectionalLSTM": 1, "softmaxND": 1}),
        (
            ("model=static", "coreml=neuralnetwork", "coreml.precision=fp16"),
            {"uniDirectionalLSTM": 1},
        ),
    ],
)
def test_operations_and_bytes_of_functions_and_loops_are_counted(tmp_path, overrides, inside):
    manifest = building.build(tmp_path, random_weights(32), *overrides)
    package = tmp_path / manifest.model.package
    found = anatomy(package)
    assert isinstance(found.operations, Counter)
    assert {kind: found.operations[kind] for kind in inside} == inside
    assert "const" not in found.operations
    if "coreml.lstm=loop" in overrides:
        assert found.operations["sigmoid"] == 3  # in the loop's body, as the sixth linear is
    # Weights that functions share count once.
    assert sum(found.layers.values()) == sum(inspect_model(package).weight_bytes.values())
    layers = [name for name in found.layers if name.startswith("layer_") and "Min" not in name]
    assert layers == ["layer_1", "layer_2", "layer_3", "layer_5", "layer_6"]
    width = {"fp16": 2, "fp32": 4}[manifest.model.compute_precision]
    assert found.layers["layer_1"] == width * (19 * 26 * 32 + 32)
    assert found.layers["layer_6"] == width * (32 * 29 + 29)
