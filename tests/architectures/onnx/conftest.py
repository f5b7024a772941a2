"""Fixtures of small models made with ``onnx.helper``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
Info = tuple[str, int, list[int | str]]


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    """Writes a model of nodes (op, inputs, outputs, attributes) and returns its path."""

    def write(
        nodes: list[onnx.NodeProto],
        inputs: list[Info],
        outputs: list[str],
        weights: dict[str, np.ndarray] | None = None,
        opset: int = 18,
        name: str = "model.onnx",
    ) -> Path:
        graph = helper.make_graph(
            nodes,
            "graph",
            [helper.make_tensor_value_info(*info) for info in inputs],
            [helper.make_empty_tensor_value_info(output) for output in outputs],
            [numpy_helper.from_array(array, key) for key, array in (weights or {}).items()],
        )
        opsets = [helper.make_opsetid("", opset)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
        path = tmp_path / name
        path.write_bytes(onnx.shape_inference.infer_shapes(model).SerializeToString())
        return path

    return write
