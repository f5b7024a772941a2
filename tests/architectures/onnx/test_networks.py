"""Whole networks, in every form of shape, against onnxruntime; and their measured facts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml

from asrbuild.architectures import measure as measuring
from asrbuild.architectures.onnx.draft import draft, written
from asrbuild.architectures.onnx.graph import Graph, Tensor
from asrbuild.architectures.onnx.inspect import inspect_onnx
from asrbuild.architectures.onnx.section import OnnxConfig
from asrbuild.architectures.onnx.settle import settled
from tests.architectures.onnx import models
from tests.architectures.onnx.harness import expected, lowered

RNG = np.random.default_rng(11)
NEMO, KALDI = ({"features": {"kind": kind}} for kind in ("log_mel_nemo", "fbank_kaldi"))


def noise(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


#: Network -> its inputs at a length.
NETWORKS: Mapping[str, tuple[Callable[[Path], Path], Callable[[int], dict[str, Any]], int]] = {
    "quartznet": (models.quartznet, lambda n: {"mel": noise(1, 64, n)}, 40),
    "conformer": (models.conformer, lambda n: {"mel": noise(1, n, 40)}, 64),
    "bigru": (models.bigru, lambda n: {"mel": noise(1, n, 40)}, 50),
    "wav2vec2": (models.wav2vec2, lambda n: {"wave": noise(1, n)}, 3000),
    "streaming_lstm": (
        models.streaming_lstm,
        lambda n: {
            "mel": noise(1, n, 40),
            "cc": noise(1, 4, 40),
            "h": noise(1, 1, 32),
            "c": noise(1, 1, 32),
        },
        12,
    ),
    "streaming_conformer": (
        models.streaming_conformer,
        lambda n: {
            "mel": noise(1, 16, 40),
            "attn_cache": noise(1, 12, 48),
            "conv_cache": noise(1, 48, 6),
        },
        16,
    ),
}


@pytest.fixture(scope="session")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("networks")
    return {name: make(folder / f"{name}.onnx") for name, (make, _, _) in NETWORKS.items()}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_agree_with_onnxruntime_at_any_length(paths: dict[str, Path], name: str) -> None:
    _, inputs, length = NETWORKS[name]
    model = onnx.load(paths[name])
    first = inputs(length)
    target = "iOS18" if name == "bigru" else "iOS15"
    run = lowered(paths[name], first, target=target)
    for count in (length, length * 3 // 2, length * 2 + 1):
        feeds = inputs(count)
        got, wanted = run(feeds), expected(model, feeds)
        for output, array in wanted.items():
            np.testing.assert_allclose(got[output], array, rtol=1e-4, atol=1e-4)


def test_parts_of_layers_become_one_operation(paths: dict[str, Path]) -> None:
    counts = {
        name: lowered(paths[name], NETWORKS[name][1](NETWORKS[name][2]), count_ops=True)
        for name in ("conformer", "wav2vec2")
    }
    assert counts["conformer"]["layer_norm"] == 5
    assert counts["conformer"]["silu"] == 3
    assert counts["wav2vec2"]["gelu"] == 4
    assert counts["wav2vec2"]["softmax"] == 1
    assert "layer_norm" in counts["wav2vec2"]


@pytest.mark.parametrize(
    ("name", "config", "rows", "context", "kind"),
    [
        ("wav2vec2", {}, (160, -5), (False, None, None), "logits"),
        # 5 steps of the first convolution and 5 + 5 + 6 + 6 rows of the others, in whole rows.
        ("quartznet", NEMO, (2, 1), (False, 50, 48), "log_probabilities"),
        ("streaming_lstm", KALDI, (1, 0), (True, 0, 0), "log_probabilities"),
        ("streaming_conformer", KALDI, (4, 0), (False, 0, 0), "log_probabilities"),
    ],
)
def test_rows_context_and_numbers_are_measured(
    paths: dict[str, Path],
    tmp_path: Path,
    name: str,
    config: dict[str, Any],
    rows: tuple[int, int],
    context: tuple[bool, int | None, int | None],
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = settled(paths[name], OnnxConfig(**config), tmp_path, keep=True)
    assert (found.config["rows"]["steps"], found.config["rows"]["add"]) == rows
    causal, left, right = context
    stated = found.config["context"]
    assert stated["causal"] is causal
    assert left is None or (stated["left"], stated["right"]) == (left, right)
    decoded = next(iter(found.config["outputs"].values()))
    assert decoded["meaning"] == kind
    assert found.classes == decoded["axes"][-1]
    again = settled(paths[name], OnnxConfig(**config), tmp_path, keep=False)
    assert again == found
    monkeypatch.setattr(measuring, "measure", unasked)
    elsewhere = tmp_path / "elsewhere"
    assert settled(paths[name], OnnxConfig(**found.config), elsewhere, keep=False) == found
    fewer = found.config | {"rows": {}}
    with pytest.raises(AssertionError, match="is run"):
        settled(paths[name], OnnxConfig(**fewer), elsewhere, keep=False)


def test_a_draft_names_roles_states_and_blanks(paths: dict[str, Path], tmp_path: Path) -> None:
    text = draft(paths["streaming_lstm"], tmp_path)
    assert '"mel": {"meaning": "features", "axes": [1, "steps", 40]}' in text
    for given, output in (("cc", "cc_out"), ("h", "hn"), ("c", "cn")):
        assert f'"{given}": "{output}"' in text
    assert 'features: {kind: "???"}' in text
    whole = draft(paths["wav2vec2"], tmp_path)
    assert '"wave": {"meaning": "samples", "axes": [1, "samples"]}' in whole
    assert '"logits": {"axes": [1, "rows", 32], "meaning": "logits"}' in whole
    assert 'tokens: {file: "???"' in whole


def test_a_draft_of_inputs_without_a_shape_is_yaml(tmp_path: Path) -> None:
    """TorchScript states no shapes, so no input has a role."""
    ports = Graph((), {}, (Tensor("x", "float32", None),), (Tensor("y", "float32", None),))
    text = written("torch_export", tmp_path / "net.pt", ports, OnnxConfig(), unasked)
    assert yaml.safe_load(text)["config"]["inputs"] == {"x": "???"}


def unasked(*_: Any) -> Any:
    raise AssertionError("the model is run, though nothing has to be measured")


def test_a_summary_counts_operations_and_weights(paths: dict[str, Path]) -> None:
    summary = inspect_onnx(paths["bigru"])
    assert summary.ops["GRU"] == 1
    assert summary.roles == {"mel": "features"}
    assert summary.unconvertible == ()
    assert summary.stored["float32"] > 10_000
