"""The process of the original: pins, states carried from call to call, cuts, and errors."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from asrbuild.architectures.onnx import WORKER
from asrbuild.architectures.original import save_cases, start
from asrbuild.base.errors import AsrbuildError
from tests.architectures.onnx.conftest import FLOAT, INT64

Save = Callable[..., Path]
Arrays = dict[str, np.ndarray]


def adding(save: Save) -> Path:
    """A model: out = gain x + state; kept = state + the sum of x."""
    nodes = [
        helper.make_node("Cast", ["gain"], ["factor"], to=FLOAT),
        helper.make_node("Mul", ["x", "factor"], ["scaled"]),
        helper.make_node("Add", ["scaled", "state"], ["out"]),
        helper.make_node("ReduceSum", ["x"], ["total"], keepdims=1),
        helper.make_node("Add", ["state", "total"], ["kept"]),
    ]
    inputs = [("x", FLOAT, [1, "n"]), ("state", FLOAT, [1, 1]), ("gain", INT64, [])]
    return save(nodes, inputs, ["out", "kept"])


def served(
    tmp_path: Path, cases: dict[str, np.ndarray], **options: object
) -> dict[str, np.ndarray]:
    save_cases(tmp_path / "cases.npz", cases)
    out = tmp_path / "out.npz"
    given = ["--cases", str(tmp_path / "cases.npz")]
    for name, value in options.items():
        given += [f"--{name}", str(value) if name == "model" else json.dumps(value)]
    with np.load(start(WORKER, "ONNX Runtime", out, *given).wait(60)) as stored:
        return dict(stored)


def test_states_are_carried_within_a_sequence_and_pins_are_fed(save: Save, tmp_path: Path) -> None:
    x = np.float32([[1, 2, 3]])
    zero = np.zeros((1, 1), np.float32)
    cases = {
        "a/00000/x": x,
        "a/00000/state_in": zero,
        "a/00001/x": x[:, :2],
        "a/00002/x": x,
        "b/00000/x": x,
        "b/00000/state_in": zero + 10,
    }
    made = served(
        tmp_path,
        cases,
        model=adding(save),
        pins={"gain": 2},
        states={"state": "kept"},
        names={"state_in": "state"},
    )
    np.testing.assert_array_equal(made["a/00000/out"], [[2, 4, 6]])
    np.testing.assert_array_equal(made["a/00001/out"], [[8, 10]])
    np.testing.assert_array_equal(made["a/00002/out"], [[11, 13, 15]])
    np.testing.assert_array_equal(made["a/00002/kept"], [[15]])
    np.testing.assert_array_equal(made["b/00000/out"], [[12, 14, 16]])


def test_a_cut_model_starts_at_the_tensor(save: Save, tmp_path: Path) -> None:
    scaled = np.float32([[5, 7]])
    cases = {"a/00000/scaled": scaled, "a/00000/state": np.float32([[1]]), "a/00000/x": scaled}
    made = served(tmp_path, cases, model=adding(save), cuts=["scaled"])
    np.testing.assert_array_equal(made["a/00000/out"], [[6, 8]])


def test_errors_of_the_process_are_errors_of_the_build(save: Save, tmp_path: Path) -> None:
    model = adding(save)
    save_cases(tmp_path / "cases.npz", {"a/00000/x": np.zeros((1, 2), np.float32)})
    arguments = ["--cases", str(tmp_path / "cases.npz"), "--model", str(model)]
    worker = start(WORKER, "ONNX Runtime", tmp_path / "out.npz", *arguments)
    with pytest.raises(AsrbuildError, match="onnxruntime cannot run a/00000") as caught:
        worker.wait(60)
    assert caught.value.file == str(model)
    model.write_bytes(model.read_bytes()[:-20])
    worker = start(WORKER, "ONNX Runtime", tmp_path / "out.npz", *arguments)
    with pytest.raises(AsrbuildError, match="onnxruntime cannot load the model"):
        worker.wait(60)
