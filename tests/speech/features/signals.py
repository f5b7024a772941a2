"""Sounds on which front ends differ: speech, quiet speech, silence, clipping and noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

SAMPLE = Path(__file__).parents[3] / "asrbuild" / "demo" / "sample.wav"


def signals() -> dict[str, np.ndarray]:
    """float32 samples (n,) at 16 kHz in [-1, 1], 3 s or less each."""
    speech = soundfile.read(SAMPLE, dtype="float32")[0][16_000:64_000]
    # Differences of white noise have the most power at the highest frequencies.
    hiss = np.diff(np.random.default_rng(0).uniform(-1, 1, 32_001)).astype(np.float32)
    return {
        "speech": speech,
        "quiet": (np.round(speech * 32.768) / 32_768.0).astype(np.float32),
        "silence": np.zeros(16_000, np.float32),
        "clipping": np.clip(speech * 40, -1, 1),
        "hiss": np.clip(hiss, -1, 1),
    }
