"""Networks that PyTorch exported, as a source. torch must be installed: 4.6 GB on Linux."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asrbuild.architectures.onnx.section import OnnxConfig, read_section
from asrbuild.architectures.original import save_cases, start
from asrbuild.architectures.torch_export.convert import convert_program
from asrbuild.architectures.torch_export.settle import WORKER, settled
from asrbuild.base.errors import AsrbuildError
from asrbuild.coreml.executor import load
from asrbuild.coreml.request import ConversionRequest, FixedSteps, RangeSteps

torch: Any = pytest.importorskip(
    "torch", reason="the extra torch is not installed: 4.6 GB on Linux, with CUDA"
)

FEATURES = {"kind": "fbank_kaldi", "n_mels": 40}
#: TorchScript states no shapes.
STATED = {"x": {"meaning": "features", "axes": [1, "steps", 40]}}


class Convolutions(torch.nn.Module):
    """A convolutional network: a row for every two frames, 29 classes."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Conv1d(40, 32, 5, padding=2)
        self.norm = torch.nn.BatchNorm1d(32)
        self.second = torch.nn.Conv1d(32, 32, 3, stride=2, padding=1)
        self.scale = torch.nn.LayerNorm(32)
        self.out = torch.nn.Linear(32, 29)

    def forward(self, x: Any) -> Any:
        y = torch.relu(self.norm(self.first(x.transpose(1, 2))))
        y = self.scale(torch.relu(self.second(y)).transpose(1, 2))
        return self.out(y).log_softmax(-1)


class Recurrent(torch.nn.Module):
    """A recurrent layer that coremltools does not convert, or only as loops."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer = layer(40, 8, batch_first=True)
        self.out = torch.nn.Linear(8, 29)

    def forward(self, x: Any) -> Any:
        return self.out(self.layer(x)[0]).log_softmax(-1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("torch")


def write(path: Path, model: Any, axis: bool = True) -> Path:
    """Writes a program of torch.export, or TorchScript, by the suffix of the name."""
    torch.manual_seed(0)
    x = torch.randn(1, 200, 40)
    model = model.eval()
    if path.suffix == ".pt":
        torch.jit.trace(model, x).save(str(path))
    else:
        shapes = {"x": {1: torch.export.Dim("time", min=8, max=4000)}} if axis else None
        torch.export.save(torch.export.export(model, (x,), dynamic_shapes=shapes), path)
    return path


@pytest.mark.parametrize("name", ["convolutions.pt2", "convolutions.pt"])
@pytest.mark.parametrize("steps", [FixedSteps(200), RangeSteps(100, 200, 400)])
def test_a_program_is_measured_converted_and_run(
    folder: Path, tmp_path: Path, name: str, steps: Any
) -> None:
    path = write(folder / name, Convolutions())
    stated = STATED if path.suffix == ".pt" else {}
    found = settled(path, OnnxConfig(inputs=stated, features=FEATURES), tmp_path, keep=False)
    assert (found.classes, found.steps) == (29, None)
    whole = read_section(found.config)
    assert whole.outputs["output_0"]["meaning"] == "log_probabilities"
    assert (whole.rows, whole.context["left"]) == ({"steps": 2, "add": 1, "most": None}, 4)
    package = tmp_path / "package.mlpackage"
    convert_program(path, whole, ConversionRequest(precision="fp32", steps=steps), package)
    fed = np.random.default_rng(1).standard_normal((1, 200, 40)).astype(np.float32)
    save_cases(tmp_path / "cases.npz", {"a/00000/x": fed})
    worker = start(
        WORKER,
        "PyTorch",
        tmp_path / "out.npz",
        "--cases",
        str(tmp_path / "cases.npz"),
        "--model",
        str(path),
        "--states",
        "{}",
    )
    with np.load(worker.wait(120)) as stored:
        wanted = stored["a/00000/output_0"]
    got = load(package).predict({"x": fed})["output_0"]
    np.testing.assert_allclose(got, wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "layer"), [("gru.pt", "GRU"), ("gru.pt2", "GRU"), ("lstm.pt2", "LSTM")]
)
def test_recurrent_layers_are_refused_with_onnx_as_fix(
    folder: Path, tmp_path: Path, name: str, layer: str
) -> None:
    path = write(folder / name, Recurrent(getattr(torch.nn, layer)), axis=False)
    with pytest.raises(AsrbuildError, match=f"recurrent layer .{layer.lower()}") as caught:
        settled(path, OnnxConfig(inputs=STATED, features=FEATURES), tmp_path, keep=False)
    assert "source=onnx" in str(caught.value.fix)


def test_an_axis_of_multiples_is_refused(folder: Path, tmp_path: Path) -> None:
    even = 2 * torch.export.Dim("half", min=8, max=2000)
    program = torch.export.export(
        Convolutions().eval(), (torch.randn(1, 200, 40),), dynamic_shapes={"x": {1: even}}
    )
    torch.export.save(program, folder / "even.pt2")
    with pytest.raises(AsrbuildError, match=r"sizes of 2\*\w+ on axis 1 of its input x") as caught:
        settled(folder / "even.pt2", OnnxConfig(features=FEATURES), tmp_path, keep=False)
    assert "torch.export.Dim" in str(caught.value.fix)


def test_programs_without_shapes_and_weights_alone_are_refused(
    folder: Path, tmp_path: Path
) -> None:
    path = write(folder / "convolutions.pt", Convolutions())
    with pytest.raises(AsrbuildError, match="no shape of its input x") as caught:
        settled(path, OnnxConfig(features=FEATURES), tmp_path, keep=False)
    assert caught.value.key == "source.config.inputs.x"
    weights = tmp_path / "weights.pt"
    torch.save(Convolutions().state_dict(), weights)
    with pytest.raises(AsrbuildError, match="neither as an exported program") as caught:
        settled(weights, OnnxConfig(features=FEATURES), tmp_path, keep=False)
    assert "weights alone" in str(caught.value.fix)
