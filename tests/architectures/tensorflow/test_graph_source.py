"""Any frozen graph as a source: cuts, measured facts, conversion, and TensorFlow's process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from asrbuild.architectures.onnx.inside import package_signature
from asrbuild.architectures.onnx.section import OnnxConfig, read_section, signature_of
from asrbuild.architectures.original import save_cases, start
from asrbuild.architectures.tensorflow_graph import architecture
from asrbuild.architectures.tensorflow_graph.convert import convert_graph
from asrbuild.architectures.tensorflow_graph.settle import cut_to, settled
from asrbuild.base.array import Array
from asrbuild.base.errors import AsrbuildError
from asrbuild.coreml.executor import load
from asrbuild.coreml.executor.package import open_package
from asrbuild.coreml.request import ConversionRequest, FixedSteps, RangeSteps
from asrbuild.speech.audio import read_audio
from tests.architectures.tensorflow.keywords import CLASSES, SAMPLES, write_keywords
from tests.paths import DEMO

AT_SAMPLES = OnnxConfig(
    inputs={
        "decoded_sample_data": {"meaning": "samples", "axes": ["samples", 1], "steps": SAMPLES}
    },
    cut=["decoded_sample_data"],
    pin={"decoded_sample_data:1": 16_000},
)
#: This graph computes the same features from samples.
AT_MFCC = OnnxConfig(
    inputs={"Mfcc": {"meaning": "features", "axes": [1, "steps", 40], "steps": 49}},
    cut=["Mfcc"],
    features={
        "kind": "mfcc_tf",
        "place": "package",
        "window": 480,
        "stride": 320,
        "upper_hz": 4000,
        "n_input": 40,
        "n_mels": 40,
    },
)


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_keywords(tmp_path_factory.mktemp("graph") / "keywords.pb")


def test_a_graph_is_cut_measured_converted_and_run(graph: Path, tmp_path: Path) -> None:
    found = settled(graph, AT_SAMPLES, tmp_path, keep=True)
    assert (found.classes, found.steps) == (CLASSES, SAMPLES)
    whole = read_section(found.config)
    signature = signature_of(whole)
    assert signature.outputs[0].meaning == "probabilities"
    assert (signature.steps, signature.rows.of(SAMPLES)) == (SAMPLES, 1)
    cut = tmp_path / "cut.pb"
    cut_to(graph, whole, cut)
    request = ConversionRequest(precision="fp32", steps=FixedSteps(SAMPLES))
    package = tmp_path / "keywords.mlpackage"
    convert_graph(cut, whole, request, package)
    fed = read_audio(DEMO / "second.wav", 16_000)[:SAMPLES, None].astype(np.float32)
    save_cases(tmp_path / "cases.npz", {"a/00000/decoded_sample_data": fed})
    worker = start(
        "asrbuild.architectures.tensorflow_graph.worker",
        "TensorFlow",
        tmp_path / "out.npz",
        "--cases",
        str(tmp_path / "cases.npz"),
        "--model",
        str(cut),
        "--outputs",
        "labels_softmax",
        "--states",
        json.dumps({}),
    )
    with np.load(worker.wait(120)) as stored:
        wanted = stored["a/00000/labels_softmax"]
    got = load(package).predict({"decoded_sample_data": fed})["labels_softmax"]
    # Sums of a spectrogram in another order change probabilities by 2e-6.
    np.testing.assert_allclose(got, wanted, atol=1e-5)
    with pytest.raises(AsrbuildError, match=f"takes {SAMPLES} samples") as caught:
        convert_graph(cut, whole, replace(request, steps=FixedSteps(SAMPLES + 1)), package)
    assert caught.value.fix == f"set model=static n_steps={SAMPLES}"
    features_in_the_package(graph, tmp_path, fed, wanted)


def features_in_the_package(graph: Path, tmp_path: Path, fed: Array, wanted: Array) -> None:
    """A package cut after the features, in half precision except for them and one named node."""
    found = settled(graph, AT_MFCC, tmp_path, keep=True)
    assert (found.classes, found.steps) == (CLASSES, 49)
    whole = read_section(found.config)
    signature = package_signature(whole)
    assert (signature.time, signature.steps) == ("samples", 48 * 320 + 480)
    cut_to(graph, whole, tmp_path / "cut.pb")
    package = tmp_path / "features.mlpackage"
    request = ConversionRequest(steps=FixedSteps(signature.steps), fp32=("MatMul",))
    convert_graph(tmp_path / "cut.pb", whole, request, package)
    model = load(package)
    got = model.predict({"samples": fed[None, : signature.steps, 0]})["labels_softmax"]
    # Half precision changes probabilities by 1e-3; features in half precision would change them by
    # 0.1.
    np.testing.assert_allclose(got, wanted, atol=2e-3)
    kinds = {kind for kind, dtype in computed(package) if dtype == "FLOAT16"}
    assert "conv" in kinds
    assert not {"log", "linear", "matmul"} & kinds
    with pytest.raises(AsrbuildError, match="no operation MatNull") as caught:
        convert_graph(tmp_path / "cut.pb", whole, replace(request, fp32=("MatNull",)), package)
    assert caught.value.key == "coreml.fp32"


def computed(package: Path) -> Iterator[tuple[str, str]]:
    """Kind and type of each result of a package's operations."""
    spec = open_package(package).spec
    kinds = type(spec.mlProgram.functions["main"].inputs[0].type.tensorType).DESCRIPTOR
    names = kinds.fields_by_name["dataType"].enum_type.values_by_number
    for function in spec.mlProgram.functions.values():
        for operation in function.block_specializations[function.opset].operations:
            if operation.type != "const":
                for output in operation.outputs:
                    yield operation.type, names[output.type.tensorType.dataType].name


def write_stream(path: Path) -> Path:
    """Writes a convolution that carries its last four frames, (1, T, 8) -> (1, T, 5)."""
    import tensorflow as tf

    v1, rng = tf.compat.v1, np.random.default_rng(0)
    graph = v1.Graph()
    with graph.as_default():
        x = v1.placeholder(tf.float32, [1, None, 8], name="x")
        past = v1.placeholder(tf.float32, [1, 3, 8], name="past")
        rows = v1.concat([past, x], 1)
        weight = v1.constant(0.2 * rng.standard_normal((4, 8, 5)).astype(np.float32))
        v1.nn.softmax(v1.nn.conv1d(rows, weight, 1, "VALID"), name="rows")
        v1.strided_slice(rows, [0, -3, 0], [1, 0, 8], [1, 1, 1], end_mask=2, name="kept")
    path.write_bytes(graph.as_graph_def().SerializeToString())
    return path


STREAM = OnnxConfig(
    inputs={
        "x": {"meaning": "features", "axes": [1, "steps", 8]},
        "past": {"meaning": "state", "axes": [1, 3, 8]},
    },
    outputs={
        "rows": {"meaning": "probabilities", "axes": [1, "rows", 5]},
        "kept": {"meaning": "state", "axes": [1, 3, 8]},
    },
    states={"past": "kept"},
    rows={"steps": 1, "add": 0},
    context={"causal": True},
)


def test_a_graph_becomes_several_functions_or_keeps_its_states(tmp_path: Path) -> None:
    graph = write_stream(tmp_path / "stream.pb")
    x = np.random.default_rng(1).standard_normal((1, 12, 8)).astype(np.float32)
    request = ConversionRequest(
        precision="fp32",
        deployment_target="iOS18",
        functions={"any": RangeSteps(1, 8, 20), "four": FixedSteps(4)},
    )
    convert_graph(graph, STREAM, request, tmp_path / "functions.mlpackage")
    whole = load(tmp_path / "functions.mlpackage", "any").predict(
        {"x": x, "past": np.zeros((1, 3, 8), np.float32)}
    )
    four = load(tmp_path / "functions.mlpackage", "four")
    carried, rows = np.zeros((1, 3, 8), np.float32), []
    for at in (0, 4, 8):
        made = four.predict({"x": x[:, at : at + 4], "past": carried})
        carried = made["kept"]
        rows.append(made["rows"])
    np.testing.assert_allclose(np.concatenate(rows, 1), whole["rows"], atol=1e-6)
    np.testing.assert_array_equal(carried, x[:, -3:])
    request = ConversionRequest(
        deployment_target="iOS18", state="stateful", steps=RangeSteps(1, 4, 20)
    )
    convert_graph(graph, STREAM, request, tmp_path / "stateful.mlpackage")
    stateful = load(tmp_path / "stateful.mlpackage")
    assert list(stateful.outputs) == ["rows"]
    state = stateful.make_state()
    kept = [stateful.predict({"x": x[:, at : at + 4]}, state)["rows"] for at in (0, 4, 8)]
    np.testing.assert_allclose(np.concatenate(kept, 1), whole["rows"], atol=2e-3)


def test_operations_without_a_form_are_refused_with_the_cuts(graph: Path, tmp_path: Path) -> None:
    with pytest.raises(AsrbuildError, match="no Core ML form for DecodeWav") as caught:
        settled(graph, OnnxConfig(), tmp_path, keep=False)
    assert "decoded_sample_data" in str(caught.value.fix)
    assert "Mfcc" in str(caught.value.fix)
    with pytest.raises(AsrbuildError, match="shape of Mfcc") as caught:
        settled(graph, OnnxConfig(cut=["Mfcc"]), tmp_path, keep=False)
    assert caught.value.key == "source.config.inputs.Mfcc"


@pytest.mark.parametrize(
    ("frontend", "request_", "key"),
    [
        ("mil", ConversionRequest(), "coreml.frontend"),
        ("auto", ConversionRequest(format="neuralnetwork"), "coreml.format"),
    ],
)
def test_impossible_packages_of_a_graph_are_refused(
    frontend: str, request_: ConversionRequest, key: str
) -> None:
    with pytest.raises(AsrbuildError) as caught:
        architecture.check_request(request_, frontend)
    assert caught.value.key == key
    architecture.check_request(ConversionRequest(), "tensorflow")
