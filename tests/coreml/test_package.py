"""Packages on disk have reproducible bytes and the requested description, written in one step."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from asrbuild.architectures.deepspeech.from_weights import convert_weights
from asrbuild.architectures.deepspeech.network import Geometry, random_weights
from asrbuild.base.errors import AsrbuildError
from asrbuild.coreml.inspect import inspect_model
from asrbuild.coreml.request import (
    ConversionRequest,
    EnumeratedSteps,
    FixedSteps,
    RangeSteps,
)
from tests import command
from tests.coreml.dataflow import read_spec
from tests.coreml.packages import package_of
from tests.imports import run_command, run_python
from tests.paths import ROOT

WEIGHTS = random_weights(16, seed=1)
DESCRIBED = ConversionRequest(
    author="A. Author",
    license="MPL-2.0",
    version="1.2.3",
    description="English, 16 kHz",
    metadata={"language": "en", "alphabet": " abc"},
)
IOS18 = replace(DESCRIBED, deployment_target="iOS18")
VARIANTS = {
    "native": DESCRIBED,
    "loop": replace(DESCRIBED, lstm="loop", steps=RangeSteps(1, 16, 100)),
    "functions": replace(IOS18, functions={"b": FixedSteps(4), "a": RangeSteps(1, 4, 9)}),
    "stateful": replace(IOS18, state="stateful"),
    "compressed": replace(
        IOS18,
        functions={"b": FixedSteps(4), "a": RangeSteps(1, 4, 9)},
        compress={"layer_1": "int8", "layer_2": "prune", "lstm": "palettize_4"},
    ),
    "network": replace(DESCRIBED, format="neuralnetwork", steps=EnumeratedSteps((4, 8), 4)),
}
#: Builds every variant in the given order; the clock differs by the given days.
SCRIPT = """
import sys, time, datetime
now, days = time.time, float(sys.argv[2])
time.time = lambda: now() + 86400 * days
class Shifted(datetime.date):
    @classmethod
    def today(cls): return cls.fromtimestamp(time.time())
datetime.date = Shifted
from pathlib import Path
from tests.coreml.test_package import VARIANTS, WEIGHTS, package_of
for name in sys.argv[3:]:
    package_of(Path(sys.argv[1]), WEIGHTS, VARIANTS[name], name)
"""


def digests(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def test_bytes_do_not_depend_on_process_hash_seed_order_or_day(tmp_path: Path) -> None:
    runs = {"0": list(VARIANTS), "4242": list(reversed(VARIANTS))}
    started = []
    for days, (seed, names) in enumerate(runs.items()):
        folder = tmp_path / seed
        folder.mkdir()
        command = [sys.executable, "-c", SCRIPT, str(folder), str(400 * days), *names]
        environment = os.environ | {"PYTHONHASHSEED": seed, "OMP_NUM_THREADS": str(1 + days)}
        root = ROOT
        started.append(subprocess.Popen(command, env=environment, cwd=root))
    assert [process.wait() for process in started] == [0, 0]
    first, second = (digests(tmp_path / seed) for seed in runs)
    assert len(first) == 5 * 3 + 1
    assert first == second
    # The bytes are the same in this process, after earlier tests.
    here = tmp_path / "here"
    here.mkdir()
    for name in ("loop", "native"):
        package_of(here, WEIGHTS, VARIANTS[name], name)
    assert digests(here).items() <= first.items()


def test_other_weights_or_metadata_are_other_bytes(tmp_path: Path) -> None:
    folders = []
    for number, (weights, request) in enumerate(
        [
            (WEIGHTS, DESCRIBED),
            (random_weights(16, seed=2), DESCRIBED),
            (WEIGHTS, replace(DESCRIBED, version="1.2.4")),
        ]
    ):
        folders.append(tmp_path / str(number))
        folders[-1].mkdir()
        package_of(folders[-1], weights, request)
    one, other_weights, other_version = (digests(folder) for folder in folders)
    assert one != other_weights
    assert one != other_version


@pytest.mark.parametrize("name", ["native", "network"])
def test_metadata_is_read_back(tmp_path: Path, name: str) -> None:
    summary = inspect_model(package_of(tmp_path, WEIGHTS, VARIANTS[name]))
    assert summary.metadata == {
        "author": "A. Author",
        "license": "MPL-2.0",
        "version": "1.2.3",
        "description": "English, 16 kHz",
    }
    assert summary.user_metadata.items() >= {"language": "en", "alphabet": " abc"}.items()
    assert "conversion_date" not in " ".join(summary.user_metadata)


def test_an_old_package_is_replaced_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "m.mlpackage"
    convert_weights(WEIGHTS, DESCRIBED, path)
    (path / "stray").write_text("of the old one")
    convert_weights(WEIGHTS, DESCRIBED, path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["m.mlpackage"]
    assert not (path / "stray").exists()


def test_a_failure_leaves_the_old_package_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "m.mlpackage"
    convert_weights(WEIGHTS, DESCRIBED, path)
    before = digests(tmp_path)
    too_big = replace(WEIGHTS, layer_5_weights=WEIGHTS.layer_5_weights * np.float32(1e6))
    with pytest.raises(AsrbuildError, match="above fp16's 65504"):
        convert_weights(too_big, DESCRIBED, path)
    assert digests(tmp_path) == before


def damaged(value: float):
    bias = WEIGHTS.layer_3_bias.copy()
    bias[2] = value
    return replace(WEIGHTS, layer_3_bias=bias)


@pytest.mark.parametrize(
    ("weights", "request_", "name", "message"),
    [
        (damaged(np.nan), DESCRIBED, "m.mlpackage", "layer_3/bias has values that are not finite"),
        (damaged(np.inf), VARIANTS["network"], "m.mlmodel", "not finite"),
        (damaged(1e5), VARIANTS["network"], "m.mlmodel", "reaches 100000, above fp16's 65504"),
        (WEIGHTS, DESCRIBED, "m.mlmodel", r"must be named \*.mlpackage"),
        (WEIGHTS, VARIANTS["network"], "m.mlpackage", r"must be named \*.mlmodel"),
        (WEIGHTS, replace(DESCRIBED, outputs=("mfccs",)), "m.mlpackage", "no output mfccs"),
    ],
)
def test_bad_input_is_refused(weights, request_, name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(AsrbuildError, match=message):
        convert_weights(weights, request_, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_window_of_another_size_than_the_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AsrbuildError, match="494 values, a window of 15 frames has 390"):
        convert_weights(WEIGHTS, DESCRIBED, tmp_path / "m.mlpackage", Geometry(26, 7, 16, 29))


def test_the_bounds_of_a_range_are_explicit(tmp_path: Path) -> None:
    for upper, expected in ((77, (3, 77)), (None, (3, None))):
        request = ConversionRequest(
            format="mlprogram" if upper else "neuralnetwork", steps=RangeSteps(3, 20, upper)
        )
        node = inspect_model(package_of(tmp_path, WEIGHTS, request)).functions[0].inputs[0]
        assert (node.name, node.axes[1], node.default) == ("input_node", expected, (1, 20, 19, 26))


def test_outputs_are_the_requested_ones_in_order(tmp_path: Path) -> None:
    request = replace(DESCRIBED, outputs=("new_state_h", "logits"))
    path = package_of(tmp_path, WEIGHTS, request)
    outputs = [item.name for item in inspect_model(path).functions[0].outputs]
    assert outputs == ["new_state_h", "logits"]
    assert [item.name for item in read_spec(path).description.output] == outputs


def test_inspect_shows_the_contents_of_a_package(tmp_path: Path) -> None:
    for name, request in VARIANTS.items():
        path = package_of(tmp_path, WEIGHTS, request, name)
        summary = command.values("inspect", "model", path)
        assert summary["kind"] == request.format
        files = [path] if path.is_file() else path.rglob("*")
        assert summary["nbytes"] == sum(file.stat().st_size for file in files if file.is_file())
        assert sum(summary["weight_bytes"].values()) > 16 * 494  # at least int8
        looped = summary["functions"][0]["ops_in_loops"]
        assert bool(looped) is (request.lstm == "loop")
        text = command.output("inspect", "model", path)
        assert "input_node" in text
        assert "A. Author" in text


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.mlpackage", None, "no such Core ML package"),
        ("empty.mlmodel", b"", "an empty file .0 bytes., not a Core ML package"),
        ("broken.mlmodel", b"\x08\x05\x12\xff", "of no kind that asrbuild knows"),
        ("folder.mlpackage", {}, "this is a folder"),
        ("bad.mlpackage", {"Manifest.json": "{"}, "Manifest.json cannot be read"),
    ],
)
def test_inspect_refuses_files_that_are_not_models(
    tmp_path: Path, name, content, message: str
) -> None:
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, dict):
        path.mkdir()
        for file, text in content.items():
            (path / file).write_text(text)
    with pytest.raises(AsrbuildError, match=message) as caught:
        inspect_model(path)
    assert caught.value.file is not None


def test_inspect_needs_neither_coremltools_nor_tensorflow(tmp_path: Path) -> None:
    path = tmp_path / "m.mlpackage"
    convert_weights(WEIGHTS, DESCRIBED, path)
    _, modules = run_command("inspect", "model", path)
    assert not modules & {"coremltools", "tensorflow"}


def test_conversion_does_not_import_tensorflow_but_leaves_it_importable(tmp_path: Path) -> None:
    code = (
        "import importlib.util, sys; from pathlib import Path\n"
        "from tests.coreml.test_package import *\n"
        "package_of(Path(sys.argv[1]), WEIGHTS, DESCRIBED)\n"
        "assert importlib.util.find_spec('tensorflow') is not None"
    )
    _, modules = run_python(code, tmp_path, cwd=ROOT)
    assert "tensorflow" not in modules
