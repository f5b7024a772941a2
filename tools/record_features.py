# /// script
# requires-python = ">=3.11,<3.12"
# dependencies = ["numpy", "soundfile", "torch==2.13.0", "librosa==0.11.0", "kaldi-native-fbank"]
# ///
"""Records features of the test sounds by other implementations in tests/data/features.npz.

Kaldi's features by kaldi-native-fbank; Whisper's and NeMo's by torch.stft and librosa's bands, in
the order of operations of their own sources. Every eighth frame is kept.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

RATE, HOP = 16_000, 160


def kaldi(samples: Any) -> Any:
    import kaldi_native_fbank
    import numpy as np

    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.dither = 0
    options.mel_opts.num_bins = 80
    options.mel_opts.high_freq = 8000
    computer = kaldi_native_fbank.OnlineFbank(options)
    computer.accept_waveform(RATE, (samples * 32768.0).tolist())
    computer.input_finished()
    return np.stack([computer.get_frame(at) for at in range(computer.num_frames_ready)])


def whisper(samples: Any) -> Any:
    import librosa
    import torch

    audio = torch.from_numpy(samples)
    spectrum = torch.stft(audio, 400, HOP, window=torch.hann_window(400), return_complex=True)
    power = spectrum[..., :-1].abs() ** 2
    bands = torch.from_numpy(librosa.filters.mel(sr=RATE, n_fft=400, n_mels=80)) @ power
    logs = torch.clamp(bands, min=1e-10).log10()
    logs = (torch.maximum(logs, logs.max() - 8.0) + 4.0) / 4.0
    return logs.T.numpy()


def nemo(samples: Any, *, normalize: bool) -> Any:
    import librosa
    import torch

    audio = torch.from_numpy(samples)
    audio = torch.cat((audio[:1], audio[1:] - 0.97 * audio[:-1]))
    spectrum = torch.stft(
        audio,
        512,
        HOP,
        win_length=400,
        window=torch.hann_window(400, periodic=False),
        center=True,
        pad_mode="constant",
        return_complex=True,
    )
    power = torch.view_as_real(spectrum).pow(2).sum(-1)
    bands = torch.from_numpy(librosa.filters.mel(sr=RATE, n_fft=512, n_mels=80)) @ power
    logs = torch.log(bands + 2**-24)[:, : len(samples) // HOP]
    if normalize:
        deviation = logs.std(dim=1, keepdim=True) + 1e-5
        logs = (logs - logs.mean(dim=1, keepdim=True)) / deviation
    return logs.T.numpy()


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    import numpy as np

    from tests.speech.features.signals import signals

    recorded: dict[str, Any] = {}
    for name, samples in signals().items():
        made = {
            "fbank_kaldi": kaldi(samples),
            "log_mel_whisper": whisper(samples),
            "log_mel_nemo": nemo(samples, normalize=True),
            "log_mel_nemo_raw": nemo(samples, normalize=False),
        }
        for kind, values in made.items():
            recorded[f"{kind}/{name}/steps"] = np.array(len(values))
            recorded[f"{kind}/{name}"] = values[::8].astype(np.float32)
    np.savez_compressed(ROOT / "tests" / "data" / "features.npz", **recorded)


if __name__ == "__main__":
    main()
