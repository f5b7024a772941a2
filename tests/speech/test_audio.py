"""Reading recordings: exact where nothing has to change, clear where there is nothing to read."""

import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asrbuild.errors import AsrbuildError
from asrbuild.speech.audio import from_int16, read_audio, to_int16, wav_bytes

RATE = 16_000


def _tone(hz: float, rate: int, seconds: float = 1.0) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hz * np.arange(int(rate * seconds)) / rate)


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS has no such names")
def test_a_name_that_is_not_utf_8(tmp_path: Path) -> None:
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
        ("missing.wav", None, "no such audio file"),
        ("empty.wav", b"", "the audio file is empty (0 bytes)"),
        ("text.wav", b"hello, I am no recording\n" * 9, "cannot be read as audio: Format not"),
        ("noise.raw", bytes(range(256)), "cannot be read as audio: "),
        ("cut.wav", b"RIFF\x24\x00\x00\x00WAVE", "cannot be read as audio: "),
    ],
)
def test_what_is_no_audio(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(AsrbuildError) as caught:
        read_audio(path, RATE)
    assert caught.value.message.startswith(message)
    assert caught.value.file == str(path)


def test_a_recording_without_samples(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "none.wav", np.zeros(0, np.int16), RATE)
    with pytest.raises(AsrbuildError, match="the recording has no samples"):
        read_audio(tmp_path / "none.wav", RATE)


def test_samples_that_are_not_numbers(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "nan.wav", np.full(1_000, np.nan), RATE, subtype="FLOAT")
    with pytest.raises(AsrbuildError, match="not finite"):
        read_audio(tmp_path / "nan.wav", RATE)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AsrbuildError, match="not an audio file but a folder"):
        read_audio(tmp_path, RATE)
