"""Readers of recordings: exact samples, and clear errors."""

import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asrbuild.base.errors import AsrbuildError
from asrbuild.speech import audio
from asrbuild.speech.audio import from_int16, read_audio, to_int16, wav_bytes

RATE = 16_000


def _tone(hz: float, rate: int, seconds: float = 1.0) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hz * np.arange(int(rate * seconds)) / rate)


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS has no such names")
def test_a_name_that_is_not_utf_8_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x\udcff.wav"
    path.write_bytes(wav_bytes(np.array([1, -2, 3], np.int16), 16_000))
    np.testing.assert_array_equal(read_audio(path, 16_000), np.float32([1, -2, 3]) / 32768)


def test_sixteen_bit_mono_at_the_rate_is_exact(tmp_path: Path) -> None:
    pcm = np.array([0, 1, -1, 32767, -32768, 12345], np.int16)
    soundfile.write(tmp_path / "a.wav", pcm, RATE, subtype="PCM_16")
    samples = read_audio(tmp_path / "a.wav", RATE)
    assert samples.dtype == np.float32
    np.testing.assert_array_equal(samples * 32768, pcm.astype(np.float32))
    np.testing.assert_array_equal(to_int16(samples), pcm)
    np.testing.assert_array_equal(from_int16(pcm), samples)


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
def test_resampling_keeps_the_tone_and_the_duration(tmp_path: Path, rate: int) -> None:
    soundfile.write(tmp_path / "tone.wav", _tone(440, rate), rate)
    samples = read_audio(tmp_path / "tone.wav", RATE)
    assert abs(len(samples) - RATE) <= 2
    middle = slice(2_000, 14_000)
    np.testing.assert_allclose(samples[middle], _tone(440, RATE)[middle], atol=2e-3)


def test_resampling_down_removes_what_cannot_be_represented(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "high.wav", _tone(11_000, 48_000), 48_000)
    assert np.abs(read_audio(tmp_path / "high.wav", RATE)[1_000:-1_000]).max() < 1e-3


def test_channels_are_averaged(tmp_path: Path) -> None:
    left, right = _tone(300, RATE), _tone(500, RATE)
    soundfile.write(tmp_path / "st.wav", np.stack([left, right], axis=1), RATE, subtype="FLOAT")
    samples = read_audio(tmp_path / "st.wav", RATE)
    np.testing.assert_allclose(samples, (left + right) / 2, atol=1e-6)


def test_float_files_beyond_full_scale_are_clipped(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "loud.wav", 3 * _tone(300, RATE), RATE, subtype="FLOAT")
    samples = read_audio(tmp_path / "loud.wav", RATE)
    assert samples.max() == 1.0
    assert samples.min() == -1.0


def test_flac_is_read_too(tmp_path: Path) -> None:
    pcm = to_int16(_tone(300, RATE))
    soundfile.write(tmp_path / "a.flac", pcm, RATE)
    np.testing.assert_array_equal(to_int16(read_audio(tmp_path / "a.flac", RATE)), pcm)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.wav", None, "no such recording"),
        ("empty.wav", b"", "this is an empty file (0 bytes), not a recording"),
        (
            "text.wav",
            b"hello, I am no recording\n" * 9,
            "this is a text (its name",
        ),
        ("noise.raw", bytes(range(256)), "cannot be read as audio: "),
        ("cut.wav", b"RIFF\x24\x00\x00\x00WAVE", "cannot be read as audio: "),
    ],
)
def test_files_that_are_not_audio_are_refused(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(AsrbuildError) as caught:
        read_audio(path, RATE)
    assert caught.value.message.startswith(message)
    assert caught.value.file == str(path)


def test_a_recording_without_samples_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "none.wav", np.zeros(0, np.int16), RATE)
    with pytest.raises(AsrbuildError, match="the recording has no samples"):
        read_audio(tmp_path / "none.wav", RATE)


def test_samples_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "nan.wav", np.full(1_000, np.nan), RATE, subtype="FLOAT")
    with pytest.raises(AsrbuildError, match="not finite"):
        read_audio(tmp_path / "nan.wav", RATE)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AsrbuildError, match="this is a folder, not a recording"):
        read_audio(tmp_path, RATE)


PCM = to_int16(_tone(300, RATE, 0.5))


def _wav(
    riff: int, data: int, content: bytes = PCM.tobytes(), *, rate: int = RATE, channels: int = 1
) -> bytes:
    head = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, channels, rate, 32_000, 2, 16)
    return (
        struct.pack("<4sI4s", b"RIFF", riff, b"WAVE")
        + head
        + struct.pack("<4sI", b"data", data)
        + content
    )


@pytest.mark.parametrize(
    ("riff", "data"),
    [
        (0, 0),
        (36, 0),
        (16036, 0),
        (0xFFFFFFFF, 0xFFFFFFFF),
        (0x7FFFF024, 0x7FFFF000),
        (0x80000024, 0x80000000),
    ],
)
def test_an_unfinished_header_is_read(tmp_path: Path, riff: int, data: int) -> None:
    """Streams, pipes and killed recorders leave such headers, here in a file and in bytes."""
    (tmp_path / "stream.wav").write_bytes(_wav(riff, data))
    notes: list[str] = []
    for source in (tmp_path / "stream.wav", _wav(riff, data)):
        np.testing.assert_array_equal(to_int16(read_audio(source, RATE, notes.append)), PCM)
    assert len(notes) == 2
    assert "never finished" in notes[0]


def test_an_unfinished_rf64_header_is_read() -> None:
    wav = _wav(0, 0)
    sizes = struct.pack("<4sIQQQI", b"ds64", 28, 0, 0, 0, 0)
    unfinished = b"RF64" + b"\xff" * 4 + b"WAVE" + sizes + wav[12:36] + b"data" + b"\xff" * 4
    notes: list[str] = []
    samples = read_audio(unfinished + PCM.tobytes(), RATE, notes.append)
    np.testing.assert_array_equal(to_int16(samples), PCM)
    assert len(notes) == 1


def test_an_empty_recording_is_not_an_unfinished_one() -> None:
    with pytest.raises(AsrbuildError, match="has no samples"):
        read_audio(_wav(48, 0, b"LIST\x04\0\0\0INFO"), RATE)


def test_a_truncated_recording_is_read_with_a_note() -> None:
    notes: list[str] = []
    whole = _wav(36 + PCM.nbytes, PCM.nbytes)
    samples = read_audio(whole[:-6000], RATE, notes.append)
    np.testing.assert_array_equal(to_int16(samples), PCM[:-3000])
    assert notes == ["the file ends early: 10000 of 16000 bytes of samples are there"]
    notes.clear()
    read_audio(whole, RATE, notes.append)
    assert notes == []


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"rate": 2**31}, "2147483648 samples a second"),
        ({"rate": 2**32 - 1}, "4294967295 samples a second"),
        ({"rate": 0}, "0 samples a second"),
        ({"rate": 1}, "1 samples a second"),
        ({"channels": 65535}, "65535 channels"),
        ({"channels": 0}, "0 channels"),
    ],
)
@pytest.mark.parametrize("data", [PCM.nbytes, 0])
def test_impossible_numbers_in_a_header_are_refused(
    header: dict[str, int], data: int, message: str
) -> None:
    with pytest.raises(AsrbuildError) as caught:
        read_audio(_wav(0, data, **header), RATE)
    assert message in caught.value.message
    assert caught.value.fix


def test_floats_in_the_range_of_integers_are_refused(tmp_path: Path) -> None:
    for peak in (20_000, 3):
        unscaled = np.rint(peak * _tone(300, RATE) / 0.5).astype(np.float32)
        soundfile.write(tmp_path / "f.wav", unscaled, RATE, subtype="FLOAT")
        with pytest.raises(AsrbuildError, match=f"floats up to {peak}"):
            read_audio(tmp_path / "f.wav", RATE)


def test_causes_of_wrong_words_are_noted(tmp_path: Path) -> None:
    notes: list[str] = []
    soundfile.write(tmp_path / "loud.wav", 3 * _tone(300, RATE), RATE, subtype="FLOAT")
    read_audio(tmp_path / "loud.wav", RATE, notes.append)
    soundfile.write(tmp_path / "telephone.wav", _tone(300, 8_000), 8_000)
    read_audio(tmp_path / "telephone.wav", RATE, notes.append)
    soundfile.write(tmp_path / "high.wav", _tone(300, 48_000), 48_000)
    read_audio(tmp_path / "high.wav", RATE, notes.append)
    left = _tone(300, RATE)
    soundfile.write(tmp_path / "part.wav", np.stack([left, -0.5 * left], 1), RATE)
    read_audio(tmp_path / "part.wav", RATE, notes.append)
    clipped, rate, part = notes
    assert "beyond full scale (up to 1.5) and are clipped" in clipped
    assert "8000 samples a second and the model takes 16000" in rate
    assert "cancel each other in part: their mix has 10% of their energy" in part


def test_channels_in_opposite_phase_are_refused(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, (RATE, 2))
    notes: list[str] = []
    for name, channels in (
        ("anti", np.stack([noise[:, 0], -noise[:, 0]], 1)),
        ("noise", noise),
        ("one", noise * [1, 0]),
        ("silent", 0 * noise),
    ):
        soundfile.write(tmp_path / f"{name}.wav", channels, RATE, subtype="FLOAT")
        if name == "anti":
            with pytest.raises(AsrbuildError, match="opposite phase"):
                read_audio(tmp_path / f"{name}.wav", RATE)
        else:
            read_audio(tmp_path / f"{name}.wav", RATE, notes.append)
    assert notes == []


def test_samples_without_a_header_are_read() -> None:
    np.testing.assert_array_equal(to_int16(read_audio(PCM.tobytes(), RATE, raw_rate=RATE)), PCM)
    notes: list[str] = []
    read_audio(PCM.tobytes() + b"x", RATE, notes.append, raw_rate=RATE)
    assert "odd number of bytes" in notes[0]
    with pytest.raises(AsrbuildError, match="samples a second"):
        read_audio(PCM.tobytes(), RATE, raw_rate=2**31)


@pytest.mark.parametrize("given", [bytes, Path])
def test_a_wav_file_is_not_samples_without_a_header(given: type, tmp_path: Path) -> None:
    path = tmp_path / "speech.wav"
    path.write_bytes(wav_bytes(PCM, RATE))
    with pytest.raises(AsrbuildError, match="begin with the header of a WAV file") as error:
        read_audio(path.read_bytes() if given is bytes else path, RATE, raw_rate=RATE)
    assert error.value.fix == "leave --raw out: the header has the rate and the format"
    assert error.value.file == (None if given is bytes else str(path))


@pytest.mark.parametrize("suffix", [".flac", ".wav", ".raw"])
def test_a_recording_of_days_is_refused_at_the_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    """A FLAC file of silence is small; it is read block by block, and no further than the bound."""
    monkeypatch.setattr(audio, "MOST_SAMPLES", 3 << 20)
    path = tmp_path / f"long{suffix}"
    silence = np.zeros((4 << 20, 1), np.int16)
    if suffix == ".raw":
        path.write_bytes(silence.tobytes())
    else:
        soundfile.write(path, silence, 16_000)
    with pytest.raises(AsrbuildError, match="has more than 3,145,728 samples") as refused:
        read_audio(path, 16_000, raw_rate=16_000 if suffix == ".raw" else None)
    assert refused.value.file == str(path)
    monkeypatch.setattr(audio, "MOST_SAMPLES", 4 << 20)
    assert len(read_audio(path, 16_000, raw_rate=16_000 if suffix == ".raw" else None)) == 4 << 20
