"""``inspect graph``: the summary, and refusals."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from asrbuild.architectures.deepspeech.graph_shape import (
    check_input_shape,
    check_steps,
    graph_steps,
)
from asrbuild.architectures.tensorflow.graph import load_graph
from asrbuild.architectures.tensorflow.inspect import inspect_graph, read_metadata
from asrbuild.architectures.tensorflow.outputs import check_outputs, placeholder_shape
from asrbuild.architectures.tensorflow.proto import Graph, Node, constant
from asrbuild.base.errors import AsrbuildError
from tests.command import output, values
from tests.imports import run_command


def test_the_summary_shows_nodes_weights_and_metadata(export):
    summary = inspect_graph(export(-1, export_language="en"))
    assert [(port.name, port.dtype, port.shape) for port in summary.inputs] == [
        ("input_samples", "float32", (512,)),
        ("input_node", "float32", (1, None, 19, 26)),
        ("input_lengths", "int32", (1,)),
        ("previous_state_c", "float32", (1, 32)),
        ("previous_state_h", "float32", (1, 32)),
    ]
    assert [(port.name, port.dtype, port.shape) for port in summary.outputs] == [
        ("mfccs", "float32", None),
        ("logits", "float32", None),
        ("new_state_c", "float32", None),
        ("new_state_h", "float32", None),
    ]
    assert summary.ops["BlockLSTM"] == 1
    assert summary.ops["MatMul"] == 5
    hidden = 32
    dense = 494 * hidden + 3 * hidden**2 + hidden * 29 + 4 * hidden + 29
    zeros = hidden  # the unused peepholes are in the file too
    assert summary.parameters == dense + 8 * hidden**2 + 4 * hidden + zeros


def test_the_command_prints_a_table_or_json(export):
    path = export(16)
    table = output("inspect", "graph", path)
    for text in ("[1, 16, 19, 26]", "28 labels", "32 ms", "BlockLSTM"):
        assert text in table, text
    data = values("inspect", "graph", path)
    assert data["inputs"][1] == {
        "name": "input_node",
        "op": "Placeholder",
        "dtype": "float32",
        "shape": [1, 16, 19, 26],
    }
    assert data["nbytes"] == path.stat().st_size


def test_command_imports_no_tensorflow(export):
    _, modules = run_command("inspect", "graph", export(16))
    assert not modules & {"tensorflow", "coremltools", "google.protobuf"}


def test_damaged_metadata_is_refused():
    for value in (np.zeros(0, np.int32), np.array([b"\x05\x00\x01"], object)):
        node = Node("metadata_alphabet", "Const", (), {"value": constant(value)})
        with pytest.raises(AsrbuildError, match="metadata node metadata_alphabet is damaged"):
            read_metadata(Graph((node,)))


def test_missing_outputs_are_refused(export):
    graph = load_graph(export(16))
    check_outputs(graph, ["logits", "new_state_c", f"{'Minimum_2'}:0"])
    with pytest.raises(AsrbuildError) as error:
        check_outputs(graph, ["logits", "logit", "state"])
    assert error.value.message == "the graph has no output logit, state"
    assert error.value.fix == "its outputs are: mfccs, logits, new_state_c, new_state_h"


def test_static_graph_takes_no_other_steps(export):
    graph = load_graph(export(16))
    assert graph_steps(graph) == 16
    check_steps(graph, [16])
    with pytest.raises(AsrbuildError, match=r"^the graph is static at 16 steps, asked 32") as error:
        check_steps(graph, [16, 32])
    assert "n_steps=-1" in error.value.fix
    with pytest.raises(AsrbuildError, match="static at 16 steps, asked any number"):
        check_steps(graph, [None])
    with pytest.raises(AsrbuildError, match="static at 32 in dimension 1 of previous_state_c"):
        check_input_shape(graph, "previous_state_c", (1, 64))
    with pytest.raises(AsrbuildError, match="has 4 dimensions, asked 2"):
        check_input_shape(graph, "input_node", (1, 16))
    dynamic = load_graph(export(-1))
    assert graph_steps(dynamic) is None
    check_steps(dynamic, [1, 16, 500, None])


def test_missing_inputs_are_refused(export):
    with pytest.raises(AsrbuildError, match="no input input_mode") as error:
        placeholder_shape(load_graph(export(16)), "input_mode")
    assert "its inputs are: input_samples, input_node" in error.value.message
    with pytest.raises(AsrbuildError, match="has no declared shape"):
        placeholder_shape(Graph((Node("x", "Placeholder"),)), "x")
    with pytest.raises(AsrbuildError, match="no input x") as error:
        placeholder_shape(Graph((Node("import/x", "Placeholder"),)), "x")
    assert "begin with import/" in error.value.fix


def test_the_table_of_convertible_operations_is_coremltools():
    from asrbuild.architectures.tensorflow.convertible import TRANSLATED

    # In a separate process: conversions of other tests add names to coremltools' registry.
    script = """
import coremltools.converters.mil.frontend.tensorflow.ops
import coremltools.converters.mil.frontend.tensorflow2.ops
from coremltools.converters.mil.frontend.tensorflow.tf_op_registry import _TF_OPS_REGISTRY
print(" ".join(_TF_OPS_REGISTRY))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    # Operations that coremltools makes itself while it rewrites control flow and variables.
    internal = {"function_entry", "get_global", "get_tuple", "iff", "make_tuple", "set_global"}
    assert set(done.stdout.splitlines()[-1].split()) - internal == TRANSLATED


def _saved(graph, folder) -> str:
    path = folder / "g.pb"
    path.write_bytes(graph.as_graph_def().SerializeToString())
    return str(path)


def test_the_functions_of_a_tensorflow_2_graph_are_counted(tf, tmp_path):
    weights = np.ones((300, 40), np.float32)

    @tf.function
    def inner(x):
        return tf.raw_ops.Bitcast(input=tf.matmul(x, weights), type=tf.int32)

    @tf.function(input_signature=[tf.TensorSpec([None, 300], tf.float32, "x")])
    def outer(x):
        return {"y": inner(x)}

    summary = inspect_graph(_saved(outer.get_concrete_function().graph, tmp_path))
    assert summary.frozen
    assert summary.parameters == 300 * 40
    (name,) = summary.functions
    assert summary.ops["MatMul"] == 1
    refused = {item.op: item for item in summary.unconvertible}
    assert refused["Bitcast"].node == f"{name}/Bitcast"
    call = next(op for op in summary.ops if op.endswith("PartitionedCall"))
    assert refused[call].outputs == refused["Bitcast"].outputs
    shown = output("inspect", "graph", tmp_path / "g.pb")
    assert "No Core ML form" in shown
    assert "Bitcast" in shown


def test_an_unfrozen_graph_is_reported(tf, tmp_path):
    v1 = tf.compat.v1
    with tf.Graph().as_default() as graph:
        x = v1.placeholder(tf.float32, [None, 4], "x")
        w = v1.get_variable("w", [4, 2], use_resource=False)
        r = v1.get_variable("r", [4, 2], use_resource=True)
        tf.add(tf.matmul(x, w), tf.matmul(x, r), name="y")
    path = _saved(graph, tmp_path)
    summary = inspect_graph(path)
    assert not summary.frozen
    assert summary.variables == ("w", "r")
    assert summary.as_dict()["frozen"] is False
    assert "not frozen: w and 1 more hold variables" in output("inspect", "graph", path)


def test_operations_without_a_core_ml_form_are_named_with_the_outputs_that_need_them(tf, tmp_path):
    v1 = tf.compat.v1
    with tf.Graph().as_default() as graph:
        wav = v1.placeholder(tf.string, [], "wav")
        x = v1.placeholder(tf.float32, [1, 4], "x")
        samples = tf.audio.decode_wav(wav).audio
        tf.nn.relu(samples, name="heard")
        # Of constants alone: coremltools computes it while it converts.
        kept = tf.raw_ops.Bitcast(input=np.float32([1, 2, 3, 4]), type=tf.float32)
        tf.add(x, kept, name="y")
        tf.raw_ops.Bitcast(input=x, type=tf.int32, name="bits")
    summary = inspect_graph(_saved(graph, tmp_path))
    found = {item.op: item.outputs for item in summary.unconvertible}
    assert found == {"DecodeWav": ("heard",), "Bitcast": ("bits",)}


def test_a_damaged_function_library_is_one_error(tf, tmp_path):
    @tf.function(input_signature=[tf.TensorSpec([2], tf.float32)])
    def f(x):
        return tf.cond(x[0] > 0, lambda: x, lambda: -x)

    definition = f.get_concrete_function().graph.as_graph_def()
    assert definition.library.function
    path = tmp_path / "g.pb"
    definition.library.ClearField("function")
    path.write_bytes(definition.SerializeToString() + bytes([0x12, 3, 0x0A, 9, 1]))
    with pytest.raises(AsrbuildError, match="function library is damaged"):
        inspect_graph(path)


def test_a_graph_of_ours_can_be_converted_whole(export):
    summary = inspect_graph(export(n_steps=16))
    assert summary.frozen
    assert summary.unconvertible == ()
    assert summary.functions == {}
