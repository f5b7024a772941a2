"""A SavedModel as a source: one network that its author gives as SavedModel, ONNX and Core ML."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from asrbuild.architectures.onnx.section import OnnxConfig
from asrbuild.architectures.original import save_cases, start
from asrbuild.architectures.tensorflow.proto import FLOAT, Graph, Node, Shape
from asrbuild.architectures.tensorflow_graph.convert import convert_graph
from asrbuild.architectures.tensorflow_graph.saved_model import chosen_signature
from asrbuild.architectures.tensorflow_graph.settle import cut_to, refuse_keras_loops
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.kinds.places import SAVED_MODEL
from asrbuild.base.kinds.recognition import require
from asrbuild.coreml.executor import load
from asrbuild.coreml.request import ConversionRequest, FixedSteps
from asrbuild.speech.audio import read_audio
from tests.paths import DEMO
from tests.wheels import fetched

SAMPLES = 43_844
#: By the names of the Core ML package and of the ONNX file that the author made.
OUTPUTS = {
    "note": ("Identity_1", "StatefulPartitionedCall:1"),
    "onset": ("Identity_2", "StatefulPartitionedCall:2"),
    "contour": ("Identity", "StatefulPartitionedCall:0"),
}


def config() -> OnnxConfig:
    rows = {"meaning": "logits", "axes": [1, "rows", 88]}
    return OnnxConfig(
        inputs={"input_2": {"meaning": "samples", "axes": [1, "samples", 1], "steps": SAMPLES}},
        outputs=dict.fromkeys(OUTPUTS, rows),
        rows={"steps": 254, "add": -156},
        context={"causal": False, "padding": "changes_output"},
    )


@pytest.fixture(scope="module")
def models() -> Path:
    return fetched() / "basic_pitch" / "saved_models" / "icassp_2022"


@pytest.fixture(scope="module")
def frozen(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = models / "nmp"
    require(folder, SAVED_MODEL)
    path = tmp_path_factory.mktemp("frozen") / "frozen.pb"
    cut_to(folder, config(), path)
    return path


def test_saved_model_onnx_and_the_authors_package_agree(
    models: Path, frozen: Path, tmp_path: Path
) -> None:
    import onnxruntime

    samples = read_audio(DEMO / "sample.wav", 16_000)[None, :SAMPLES, None].astype(np.float32)
    save_cases(tmp_path / "cases.npz", {"a/00000/input_2": samples})
    worker = start(
        "asrbuild.architectures.tensorflow_graph.worker", "TensorFlow", tmp_path / "out.npz",
        "--cases", str(tmp_path / "cases.npz"), "--model", str(frozen),
        "--outputs", ",".join(OUTPUTS), "--states", "{}",
    )  # fmt: skip
    request = ConversionRequest(precision="fp32", steps=FixedSteps(SAMPLES))
    convert_graph(frozen, config(), request, tmp_path / "ours.mlpackage")
    ours = load(tmp_path / "ours.mlpackage").predict({"input_2": samples})
    theirs = load(models / "nmp.mlpackage").predict({"input_2": samples})
    session = onnxruntime.InferenceSession(models / "nmp.onnx", providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    made = session.run(names, {session.get_inputs()[0].name: samples})
    in_onnx = dict(zip(names, made, strict=True))
    with np.load(worker.wait(120)) as stored:
        wanted = {name: stored[f"a/00000/{name}"] for name in OUTPUTS}
    for name, (of_package, of_onnx) in OUTPUTS.items():
        assert np.ptp(wanted[name]) > 0.3
        for other in (ours[name], theirs[of_package], in_onnx[of_onnx]):
            # Sums of a constant-Q transform in another order leave that much before a sigmoid.
            np.testing.assert_allclose(other, wanted[name], atol=5e-5)


@pytest.mark.parametrize(
    ("offered", "asked", "answer"),
    [
        (["serving_default", "other"], "", "serving_default"),
        (["serving_default", "other"], "other", "other"),
        (["only", "__saved_model_init_op"], "", "only"),
        (["a", "b"], "", "no signature serving_default; it has a, b"),
        (["a"], "c", "no signature c; it has a"),
    ],
)
def test_a_signature_is_chosen_by_name(offered: list[str], asked: str, answer: str) -> None:
    if "no signature" not in answer:
        assert chosen_signature(offered, asked) == answer
        return
    with pytest.raises(AsrbuildError, match=answer) as caught:
        chosen_signature(offered, asked)
    assert caught.value.fix == "set source.config.signature=a"


def test_a_recurrent_layer_of_keras_is_refused_by_name(tmp_path: Path) -> None:
    """The nodes that its LSTM leaves after freezing, without the rest of them."""
    nodes = [
        Node("x", "Placeholder", (), {"dtype": FLOAT, "shape": Shape((1, 20, 8))}),
        Node("model/sequential/lstm_1/while/TensorListReserve", "TensorListReserve", ("x",), {}),
        Node(
            "model/sequential/lstm_1/while/LoopCond",
            "LoopCond",
            ("model/sequential/lstm_1/while/TensorListReserve",),
            {},
        ),
    ]
    with pytest.raises(AsrbuildError, match="lstm_1 is a recurrent layer of Keras") as caught:
        refuse_keras_loops(Graph(tuple(nodes), 0, 0, tmp_path), tmp_path)
    assert "unroll=True" in str(caught.value.fix)
