"""Reading recordings as mono samples at the model's sample rate.

Samples are float32 in [-1, 1], which is int16 / 32768: the scale DeepSpeech's features expect.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from asrbuild.errors import AsrbuildError

FULL_SCALE = 32768.0


def read_audio(path: str | Path, sample_rate: int) -> np.ndarray:
    """Reads any file libsndfile knows; mixes channels to one, then resamples.

    A 16-bit mono file at ``sample_rate`` comes back as exactly its samples / 32768.

    Args:
        path: a WAV, FLAC, OGG, MP3, ... file.
        sample_rate: samples a second of the result.

    Returns:
        float32 (samples,) in [-1, 1], at least one sample.

    Raises:
        AsrbuildError: the file is missing, empty, not audio, damaged or has no samples.
    """
    path = Path(path)
    _check_file(path)
    samples, rate = _decode(path)
    if samples.shape[0] == 0:
        raise AsrbuildError("the recording has no samples", file=path, fix="record it again")
    if not np.isfinite(samples).all():
        raise AsrbuildError(
            "the recording has samples that are not finite numbers",
            file=path,
            fix="write it again as 16-bit PCM",
        )
    mono = samples.mean(axis=1, dtype=np.float32)
    return np.clip(resample(mono, rate, sample_rate), -1.0, 1.0)


def resample(samples: np.ndarray, rate: int, sample_rate: int) -> np.ndarray:
    """float32 (n,) at ``rate`` to float32 (about n * sample_rate / rate,) at ``sample_rate``."""
    if rate == sample_rate:
        return samples.astype(np.float32, copy=False)
    import soxr

    return soxr.resample(samples, rate, sample_rate, quality="HQ").astype(np.float32, copy=False)


def from_int16(samples: np.ndarray) -> np.ndarray:
    """int16 PCM (n,) to float32 in [-1, 1)."""
    return samples.astype(np.float32) / np.float32(FULL_SCALE)


def to_int16(samples: np.ndarray) -> np.ndarray:
    """float32 in [-1, 1] to int16 PCM, rounded and clipped."""
    scaled = np.rint(np.asarray(samples, np.float64) * FULL_SCALE)
    return np.clip(scaled, -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)


def wav_bytes(samples: np.ndarray, sample_rate: int) -> bytes:
    """int16 mono samples as a canonical WAV file: the same samples give the same bytes."""
    import io
    import wave

    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes(samples.astype("<i2").tobytes())
    return buffer.getvalue()


def _check_file(path: Path) -> None:
    if not path.exists():
        raise AsrbuildError("no such audio file", file=path, fix="check the path")
    if not path.is_file():
        raise AsrbuildError("not an audio file but a folder or device", file=path)
    if path.stat().st_size == 0:
        raise AsrbuildError("the audio file is empty (0 bytes)", file=path, fix="record it again")


def _decode(path: Path) -> tuple[np.ndarray, int]:
    """float32 (samples, channels) and the file's own sample rate."""
    import soundfile

    try:
        # As bytes: a name need not be UTF-8.
        return soundfile.read(os.fsencode(path), dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, TypeError, ValueError) as error:
        # TypeError: soundfile takes an unknown suffix for headerless data and asks for its rate.
        reason = getattr(error, "error_string", None) or str(error)
        raise AsrbuildError(
            f"cannot be read as audio: {reason.strip().rstrip('.')}",
            file=path,
            fix="give a WAV, FLAC or OGG file",
        ) from error
    except OSError as error:
        raise AsrbuildError(f"cannot be read: {error.strerror}", file=path) from error
