"""Utterances made by joining units of speech, plain or augmented, always within int16."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from corpus import Unit
from features import RATE
from scipy.signal import resample_poly

SPEED_STEPS = 40  # a speed is n / 40
GAPS = (0.04, 0.12, 0.25)  # mean seconds of the exponential part of a gap


def quantise(audio: np.ndarray) -> np.ndarray:
    """Rounds float32 [N] to values of int16."""
    return np.clip(np.round(audio * 32768.0), -32768, 32767).astype(np.float32) / 32768.0


def silence(seconds: float) -> np.ndarray:
    return np.zeros(int(seconds * RATE), np.float32)


def plain_join(units: Sequence[Unit], rng: np.random.Generator) -> tuple[np.ndarray, str]:
    """Units with gaps of 0.1 to 0.35 s over a noise floor of one int16 step; no augmentation."""
    parts = [silence(0.2)]
    for unit in units:
        parts += [unit.audio, silence(rng.uniform(0.1, 0.35))]
    audio = np.concatenate([*parts, silence(0.2)])
    floor = rng.normal(0.0, 1.0 / 32768.0, len(audio)).astype(np.float32)
    return quantise(audio + floor), " ".join(unit.text for unit in units)


class Joiner:
    """Draws training utterances; counts the uses of each unit, to use all equally."""

    def __init__(self, units: Sequence[Unit], forbidden: Sequence[str], seed: int) -> None:
        self.units = list(units)
        self.forbidden = [f" {text} " for text in forbidden]
        self.rng = np.random.default_rng(seed)
        self.uses: Counter[str] = Counter()
        self.cache: dict[tuple[str, int], np.ndarray] = {}

    def add(self, units: Sequence[Unit]) -> None:
        """Adds units, whose counts start at the lowest count so far."""
        least = min(self.uses[unit.name] for unit in self.units)
        for unit in units:
            self.uses[unit.name] = least
        self.units += units

    def utterance(self, seconds: float) -> tuple[np.ndarray, str]:
        """One augmented utterance of at most `seconds`: samples float32 [N] and its words."""
        while True:
            audio, text = self._join(seconds)
            if not any(phrase in f" {text} " for phrase in self.forbidden):
                return self._augment(audio), text

    def _join(self, seconds: float) -> tuple[np.ndarray, str]:
        rng = self.rng
        base = rng.uniform(0.87, 1.13) if rng.random() < 0.8 else 1.0
        mean_gap = GAPS[rng.integers(len(GAPS))]
        parts, texts = [silence(rng.uniform(0.0, 0.4))], []
        room = seconds - 0.4 - len(parts[0]) / RATE
        while True:
            fits = [u for u in self._candidates() if u.seconds / base / 0.94 < room]
            if not fits:
                break
            unit = min(fits, key=lambda u: self.uses[u.name])
            self.uses[unit.name] += 1
            audio = self._at_speed(unit, base * rng.uniform(0.95, 1.05))
            gap = silence(0.02 + min(rng.exponential(mean_gap), 0.8))
            parts += [audio * np.float32(rng.uniform(0.7, 1.3)), gap]
            texts.append(unit.text)
            room -= (len(audio) + len(gap)) / RATE
        if not texts:
            return self._join(seconds)
        parts[-1] = silence(rng.uniform(0.0, 0.4))
        return np.concatenate(parts), " ".join(texts)

    def _candidates(self) -> list[Unit]:
        return [self.units[index] for index in self.rng.integers(len(self.units), size=6)]

    def _at_speed(self, unit: Unit, speed: float) -> np.ndarray:
        """The unit resampled to the nearest of the speeds kept."""
        step = round(speed * SPEED_STEPS)
        if step == SPEED_STEPS:
            return unit.audio
        key = (unit.name, step)
        if key not in self.cache:
            self.cache[key] = resample_poly(unit.audio, SPEED_STEPS, step).astype(np.float32)
        return self.cache[key]

    def _augment(self, audio: np.ndarray) -> np.ndarray:
        """Gain, spectral tilt, a short low-pass and noise; a third keeps its clean silence."""
        rng = self.rng
        if rng.random() < 0.5:
            tilt = np.float32(rng.uniform(-0.4, 0.4))
            audio = audio + tilt * np.concatenate([audio[:1], audio[:-1]])
        if rng.random() < 0.1:
            audio = np.convolve(audio, np.float32([0.2, 0.6, 0.2]), "same")
        peak = float(np.abs(audio).max()) + 1e-6
        audio = audio * np.float32(10 ** rng.uniform(-0.8, 0.0) * min(1.0, 0.95 / peak))
        chance = rng.random()
        if chance < 0.3:
            noise = rng.standard_normal(len(audio), np.float32) * np.float32(1.0 / 32768.0)
            audio = audio + noise * np.float32(rng.uniform(0.3, 3.0))
        elif chance < 0.7:
            level = np.sqrt(np.mean(audio**2)) * 10 ** (-rng.uniform(12.0, 55.0) / 20.0)
            noise = rng.standard_normal(len(audio), np.float32)
            if rng.random() < 0.5:
                noise = 0.6 * noise + 0.8 * np.concatenate([noise[:1], noise[:-1]])
            audio = audio + noise * np.float32(level)
        return quantise(audio)
