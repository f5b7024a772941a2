"""Graphs that differ from DeepSpeech's are refused, or read if they compute the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from asrbuild.architectures.deepspeech.frozen import graph_weights
from asrbuild.architectures.deepspeech.network import LSTM_SCOPE
from asrbuild.architectures.tensorflow.graph import load_graph
from asrbuild.architectures.tensorflow.proto import FLOAT, INT32, Graph, Node, Shape, constant
from asrbuild.base.errors import AsrbuildError
from tests.architectures.conftest import HIDDEN
from tests.paths import GENUINE


def changed(graph: Graph, changes: dict[str, dict], *more: Node) -> Graph:
    """The graph with fields of some nodes replaced, attributes of None removed, and nodes added."""
    nodes = []
    for node in graph.nodes:
        change = dict(changes.get(node.name, {}))
        attrs = node.attrs | change.pop("attrs", {})
        kept = {key: value for key, value in attrs.items() if value is not None}
        nodes.append(replace(node, attrs=kept, **change))
    return Graph((*nodes, *more), graph.producer)


def const(name: str, value: np.ndarray) -> Node:
    tensor = constant(np.asarray(value))
    return Node(name, "Const", (), {"dtype": tensor.dtype, "value": tensor})


def inputs(*names: str) -> dict:
    return {"inputs": names}


CELL = f"{LSTM_SCOPE}/BlockLSTM"
NORM = "layer_2_1/LayerNorm"
T = {"T": FLOAT}
#: Other computations of training code: changed nodes, added nodes, the text of the refusal.
OTHER_NETWORKS = {
    "forget bias": ({CELL: {"attrs": {"forget_bias": 1.0}}}, [], "forget_bias 1.0, expected 0.0"),
    "forget bias by default": (
        {CELL: {"attrs": {"forget_bias": None}}},
        [],
        "forget_bias 1.0, expected 0.0",
    ),
    "cell clip": ({CELL: {"attrs": {"cell_clip": 3.0}}}, [], "cell_clip 3.0"),
    "peepholes": ({CELL: {"attrs": {"use_peephole": True}}}, [], "use_peephole True"),
    "other gate order": ({CELL: {"op": "BlockLSTMV2"}}, [], "BlockLSTMV2"),
    "cell states for outputs": (
        {f"{LSTM_SCOPE}/mul": inputs(f"{CELL}:1", f"{LSTM_SCOPE}/Tile")},
        [],
        "output 1 of",
    ),
    "states swapped": (
        {"new_state_c": inputs(f"{LSTM_SCOPE}/GatherNd_1")},
        [],
        "is in the place of",
    ),
    "no mask": ({"Reshape_3": inputs(f"{CELL}:6", "Reshape_3/shape")}, [], "(BlockLSTM) is in"),
    "second LSTM": (
        {"Reshape_3": inputs("more:6", "Reshape_3/shape")},
        [Node("more", "BlockLSTM", (f"{LSTM_SCOPE}/mul",), T)],
        "more (BlockLSTM) is in",
    ),
    "backward LSTM": (
        {"Reshape_3": inputs("both", "Reshape_3/shape")},
        [
            const("back/axis", [0]),
            Node("back", "ReverseV2", ("Reshape_2", "back/axis"), T),
            Node("both", "ConcatV2", (f"{LSTM_SCOPE}/mul", "back", "back/axis"), T),
        ],
        "both (ConcatV2) is in the place of",
    ),
    "other activation": ({"Relu_1": {"op": "Elu"}}, [], "Relu_1 (Elu) is in the place of"),
    "no clip": ({"MatMul_2": inputs("Relu_1", "layer_3/weights/read")}, [], "Relu_1 (Relu)"),
    "a clip of its own": (
        {"Minimum_2": inputs("Relu_2", "limit")},
        [const("limit", np.float32(6))],
        "one limit",
    ),
    "dropout": (
        {"MatMul_1": inputs("dropout", "layer_2/weights/read")},
        [
            Node("dropout", "Mul", ("Minimum", "keep"), T),
            Node("keep", "RandomUniform", ("transpose/perm",), {"dtype": FLOAT}),
        ],
        "dropout (Mul) is in the place of",
    ),
    "residual": (
        {"MatMul_2": inputs("sum", "layer_3/weights/read")},
        [Node("sum", "AddV2", ("Minimum", "Minimum_1"), T)],
        "sum (AddV2) is in the place of",
    ),
    "a layer left out": (
        {"MatMul_2": inputs("Minimum", "layer_3/weights/read")},
        [],
        "layer_1/bias (Const) is in the place of layer_2/bias",
    ),
    "layers swapped": (
        {"MatMul_1": inputs("Minimum", "layer_3/weights/read")},
        [],
        "layer_3/weights (Const)",
    ),
    "second bias": (
        {"Relu": inputs("again")},
        [Node("again", "BiasAdd", ("BiasAdd", "layer_2/bias/read"), T)],
        "layer_2/bias",
    ),
    "transposed weights": ({"MatMul": {"attrs": {"transpose_b": True}}}, [], "transpose_b True"),
    "scaled weights": (
        {"MatMul_3": inputs("Reshape_3", "scaled")},
        [Node("scaled", "Mul", ("layer_5/weights/read", "scale"), T), const("scale", [2.0])],
        "scaled (Mul) is in the place of layer_5/weights",
    ),
    "temperature": (
        {"logits": inputs("cooled")},
        [Node("cooled", "RealDiv", ("raw_logits", "Minimum/y"), T)],
        "cooled (RealDiv)",
    ),
    "log probabilities": ({"logits": {"op": "LogSoftmax"}}, [], "logits (LogSoftmax)"),
    "no softmax": ({"logits": {"op": "Identity"}}, [], "raw_logits (Reshape) is in the place of"),
    "windows in another order": (
        {"transpose": inputs("input_node", "order")},
        [const("order", [1, 0, 3, 2])],
        "is [1, 0, 3, 2], expected [1, 0, 2, 3]",
    ),
    "input of another type": ({"input_node": {"attrs": {"dtype": INT32}}}, [], "dtype int32"),
    "a state fed elsewhere": (
        {
            CELL: inputs(
                f"{LSTM_SCOPE}/Cast",
                "Reshape_2",
                "previous_state_h",
                "previous_state_c",
                f"{LSTM_SCOPE}/kernel/read",
                *[f"{LSTM_SCOPE}/zeros"] * 3,
                f"{LSTM_SCOPE}/bias/read",
            )
        },
        [],
        "is in the place of previous_state",
    ),
    "epsilon": (
        {f"{NORM}/batchnorm/add": inputs(f"{NORM}/moments/variance", "epsilon")},
        [const("epsilon", np.float32(1e-3))],
        "expected [9.99",
    ),
    "normalised over steps": (
        {f"{NORM}/moments/mean": inputs("Minimum_1", "axes")},
        [const("axes", [0])],
        "is [0]",
    ),
    "normalised before the clip": (
        {
            "MatMul_2": inputs("Minimum_1", "layer_3/weights/read"),
            f"{NORM}/batchnorm/mul_1": inputs("BiasAdd_1", f"{NORM}/batchnorm/mul"),
            "Relu_1": inputs(f"{NORM}/batchnorm/add_1"),
        },
        [],
        "Minimum_1 (Minimum) is in",
    ),
    "gamma for beta": (
        {
            f"{NORM}/batchnorm/sub": inputs(
                "layer_2/LayerNorm/gamma/read", f"{NORM}/batchnorm/mul_2"
            )
        },
        [],
        "layer_2/LayerNorm/gamma (Const) is in the place of layer_2/LayerNorm/beta",
    ),
    "a normalisation left out": (
        {"MatMul_2": inputs("Minimum_1", "layer_3/weights/read")},
        [],
        "Minimum_1 (Minimum)",
    ),
}
NORMALISED = ("epsilon", "normalised over", "normalised before", "gamma for", "a normalisation")


@pytest.mark.parametrize("what", OTHER_NETWORKS)
def test_a_graph_that_computes_something_else_is_refused(what, export):
    norms = what.startswith(NORMALISED)
    path = GENUINE / "deepspeech-0.9.3-layer-norm" / "x_r2_16.pb" if norms else export(-1)
    changes, more, named = OTHER_NETWORKS[what]
    graph = load_graph(path)
    graph_weights(graph)
    with pytest.raises(AsrbuildError) as error:
        graph_weights(changed(graph, changes, *more))
    assert named in error.value.message
    # No front end converts a graph that draws random numbers.
    assert ("coreml.frontend=tensorflow" in error.value.fix) == (what != "dropout")


@pytest.mark.parametrize(
    ("op", "source"), [("Digamma", "Minimum"), ("RandomUniform", "Minimum"), ("RandomUniform", "n")]
)
def test_the_fix_names_only_front_ends_that_take_the_graph(op, source, export):
    changes = {"MatMul_1": inputs("odd", "layer_2/weights/read")}
    more = [Node("odd", op, (source,), T), const("n", [16, HIDDEN])]
    other = changed(load_graph(export(-1)), changes, *more)
    with pytest.raises(AsrbuildError, match="computes something else") as error:
        graph_weights(other)
    assert "frontend" not in error.value.fix


@pytest.mark.parametrize(
    ("changes", "more"),
    [
        (
            {"MatMul_1": inputs("same", "layer_2/weights/read")},
            [Node("same", "Identity", ("Minimum", "^transpose"), T)],
        ),
        ({CELL: {"attrs": {"cell_clip": 0.0}}}, []),
        ({"BiasAdd_2": {"op": "AddV2", "attrs": {"data_format": None}}}, []),
        ({f"{LSTM_SCOPE}/mul": {"attrs": {"_class": [b"loc"], "_output_shapes": []}}}, []),
        ({"MatMul": {"attrs": {"transpose_a": None, "grad_a": False}}}, []),
        (
            {"MatMul_4": inputs("Minimum_3", "layer_6/weights/Read/ReadVariableOp")},
            [Node("layer_6/weights/Read/ReadVariableOp", "Identity", ("layer_6/weights",), T)],
        ),
        (
            {"transpose": inputs("input_node", "order")},
            [const("order", np.array([1, 0, 2, 3], np.int64))],
        ),
        ({}, [Node("beside", "Neg", ("logits",), T)]),
        (
            {
                "input_node": {"attrs": {"shape": Shape((None, 16, 19, 26))}},
                "previous_state_c": {"attrs": {"shape": Shape((None, HIDDEN))}},
            },
            [],
        ),
    ],
)
def test_graphs_that_compute_the_same_are_read(changes, more, export, weights):
    read = graph_weights(changed(load_graph(export(16)), changes, *more))
    assert np.array_equal(read.layer_6_weights, weights.layer_6_weights)


def test_the_last_axis_may_be_counted_from_the_end():
    graph = load_graph(GENUINE / "deepspeech-0.9.3-layer-norm" / "x_r2_16.pb")
    changes = {f"{NORM}/moments/mean": inputs("Minimum_1", "axes")}
    read = graph_weights(changed(graph, changes, const("axes", [-1])))
    assert len(read.norms) == 4


def test_relu6_is_a_clip_at_six(export):
    graph = load_graph(export(16, relu_clip=6.0))
    pairs = zip(
        ("Minimum", "Minimum_1", "Minimum_2", "Minimum_3"),
        ("BiasAdd", "BiasAdd_1", "BiasAdd_2", "BiasAdd_3"),
        strict=True,
    )
    changes = {name: {"op": "Relu6", "inputs": (bias,)} for name, bias in pairs}
    assert graph_weights(changed(graph, changes)).n_hidden == HIDDEN
    one = {"Minimum": changes["Minimum"]}
    with pytest.raises(AsrbuildError, match="one limit for the clipped ReLU"):
        graph_weights(changed(load_graph(export(16)), one))


def test_quantised_weights_are_refused_by_name(export):
    changes = {"layer_2/weights": {"op": "Dequantize", "inputs": ("x", "low", "high")}}
    with pytest.raises(AsrbuildError, match=r"layer_2/weights is not a constant: .* Dequantize"):
        graph_weights(changed(load_graph(export(16)), changes))
