"""A DeepSpeech ``.tflite`` as a source: its weights, and TensorFlow Lite's transcripts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest

from asrbuild.architectures.deepspeech import lite
from asrbuild.architectures.deepspeech.frozen import read_graph_weights
from asrbuild.architectures.tensorflow.inspect import inspect_graph
from asrbuild.architectures.tensorflow.lite import schema
from asrbuild.base.errors import AsrbuildError
from asrbuild.speech.alphabet import make_alphabet
from asrbuild.speech.audio import read_audio
from asrbuild.speech.greedy import GreedyDecoder
from asrbuild.speech.mfcc import FeatureSettings, features
from tests.other_files import GENUINE, TFLITE

WORDS = "hello world you are currently caller number"


@pytest.fixture(scope="module")
def model() -> lite.LiteModel:
    return lite.read_lite(TFLITE)


def changed(path: Path, change: Callable[[Any], None]) -> Path:
    """A copy of the genuine file with a change."""
    names = schema()
    whole = names.ModelT.InitFromPackedBuf(TFLITE.read_bytes(), 0)
    change(whole)
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(whole.Pack(builder), file_identifier=b"TFL3")
    path.write_bytes(builder.Output())
    return path


def quantised(model: Any) -> list[Any]:
    kinds = schema().TensorType
    return [t for t in model.subgraphs[0].tensors if t.type == kinds.INT8]


def as_floats(model: Any) -> None:
    """int8 weights as the float32 values that they represent."""
    for tensor in quantised(model):
        buffer = model.buffers[tensor.buffer]
        values = np.asarray(buffer.data, np.uint8).view(np.int8)
        buffer.data = (values.astype(np.float32) * np.float32(tensor.quantization.scale[0])).view(
            np.uint8
        )
        tensor.type, tensor.quantization = schema().TensorType.FLOAT32, None


def test_weights_are_those_of_the_frozen_graph_to_half_a_step(model: lite.LiteModel) -> None:
    exact = read_graph_weights(GENUINE / "coqui-1.4.0" / "x_q1.pb").named()
    found = model.weights.named()
    assert found.keys() == exact.keys()
    for name, values in found.items():
        wanted = exact[name]
        step = np.abs(wanted).max() / 127
        limit = 0 if name.endswith("bias") else 0.5001 * step
        assert np.abs(values - wanted).max() <= limit, name
    assert model.stored == "int8"
    assert (model.flags.n_steps, model.flags.n_hidden, model.flags.relu_clip) == (16, 96, 20)
    assert (model.flags.audio_sample_rate, model.flags.n_context, model.flags.n_input) == (
        16_000,
        9,
        26,
    )
    assert (model.flags.feature_win_len, model.flags.feature_win_step) == (32, 20)
    assert b"".join(model.labels[:4]) == b" 'ab"


def test_the_facts_of_the_graph_are_those_of_the_file(tmp_path: Path) -> None:
    assert "int8, dequantised" in lite.write_lite_graph(TFLITE, tmp_path / "g.pb")
    lite.write_lite_graph(TFLITE, tmp_path / "again.pb")
    assert (tmp_path / "g.pb").read_bytes() == (tmp_path / "again.pb").read_bytes()
    stated, exported = (
        {item.name: item.value for item in inspect_graph(file).metadata}
        for file in (tmp_path / "g.pb", GENUINE / "coqui-1.4.0" / "x_q1.pb")
    )
    assert stated == exported


def chunks(model: lite.LiteModel) -> np.ndarray:
    """The recording's windows, (chunks, 16, 19, 26), the last ones filled with zeros."""
    samples = read_audio(GENUINE / "hello.wav", 16_000)
    found = features(samples, FeatureSettings())
    filled = np.zeros((-(-len(found) // 16) * 16, *found.shape[1:]), np.float32)
    filled[: len(found)] = found
    return filled.reshape(-1, 16, *found.shape[1:])


def spoken(model: lite.LiteModel, run: Callable[[np.ndarray, Any, Any], Any]) -> tuple[Any, str]:
    c = h = np.zeros((1, 96), np.float32)
    rows = []
    for chunk in chunks(model):
        logits, c, h = run(chunk[None], c, h)
        rows.append(logits.reshape(16, -1))
    alphabet = make_alphabet([label.decode() for label in model.labels])
    found = np.concatenate(rows)
    return found, GreedyDecoder(alphabet, 0.02).decode(found)[0].text


def interpreter(path: Path) -> Callable[[np.ndarray, Any, Any], Any]:
    import tensorflow as tf

    ran = tf.lite.Interpreter(str(path))
    ran.allocate_tensors()
    inputs = {d["name"]: d["index"] for d in ran.get_input_details()}
    outputs = {d["name"]: d["index"] for d in ran.get_output_details()}

    def run(*values: np.ndarray) -> list[np.ndarray]:
        for name, value in zip(("input_node", *lite._STATES), values, strict=True):
            ran.set_tensor(inputs[name], value)
        ran.invoke()
        return [ran.get_tensor(outputs[name]) for name in lite.OUTPUTS]

    return run


def network(model: lite.LiteModel) -> Callable[[np.ndarray, Any, Any], Any]:
    def run(*values: np.ndarray) -> list[np.ndarray]:
        given = dict(zip(("input_node", *lite._STATES), values, strict=True))
        found = lite._network(model.weights, model.flags.relu_clip, given)
        return [found[name] for name in lite.OUTPUTS]

    return run


def test_tensorflow_lite_gives_the_same_transcript(model: lite.LiteModel, tmp_path: Path) -> None:
    """Kernels for int8 weights also round activations, so float weights are compared exactly."""
    ours, words = spoken(model, network(model))
    theirs, their_words = spoken(model, interpreter(TFLITE))
    assert (words, their_words) == (WORDS, WORDS)
    assert np.mean(ours.argmax(1) == theirs.argmax(1)) > 0.98
    floats = changed(tmp_path / "floats.tflite", as_floats)
    exact, exact_words = spoken(model, interpreter(floats))
    assert exact_words == WORDS
    np.testing.assert_allclose(ours, exact, atol=2e-4)


def as_halves(model: Any) -> None:
    """float32 weights as the converter's float16 constants, each before a DEQUANTIZE."""
    names = schema()
    as_floats(model)
    graph = model.subgraphs[0]
    code = names.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = names.BuiltinOperator.DEQUANTIZE
    code.version = 3
    model.operatorCodes.append(code)
    for index, tensor in list(enumerate(graph.tensors)):
        if b"weights" not in tensor.name and b"kernel" not in tensor.name:
            continue
        data = np.asarray(model.buffers[tensor.buffer].data, np.uint8).view(np.float32)
        half, buffer = names.TensorT(), names.BufferT()
        buffer.data = data.astype(np.float16).view(np.uint8)
        model.buffers.append(buffer)
        half.name, half.shape = tensor.name + b"_half", tensor.shape
        half.type, half.buffer = names.TensorType.FLOAT16, len(model.buffers) - 1
        graph.tensors.append(half)
        tensor.buffer = 0
        operator = names.OperatorT()
        operator.opcodeIndex = len(model.operatorCodes) - 1
        operator.inputs, operator.outputs = [len(graph.tensors) - 1], [index]
        graph.operators.insert(0, operator)


@pytest.mark.parametrize(("change", "stored"), [(as_floats, "float32"), (as_halves, "float16")])
def test_other_forms_of_stored_weights_are_read(
    change: Callable[[Any], None], stored: str, model: lite.LiteModel, tmp_path: Path
) -> None:
    found = lite.read_lite(changed(tmp_path / "x.tflite", change))
    assert found.stored == stored
    assert spoken(found, network(found))[1] == WORDS
    for name, values in found.weights.named().items():
        np.testing.assert_allclose(values, model.weights.named()[name], rtol=1e-3, atol=1e-6)


def another_operation(model: Any) -> None:
    tanh = schema().BuiltinOperator.TANH
    code = next(c for c in model.operatorCodes if tanh in (c.builtinCode, c.deprecatedBuiltinCode))
    code.builtinCode = code.deprecatedBuiltinCode = schema().BuiltinOperator.COS


def other_gates(model: Any) -> None:
    split = schema().BuiltinOperator.SPLIT
    codes = [max(c.builtinCode, c.deprecatedBuiltinCode) for c in model.operatorCodes]
    for operator in model.subgraphs[0].operators:
        if codes[operator.opcodeIndex] == split:
            operator.outputs = operator.outputs[[1, 0, 2, 3]]


def int8_input(model: Any) -> None:
    as_floats(model)
    kinds = schema().TensorType
    tensor = next(t for t in model.subgraphs[0].tensors if t.name == b"layer_2/weights/transpose")
    tensor.type = kinds.INT4


def no_scale(model: Any) -> None:
    quantised(model)[0].quantization = None


def other_clip(model: Any) -> None:
    tensor = next(t for t in model.subgraphs[0].tensors if t.name == b"Minimum_1/y")
    model.buffers[tensor.buffer].data = np.float32([6]).view(np.uint8)


def other_names(model: Any) -> None:
    next(t for t in model.subgraphs[0].tensors if t.name == b"input_node").name = b"image"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (another_operation, "the operation COS is not one of the known network"),
        (other_gates, "its operations give another"),
        (int8_input, "has elements of type INT4"),
        (no_scale, "is INT8 without a scale"),
        (other_clip, "it has 2 values as the limit of the clipped ReLU"),
        (other_names, "it has no input input_node"),
    ],
)
def test_unsupported_files_are_refused(
    change: Callable[[Any], None], message: str, tmp_path: Path
) -> None:
    path = changed(tmp_path / "x.tflite", change)
    with pytest.raises(AsrbuildError, match=message) as caught:
        lite.read_lite(path)
    assert caught.value.file == str(path)
    assert caught.value.fix


@pytest.mark.parametrize("size", [40, 5000, 100_000, 212_000])
def test_a_truncated_file_is_refused(size: int, tmp_path: Path) -> None:
    path = tmp_path / "x.tflite"
    path.write_bytes(TFLITE.read_bytes()[:size])
    with pytest.raises(AsrbuildError):
        lite.read_lite(path)


def test_inspect_graph_agrees_with_tensorflow_lite(capfd: pytest.CaptureFixture[str]) -> None:
    import tensorflow as tf

    from asrbuild.cli import inspect_graph as command

    command.inspect_graph(TFLITE, as_json=True)
    found = json.loads(capfd.readouterr().out)
    ran = tf.lite.Interpreter(str(TFLITE))
    details = {"inputs": ran.get_input_details(), "outputs": ran.get_output_details()}
    for side, tensors in details.items():
        wanted = {
            d["name"]: (np.dtype(d["dtype"]).name, d["shape"].tolist())
            for d in tensors
            if not d["name"].startswith("metadata_")
        }
        assert {p["name"]: (p["dtype"], p["shape"]) for p in found[side]} == wanted
    assert found["ops"]["FULLY_CONNECTED"] == 21
    assert found["stored"].keys() == {"float32", "int8"}
    assert sum(found["stored"].values()) == found["parameters"]
    stated = {item["name"]: item["value"] for item in found["metadata"]}
    assert stated["metadata_sample_rate"] == 16000
    assert "".join(stated["metadata_alphabet"]) == " 'abcdefghijklmnopqrstuvwxyz"
