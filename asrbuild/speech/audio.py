"""Reading recordings as mono samples at the model's sample rate.

Samples are float32 in [-1, 1], which is int16 / 32768: the scale DeepSpeech's features expect.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np

from asrbuild.errors import AsrbuildError
from asrbuild.kinds import RECORDING, SAMPLES, require

FULL_SCALE = 32768.0
#: Bounds of what a header may claim: samples a second, and channels.
LOWEST_RATE, HIGHEST_RATE = 1_000, 768_000
MOST_CHANNELS = 64
#: A float this far above full scale was never scaled to -1 .. 1.
_UNSCALED = 16.0
#: Energy of the mix by that of the channels, times the number of channels: 2 for equal channels, 1
#: for independent ones, 0 where two cancel.
_CANCELLED, _PARTLY_CANCELLED = 0.1, 0.5
#: Sizes that a writer puts down for "not known yet": sox 0x7FFFF000, arecord 0x80000000, ffmpeg
#: 0xFFFFFFFF.
_NOT_KNOWN = 0x7FFFF000
#: Formats whose header says how many samples there are; that of an MP3 is a guess.
_COUNTED = ("AIFF", "AU", "CAF", "FLAC", "W64")
_BLOCK = 1 << 20

Note = Callable[[str], None]


def read_audio(
    source: str | Path | bytes,
    sample_rate: int,
    note: Note = lambda _: None,
    raw_rate: int | None = None,
) -> np.ndarray:
    """Reads any file libsndfile knows; mixes channels to one, then resamples.

    A 16-bit mono file at ``sample_rate`` comes back as exactly its samples / 32768. A WAV whose
    header was never finished, or whose end is missing, is read to the end of the file.

    Args:
        source: a WAV, FLAC, OGG, MP3, ... file, or the bytes of one.
        sample_rate: samples a second of the result.
        note: given a sentence about each thing that may make the words wrong: an end that is
            missing, a lower rate than the model's, clipped samples, channels that cancel in part.
        raw_rate: the source has no header: it is mono 16-bit PCM, little-endian, at this rate.

    Returns:
        float32 (samples,) in [-1, 1], at least one sample.

    Raises:
        AsrbuildError: the file is missing, empty, not audio, damaged or has no samples; its header
            claims what no recording has; floats are not scaled to -1 .. 1; the channels cancel.
    """
    file = None if isinstance(source, bytes) else Path(source)
    if file is not None:
        require(file, RECORDING if raw_rate is None else SAMPLES)
    try:
        if raw_rate is not None:
            samples, rate = _raw(_bytes(source), note), raw_rate
        else:
            samples, rate = _decode(source, note)
        _check_rate(rate)
        if samples.shape[0] == 0:
            raise AsrbuildError("the recording has no samples", fix="record it again")
        mono = _mixed(_checked(samples, note), note)
    except AsrbuildError as error:
        error.file = error.file or (None if file is None else str(file))
        raise
    if rate < sample_rate:
        note(
            f"the recording has {rate} samples a second and the model takes {sample_rate}: nothing "
            f"above {rate // 2} Hz is in it, so more words may be wrong"
        )
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


def _bytes(source: str | Path | bytes) -> bytes:
    if isinstance(source, bytes):
        return source
    try:
        return Path(source).read_bytes()
    except OSError as error:
        raise AsrbuildError(f"cannot be read: {error.strerror}") from error


def _raw(data: bytes, note: Note) -> np.ndarray:
    """float32 (samples, 1) of 16-bit PCM."""
    if len(data) % 2:
        note("the raw samples are an odd number of bytes: the last byte is left out")
    return from_int16(np.frombuffer(data[: len(data) // 2 * 2], "<i2"))[:, np.newaxis]


def _check_rate(rate: int) -> None:
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise AsrbuildError(
            f"the header says {rate} samples a second, which is not a sample rate "
            f"({LOWEST_RATE} to {HIGHEST_RATE})",
            fix="write the file again with the rate that it was recorded at",
        )


def _check_channels(channels: int) -> None:
    if not 1 <= channels <= MOST_CHANNELS:
        raise AsrbuildError(
            f"the header says {channels} channels; 1 to {MOST_CHANNELS} can be read",
            fix="write the file again with one channel",
        )


def _checked(samples: np.ndarray, note: Note) -> np.ndarray:
    """The samples (n, channels), if they are finite and scaled to -1 .. 1."""
    if not np.isfinite(samples).all():
        raise AsrbuildError(
            "the recording has samples that are not finite numbers",
            fix="write it again as 16-bit PCM",
        )
    peak = float(np.abs(samples).max())
    if peak > _UNSCALED or (peak > 1 and not np.any(samples % 1)):
        raise AsrbuildError(
            f"the samples are floats up to {peak:g}: they have the range of integers, not -1 to 1",
            fix="divide them by 32768, or write the file as 16-bit PCM",
        )
    share = np.count_nonzero(np.abs(samples) > 1) / samples.size
    if share > 1e-3:
        note(f"{share:.1%} of the samples are beyond full scale (up to {peak:.3g}) and are clipped")
    return samples


def _mixed(samples: np.ndarray, note: Note) -> np.ndarray:
    """float32 (n,): the mean of the channels."""
    mono = samples.mean(axis=1, dtype=np.float32)
    channels = samples.shape[1]
    whole = float(np.mean(np.square(samples, dtype=np.float64)))
    if channels == 1 or whole == 0:
        return mono
    left = channels * float(np.mean(np.square(mono, dtype=np.float64))) / whole
    if left < _CANCELLED:
        raise AsrbuildError(
            f"the {channels} channels cancel each other: they are in opposite phase, and their mix "
            f"has {left / channels:.1%} of their energy",
            fix="write one of the channels as a mono file",
        )
    if left < _PARTLY_CANCELLED:
        note(
            f"the {channels} channels cancel each other in part: their mix has "
            f"{left / channels:.0%} of their energy"
        )
    return mono


def _decode(source: str | Path | bytes, note: Note) -> tuple[np.ndarray, int]:
    """float32 (samples, channels) and the file's own sample rate."""
    import soundfile

    try:
        data = source if isinstance(source, bytes) else None
        with open(source, "rb") if data is None else io.BytesIO(data) as file:
            data = _mended(file, note) or data
        # As bytes: a name need not be UTF-8.
        named = os.fsencode(source) if data is None else io.BytesIO(data)  # type: ignore[arg-type]
        with soundfile.SoundFile(named) as sound:
            _check_rate(sound.samplerate)
            _check_channels(sound.channels)
            blocks = [sound.read(_BLOCK, dtype="float32", always_2d=True)]
            # A header may claim any number of samples: what is there decides.
            while len(blocks[-1]) == _BLOCK:
                blocks.append(sound.read(_BLOCK, dtype="float32", always_2d=True))
            found = sum(map(len, blocks))
            if sound.format in _COUNTED and found < sound.frames:
                note(f"the file ends early: {found} of {sound.frames} samples are there")
            return np.concatenate(blocks), sound.samplerate
    except (soundfile.SoundFileError, TypeError, ValueError) as error:
        # TypeError: soundfile takes an unknown suffix for headerless data and asks for its rate.
        reason = getattr(error, "error_string", None) or str(error)
        raise AsrbuildError(
            f"cannot be read as audio: {reason.strip().rstrip('.')}",
            fix="give a WAV, FLAC or OGG file",
        ) from error
    except OSError as error:
        raise AsrbuildError(f"cannot be read: {error.strerror}") from error


def _mended(file: BinaryIO, note: Note) -> bytes | None:
    """A WAV whose sizes are those of the file; None where they are, or it is not a WAV.

    The sizes in the header of a stream are written when it ends, so of one that was broken off, or
    went through a pipe, they are 0 or as large as can be. Layout: RIFF chunks of a 4-byte name and
    a 32-bit size; in RF64 (EBU Tech 3306) the 64-bit sizes are in the chunk ``ds64``.

    Raises:
        AsrbuildError: the header claims a rate or a number of channels that no recording has.
    """
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    head = file.read(12)
    order = {b"RIFF": "<", b"RF64": "<", b"RIFX": ">"}.get(head[:4])
    if order is None or head[8:] != b"WAVE":
        return None
    at, long = 12, None
    while True:
        file.seek(at)
        if len(chunk := file.read(8)) < 8:
            return None
        name, declared = struct.unpack(f"{order}4sI", chunk)
        if name == b"data":
            break
        body = file.read(min(declared, 28))
        if name == b"fmt " and len(body) >= 8:
            _, channels, rate = struct.unpack_from(f"{order}HHI", body)
            _check_channels(channels)
            _check_rate(rate)
        elif name == b"ds64" and len(body) >= 16:
            long = struct.unpack_from("<Q", body, 8)[0]
        at += 8 + declared + declared % 2
    start = at + 8
    there = size - start
    if long is not None and declared == 0xFFFFFFFF:
        declared = long
    unfinished = declared >= _NOT_KNOWN or (declared == 0 and not _chunks(file, start, order))
    if not there or (declared <= there and not (unfinished and declared == 0)):
        return None
    if unfinished:
        note(
            "the header of the WAV was never finished, so it does not say how many samples there "
            "are: they are read to the end of the file"
        )
    else:
        note(f"the file ends early: {there} of {declared} bytes of samples are there")
    if size > 0xFFFFFFFF:
        return None  # which RIFF cannot hold; libsndfile reads to the end on its own
    file.seek(0)
    data = bytearray(file.read())
    struct.pack_into(f"{order}4sI", data, 0, b"RIFX" if order == ">" else b"RIFF", size - 8)
    struct.pack_into(f"{order}I", data, at + 4, there)
    return bytes(data)


def _chunks(file: BinaryIO, at: int, order: str) -> bool:
    """Whether chunks, and nothing else, follow to the end of the file."""
    size = file.seek(0, io.SEEK_END)
    while at < size:
        file.seek(at)
        chunk = file.read(8)
        if len(chunk) < 8 or not chunk[:4].isascii() or not chunk[:4].decode().isprintable():
            return False
        length = struct.unpack(f"{order}I", chunk[4:])[0]
        at += 8 + length + length % 2
    return at - size <= 1
