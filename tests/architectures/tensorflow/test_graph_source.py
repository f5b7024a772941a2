"""Any frozen graph as a source: cut, measured, converted, and run by TensorFlow in its process."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from asrbuild.architectures.onnx.section import OnnxConfig, read_section, signature_of
from asrbuild.architectures.original import save_cases, start
from asrbuild.architectures.tensorflow_graph.convert import convert_graph
from asrbuild.architectures.tensorflow_graph.settle import cut_to, settled
from asrbuild.base.errors import AsrbuildError
from asrbuild.coreml.executor import load
from asrbuild.coreml.request import ConversionRequest, FixedSteps
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
AT_MFCC = OnnxConfig(
    inputs={"Mfcc": {"meaning": "features", "axes": [1, "steps", 40], "steps": 49}},
    cut=["Mfcc"],
    features={"kind": "mfcc_tf"},
)


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_keywords(tmp_path_factory.mktemp("graph") / "keywords.pb")


@pytest.mark.parametrize(("config", "steps"), [(AT_SAMPLES, SAMPLES), (AT_MFCC, 49)])
def test_a_graph_is_cut_measured_converted_and_run(
    graph: Path, tmp_path: Path, config: OnnxConfig, steps: int
) -> None:
    found = settled(graph, config, tmp_path, keep=True)
    assert (found.classes, found.steps) == (CLASSES, steps)
    whole = read_section(found.config)
    signature = signature_of(whole)
    assert signature.outputs[0].meaning == "probabilities"
    assert (signature.steps, signature.rows.of(steps)) == (steps, 1)
    cut = tmp_path / "cut.pb"
    cut_to(graph, whole, cut)
    request = ConversionRequest(precision="fp32", steps=FixedSteps(steps))
    package = tmp_path / "keywords.mlpackage"
    convert_graph(cut, whole, request, package)
    name = signature.features.name
    if name == "Mfcc":
        fed = np.random.default_rng(1).standard_normal((1, 49, 40)).astype(np.float32)
    else:
        fed = read_audio(DEMO / "second.wav", 16_000)[:SAMPLES, None].astype(np.float32)
    save_cases(tmp_path / "cases.npz", {f"a/00000/{name}": fed})
    worker = start(
        "asrbuild.architectures.tensorflow_graph.worker", "TensorFlow", tmp_path / "out.npz",
        "--cases", str(tmp_path / "cases.npz"), "--model", str(cut),
        "--outputs", "labels_softmax", "--states", json.dumps({}),
    )  # fmt: skip
    with np.load(worker.wait(120)) as stored:
        wanted = stored["a/00000/labels_softmax"]
    got = load(package).predict({name: fed})["labels_softmax"]
    # Sums of a spectrogram in another order leave 2e-6 of probabilities.
    np.testing.assert_allclose(got, wanted, atol=1e-5)
    with pytest.raises(AsrbuildError, match=f"takes {steps} steps") as caught:
        convert_graph(cut, whole, replace(request, steps=FixedSteps(steps + 1)), package)
    assert caught.value.fix == f"set model=static n_steps={steps}"


def test_what_has_no_form_is_refused_with_the_cuts(graph: Path, tmp_path: Path) -> None:
    with pytest.raises(AsrbuildError, match="no Core ML form for DecodeWav") as caught:
        settled(graph, OnnxConfig(), tmp_path, keep=False)
    assert "decoded_sample_data" in str(caught.value.fix)
    assert "Mfcc" in str(caught.value.fix)
    with pytest.raises(AsrbuildError, match="shape of Mfcc") as caught:
        settled(graph, OnnxConfig(cut=["Mfcc"]), tmp_path, keep=False)
    assert caught.value.key == "source.config.inputs.Mfcc"
