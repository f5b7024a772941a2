"""The Asterisk core sounds: transcripts to spoken words, prompts to trimmed 16 kHz units."""

from __future__ import annotations

import hashlib
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from features import RATE

ALPHABET = " abcdefghijklmnopqrstuvwxyz'"
DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]

# Sounds that are not speech, or whose words are not certain enough for training.
DROPPED = {
    "ascending-2tone",
    "beep",
    "beeperr",
    "descending-2tone",
    "tt-monkeys",
    "demo-instruct",
    "demo-moreinfo",
    "vm-onefor-full",
    "spy-h323",
    "spy-iax2",
    "spy-dahdi",
    "spy-misdn",
    "spy-unistim",
    "spy-nbs",
    "spy-mgcp",
    "spy-usbradio",
    "spy-zap",
    "conf-getchannel",
}
# Written forms that differ from the spoken words.
SPOKEN = {
    "fourtieth": "fortieth",
    "represenatives": "representatives",
    "a.m.": "a m",
    "p.m.": "p m",
    "exclaimation-point": "exclamation point",
    "thru": "through",
    "iax": "i a x",
    "pbx": "p b x",
    "e-mail": "email",
    "xray": "x ray",
    "zed": "zed",
    "*": "star",
    "#": "pound",
    "inter-asterisk": "inter asterisk",
    "touchtone": "touch tone",
}


@dataclass(frozen=True)
class Unit:
    """One stretch of speech: its name, its words, and its samples float32 [N] in [-1, 1]."""

    name: str
    text: str
    audio: np.ndarray

    @property
    def seconds(self) -> float:
        return len(self.audio) / RATE


def spoken(written: str) -> str | None:
    """The words of a transcript in the model's alphabet; None if they are not certain."""
    text = re.sub(r"\[[^]]*\]|\([^)]*\)", " ", written.lower()).replace("...", " ")
    words = []
    for token in text.split():
        token = token if token in SPOKEN else token.strip('.,:;!?"')
        token = SPOKEN.get(token, SPOKEN.get(token + ".", token))
        if re.fullmatch(r"[0-9]", token):
            token = DIGITS[int(token)]
        words += re.sub(r'[.,:;!?"]', "", token).replace("-", " ").split()
    line = " ".join(words)
    return line if line and set(line) <= set(ALPHABET) else None


def read_transcripts(path: Path) -> dict[str, str]:
    """`name: text` lines to {name: words}; a trailing `.wav` in a name is dropped."""
    lines = {}
    for raw in path.read_text(encoding="utf-8", errors="replace").splitlines():
        name, colon, text = raw.partition(": ")
        if not colon or raw.startswith(";"):
            continue
        name = name.strip().removesuffix(".wav")
        words = spoken(text)
        if words and name not in DROPPED and not name.startswith("silence/"):
            lines[name] = words
    return lines


def decode(path: Path) -> np.ndarray:
    """A G.722 prompt to samples float32 [N] at 16 kHz, through ffmpeg."""
    command = ["ffmpeg", "-nostdin", "-v", "error", "-f", "g722", "-i", str(path)]
    raw = subprocess.run(
        [*command, "-ar", str(RATE), "-ac", "1", "-f", "s16le", "-"],
        check=True,
        stdout=subprocess.PIPE,
    ).stdout
    return np.frombuffer(raw, "<i2").astype(np.float32) / 32768.0


def loudness(audio: np.ndarray, hop: int = 160) -> np.ndarray:
    """Root mean square of every 10 ms, float32 [N // 160]."""
    whole = len(audio) // hop * hop
    return np.sqrt(np.mean(audio[:whole].reshape(-1, hop) ** 2, axis=1) + 1e-12)


def trim(audio: np.ndarray, margin: int = 5, below_db: float = 42.0) -> np.ndarray:
    """Cuts silence from both ends, except for a margin of 50 ms."""
    level = loudness(audio)
    loud = np.flatnonzero(level > level.max() * 10 ** (-below_db / 20))
    start, end = max(0, loud[0] - margin), min(len(level), loud[-1] + 1 + margin)
    return audio[start * 160 : end * 160]


def load_units(sounds: Path, transcripts: Path) -> list[Unit]:
    """Every prompt with certain words, trimmed; of identical recordings only the first."""
    texts = read_transcripts(transcripts)
    found = [name for name in sorted(texts) if (sounds / f"{name}.g722").is_file()]
    with ThreadPoolExecutor(4) as pool:
        waves = list(pool.map(lambda name: decode(sounds / f"{name}.g722"), found))
    units, seen = [], set()
    for name, wave in zip(found, waves, strict=True):
        digest = hashlib.sha256(wave.tobytes()).hexdigest()
        if digest in seen or not len(wave) or np.abs(wave).max() < 0.01:
            continue
        seen.add(digest)
        units.append(Unit(name, texts[name], trim(wave)))
    return units
