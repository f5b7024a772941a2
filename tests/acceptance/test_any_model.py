"""Any CTC model, from its file to a published artifact that transcribes: one sweep over four."""

# ruff: noqa: RUF001 (the letters of the phonetic alphabet)

from __future__ import annotations

import json
import re
import subprocess
import sys
import wave
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from asrbuild.artifact import manifest2
from asrbuild.artifact.calls import fed_tensor, steps_of
from asrbuild.artifact.layout import PARITY
from asrbuild.artifact.manifest import Manifest
from asrbuild.artifact.reading import read_manifest
from asrbuild.artifact.runtime import open_artifact
from asrbuild.base.array import Array
from asrbuild.base.errors import AsrbuildError
from asrbuild.handover.app.kit import write_vectors
from asrbuild.proof.cases import load_reference
from asrbuild.proof.execution import execute, longest_call
from asrbuild.proof.verdict import WordGates, judge
from asrbuild.proof.weaknesses import recorded_gates
from asrbuild.speech.audio import read_audio
from asrbuild.speech.rates import count
from asrbuild.speech.tokens import Tokens
from tests.acceptance.shared import ENVIRONMENT, NETWORKS, SHORT, Sweep
from tests.architectures.recipes import MODELS, PRONOUNCED
from tests.command import run_main
from tests.paths import DEMO

NETWORK = "becomes an ML program"
ONE_SIZE = r"takes calls of (16 steps|576 samples) only"
#: Model, shape -> the message that refuses a neural network or another shape; empty: it is built.
CELLS = {
    (source, shape, form): ONE_SIZE
    if source in ("silero", "streaming") and shape == "dynamic"
    else NETWORK
    if form == "neuralnetwork"
    else ""
    for source in NETWORKS
    for shape in ("static", "dynamic")
    for form in ("mlprogram", "neuralnetwork")
}


def build_again(
    sweep: Sweep,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    *overrides: str,
) -> tuple[int, str]:
    """Runs a static build in the folder and cache of the sweep; exit code and errors."""
    monkeypatch.chdir(sweep.folder)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    usual = ("model=static", "coreml.precision=fp32", *SHORT)
    chosen = {override.split("=")[0] for override in overrides}
    given = [each for each in usual if each.split("=")[0] not in chosen]
    command = ["--config-dir", "recipes", *given, *overrides]
    code, _, err = run_main(command, monkeypatch, capfd)
    return code, err


def test_each_cell_is_proven_and_published_or_refused_by_name(sweep: Sweep) -> None:
    assert set(sweep.cells) == set(CELLS), sweep.done.err
    assert sweep.done.code == 1  # cells are refused, and the others are published
    for cell, refusal in CELLS.items():
        found = sweep.cells[cell]
        if refusal:
            assert found["status"] == "failed", cell
            assert re.search(refusal, found["error"]), found["error"]
            assert re.search(r"key: (coreml.format|model.steps)\n +fix: choose ", found["error"])
            continue
        assert found["status"] == "built", (cell, found["error"])
        manifest = read_manifest(Path(found["path"]))
        assert manifest.verification.passed
        assert found["transcripts_match"]


@pytest.fixture(scope="module")
def hama(sweep: Sweep) -> tuple[Path, Path]:
    """A real phoneme model that takes samples, and its artifact."""
    return MODELS["hama"].file(sweep.folder), sweep.artifact("hama", "dynamic")


#: Recording -> phoneme errors of the original in onnxruntime, its ʌ taken as the ə of CMUdict.
WRONG = {"sample": 9, "second": 2}


def test_a_real_model_gives_the_transcripts_of_onnxruntime(hama: tuple[Path, Path]) -> None:
    model, artifact = hama
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    with open_artifact(artifact) as transcriber:
        labels, blank = transcriber.alphabet.labels, transcriber.alphabet.blank
        for name, errors in WRONG.items():
            samples = read_audio(DEMO / f"{name}.wav", 16_000)
            feeds = {"waveform": samples[None], "waveform_lengths": np.array([len(samples)])}
            rows = session.run(["log_probs"], feeds)[0][0].argmax(axis=-1)
            kept = [b for a, b in zip([-1, *rows], rows, strict=False) if a != b and b != blank]
            written = ["|" if labels[label] == "<wb>" else labels[label] for label in kept]
            # Samples may arrive in pieces.
            found = transcriber.transcribe(samples).text
            assert found == " ".join(written)
            rate = count(PRONOUNCED[name], found.replace("ʌ", "ə"), transcriber.alphabet).characters
            assert rate.errors == errors, rate
        assert found == "j u | h eɪ v | f aɪ v | n u | m ɛ s ə d͡ʒ ɪ z"


def test_the_cost_of_chunks_is_in_the_manifest_and_the_report(hama: tuple[Path, Path]) -> None:
    manifest: Any = read_manifest(hama[1])
    assert manifest.schema_version == "2.0"
    assert (manifest.rows.steps, manifest.rows.add, manifest.rows.most) == (320, 320, 1500)
    assert not manifest.context.causal
    assert longest_call(manifest, 3000) == 960_000  # one minute of samples
    cost = {
        t.input: (t.recording_edits, t.recording_labels) for t in manifest.verification.transcripts
    }
    assert cost["sample"] == (0, 108)
    (chunked,) = (cost[name] for name in cost if name.startswith("sample@"))
    assert 0 < chunked[0] <= 15
    report = (hama[1] / "report.md").read_text("utf-8")
    assert f"{chunked[0]} of 108" in report
    assert "TensorFlow" not in report


def test_phoneme_errors_are_in_the_manifest_and_the_report(hama: tuple[Path, Path]) -> None:
    manifest: Any = read_manifest(hama[1])
    tokens = manifest2.tokens_of(manifest.decoder)
    report = (hama[1] / "report.md").read_text("utf-8")
    for t in manifest.verification.transcripts:
        counts = count(PRONOUNCED[t.input.split("@")[0]], t.package, tokens).characters
        assert t.expected == PRONOUNCED[t.input.split("@")[0]]
        assert t.phonemes.changed == 0
        assert t.phonemes.expected == counts.reference
        # The package gives the transcripts of the original, so both have the same errors.
        assert t.phonemes.package_errors == t.phonemes.original_errors == counts.errors
        assert f"{t.phonemes.per:.1%} ({counts.errors} of {counts.reference})" in report
    # Words are those of the model, not the symbols between spaces.
    assert f"word error rate {100 * word_rate(manifest, tokens):.1f} %" in report


def word_rate(manifest: Manifest, tokens: Tokens) -> float:
    said = PRONOUNCED["sample"]
    return count(said, manifest.verification.transcripts[0].package, tokens).words.rate


@pytest.mark.parametrize(
    ("gates", "key", "message"),
    [
        (("verify.max_per=0.05",), "max_per", r"sample: the phoneme error rate is 1\d\.\d%, above"),
        (("verify.max_per_increase=-0.01",), "max_per_increase", r"rate is 0\.0%, above -1\.0%"),
        (
            ("verify.evaluation=set.csv", "verify.max_per=0.1"),
            "max_per",
            r"the phoneme error rate is 1\d\.\d% on set\.csv \(105 phonemes\); at most 10\.0%",
        ),
        (
            ("verify.evaluation=set.csv", "verify.max_per=0.2", "verify.max_per_increase=0"),
            "",
            "",
        ),
    ],
)
def test_phoneme_error_rates_are_gates(
    sweep: Sweep,
    gates: tuple[str, ...],
    key: str,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    lines = ["wav_filename,wav_filesize,transcript"]
    lines += [
        f"{DEMO / name}.wav,{(DEMO / name).with_suffix('.wav').stat().st_size},{phonemes}"
        for name, phonemes in PRONOUNCED.items()
    ]
    (sweep.folder / "set.csv").write_text("\n".join(lines) + "\n", "utf-8")
    given = ("source=hama", "model=dynamic", "name=gated", *gates)
    code, err = build_again(sweep, monkeypatch, capfd, *given)
    assert code == bool(key), err
    if key:
        assert f"key: verify.{key}" in err, err
        assert re.search(message, err), err
        return
    published: Any = read_manifest(next((sweep.folder / "a" / "gated").glob("1*")))
    measured = published.verification.evaluation
    assert measured.per == measured.reference_per > 0.1
    code, *_ = run_main(["show", "gated"], monkeypatch, capfd)
    assert code == 0
    verify = published.provenance.recipe["verify"]
    assert (verify["max_per"], verify["max_per_increase"]) == (0.2, 0)
    assert "max_per_from_original" not in verify  # older recipes keep their digests


def test_functions_count_rows_next_to_context_and_share_weights(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    given = ("source=quartznet", "model=multifunction", "coreml.range_upper=600", "name=functions")
    code, err = build_again(sweep, monkeypatch, capfd, *given)
    assert code == 0, err
    several = next((sweep.folder / "a" / "functions").glob("1*"))
    manifest: Any = read_manifest(several)
    steps, around = manifest.rows.steps, manifest.context.left_steps + manifest.context.right_steps
    assert (steps, around) == (2, 98)
    axes = {f.name: steps_of(fed_tensor(f.inputs)) for f in manifest.model.functions}
    assert {name: axis.default for name, axis in axes.items()} == {
        "chunk_16": 16 * steps + around,
        "chunk_32": 32 * steps + around,
        "whole": 16 * steps + around,
    }
    assert axes["whole"].max == 600 * steps + around
    # The proof runs the sample by every function, in every way that the function allows.
    ran = {metric.input for metric in manifest.verification.metrics}
    assert {"sample", "sample@chunk_32", "sample@whole"} <= ran
    alone = sweep.artifact("quartznet", "static")
    own, one = (
        (each / "model.mlpackage/Data/com.apple.CoreML/weights/weight.bin").stat().st_size
        for each in (several, alone)
    )
    assert own < 1.1 * one


def test_a_package_that_writes_other_phonemes_is_refused(hama: tuple[Path, Path]) -> None:
    """Negative control: n and m are exchanged in the package's outputs, as by a damaged layer."""
    artifact = hama[1]
    manifest: Any = read_manifest(artifact)
    cases, reference = load_reference(artifact / PARITY, 0)
    tokens, name = manifest2.tokens_of(manifest.decoder), manifest.model.outputs[0].name
    first, second = tokens.labels.index("n"), tokens.labels.index("m")
    order = np.arange(tokens.classes)
    order[[first, second]] = second, first
    executed = execute(artifact, manifest, {"second": cases["second"]}, None)
    given = {
        label: {**outputs, name: outputs[name][:, order]}
        for label, outputs in executed.outputs.items()
    }
    proof = judge(
        replace(executed, outputs=given),
        artifact,
        manifest,
        {"second": cases["second"]},
        reference,
        recorded_gates(manifest),
        words=WordGates(require_transcript=False),
    )
    (transcript,) = (t for t in proof.verification.transcripts if t.input == "second")
    original = transcript.reference.split()
    swapped = original.count("n") + original.count("m")
    assert swapped > 0
    assert transcript.phonemes.changed == swapped
    assert not proof.verification.passed
    assert any("phonemes that are not the original's" in failure for failure in proof.failures)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": "2.7", "weather": 1}, None),
        ({"weather": 1}, "breaks its schema at weather"),
        ({"schema_version": "3.0"}, r"reads 1\.x and 2\.x"),
        ({"schema_version": "2.7", "rows": None}, "breaks its schema at rows"),
    ],
)
def test_a_reader_of_manifest_2_is_strict(
    hama: tuple[Path, Path], tmp_path: Path, change: dict[str, Any], message: str | None
) -> None:
    fields = json.loads((hama[1] / "manifest.json").read_text("utf-8")) | change
    (tmp_path / "manifest.json").write_text(json.dumps(fields))
    if message is None:
        assert read_manifest(tmp_path).model_dump(mode="json") == fields
        return
    with pytest.raises(AsrbuildError, match=message):
        read_manifest(tmp_path)


def test_a_network_with_states_streams(sweep: Sweep) -> None:
    manifest: Any = read_manifest(sweep.artifact("streaming", "static"))
    states = {state.output for state in manifest.state}
    assert states <= {metric.output for metric in manifest.verification.metrics}
    assert len(states) > 1
    assert manifest.decoder.blank_index == 0


def test_show_report_and_verify_take_the_artifact(
    sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    artifact = sweep.artifact("streaming", "static")
    recipe = read_manifest(artifact).provenance.recipe
    assert recipe["source"]["config"]["tokens"]["file"] == "streaming.json"  # of no machine
    for command in ("show", "report", "verify"):
        code, _, err = run_main([command, str(artifact)], monkeypatch, capfd)
        assert code == 0, (command, err)


class Silero:
    """A runtime of other code: windows of 512 samples after the previous 64, and the state."""

    def __init__(self, file: Path) -> None:
        self.session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])

    def run(self, samples: Array, keep_past: bool = True) -> dict[str, Array]:
        state: Array = np.zeros((2, 1, 128), np.float32)
        past: Array = np.zeros(64, np.float32)
        rows, given, states = [], [], []
        for at in range(0, len(samples) - 511, 512):
            window = samples[at : at + 512]
            given.append(state)
            feeds = {
                "input": np.concatenate([past, window])[None],
                "state": state,
                "sr": np.array(16_000),
            }
            (row,), state = self.session.run(None, feeds)
            states.append(state)
            rows.append([row[0], 1 - row[0]])
            past = window[-64:] if keep_past else past
        empty = np.zeros((0, 2, 1, 128), np.float32)
        return {
            "probabilities": np.array(rows, np.float32).reshape(-1, 2),
            "state_in": np.stack(given) if given else empty,
            "stateN": np.stack(states) if states else empty,
        }


def test_a_detector_with_a_state_agrees_with_onnxruntime(sweep: Sweep) -> None:
    samples = read_audio(DEMO / "sample.wav", 16_000)
    expected = Silero(MODELS["silero"].file(sweep.folder)).run(samples)["probabilities"]
    with open_artifact(sweep.artifact("silero", "static")) as transcriber:
        found = transcriber.probabilities(samples).probabilities
        np.testing.assert_allclose(found, expected, atol=1e-5)
        transcription = transcriber.transcribe(samples)
    assert transcription.text.split()[:3] == ["-", "speech", "-"]
    assert 0.3 < transcription.hypotheses[0].words[1].start_s < 0.6  # "hello"


@pytest.mark.parametrize("keep_past", [True, False])
def test_a_conformance_kit_checks_a_foreign_runtime(
    sweep: Sweep, tmp_path: Path, keep_past: bool
) -> None:
    artifact = sweep.artifact("silero", "static")
    manifest: Manifest = read_manifest(artifact)
    kit, results = tmp_path / "kit", tmp_path / "results"
    write_vectors(kit, artifact, manifest)
    book = json.loads((kit / "steps.json").read_text("utf-8"))
    assert book["format"] == "asrbuild-conformance/2"
    assert "features" not in {step["name"] for step in book["steps"]}  # it takes samples
    runtime = Silero(MODELS["silero"].file(tmp_path))
    for recording in book["recordings"]:
        with wave.open(str(kit / recording["audio"])) as file:
            pcm = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        samples = pcm.astype(np.float32) / 32768
        folder = results / recording["name"]
        folder.mkdir(parents=True)
        for name, array in runtime.run(samples, keep_past).items():
            np.save(folder / f"{name}.npy", array)
        calls = [
            {"first": at - 64, "steps": 576, "size": 576}
            for at in range(0, len(samples) - 511, 512)
        ]
        (folder / "calls.json").write_text(json.dumps(calls))
        (folder / "text.json").write_text(json.dumps({"text": recording["text"]}))
    command = [sys.executable, "-I", str(kit / "check.py"), str(results), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    answer = json.loads(done.stdout)
    assert answer["passed"] is keep_past, answer["first_off"]
    if not keep_past:
        assert answer["first_off"]["step"] in ("state_in", "stateN")


@pytest.mark.parametrize(
    ("overrides", "key", "message"),
    [
        (("coreml.compress=int8",), "coreml.compress", "have no names"),
        (("coreml.lstm=loop",), "coreml.lstm", "coreml.lstm=loop does not change it"),
        (("n_steps=99",), "model.steps", "of which 98 are context"),
        (("model=multifunction", "coreml=neuralnetwork"), "model.functions", "has one function"),
        (("source.config.features.n_mels=80",), "source.config.features", r"takes \[64\]"),
        (("model.axes.samples.default=9",), "model.axes.samples", "its axis of time is steps"),
    ],
)
def test_impossible_recipes_are_refused_by_name(
    sweep: Sweep,
    overrides: tuple[str, ...],
    key: str,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    code, err = build_again(sweep, monkeypatch, capfd, "source=quartznet", *overrides)
    assert code == 1
    assert f"key: {key}" in err, err
    assert re.search(message, err), err


@pytest.mark.parametrize(
    ("more", "advice"), [((), "set verify=half if the original"), (("verify=half",), "has a fault")]
)
def test_a_failed_proof_advises_only_keys_that_are_not_set(
    sweep: Sweep,
    more: tuple[str, ...],
    advice: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    gate = "half" if more else "fp32"
    given = [
        "source=quartznet",
        *more,
        f"verify.thresholds.{gate}.psnr_db=199",
        "verify.thresholds.fp32.psnr_db=199",
    ]
    code, err = build_again(sweep, monkeypatch, capfd, *given)
    assert code == 1
    assert "psnr_db" in err
    assert advice in err.split("fix: ")[1], err
    assert "coreml.precision=fp32" not in err.split("fix: ")[1]
