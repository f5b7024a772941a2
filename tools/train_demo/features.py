"""MFCC features in numpy, equal to TensorFlow's AudioSpectrogram and Mfcc kernels."""

from __future__ import annotations

import functools

import numpy as np

RATE = 16_000  # samples a second
WINDOW = 512  # samples, 32 ms
STRIDE = 320  # samples, 20 ms
N_INPUT = 26  # cepstral coefficients
N_MELS = 40  # mel bands
LOWER_HZ, UPPER_HZ = 20.0, 8000.0
FLOOR = 1e-12  # smallest band value before the logarithm
N_CONTEXT = 9  # frames on each side


def _mel(hz: np.ndarray | float) -> np.ndarray:
    """Hz to mel, natural logarithm form."""
    return 1127.0 * np.log1p(np.asarray(hz, np.float64) / 700.0)


@functools.cache
def _filterbank() -> np.ndarray:
    """Mel weights [257, 40] for magnitudes; each bin is shared by two neighbouring bands."""
    bins = WINDOW // 2 + 1
    low, high = _mel(LOWER_HZ), _mel(UPPER_HZ)
    centres = low + (high - low) / (N_MELS + 1) * np.arange(1, N_MELS + 2)
    edges = np.concatenate([[low], centres])
    hz_per_bin = 0.5 * RATE / (bins - 1)
    first, last = int(1.5 + LOWER_HZ / hz_per_bin), int(UPPER_HZ / hz_per_bin)
    bank = np.zeros((bins, N_MELS))
    for index in range(first, last + 1):
        mel = _mel(index * hz_per_bin)
        band = min(int(np.searchsorted(centres, mel, side="left")), N_MELS) - 1
        share = (edges[band + 2] - mel) / (edges[band + 2] - edges[band + 1])
        if band >= 0:
            bank[index, band] += share
        if band + 1 < N_MELS:
            bank[index, band + 1] += 1.0 - share
    return bank


@functools.cache
def _dct() -> np.ndarray:
    """DCT-II [40, 26], scaled by sqrt(2 / bands)."""
    bands = np.arange(N_MELS) + 0.5
    orders = np.arange(N_INPUT)
    return np.sqrt(2.0 / N_MELS) * np.cos(np.pi / N_MELS * np.outer(bands, orders))


@functools.cache
def _hann() -> np.ndarray:
    """Periodic Hann window [512]."""
    return 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(WINDOW) / WINDOW)


def mfcc(samples: np.ndarray) -> np.ndarray:
    """Samples in [-1, 1] at 16 kHz, shape [N], to features float32 [1 + (N - 512) // 320, 26]."""
    if len(samples) < WINDOW:
        return np.zeros((0, N_INPUT), np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[::STRIDE]
    magnitudes = np.abs(np.fft.rfft(frames * _hann(), axis=-1))
    bands = np.maximum(magnitudes @ _filterbank(), FLOOR)
    return (np.log(bands) @ _dct()).astype(np.float32)
