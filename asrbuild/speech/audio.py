"""Reading recordings as mono samples at the model's sample rate.

Samples are float32 in [-1, 1], which is int16 / 32768: the scale DeepSpeech's features expect.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from asrbuild.base.array import Array
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.kinds.places import RECORDING, SAMPLES
from asrbuild.base.kinds.recognition import require

FULL_SCALE = 32768.0
#: Bounds for a header: samples a second, and channels.
LOWEST_RATE, HIGHEST_RATE = 1_000, 768_000
MOST_CHANNELS = 64
#: Limit of samples for each channel: a few kB of FLAC can hold days of silence.
MOST_SAMPLES = 1 << 28
#: Floats above this were never scaled to -1 .. 1.
_UNSCALED = 16.0
#: Limits for the energy of the mix divided by the mean energy of the channels, times the number of
#: channels: 2 for two equal channels, 1 for independent channels, 0 if two cancel.
_CANCELLED, _PARTLY_CANCELLED = 0.1, 0.5
#: Sizes in a header that mean "not known yet": of sox 0x7FFFF000, arecord 0x80000000, ffmpeg
#: 0xFFFFFFFF.
_NOT_KNOWN = 0x7FFFF000
#: Formats whose header says how many samples there are; that of an MP3 is a guess.
_COUNTED = ("AIFF", "AU", "CAF", "FLAC", "W64")
_BLOCK = 1 << 20

if TYPE_CHECKING:
    import soundfile

Note = Callable[[str], None]


def read_audio(
    source: str | Path | bytes,
    sample_rate: int,
    note: Note = lambda _: None,
    raw_rate: int | None = None,
) -> Array:
    """Reads a recording as mono samples at a sample rate; any format of libsndfile.

    Channels are averaged, then the mean is resampled. A 16-bit mono file at ``sample_rate`` gives
    exactly its samples / 32768. A WAV with an unfinished header, or with a missing end, is read to
    the end of the file.

    Args:
        source: a WAV, FLAC, OGG, MP3, ... file, or the bytes of one.
        sample_rate: samples a second of the result.
        note: called with a sentence for each fault that may change the transcript: a missing end, a
            lower rate than the model's, clipped samples, channels that cancel in part.
        raw_rate: the source has no header: it is mono 16-bit PCM, little-endian, at this rate.

    Returns:
        float32 (samples,) in [-1, 1], at least one sample.

    Raises:
        AsrbuildError: the file is missing, empty, not audio, damaged or has no samples; its header
        has an impossible rate or number of channels; it has more than MOST_SAMPLES; floats are not
        scaled to -1 .. 1; the channels cancel; with ``raw_rate``, it has the header of a WAV file.
    """
    file = None if isinstance(source, bytes) else Path(source)
    if file is not None:
        require(file, RECORDING if raw_rate is None else SAMPLES)
    try:
        if raw_rate is not None:
            _check_rate(raw_rate)
            mono, rate = _mixed(_raw(_bytes(source), note), note), raw_rate
        else:
            mono, rate = _decode(source, note)
    except AsrbuildError as error:
        error.file = error.file or (None if file is None else str(file))
        raise
    if rate < sample_rate:
        note(
            f"the recording has {rate} samples a second and the model takes {sample_rate}: nothing "
            f"above {rate // 2} Hz is in it, so more words may be wrong"
        )
    return np.clip(resample(mono, rate, sample_rate), -1.0, 1.0)


def resample(samples: Array, rate: int, sample_rate: int) -> Array:
    """float32 (n,) at ``rate`` to float32 (about n * sample_rate / rate,) at ``sample_rate``."""
    if rate == sample_rate:
        return samples.astype(np.float32, copy=False)
    import soxr

    resampled: Array = soxr.resample(samples, rate, sample_rate, quality="HQ")
    return resampled.astype(np.float32, copy=False)


def from_int16(samples: Array) -> Array:
    """int16 PCM (n,) to float32 in [-1, 1)."""
    return samples.astype(np.float32) / np.float32(FULL_SCALE)


def to_int16(samples: Array) -> Array:
    """float32 in [-1, 1] to int16 PCM, rounded and clipped."""
    scaled = np.rint(np.asarray(samples, np.float64) * FULL_SCALE)
    return np.clip(scaled, -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)


def wav_bytes(samples: Array, sample_rate: int) -> bytes:
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


def _raw(data: bytes, note: Note) -> Iterator[Array]:
    """Yields the samples of headerless 16-bit PCM as float32 (k, 1), block by block."""
    if data[:4] == b"RIFF" and data[8:12] == b"WAVE":
        raise AsrbuildError(
            "the samples begin with the header of a WAV file",
            fix="leave --raw out: the header has the rate and the format",
        )
    if len(data) % 2:
        note("the raw samples are an odd number of bytes: the last byte is left out")
    samples = np.frombuffer(data[: len(data) // 2 * 2], "<i2")
    for start in range(0, len(samples), _BLOCK):
        yield from_int16(samples[start : start + _BLOCK])[:, np.newaxis]


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


def _mixed(blocks: Iterable[Array], note: Note) -> Array:
    """Averages the channels of blocks (k, channels); returns float32 (n,).

    Raises:
        AsrbuildError: there are no samples or too many; some are not finite, or not scaled to
            -1 .. 1; the channels cancel.
    """
    mono: list[Array] = []
    samples, channels, beyond, peak, whole_numbers = 0, 1, 0, 0.0, True
    energy = mixed = 0.0
    for block in blocks:
        samples += len(block)
        if samples > MOST_SAMPLES:
            raise AsrbuildError(
                f"the recording has more than {MOST_SAMPLES:,} samples, which is "
                f"{MOST_SAMPLES / 16_000 / 3600:.1f} hours at 16 kHz",
                fix="cut it into shorter recordings, for example with `sox IN OUT trim 0 3600 : "
                "newfile : restart`",
            )
        if not np.isfinite(block).all():
            raise AsrbuildError(
                "the recording has samples that are not finite numbers",
                fix="write it again as 16-bit PCM",
            )
        channels = block.shape[1]
        peak = max(peak, float(np.abs(block).max(initial=0)))
        beyond += np.count_nonzero(np.abs(block) > 1)
        whole_numbers = whole_numbers and not np.any(block % 1)
        mono.append(block.mean(axis=1, dtype=np.float32))
        energy += float(np.square(block, dtype=np.float64).sum())
        mixed += float(np.square(mono[-1], dtype=np.float64).sum())
    if not samples:
        raise AsrbuildError("the recording has no samples", fix="give one with sound in it")
    if peak > _UNSCALED or (peak > 1 and whole_numbers):
        raise AsrbuildError(
            f"the samples are floats up to {peak:g}: they have the range of integers, not -1 to 1",
            fix="divide them by 32768, or write the file as 16-bit PCM",
        )
    share = beyond / (samples * channels)
    if share > 1e-3:
        note(f"{share:.1%} of the samples are beyond full scale (up to {peak:.3g}) and are clipped")
    if channels > 1 and energy > 0:
        _check_cancelling(channels * channels * mixed / energy, channels, note)
    return np.concatenate(mono)


def _check_cancelling(left: float, channels: int, note: Note) -> None:
    """Raises if channels cancel each other, and notes a partial cancellation.

    ``left``: the energy of the mix divided by the mean energy of the channels, times their number.
    """
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


def _decode(source: str | Path | bytes, note: Note) -> tuple[Array, int]:
    """Decodes a file; returns the mean of its channels, float32 (samples,), and its sample rate."""
    import soundfile

    try:
        data = source if isinstance(source, bytes) else None
        with open(source, "rb") if data is None else io.BytesIO(data) as file:
            data = _mended(file, note) or data
        # As bytes: a name need not be UTF-8.
        named = os.fsencode(source) if data is None else io.BytesIO(data)
        with soundfile.SoundFile(named) as sound:
            _check_rate(sound.samplerate)
            _check_channels(sound.channels)
            return _mixed(_blocks(sound, note), note), sound.samplerate
    except (soundfile.SoundFileError, TypeError, ValueError) as error:
        # TypeError: soundfile treats an unknown suffix as headerless data and requires its rate.
        reason = getattr(error, "error_string", None) or str(error)
        raise AsrbuildError(
            f"cannot be read as audio: {reason.strip().rstrip('.')}",
            fix=RECORDING.fix,
        ) from error
    except OSError as error:
        raise AsrbuildError(f"cannot be read: {error.strerror}") from error


def _blocks(sound: soundfile.SoundFile, note: Note) -> Iterator[Array]:
    """Yields float32 (k, channels) to the end of the file; the header's number may be wrong."""
    found = 0
    while len(block := sound.read(_BLOCK, dtype="float32", always_2d=True)):
        yield block
        found += len(block)
    if sound.format in _COUNTED and found < sound.frames:
        note(f"the file ends early: {found} of {sound.frames} samples are there")


def _mended(file: BinaryIO, note: Note) -> bytes | None:
    """A WAV with corrected sizes in its header; None if they are right or the file is not a WAV.

    A stream's sizes are written into the header when it ends: after an abort, or through a pipe,
    they are 0 or the greatest possible number. Layout: RIFF chunks of a 4-byte name and a 32-bit
    size; in RF64 (EBU Tech 3306) the 64-bit sizes are in the chunk ``ds64``.

    Raises:
        AsrbuildError: the header has an impossible rate or number of channels.
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
        return None  # too large for RIFF; libsndfile reads to the end on its own
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
