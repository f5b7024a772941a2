"""The reader of ONNX files: its results, and its errors."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from asrbuild.architectures.onnx.folding import fold
from asrbuild.architectures.onnx.lowering.walk import missing
from asrbuild.architectures.onnx.reading import read_graph
from asrbuild.base.errors import AsrbuildError
from tests.architectures.onnx.conftest import BOOL, FLOAT, INT64

Save = Callable[..., Path]
WEIGHT = np.arange(12, dtype=np.float32).reshape(3, 4)


def dense(save: Save) -> Path:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], "dense")]
    return save(nodes, [("x", FLOAT, [1, "time", 3])], ["y"], {"w": WEIGHT})


def moved(save: Save, path: Path, **entries: object) -> Path:
    """The model with its weights declared to be in another file."""
    model = onnx.load(dense(save))
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=str(value))
    path.write_bytes(model.SerializeToString())
    return path


def refusal(path: Path) -> AsrbuildError:
    with pytest.raises(AsrbuildError) as caught:
        fold(read_graph(path), {})
    assert caught.value.key == "source.path"
    assert caught.value.fix
    return caught.value


def test_inputs_nodes_and_weights_are_read(save: Save) -> None:
    graph = read_graph(dense(save))
    assert [(one.name, one.dtype, one.shape) for one in graph.inputs] == [
        ("x", "float32", (1, "time", 3))
    ]
    (node,) = graph.nodes
    assert (node.op, node.name, node.inputs, node.opset) == ("MatMul", "dense", ("x", "w"), 18)
    np.testing.assert_array_equal(graph.constants["w"], WEIGHT)


def test_weights_in_a_file_of_their_own_are_mapped(save: Save) -> None:
    path = dense(save)
    outside = path.with_name("outside.onnx")
    onnx.save(
        onnx.load(path),
        outside,
        save_as_external_data=True,
        size_threshold=0,
        location="weights.bin",
    )
    graph = read_graph(outside)
    assert isinstance(graph.constants["w"], np.memmap)
    np.testing.assert_array_equal(graph.constants["w"], WEIGHT)


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/passwd", "absent.bin", "link.bin", ""])
def test_weights_outside_of_the_folder_are_refused(
    save: Save, tmp_path: Path, location: str
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "secret.bin").write_bytes(b"\0" * 48)
    (tmp_path / "model" / "link.bin").symlink_to(tmp_path / "secret.bin")
    path = moved(save, tmp_path / "model" / "m.onnx", location=location)
    assert "no file in the model's folder" in refusal(path).message


@pytest.mark.parametrize(("offset", "length"), [(8, 48), (-4, 48), (0, 12), (0, 2**40)])
def test_truncated_weights_are_refused(
    save: Save, tmp_path: Path, offset: int, length: int
) -> None:
    (tmp_path / "w.bin").write_bytes(b"\0" * 48)
    path = moved(save, tmp_path / "m.onnx", location="w.bin", offset=offset, length=length)
    assert "cut short" in refusal(path).message


def test_a_damaged_file_is_refused(save: Save, tmp_path: Path) -> None:
    whole = dense(save).read_bytes()
    path = tmp_path / "damaged.onnx"
    for content in (whole[:-30], whole[: len(whole) // 2], b"", b"\x08\x09", b"\xff" * 64):
        path.write_bytes(content)
        assert refusal(path).file == str(path)
    rng = np.random.default_rng(3)
    for _ in range(60):  # any damage gives one error or a graph
        broken = bytearray(whole)
        for place in rng.integers(0, len(whole), 4):
            broken[place] = rng.integers(0, 256)
        path.write_bytes(broken)
        with contextlib.suppress(AsrbuildError):
            list(missing(fold(read_graph(path), {})))


def test_foreign_ops_and_broken_graphs_are_named(save: Save, tmp_path: Path) -> None:
    path = dense(save)

    def changed(change: Callable[[onnx.ModelProto], None]) -> str:
        model = onnx.load(path)
        change(model)
        other = tmp_path / "other.onnx"
        other.write_bytes(model.SerializeToString())
        return refusal(other).message

    def domain(model: onnx.ModelProto) -> None:
        model.graph.node[0].domain = "com.microsoft"

    def lost(model: onnx.ModelProto) -> None:
        model.graph.node[0].input[0] = "nowhere"

    def twice(model: onnx.ModelProto) -> None:
        model.graph.node.append(model.graph.node[0])

    def newer(model: onnx.ModelProto) -> None:
        model.opset_import[0].version = 99

    def huge(model: onnx.ModelProto) -> None:
        model.graph.initializer[0].dims[0] = 2**40

    def negative(model: onnx.ModelProto) -> None:
        model.graph.initializer[0].dims[0] = -3

    assert "node dense is com.microsoft:MatMul" in changed(domain)
    assert "reads nowhere" in changed(lost)
    assert "makes y a second time" in changed(twice)
    assert "op set 99" in changed(newer)
    assert "damaged" in changed(huge)
    assert "negative" in changed(negative)


def test_constants_too_large_for_memory_are_refused(save: Save) -> None:
    shape = np.array([10**6, 10**6])
    for op, given in (
        ("ConstantOfShape", ["shape"]),
        ("Expand", ["one", "shape"]),
        ("Tile", ["matrix", "shape"]),
        ("Range", ["zero", "many", "step"]),
    ):
        weights = {
            "shape": shape,
            "one": np.float32([1]),
            "matrix": WEIGHT,
            "zero": np.array(0),
            "many": np.array(10**12),
            "step": np.array(1),
        }
        nodes = [helper.make_node(op, given, ["y"], "big")]
        path = save(nodes, [("x", FLOAT, [1])], ["y"], weights)
        assert "node big" in refusal(path).message


def conditional() -> list[onnx.NodeProto]:
    def branch(value: float) -> onnx.GraphProto:
        out = f"out_{value}"
        nodes = [
            helper.make_node("Constant", [], [f"k_{value}"], value_float=value),
            helper.make_node("Mul", ["x", f"k_{value}"], [out]),
        ]
        return helper.make_graph(nodes, "b", [], [helper.make_empty_tensor_value_info(out)])

    return [
        helper.make_node("Constant", [], ["sixteen"], value_int=16000),
        helper.make_node("Equal", ["rate", "sixteen"], ["same"]),
        helper.make_node(
            "If", ["same"], ["y"], "choice", then_branch=branch(2.0), else_branch=branch(3.0)
        ),
    ]


def test_a_pinned_input_chooses_the_branch_of_an_if(save: Save) -> None:
    inputs = [("x", FLOAT, [1, 4]), ("rate", INT64, [])]
    path = save(conditional(), inputs, ["y"])
    for rate, factor in ((16000, 2.0), (8000, 3.0)):
        graph = fold(read_graph(path), {"rate": rate})
        assert [node.op for node in graph.nodes] == ["Mul", "Identity"]
        assert [float(array) for array in graph.constants.values()] == [factor]
        assert [one.name for one in graph.inputs] == ["x"]
        assert not list(missing(graph))
    with pytest.raises(AsrbuildError, match="no tensor rates to pin") as caught:
        fold(read_graph(path), {"rates": 1})
    assert "rate" in str(caught.value.fix)


def test_ops_without_a_form_are_named_before_anything_is_built(save: Save) -> None:
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["c2"]), helper.make_node("Identity", ["v"], ["v2"])],
        "body",
        [helper.make_tensor_value_info(n, k, []) for n, k in (("i", INT64), ("c", BOOL))]
        + [helper.make_tensor_value_info("v", FLOAT, [1])],
        [
            helper.make_tensor_value_info("c2", BOOL, []),
            helper.make_tensor_value_info("v2", FLOAT, [1]),
        ],
    )
    nodes = [
        helper.make_node("Loop", ["n", "go", "x"], ["turned"], "steps", body=body),
        helper.make_node("QuantizeLinear", ["turned", "scale"], ["q"], "int8"),
        helper.make_node("NonZero", ["q"], ["y"], "places"),
    ]
    weights = {"n": np.array(3), "go": np.array(True), "scale": np.float32(0.1)}
    path = save(nodes, [("x", FLOAT, [1])], ["y"], weights)
    errors = list(missing(fold(read_graph(path), {})))
    assert [error.message.split(",")[0] for error in errors] == [
        "node steps is Loop",
        "node int8 is QuantizeLinear",
        "node places is NonZero",
    ]
    assert "LSTM, GRU or RNN" in str(errors[0].fix)
    assert "float32" in str(errors[1].fix)


def test_functions_of_the_model_are_written_out(tmp_path: Path) -> None:
    doubled = helper.make_function(
        "own",
        "Double",
        ["a"],
        ["b"],
        [helper.make_node("Add", ["a", "a"], ["b"])],
        [helper.make_opsetid("", 18)],
    )
    graph = helper.make_graph(
        [helper.make_node("Double", ["x"], ["y"], domain="own")],
        "g",
        [helper.make_tensor_value_info("x", FLOAT, [2])],
        [helper.make_tensor_value_info("y", FLOAT, [2])],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
    model = helper.make_model(graph, opset_imports=opsets, functions=[doubled])
    path = tmp_path / "f.onnx"
    path.write_bytes(model.SerializeToString())
    assert [node.op for node in read_graph(path).nodes] == ["Add"]
