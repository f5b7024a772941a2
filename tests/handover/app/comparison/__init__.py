"""The expected values of ComparisonTests.swift, by numpy, libsndfile, soxr and scipy."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from asrbuild.speech.audio import from_int16, read_audio, to_int16
from asrbuild.speech.features.kinds import compute, make_settings
from tests.paths import DEMO
from tests.speech.features.signals import signals

SWIFT = Path(__file__).parent / "ComparisonTests.swift"
#: Kinds and settings; the sizes of Fourier transforms have the factors 2, 3, 5, 7, 19 and 401.
RECIPES: list[tuple[str, dict[str, Any]]] = [
    ("mfcc_tf", {}),
    ("mfcc_tf", {"sample_rate": 8000, "window": 256, "stride": 160, "upper_hz": 4000.0}),
    ("log_mel_whisper", {}),
    ("log_mel_whisper", {"window": 401, "stride": 320, "n_mels": 128}),
    ("log_mel_nemo", {}),
    ("log_mel_nemo", {"normalize": "none", "fft_size": 1026, "window": 320, "log_floor": 1e-5}),
    ("log_mel_nemo", {"fft_size": 441, "window": 441, "stride": 441, "preemphasis": 0.9}),
    ("fbank_kaldi", {}),
    ("fbank_kaldi", {"n_mels": 23, "window": 397, "preemphasis": 0.8, "sample_scale": 1.0}),
    ("none", {}),
]


def write_expected(folder: Path) -> None:
    """Writes ``book.json`` and the arrays that it names, float32 ``.npy`` files."""
    arrays: dict[str, str] = {}

    def save(name: str, array: np.ndarray) -> str:
        np.save(folder / f"{name}.npy", np.asarray(array, "<f4"), allow_pickle=False)
        return arrays.setdefault(name, f"{name}.npy")

    book = {
        "features": _features(save),
        "waves": _waves(folder, save),
        "rates": _rates(save),
        "speech": _speech(save),
    }
    (folder / "book.json").write_text(json.dumps(book))


def _features(save: Any) -> list[dict[str, Any]]:
    speech = signals()["speech"]
    # 640 is a whole number of strides of 160 and of 320.
    cut = {f"{n}": speech[4000 : 4000 + n] for n in (0, 1, 159, 160, 200, 201, 400, 512, 640)}
    sounds = cut | {name: sound[4000:10_000] for name, sound in signals().items()}
    found = []
    for number, (kind, values) in enumerate(RECIPES):
        settings: Any = make_settings(kind, **values)
        for name, sound in sounds.items():
            pcm = from_int16(to_int16(sound))
            found.append(
                {
                    "section": _section(kind, settings),
                    "sample_rate": settings.sample_rate,
                    "samples": save(f"sound-{name}", pcm),
                    "expected": save(f"features-{number}-{name}", compute(pcm, settings)),
                }
            )
    return found


def _section(kind: str, settings: Any) -> dict[str, Any]:
    """The section ``features`` of a manifest 2.0."""
    step_ms = 1000 * settings.step_s
    if kind == "none":
        return {"kind": kind, "place": "package", "step_ms": step_ms}
    shared = {
        "kind": kind,
        "place": "app",
        "step_ms": step_ms,
        "window_ms": 1000 * settings.window / settings.sample_rate,
    }
    if kind != "mfcc_tf":
        return shared | {"settings": asdict(settings)}
    return shared | {
        "window_samples": settings.window,
        "step_samples": settings.stride,
        "window_function": "periodic_hann",
        "fft_size": settings.fft_size,
        "spectrum": "magnitude",
        "mel_bands": settings.n_mels,
        "lower_hz": settings.lower_hz,
        "upper_hz": settings.upper_hz,
        "coefficients": settings.n_input,
        "log_floor": settings.log_floor,
        "context_frames": settings.n_context,
        "edge_padding": "zeros",
    }


def _waves(folder: Path, save: Any) -> list[dict[str, Any]]:
    random = np.random.default_rng(3)
    found = []
    for container in ("WAV", "WAVEX", "RF64"):
        for encoding in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"):
            for channels in (1, 3):
                name = f"{container}-{encoding}-{channels}"
                file = folder / f"{name}.wav"
                sound = random.uniform(-1, 1, (257, channels))
                soundfile.write(file, sound, 22_050, encoding, format=container)
                read = soundfile.read(file, dtype="float32", always_2d=True)[0]
                found.append(
                    {
                        "file": file.name,
                        "rate": 22_050,
                        "channels": channels,
                        "expected": save(name, read.mean(axis=1, dtype=np.float32)),
                    }
                )
    return found


def _rates(save: Any) -> list[dict[str, Any]]:
    import soxr
    from scipy.signal import resample_poly

    speech = read_audio(DEMO / "sample.wav", 16_000)[20_000:24_000]
    found = []
    # Zeros at both ends, because filters treat edges differently.
    edged = np.pad(speech * np.hanning(len(speech)).astype(np.float32), 400)
    for rate in (8_000, 22_050, 44_100, 48_000, 47_999):
        # Frequencies up to 3 kHz, below the edges of both passbands, which differ.
        low = soxr.resample(soxr.resample(edged, 16_000, 6_600, "VHQ"), 6_600, rate, "VHQ")
        expected = soxr.resample(low, rate, 16_000, "VHQ")
        found.append(
            {
                "input": save(f"rate-{rate}", low),
                "from": rate,
                "to": 16_000,
                "expected": save(f"rated-{rate}", expected),
                "limit": 2e-4,
            }
        )
        if rate in (8_000, 48_000):
            up, down = (2, 1) if rate == 8_000 else (1, 3)
            made = resample_poly(low.astype(np.float64), up, down, window=("kaiser", 12.0))
            found.append(found[-1] | {"expected": save(f"scipy-{rate}", made), "limit": 1e-3})
    return found


def _speech(save: Any) -> list[dict[str, Any]]:
    """Recordings in a quiet room, and the samples at which speech begins and ends."""
    found = []
    for name in ("sample", "second"):
        speech = read_audio(DEMO / f"{name}.wav", 16_000)
        room = np.random.default_rng(1).normal(0, 5e-4, 16_000 * 3 + len(speech))
        room[16_000 : 16_000 + len(speech)] += speech
        loud = np.flatnonzero(np.abs(speech) > 0.03) / 16_000
        found.append(
            {
                "input": save(f"speech-{name}", room),
                "rate": 16_000,
                "began": 1 + float(loud[0]),
                "ended": 1 + float(loud[-1]),
            }
        )
    return found
