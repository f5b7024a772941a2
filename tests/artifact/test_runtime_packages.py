"""Real packages in the executor: chunked calls equal one shot for every length.

The reference is the network in plain numpy for random weights, and the sample's transcript for the
demo.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from asrbuild.architectures.deepspeech.checkpoint import find_checkpoint, read_weights
from asrbuild.architectures.deepspeech.from_weights import convert_weights
from asrbuild.architectures.deepspeech.network import AcousticWeights
from asrbuild.artifact.integrity import write_sums
from asrbuild.artifact.manifest import FileEntry, Manifest, to_json
from asrbuild.artifact.runtime import Contract, acoustic
from asrbuild.base.digest import tree_digests
from asrbuild.base.errors import AsrbuildError
from asrbuild.coreml import executor
from asrbuild.coreml.request import ConversionRequest, EnumeratedSteps, FixedSteps, RangeSteps
from asrbuild.speech.rates import error_rates
from tests.artifact.numpy_package import (
    HIDDEN,
    enumerated,
    fixed,
    make_manifest,
    ranged,
    windows_of,
)
from tests.command import run
from tests.coreml.packages import package_of
from tests.paths import DEMO

FP32 = ConversionRequest(precision="fp32", deployment_target="iOS17", steps=FixedSteps(16))
ANY = RangeSteps(1, 16, 120)
CASES: dict[str, tuple[ConversionRequest, Manifest]] = {
    "fixed": (FP32, make_manifest(fixed("steps", 16))),
    "fixed, loop": (replace(FP32, lstm="loop"), make_manifest(fixed("steps", 16))),
    "range, whole": (replace(FP32, steps=ANY), make_manifest(ranged(1, 120), "whole", 120)),
    "range, chunks": (replace(FP32, steps=ANY), make_manifest(ranged(1, 120), "chunked", 16)),
    "enumerated": (
        replace(FP32, steps=EnumeratedSteps((16, 1, 4), 16)),
        make_manifest(enumerated([16, 1, 4])),
    ),
    "stateful": (
        replace(FP32, state="stateful", precision="fp16", deployment_target="iOS18"),
        make_manifest(fixed("steps", 16), state="stateful"),
    ),
    "neural network": (
        replace(FP32, format="neuralnetwork"),
        make_manifest(fixed("steps", 16), lengths="float32"),
    ),
    "neural network, no bound": (
        replace(FP32, format="neuralnetwork", steps=RangeSteps(1, 16, None)),
        make_manifest(ranged(1, None), "whole", None, lengths="float32"),
    ),
}


@pytest.mark.parametrize("name", list(CASES))
def test_every_length_gives_the_outputs_of_one_call(
    name: str, tmp_path: Path, weights: AcousticWeights, whole: Callable
) -> None:
    request, manifest = CASES[name]
    package = executor.load(package_of(tmp_path, weights, request))
    # A lost or doubled step moves probabilities by 0.01 and more (see test_runtime_chunks.py).
    tolerance = 2e-5 if request.precision == "fp32" else 3e-3
    for steps in range(1, 101):
        found = acoustic(package, Contract.of(manifest), windows_of(steps))
        rows, c, h = whole(steps)
        np.testing.assert_allclose(found.probabilities, rows, atol=tolerance)
        if request.state == "explicit":
            np.testing.assert_allclose(found.state["new_state_c"], c, atol=2e-4)
            np.testing.assert_allclose(found.state["new_state_h"], h, atol=2e-4)


@pytest.fixture(scope="module")
def demo_artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact of the demo's weights: an fp16 package with a manifest alone."""
    folder = tmp_path_factory.mktemp("artifact")
    weights = read_weights(find_checkpoint(DEMO / "checkpoint", "auto"))
    request = ConversionRequest(precision="fp16", deployment_target="iOS17", steps=FixedSteps(16))
    convert_weights(weights, request, folder / "test.mlpackage")
    manifest = make_manifest(fixed("steps", 16), hidden=weights.n_hidden)
    for name in ("reference.wav", "alphabet.txt"):
        (folder / name).write_bytes(b"")
    files = [
        FileEntry(path=path, role="package", bytes=(folder / path).stat().st_size, sha256=digest)
        for path, digest in tree_digests(folder).items()
    ]
    manifest = manifest.model_copy(update={"files": files})
    (folder / "manifest.json").write_text(to_json(manifest))
    write_sums(folder)
    assert weights.n_hidden != HIDDEN
    return folder


#: Runs the command alone, and prints which of the heavy libraries it imported.
COMMAND = """
import sys
from asrbuild.cli.main import dispatch
dispatch(["transcribe", *sys.argv[1:]])
heavy = {"tensorflow", "coremltools.models", "hydra", "matplotlib"} & set(sys.modules)
print("heavy:", sorted(heavy), file=sys.stderr)
"""


def _transcribe(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("decoder", ["greedy", "beam"])
def test_the_demo_transcribes_its_sample(demo_artifact: Path, decoder: str) -> None:
    expected = (DEMO / "sample.txt").read_text().strip()
    done = _transcribe(demo_artifact, DEMO / "sample.wav", "--decoder", decoder, "--partial")
    assert done.returncode == 0, done.stderr
    rates = error_rates([expected], [done.stdout.strip()])
    assert rates.wer == 0.0, done.stdout
    assert rates.cer <= 0.1, done.stdout
    *partial, summary, heavy = done.stderr.strip().splitlines()
    assert heavy == "heavy: []"
    assert "of real time" in summary
    assert len(partial) > 20
    assert partial[-1] == done.stdout.strip()
    assert len(partial[len(partial) // 2]) < len(partial[-1])


def test_recordings_of_any_form_give_words_with_times_as_json(
    demo_artifact: Path, tmp_path: Path
) -> None:
    """Stereo at another rate gives the same words; a bad recording does not stop the others."""
    import soundfile

    samples, rate = soundfile.read(DEMO / "sample.wav")
    stereo = np.stack([samples, samples], axis=1).repeat(2, axis=0)
    soundfile.write(tmp_path / "stereo.wav", stereo, 2 * rate)
    (tmp_path / "text.wav").write_text("no sound in here")
    files = [DEMO / "sample.wav", tmp_path / "text.wav", tmp_path / "stereo.wav"]
    done = _transcribe(demo_artifact, *files, "--json")
    assert done.returncode != 0
    assert "AsrbuildError: this is a text" in done.stderr
    first, bad, second = json.loads(done.stdout)["recordings"]
    assert [word["text"] for word in first["words"]] == first["text"].split()
    starts = [word["start_s"] for word in first["words"]]
    assert starts == sorted(starts)
    assert first["audio_s"] == pytest.approx(len(samples) / rate, abs=1e-3)
    assert first["words"][-1]["end_s"] <= first["audio_s"]
    assert all(0 < word["confidence"] <= 1 for word in first["words"])
    assert bad["error"].startswith("this is a text (its name ends in .wav), not a recording")
    assert error_rates([first["text"]], [second["text"]]).wer < 0.2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--decoder", "best"], "no decoder is called 'best'"),
        (["--decoder", "beam", "--beam-width", "0"], "beam_width is 0, must be at least 1"),
        (["--scorer", "x.scorer"], "the greedy decoder uses no scorer"),
    ],
)
def test_contradictory_options_are_refused(
    demo_artifact: Path, options: list[str], message: str
) -> None:
    with pytest.raises(AsrbuildError, match=message):
        run("transcribe", demo_artifact, DEMO / "second.wav", *options)
