"""The kit in Swift on packages with a manifest 2.0: networks other than DeepSpeech's.

Features in the app and in the package, samples, states, context on both sides, several steps a row,
pieces, phonemes and classes give the words of Python.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from asrbuild.artifact.calls import decoded_tensor
from asrbuild.artifact.manifest2 import Manifest
from asrbuild.artifact.reading import read_manifest
from asrbuild.artifact.runtime import transcribe
from asrbuild.base.errors import AsrbuildError
from asrbuild.handover.app.kit import write_folder
from asrbuild.handover.ship.signing.keys import new_key
from asrbuild.speech.audio import read_audio
from tests.handover.app.evidence import check_evidence, check_report
from tests.handover.app.package import OF_NETWORK, Built, asrkit, check_results, needs_swift
from tests.handover.app.stand_in import serving
from tests.paths import DEMO

#: Network -> its inputs, the kind of its labels (of DeepSpeech none), and its outputs.
NETWORKS = {
    "hama": ("none", "phonemes", "log_probabilities"),
    "silero": ("none", "classes", "probabilities"),
    "streaming": ("fbank_kaldi", "characters", "log_probabilities"),
    "quartznet": ("log_mel_nemo", "pieces", "log_probabilities"),
    "deepspeech in the package": ("mfcc_tf", None, "probabilities"),
    "conv in the app": ("fbank_kaldi", "characters", "log_probabilities"),
    "conv in the package": ("fbank_kaldi", "characters", "log_probabilities"),
    "keywords of samples": ("none", "classes", "probabilities"),
    "keywords of features": ("mfcc_tf", "classes", "probabilities"),
}
#: Networks whose evidence is written and read: a stream with states, and whole utterances.
EVIDENCE = ("streaming", "quartznet")


@needs_swift
@pytest.mark.parametrize("name", NETWORKS)
def test_swift_gives_the_transcripts_of_python(
    built: Built, networks: dict[str, Path], name: str, tmp_path: Path
) -> None:
    artifact, results, pipes = networks[name], tmp_path / "results", tmp_path / "pipes"
    manifest: Any = read_manifest(artifact)
    decoded = decoded_tensor(manifest.model.outputs).meaning
    labels = getattr(manifest.decoder, "kind", None)
    assert (manifest.features.kind, labels, decoded) == NETWORKS[name]
    sound = DEMO / "second.wav"
    expected = transcribe(artifact, read_audio(sound, 16_000)).hypotheses[0]
    assert expected.words
    signer = new_key("iphone", tmp_path / "config")
    key = {"ASRKIT_KEY_ID": signer.keyid} if name in EVIDENCE else {}
    env = key | {"ASRKIT_RESULTS": str(results), "ASRKIT_EXECUTOR": str(pipes)}
    with serving(artifact, manifest, pipes, signer) as asked:
        built.test(artifact, OF_NETWORK, **env)
        asked.clear()
        options = ("--artifact", artifact, "--format", "json")
        done = asrkit(built, "transcribe", sound, *options, ASRKIT_EXECUTOR=str(pipes))
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout)["recordings"]
    assert found["text"] == expected.text
    assert [word["text"] for word in found["words"]] == [word.text for word in expected.words]
    for word, wanted in zip(found["words"], expected.words, strict=True):
        times = (word["start_s"], word["end_s"])
        assert times == pytest.approx((wanted.start_s, wanted.end_s), abs=1e-6)
    assert found["calls"]["calls"] == len([x for x in asked if x["ask"] == "predict"])
    check_results(artifact, results)
    if key and sys.platform != "darwin":
        check_evidence(results / "evidence.json", artifact, signer)
        if name == "streaming":
            check_report(results / "evidence.json", artifact, tmp_path / "config", tmp_path)


def changed(manifest: Any, change: str) -> Manifest:
    """The manifest with a change that the kit does not support."""
    fields = manifest.model_dump(mode="json")
    inputs = fields["model"]["inputs"]
    if change == "given":
        fields["state"][0]["initial"] = "given"
    elif change == "meaning":
        inputs[-1]["meaning"] = "other"
    elif change == "half":
        inputs[0]["dtype"] = "float16"
    elif change == "functions":
        fields["streaming"]["functions"] = {"prime": None, "main": "main", "flush": "end"}
    else:
        fields["model"]["format"] = "aimodel"
    return Manifest.model_validate(fields)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("given", "the state .*, which begins with values that an app gives"),
        ("meaning", "the input .*, whose meaning is other"),
        ("half", "the input .* in half precision"),
        ("functions", "a stream of several functions of the package"),
        ("asset", r"an \.aimodel with a manifest 2\.0"),
    ],
)
def test_unsupported_manifests_are_refused_by_name(
    networks: dict[str, Path], tmp_path: Path, change: str, message: str
) -> None:
    artifact = networks["streaming"]
    manifest = changed(read_manifest(artifact), change)
    with pytest.raises(AsrbuildError, match=f"the app kit does not run .* no code for {message}"):
        write_folder(tmp_path / "app", artifact, manifest)
    assert not (tmp_path / "app").exists()
