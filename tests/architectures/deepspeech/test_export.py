"""The exported graph against the same network in numpy and in TensorFlow's own operations."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, strategies as st

from asrbuild.architectures.deepspeech.checkpoint import find_checkpoint, read_weights
from asrbuild.architectures.deepspeech.export import pack_alphabet, write_frozen_graph
from asrbuild.architectures.deepspeech.flags import ExportFlags
from asrbuild.architectures.deepspeech.frozen import graph_weights, read_graph_weights, relu_clip
from asrbuild.architectures.deepspeech.graph_shape import graph_steps
from asrbuild.architectures.deepspeech.network import LSTM_SCOPE, random_weights
from asrbuild.architectures.tensorflow.graph import load_graph
from asrbuild.architectures.tensorflow.inspect import inspect_graph, unpack_alphabet
from asrbuild.architectures.tensorflow.proto import FLOAT, Graph, Node, Shape
from asrbuild.base.errors import AsrbuildError
from asrbuild.speech.audio import read_audio
from asrbuild.speech.mfcc import FeatureSettings, features
from tests.paths import GENUINE

HIDDEN = 32
OUTPUTS = ["logits", "new_state_c", "new_state_h"]


def feeds(batch, steps, lengths, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "input_node": rng.standard_normal((batch, steps, 19, 26)).astype(np.float32),
        "input_lengths": np.array(lengths, np.int32),
        "previous_state_c": rng.standard_normal((batch, HIDDEN)).astype(np.float32),
        "previous_state_h": rng.standard_normal((batch, HIDDEN)).astype(np.float32) * 0.5,
    }


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def plain_network(weights, given, clip=20.0):
    """The network written from its description, in float64; rows past a length are not computed."""
    w = {name: value.astype(np.float64) for name, value in weights.named().items()}
    x = given["input_node"].astype(np.float64)
    batch, steps = x.shape[:2]

    def dense(x, layer):
        x = x @ w[f"{layer}/weights"] + w[f"{layer}/bias"]
        return x if layer == "layer_6" else np.clip(x, 0, clip)

    x = x.reshape(batch, steps, -1)
    for layer in ("layer_1", "layer_2", "layer_3"):
        x = dense(x, layer)
    hidden = np.zeros_like(x)
    states = []
    for b in range(batch):
        c = given["previous_state_c"][b].astype(np.float64)
        h = given["previous_state_h"][b].astype(np.float64)
        for t in range(given["input_lengths"][b]):
            gates = np.concatenate([x[b, t], h]) @ w[f"{LSTM_SCOPE}/kernel"]
            i, new, f, o = np.split(gates + w[f"{LSTM_SCOPE}/bias"], 4)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(new)
            h = sigmoid(o) * np.tanh(c)
            hidden[b, t] = h
        states.append((c, h))
    x = dense(dense(hidden, "layer_5"), "layer_6")
    x = np.exp(x - x.max(-1, keepdims=True))
    x /= x.sum(-1, keepdims=True)
    return x.transpose(1, 0, 2), np.array([c for c, _ in states]), np.array([h for _, h in states])


def close(got, expected):
    for name, ours, theirs in zip(OUTPUTS, got, expected, strict=True):
        assert ours.shape == theirs.shape, name
        np.testing.assert_allclose(ours, theirs, atol=2e-5, err_msg=name)


@pytest.mark.parametrize("length", [0, 1, 7, 15, 16])
def test_static_graph_is_the_network(export, run_graph, weights, length):
    given_ = feeds(1, 16, [length], seed=length)
    close(run_graph(export(16), OUTPUTS, given_), plain_network(weights, given_))


@pytest.mark.parametrize(("steps", "length"), [(1, 1), (5, 3), (40, 40), (40, 0)])
def test_dynamic_graph_is_the_network(export, run_graph, weights, steps, length):
    given_ = feeds(1, steps, [length], seed=steps)
    close(run_graph(export(-1), OUTPUTS, given_), plain_network(weights, given_))


def test_a_batch_of_three_has_three_lengths(export, run_graph, weights):
    for n_steps in (12, -1):
        given_ = feeds(3, 12, [12, 0, 5])
        graph = export(n_steps, batch_size=3)
        close(run_graph(graph, OUTPUTS, given_), plain_network(weights, given_))


def test_relu_clip_is_in_the_graph(export, run_graph, weights):
    given_ = feeds(1, 4, [4])
    graph = export(4, relu_clip=0.5)
    clipped = run_graph(graph, OUTPUTS, given_)
    close(clipped, plain_network(weights, given_, clip=0.5))
    assert np.abs(clipped[0] - run_graph(export(4), OUTPUTS, given_)[0]).max() > 1e-3
    assert relu_clip(load_graph(graph)) == 0.5


def test_lstm_is_tensorflows_block_lstm(export, run_graph, weights, tf):
    """The LSTM equals the kernel bit for bit on the output of the graph's layer 3."""
    given_ = feeds(1, 16, [16])
    third, logits_in, *state = run_graph(
        export(16), ["Reshape_2", "Reshape_3", *OUTPUTS[1:]], given_
    )
    zeros = np.zeros(HIDDEN, np.float32)
    block = tf.raw_ops.BlockLSTM(
        seq_len_max=16,
        x=third,
        cs_prev=given_["previous_state_c"],
        h_prev=given_["previous_state_h"],
        w=weights.lstm_kernel,
        wci=zeros,
        wcf=zeros,
        wco=zeros,
        b=weights.lstm_bias,
        forget_bias=0,
        cell_clip=-1,
        use_peephole=False,
    )
    np.testing.assert_allclose(block.h[:, 0], logits_in, atol=1e-6)
    np.testing.assert_allclose(block.cs[-1], state[0], atol=1e-6)
    np.testing.assert_allclose(block.h[-1], state[1], atol=1e-6)


def test_chunks_with_carried_state_are_one_shot(export, run_graph):
    one = feeds(1, 37, [37], seed=5)
    logits, c, h = run_graph(export(-1), OUTPUTS, one)
    state, rows = (one["previous_state_c"], one["previous_state_h"]), []
    for start in range(0, 37, 16):
        real = min(16, 37 - start)
        chunk = np.zeros((1, 16, 19, 26), np.float32)
        chunk[:, :real] = one["input_node"][:, start : start + real]
        rows_, *state = run_graph(
            export(16),
            OUTPUTS,
            {
                "input_node": chunk,
                "input_lengths": np.array([real], np.int32),
                "previous_state_c": state[0],
                "previous_state_h": state[1],
            },
        )
        rows.append(rows_[:real])
    np.testing.assert_allclose(np.concatenate(rows), logits, atol=1e-6)
    np.testing.assert_allclose(state[0], c, atol=1e-5)
    np.testing.assert_allclose(state[1], h, atol=1e-5)


def test_features_are_tensorflows(export, run_graph, tf):
    samples = np.random.default_rng(1).standard_normal(512).astype(np.float32) * 0.2
    (ours,) = run_graph(export(16), ["mfccs"], {"input_samples": samples})
    spectrogram = tf.raw_ops.AudioSpectrogram(
        input=samples[:, None], window_size=512, stride=320, magnitude_squared=True
    )
    theirs = tf.raw_ops.Mfcc(
        spectrogram=spectrogram,
        sample_rate=16_000,
        upper_frequency_limit=8000.0,
        dct_coefficient_count=26,
    )
    assert ours.shape == (1, 26)
    assert np.array_equal(ours, theirs[0])


@pytest.mark.parametrize(("n_steps", "time"), [(16, 16), (-1, None)])
def test_names_and_shapes_that_clients_rely_on(export, tf, n_steps, time):
    definition = tf.compat.v1.GraphDef.FromString(export(n_steps).read_bytes())
    with tf.Graph().as_default() as graph:
        tf.compat.v1.import_graph_def(definition, name="")
    expected = {
        "input_samples": ("float32", [512]),
        "input_node": ("float32", [1, time, 19, 26]),
        "input_lengths": ("int32", [1]),
        "previous_state_c": ("float32", [1, HIDDEN]),
        "previous_state_h": ("float32", [1, HIDDEN]),
        "mfccs": ("float32", [1, 26]),
        "logits": ("float32", [time, 1, 29]),
        "raw_logits": ("float32", [time, 1, 29]),
        "new_state_c": ("float32", [1, HIDDEN]),
        "new_state_h": ("float32", [1, HIDDEN]),
        "metadata_version": ("int32", [1]),
        "metadata_sample_rate": ("int32", [1]),
        "metadata_feature_win_len": ("int32", [1]),
        "metadata_feature_win_step": ("int32", [1]),
        "metadata_beam_width": ("int32", [1]),
        "metadata_alphabet": ("string", [1]),
        f"{LSTM_SCOPE}/BlockLSTM": ("float32", [time, 1, HIDDEN]),
    }
    for name, (dtype, shape) in expected.items():
        tensor = graph.get_tensor_by_name(f"{name}:0")
        assert (tensor.dtype.name, tensor.shape.as_list()) == (dtype, shape), name
    placeholders = [node.name for node in definition.node if node.op == "Placeholder"]
    assert sorted(placeholders) == sorted(list(expected)[:5])
    assert "metadata_language" not in {node.name for node in definition.node}


def test_the_graph_has_only_attributes_that_old_clients_know(export):
    """For a newer attribute the client returns an empty text, and no error."""
    newer = {"bad_indices_policy", "grad_a", "grad_b"}
    for node in load_graph(export(-1)).nodes:
        assert not newer & set(node.attrs), node.name
        assert not any(key.startswith("_") for key in node.attrs), node.name


def test_the_graph_has_the_metadata_of_its_flags(export):
    path = export(16, export_language="en-Latn-US", beam_width=321, feature_win_step=10)
    values = {item.name: (item.value, item.unit) for item in inspect_graph(path).metadata}
    assert values == {
        "metadata_version": (6, None),
        "metadata_sample_rate": (16_000, "Hz"),
        "metadata_feature_win_len": (32, "ms"),
        "metadata_feature_win_step": (10, "ms"),
        "metadata_beam_width": (321, None),
        "metadata_alphabet": ([" ", *"abcdefghijklmnopqrstuvwxyz", "'"], None),
        "metadata_language": ("en-Latn-US", None),
    }


@given(st.lists(st.text(min_size=1, max_size=4), max_size=300))
def test_alphabet_survives(texts):
    try:
        packed = pack_alphabet(texts)
    except UnicodeEncodeError:  # lone surrogates are not text
        return
    assert unpack_alphabet(packed) == texts


def test_a_byte_alphabet_is_written_as_labels():
    packed = pack_alphabet([bytes([value]) for value in range(1, 256)])
    assert unpack_alphabet(packed)[64] == "A"
    assert unpack_alphabet(packed)[254] == "\\xff"


_SCRIPT = """
import hashlib, pathlib, sys
from asrbuild.architectures.deepspeech.export import write_frozen_graph
from asrbuild.architectures.deepspeech.flags import ExportFlags
from asrbuild.architectures.deepspeech.network import random_weights
path = pathlib.Path(sys.argv[1])
labels = [" ", *"abcdefghijklmnopqrstuvwxyz", "'"]
write_frozen_graph(random_weights(32, seed=3), ExportFlags(16, 32), labels, path)
assert not {"tensorflow", "coremltools"} & set(sys.modules)
print(hashlib.sha256(path.read_bytes()).hexdigest())
"""


def test_other_processes_export_the_same_bytes_without_tensorflow(export, tmp_path):
    digests = {hashlib.sha256(export(16).read_bytes()).hexdigest()}
    for seed in ("1", "2"):
        command = [sys.executable, "-c", _SCRIPT, str(tmp_path / seed)]
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
        digests.add(done.stdout.strip())
    assert len(digests) == 1


def test_weights_are_read_back_from_the_graph(export, weights):
    read = read_graph_weights(export(-1))
    for name, value in weights.named().items():
        assert np.array_equal(read.named()[name], value), name


PAIRS = [
    ("coqui-1.4.0", "x_q1.pb"),
    ("deepspeech-0.6.1", "x_r061.pb"),
    ("deepspeech-0.9.3", "x_r1_16.pb"),
    ("deepspeech-0.9.3", "x_r1_dyn.pb"),
    ("deepspeech-0.9.3-8khz", "x_r4k8_16.pb"),
    ("deepspeech-0.9.3-bytes", "x_r5b_16.pb"),
    ("deepspeech-0.9.3-layer-norm", "x_r2_16.pb"),
    ("deepspeech-0.9.3-layer-norm", "x_r2_dyn.pb"),
    ("deepspeech-0.9.3-swahili-labels", "x_r3sw_16.pb"),
]


@pytest.mark.parametrize(("folder", "name"), PAIRS)
def test_our_export_of_a_genuine_checkpoint_equals_the_genuine_one(
    folder, name, tmp_path, run_graph
):
    """The weights are equal, and so are the values on real speech."""
    genuine = GENUINE / folder / name
    weights = read_weights(find_checkpoint(GENUINE / folder / "checkpoint"))
    read = read_graph_weights(genuine)
    assert read.named().keys() == weights.named().keys()
    for variable, value in weights.named().items():
        assert np.array_equal(read.named()[variable], value), variable
    graph = load_graph(genuine)
    steps = graph_steps(graph)
    flags = ExportFlags(steps or -1, weights.n_hidden, relu_clip=relu_clip(graph))
    ours = tmp_path / "output_graph.pb"
    write_frozen_graph(weights, flags, ["a"] * (weights.n_output - 1), ours)
    rate, recording = (8000, "hello8k.wav") if "8khz" in folder else (16000, "hello.wav")
    settings = FeatureSettings(rate, rate // 1000 * 32, rate // 1000 * 20, upper_hz=rate / 2)
    windows = features(read_audio(GENUINE / recording, rate), settings)
    values = {}
    for path in (ours, genuine):
        state, rows = [np.zeros((1, weights.n_hidden), np.float32)] * 2, []
        for start in range(0, len(windows), steps or len(windows)):
            part = windows[start : start + (steps or len(windows))]
            padded = np.zeros((1, steps or len(part), *part.shape[1:]), np.float32)
            padded[0, : len(part)] = part
            given = [padded, np.array([len(part)], np.int32), *state]
            names = ["input_node", "input_lengths", "previous_state_c", "previous_state_h"]
            found, *state = run_graph(path, OUTPUTS, dict(zip(names, given, strict=True)))
            rows.append(found[: len(part), 0])
        values[path] = [np.concatenate(rows), *state]
    for one, other in zip(values[ours], values[genuine], strict=True):
        # The operations and values are the same; threads may add in another order. Measured: 0.
        assert np.abs(one - other).max() < 1e-6


def test_other_graphs_are_refused(export):
    nodes = load_graph(export(16)).nodes
    with pytest.raises(AsrbuildError, match="not a DeepSpeech graph") as error:
        graph_weights(Graph((Node("x", "Placeholder"),)))
    assert "its constants are: none" in error.value.message
    without = tuple(node for node in nodes if node.name != "layer_5/bias")
    with pytest.raises(AsrbuildError, match="missing layer_5/bias"):
        graph_weights(Graph(without))
    no_cell = tuple(node for node in nodes if node.op != "BlockLSTM")
    with pytest.raises(AsrbuildError, match=r"it has no .*BlockLSTM"):
        graph_weights(Graph(no_cell))
    flat = (Node("input_node", "Placeholder", (), {"dtype": FLOAT, "shape": Shape((None, 494))}),)
    with pytest.raises(AsrbuildError, match="input_node has 2 dimensions"):
        graph_weights(Graph(flat + tuple(node for node in nodes if node.name != "input_node")))


@pytest.mark.parametrize(
    ("flags", "message", "key"),
    [
        ({"n_steps": 0}, "n_steps is 0", "n_steps"),
        ({"n_steps": -2}, "n_steps is -2", "n_steps"),
        ({"n_hidden": 64}, "n_hidden is 64, but the weights have 32", "n_hidden"),
        ({"batch_size": 0}, "batch_size is 0", "batch_size"),
        ({"batch_size": -1}, "batch_size is -1", "batch_size"),
        ({"n_context": 8}, "make 442 features, but the weights read 494", "n_context"),
        ({"n_context": -1}, "but the weights read 494", "n_context"),
        ({"feature_win_len": 0}, "feature_win_len is 0", "feature_win_len"),
        (
            {"audio_sample_rate": 11025, "feature_win_len": 33},
            "feature_win_len of 33 ms is not a whole number of samples at 11025 Hz",
            "feature_win_len",
        ),
        ({"relu_clip": -1.0}, "relu_clip is -1.0", "relu_clip"),
    ],
)
def test_flags_that_do_not_fit_the_weights_are_refused(
    weights, labels, tmp_path, flags, message, key
):
    with pytest.raises(AsrbuildError) as error:
        write_frozen_graph(
            weights, ExportFlags(**{"n_steps": 16, "n_hidden": 32} | flags), labels, tmp_path / "g"
        )
    assert message in str(error.value)
    assert error.value.key == key
    assert not (tmp_path / "g").exists()


def test_an_alphabet_of_another_size_is_refused(weights, labels, tmp_path):
    with pytest.raises(AsrbuildError, match="27 labels, but the weights are for 28"):
        write_frozen_graph(weights, ExportFlags(16, 32), labels[:-1], tmp_path / "g")


def test_a_missing_output_folder_is_refused(weights, labels, tmp_path):
    with pytest.raises(AsrbuildError, match="cannot write the graph: No such file"):
        write_frozen_graph(weights, ExportFlags(16, 32), labels, tmp_path / "no" / "g")


def test_wide_graph_fills_its_peepholes(labels, tmp_path, run_graph):
    """From 1000 units on, TensorFlow 1 stores the zeros as a Fill."""
    path = tmp_path / "wide.pb"
    write_frozen_graph(random_weights(1000), ExportFlags(2, 1000), labels, path)
    zeros, logits = run_graph(
        path,
        [f"{LSTM_SCOPE}/zeros", "logits"],
        {
            "input_node": np.ones((1, 2, 19, 26)),
            "input_lengths": [2],
            "previous_state_c": np.zeros((1, 1000)),
            "previous_state_h": np.zeros((1, 1000)),
        },
    )
    assert zeros.shape == (1000,)
    assert not zeros.any()
    assert logits.shape == (2, 1, 29)
