"""Any CTC model in ONNX, from its file to a published artifact that transcribes."""

# ruff: noqa: RUF001 (the letters of the phonetic alphabet)

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asrbuild.artifact.reading import read_manifest
from asrbuild.artifact.runtime import open_artifact
from asrbuild.base.errors import AsrbuildError
from asrbuild.proof.execution import longest_call
from asrbuild.speech.audio import read_audio
from asrbuild.speech.rates import count
from tests.acceptance.conftest import Finished, run_asrbuild
from tests.architectures.onnx import models
from tests.paths import DEMO
from tests.wheels import fetched

#: Real features of real speech, and no more: the whole proof takes a minute.
SHORT = ("verify.inputs=[sample,second]", "verify.edge_lengths=false")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("any")


#: Recording -> phoneme errors of the original in onnxruntime, and what is said: CMUdict in IPA,
#: whose AH is ə with stress or without.
PRONOUNCED = {
    "sample.wav": (
        9,
        "h ɛ l oʊ | w ɝ l d | j u | ɝ | k ɝ ə n t l i | k ɔ l ɝ | n ə m b ɝ | s ɛ v ə n | ð i | "
        "ɛ s t ə m eɪ t ɪ d | h oʊ l d | t aɪ m | ɪ z | k ɝ ə n t l i | t w ɛ l v | m ɪ n ə t s | "
        "θ æ ŋ k | j u | f ɹ ɝ | j ʊ ɹ | p eɪ ʃ ə n s",
    ),
    "second.wav": (2, "j u | h æ v | f aɪ v | n u | m ɛ s ə d͡ʒ ə z"),
}


def build(folder: Path, name: str, model: Path, tokens: Path, *overrides: str) -> Finished:
    return run_asrbuild(
        "source=onnx", f"source.path={model}", f"source.config.tokens.file={tokens}",
        f"name={name}", *SHORT, *overrides, cwd=folder,
        env={"ASRBUILD_ARTIFACTS": "a", "ASRBUILD_CACHE": "c", "OPENBLAS_NUM_THREADS": "1"},
    )  # fmt: skip


def published(folder: Path, name: str) -> Path:
    (found,) = [path for path in (folder / "a" / name).iterdir() if path.name.startswith("1.")]
    return found


@pytest.fixture(scope="module")
def hama(folder: Path) -> tuple[Path, Path]:
    """A real phoneme model that takes samples, and its artifact."""
    assets = fetched() / "hama" / "assets"
    labels = json.loads((assets / "g2p_vocab.json").read_text("utf-8"))["decoder"]
    tokens = folder / "tokens.json"
    tokens.write_text(json.dumps([*labels, "<wb>", "<blank>"]), "utf-8")
    model = assets / "asr_waveform_fp16.onnx"
    done = build(
        folder, "hama", model, tokens, "source.config.tokens.kind=phonemes", "model=dynamic",
        "coreml.precision=fp32", "verify=half",
    )  # fmt: skip
    assert done.code == 0, done.err
    return model, published(folder, "hama")


def test_a_real_model_writes_what_onnxruntime_writes(hama: tuple[Path, Path]) -> None:
    import onnxruntime

    model, artifact = hama
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    with open_artifact(artifact) as transcriber:
        labels, blank = transcriber.alphabet.labels, transcriber.alphabet.blank
        for name in ("sample.wav", "second.wav"):
            samples = read_audio(DEMO / name, 16_000)
            feeds = {"waveform": samples[None], "waveform_lengths": np.array([len(samples)])}
            rows = session.run(["log_probs"], feeds)[0][0].argmax(axis=-1)
            kept = [b for a, b in zip([-1, *rows], rows, strict=False) if a != b and b != blank]
            written = ["|" if labels[label] == "<wb>" else labels[label] for label in kept]
            # A person may speak piece by piece.
            found = transcriber.transcribe(samples).text
            assert found == " ".join(written)
            errors, said = PRONOUNCED[name]
            rate = count(said, found.replace("ʌ", "ə"), transcriber.alphabet).characters
            assert rate.errors == errors, rate
        assert found == "j u | h eɪ v | f aɪ v | n u | m ɛ s ə d͡ʒ ɪ z"


def test_what_chunks_cost_is_in_the_manifest_and_the_report(hama: tuple[Path, Path]) -> None:
    manifest: Any = read_manifest(hama[1])
    assert manifest.schema_version == "2.0"
    assert (manifest.rows.steps, manifest.rows.add, manifest.rows.most) == (320, 320, 1500)
    assert not manifest.context.causal
    assert longest_call(manifest, 3000) == 960_000  # one minute of samples
    cost = {t.input: (t.recording_edits, t.recording_labels) for t in
            manifest.verification.transcripts}  # fmt: skip
    assert cost["sample"] == (0, 108)
    (chunked,) = (cost[name] for name in cost if name.startswith("sample@"))
    assert 0 < chunked[0] <= 15
    report = (hama[1] / "report.md").read_text("utf-8")
    assert f"{chunked[0]} of 108" in report
    assert "TensorFlow" not in report


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": "2.7", "weather": 1}, None),
        ({"weather": 1}, "breaks its schema at weather"),
        ({"schema_version": "3.0"}, r"reads 1\.x and 2\.x"),
        ({"schema_version": "2.7", "rows": None}, "breaks its schema at rows"),
    ],
)
def test_a_reader_of_2_is_strict_for_what_it_knows(
    hama: tuple[Path, Path], tmp_path: Path, change: dict[str, Any], message: str | None
) -> None:
    fields = json.loads((hama[1] / "manifest.json").read_text("utf-8")) | change
    (tmp_path / "manifest.json").write_text(json.dumps(fields))
    if message is None:
        assert read_manifest(tmp_path).model_dump(mode="json") == fields
        return
    with pytest.raises(AsrbuildError, match=message):
        read_manifest(tmp_path)


def test_the_app_kit_refuses_it_by_name(hama: tuple[Path, Path], folder: Path) -> None:
    done = run_asrbuild("app", str(hama[1]), "--out", "kit", cwd=folder)
    assert done.code == 1
    assert "features none in the package, 320 steps a row, output log_probabilities" in done.err


@pytest.fixture(scope="module")
def random(folder: Path) -> Any:
    """Random weights of well-known networks, with labels in any order."""

    def make(name: str, classes: int) -> tuple[Path, Path]:
        labels = ["<blank>", " ", *(chr(ord("a") + at) for at in range(classes - 2))]
        tokens = folder / f"{name}.txt"
        tokens.write_text("\n".join(labels) + "\n", "utf-8")
        return getattr(models, name)(folder / f"{name}.onnx"), tokens

    return make


def test_a_network_with_states_streams(folder: Path, random: Any) -> None:
    done = build(
        folder, "streaming", *random("streaming_conformer", 33), "model=static",
        "source.config.tokens.blank=first", "source.config.features.kind=fbank_kaldi",
        "+source.config.features.n_mels=40", "coreml.precision=fp32",
    )  # fmt: skip
    assert done.code == 0, done.err
    manifest: Any = read_manifest(published(folder, "streaming"))
    states = {state.output for state in manifest.state}
    assert states <= {metric.output for metric in manifest.verification.metrics}
    assert len(states) > 1
    assert manifest.decoder.blank_index == 0


@pytest.mark.parametrize(
    ("overrides", "key", "message"),
    [
        (("coreml=neuralnetwork",), "coreml.format", "becomes an ML program"),
        (("coreml.compress=int8",), "coreml.compress", "have no names"),
        (("coreml.lstm=loop",), "coreml.lstm", "coreml.lstm=loop does not change it"),
        (("n_steps=99",), "model.steps", "of which 98 are context"),
        (("model=multifunction",), "model.functions.chunk_16", "of which 98 are context"),
        (("source.config.features.n_mels=80",), "source.config.features", r"takes \[64\]"),
        (("model.axes.samples.default=9",), "model.axes.samples", "its axis of time is steps"),
    ],
)
def test_what_cannot_be_built_is_refused_by_name(
    folder: Path, random: Any, overrides: tuple[str, ...], key: str, message: str
) -> None:
    import re

    done = build(
        folder, "refused", *random("quartznet", 29), "model=static",
        "source.config.features.kind=log_mel_nemo", "+source.config.features.n_mels=64",
        "source.config.tokens.blank=first", *overrides,
    )  # fmt: skip
    assert done.code == 1
    assert f"key: {key}" in done.err, done.err
    assert re.search(message, done.err), done.err
