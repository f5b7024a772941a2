"""asrbuild's GraphDef reader and writer, compared with TensorFlow's, and on damaged files."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from asrbuild.architectures.tensorflow.graph import load_graph
from asrbuild.architectures.tensorflow.proto import (
    FLOAT,
    DType,
    Graph,
    Node,
    Shape,
    Tensor,
    constant,
    write_graph,
)
from asrbuild.base import protobuf as wire
from asrbuild.base.errors import AsrbuildError


@pytest.fixture(scope="module")
def foreign(tf, tmp_path_factory):
    """A graph TensorFlow wrote, with every kind of attribute and constant."""
    v1 = tf.compat.v1
    values = {
        "f16": np.arange(3, dtype=np.float16),
        "f64": np.array([[1.5, -2.5]]),
        "i8": np.array([-3, 4], np.int8),
        "u8": np.array([200, 3], np.uint8),
        "i64": np.array([1 << 40, -7]),
        "bools": np.array([True, False]),
        "text": np.array([[b"a", b"\xff\x00"]]),
        "complex": np.array([1 + 2j], np.complex64),
        "complex128": np.array([1 - 2j, 3j]),
        "scalar": np.float32(0.25),
        "empty": np.zeros((0, 3), np.float32),
        "same": np.full((2, 50), 7, np.int32),
    }
    with tf.Graph().as_default() as graph:
        for name, value in values.items():
            v1.constant(value, name=name)
        v1.constant(3.5, shape=[4, 5], name="filled", dtype=tf.float32)
        x = v1.placeholder(tf.float32, [None, 8, 8, 3], "x")
        v1.placeholder(tf.int32, None, "any")
        w = v1.constant(np.ones((3, 3, 3, 2), np.float32), name="w")
        y = tf.nn.conv2d(x, w, strides=[1, 2, 2, 1], padding="SAME", name="conv")
        with tf.device("/cpu:0"), tf.control_dependencies([w]):
            tf.identity(y, name="out")
        tf.split(y, 2, axis=3, name="halves")
        tf.raw_ops.Bucketize(input=x, boundaries=[0.5, 1.5], name="buckets")
    path = tmp_path_factory.mktemp("foreign") / "foreign.pb"
    path.write_bytes(graph.as_graph_def().SerializeToString())
    return path, values


def test_constants_are_read(foreign):
    path, values = foreign
    graph = load_graph(path)
    for name, expected in values.items():
        got = graph.by_name[name].value
        assert got.shape == np.shape(expected), name
        if name == "text":
            assert got.tolist() == expected.tolist()
        else:
            assert got.dtype == expected.dtype, name
            assert got.tobytes() == np.asarray(expected).tobytes(), name
    assert graph.by_name["filled"].value.tolist() == [[3.5] * 5] * 4


def test_attributes_are_read(foreign):
    graph = load_graph(foreign[0])
    conv = graph.by_name["conv"]
    assert conv.inputs == ("x", "w")
    assert conv.attrs["strides"] == [1, 2, 2, 1]
    assert conv.attrs["padding"] == b"SAME"
    assert conv.attrs["use_cudnn_on_gpu"] is True
    assert conv.attrs["T"] == FLOAT
    assert graph.by_name["x"].attrs["shape"] == Shape((None, 8, 8, 3))
    assert graph.by_name["any"].attrs["shape"] == Shape(None)
    assert graph.by_name["buckets"].attrs["boundaries"] == [0.5, 1.5]
    assert graph.by_name["out"].inputs == ("conv", "^w")
    assert "CPU:0" in graph.by_name["out"].device.upper()


def test_tensorflow_reads_written_graphs_the_same(tf, foreign, export, tmp_path):
    """TensorFlow's messages are compared, constants by their values."""
    for path in (foreign[0], export(16), export(-1)):
        write_graph(load_graph(path), tmp_path / "again.pb")
        before, after = (
            tf.compat.v1.GraphDef.FromString(p.read_bytes()) for p in (path, tmp_path / "again.pb")
        )
        assert after.versions.producer == before.versions.producer
        for old, new in zip(before.node, after.node, strict=True):
            if old.op == "Const":
                assert np.array_equal(
                    tf.make_ndarray(old.attr["value"].tensor),
                    tf.make_ndarray(new.attr["value"].tensor),
                )
                old.attr["value"].Clear()
                new.attr["value"].Clear()
            assert new == old


def test_a_written_graph_is_read_back(tmp_path):
    node = Node(
        "n",
        "Op",
        ("a:1", "^b"),
        {
            "negative": -5,
            "flag": False,
            "number": -0.5,
            "text": b"\x00\xff",
            "type": DType(19),
            "shape": Shape((None, 0, 3)),
            "list": [1, -2, 3],
            "value": constant(np.array([[1, 2]], np.int64)),
        },
        device="/cpu:0",
    )
    others = [Node(name, "NoOp") for name in "ab"]
    write_graph(Graph((*others, node), producer=7), tmp_path / "g.pb")
    read = load_graph(tmp_path / "g.pb")
    assert read.producer == 7
    assert read.by_name["n"].attrs.pop("value").array().tolist() == [[1, 2]]
    del node.attrs["value"]
    assert read.nodes[2] == node


def test_short_values_repeat_the_last():
    tensor = Tensor(FLOAT, (2, 3), values=(1.0, 2.0))
    assert tensor.array().tolist() == [[1, 2, 2], [2, 2, 2]]
    assert Tensor(FLOAT, (2,)).array().tolist() == [0, 0]
    with pytest.raises(wire.WireError, match="3 values for"):
        Tensor(FLOAT, (2,), values=(1.0, 2.0, 3.0)).array()
    with pytest.raises(wire.WireError, match="5 bytes do not fill"):
        Tensor(FLOAT, (2,), content=b"12345").array()


def outcome(path) -> Graph | AsrbuildError:
    try:
        return load_graph(path)
    except AsrbuildError as error:
        return error


def test_a_truncated_graph_is_refused_at_any_length(export, tmp_path):
    """A cut between two nodes is found by its missing nodes; no other exception is raised."""
    whole = export(16).read_bytes()
    path = tmp_path / "cut.pb"
    refused = 0
    sizes = [*range(0, 3000, 7), *range(3000, len(whole), 997)]
    for size in sizes:
        path.write_bytes(whole[:size])
        result = outcome(path)
        if isinstance(result, AsrbuildError):
            refused += 1
            assert (result.file, bool(result.fix)) == (str(path), True)
        else:  # the cut is between two nodes, and the rest reads no removed node
            assert len(result.nodes) < 120
    assert refused > 0.97 * len(sizes)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300))
def test_any_bytes_are_a_graph_or_a_clear_error(tmp_path, data):
    path = tmp_path / "any.pb"
    path.write_bytes(data)
    result = outcome(path)
    assert isinstance(result, Graph) or "graph" in result.message.lower()


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 3000), value=st.integers(0, 255))
def test_a_changed_byte_is_a_graph_or_a_clear_error(small, tmp_path, at, value):
    """Changed bytes give unknown field types, wrong sizes and names that are not text."""
    content = bytearray(small)
    content[at % len(content)] = value
    path = tmp_path / "changed.pb"
    path.write_bytes(content)
    result = outcome(path)
    assert isinstance(result, (Graph, AsrbuildError))


@pytest.fixture(scope="module")
def small(foreign):
    return foreign[0].read_bytes()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "this is an empty file"),
        (
            b"RIFF\x00\x00\x00\x00WAVEfmt ",
            "a WAV recording .its name ends in .pb., not",
        ),
        (b"node {\n  name: 'x'\n}\n", "this is a TensorFlow graph as text"),
        (b"\x22\x02\x08\x07", "a file of no kind"),
        (b"\x0a\x07\x0a\x01x\x12\x01y\x1a", "ends inside a number|ends inside a field"),
        (b"\x0a\x06\x0a\x01x\x12\x01y\x0a\x09\x0a\x01z\x12\x01y\x1a\x01q", "node z reads q"),
        (b"\x0a\x03\x0a\x01x", "a file of no kind"),
        (b"\x0a\x06\x0a\x01\xff\x12\x01y", "utf-8"),
        # The text of an attribute is a number: read as a length, it would allocate a terabyte.
        (
            b"\x0a\x14\x0a\x01x\x12\x01y\x2a\x0c\x0a\x01a\x12\x07\x10\x80\x80\x80\x80\x80\x20",
            "a number is in the place of a message or text",
        ),
    ],
)
def test_files_that_are_not_graphs_are_refused(tmp_path, content, message):
    path = tmp_path / "bad.pb"
    path.write_bytes(content)
    with pytest.raises(AsrbuildError, match=message):
        load_graph(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(AsrbuildError, match="no such TensorFlow graph"):
        load_graph(tmp_path / "none.pb")
    with pytest.raises(AsrbuildError, match="this is a folder, not a TensorFlow graph"):
        load_graph(tmp_path)


@given(st.integers(-(2**63), 2**63 - 1))
def test_varints_are_read_and_written(value):
    data = memoryview(wire.varint(value))
    read, end = wire.read_varint(data, 0)
    assert wire.signed(read) == value
    assert end == len(data)
