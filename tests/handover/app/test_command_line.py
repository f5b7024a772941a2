"""``asrkit``, the command line of the kit: recordings to words."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asrbuild.artifact.reading import read_manifest
from asrbuild.artifact.runtime import transcribe
from asrbuild.speech.audio import read_audio
from tests.handover.app.package import Built, asrkit, needs_swift
from tests.handover.app.stand_in import serving
from tests.paths import DEMO

pytestmark = needs_swift


def test_the_command_line_prints_the_transcripts(
    built: Built, artifacts: dict[str, Path], tmp_path: Path
) -> None:
    artifact = artifacts["explicit"]
    manifest = read_manifest(artifact)
    # The kit converts another rate, two channels and 24 bits.
    sound = read_audio(DEMO / "second.wav", 44_100)
    wave = tmp_path / "second.wav"
    soundfile.write(wave, np.stack([sound, sound * 0.5], axis=1), 44_100, "PCM_24")
    expected = transcribe(artifact, read_audio(wave, 16_000)).hypotheses[0]
    with serving(artifact, manifest, tmp_path / "pipes") as asked:
        done = asrkit(
            built,
            "transcribe",
            wave,
            "--artifact",
            artifact,
            "--format",
            "json",
            "--partial",
            ASRKIT_EXECUTOR=str(tmp_path / "pipes"),
        )
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout)["recordings"]
    assert found["text"] == expected.text
    assert [word["text"] for word in found["words"]] == expected.text.split()
    assert found["audio_s"] == pytest.approx(len(sound) / 44_100, abs=1e-3)
    assert found["calls"]["calls"] == len([x for x in asked if x["ask"] == "predict"])
    partial = done.stderr.splitlines()
    assert len(partial) > 3
    assert all(expected.text.startswith(text.strip()) for text in partial[:3])


def test_the_command_line_replays_recordings_and_refuses_bad_files(
    built: Built, artifacts: dict[str, Path], tmp_path: Path
) -> None:
    artifact = artifacts["explicit"]
    replayed = artifact / "conformance" / "reference" / "audio.wav"
    where = ("--artifact", artifact, "--replay", "reference")
    captions = asrkit(built, "transcribe", replayed, "--format", "vtt", *where)
    assert captions.returncode == 0, captions.stderr
    head, times, text = captions.stdout.strip().replace("\n\n", "\n").splitlines()
    assert (head, text) == ("WEBVTT", "hello world y")
    assert re.fullmatch(r"00:00:0\d\.\d{3} --> 00:00:0\d\.\d{3}", times)
    measured = asrkit(built, "bench", replayed, "--seconds", "1", *where)
    assert re.search(r"mfcc_tf: [\d.]+ ms for 1 s", measured.stdout), measured.stderr
    assert re.search(r"decoder    \d+ calls, [\d.]+ ms\n", measured.stdout)
    assert "hello world y" in measured.stdout
    damaged = tmp_path / "damaged.wav"
    damaged.write_bytes(replayed.read_bytes()[:30])
    refused = asrkit(built, "transcribe", damaged, *where)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("asrkit: the recording cannot be read")
