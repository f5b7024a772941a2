"""The sets held out of training, and the recordings that are shipped and used in tests."""

from __future__ import annotations

import csv
import wave
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from corpus import Unit
from features import RATE
from joins import Joiner, plain_join

SAMPLE = (
    "hello-world",
    "queue-thereare",
    "digits/7",
    "queue-holdtime",
    "digits/12",
    "queue-minutes",
    "queue-thankyou",
)
SECOND = ("vm-youhave", "digits/5", "vm-INBOX", "vm-messages")
HELD_OUT = 22  # phrases never trained on
HELD_OUT_SECONDS = 48.0  # at most, to stay small
JOINS, AUGMENTED, SHIPPED_JOINS = 60, 40, 20

Said = tuple[np.ndarray, str]  # samples float32 [N] and their words


@dataclass(frozen=True)
class Sets:
    """Training units, and the evaluation sets by name."""

    units: list[Unit]
    unseen: list[Said]
    joins: list[Said]
    augmented: list[Said]
    sample: Said
    second: Said

    def forbidden(self) -> list[str]:
        """Texts that no training utterance may contain."""
        return [text for _, text in (*self.joins, self.sample, self.second)]

    def named(self) -> dict[str, list[Said]]:
        return {
            "joins": self.joins,
            "augmented": self.augmented,
            "unseen": self.unseen,
            "sample": [self.sample],
            "second": [self.second],
        }


def split(units: Sequence[Unit], seed: int = 7) -> Sets:
    """Holds out whole phrases, then draws the evaluation joins from the rest."""
    rng = np.random.default_rng(seed)
    counts = Counter(unit.text for unit in units)
    shipped = {*SAMPLE, *SECOND}
    phrases = [
        unit
        for unit in units
        if len(unit.text.split()) >= 3
        and counts[unit.text] == 1
        and unit.seconds < 6.0
        and unit.name not in shipped
    ]
    held = phrases
    while sum(unit.seconds for unit in held) > HELD_OUT_SECONDS:
        held = [phrases[index] for index in rng.permutation(len(phrases))[:HELD_OUT]]
    names = {unit.name for unit in held}
    kept = [unit for unit in units if unit.name not in names]
    by_name = {unit.name: unit for unit in kept}
    joins = [_random_join(kept, rng) for _ in range(JOINS)]
    forbidden = [text for _, text in joins]
    joiner = Joiner(kept, forbidden, seed + 1)
    return Sets(
        kept,
        [plain_join([unit], rng) for unit in held],
        joins,
        [joiner.utterance(rng.uniform(2.5, 8.0)) for _ in range(AUGMENTED)],
        plain_join([by_name[name] for name in SAMPLE], rng),
        plain_join([by_name[name] for name in SECOND], rng),
    )


def _random_join(units: Sequence[Unit], rng: np.random.Generator) -> Said:
    """Two or more units that together last 2 to 8 s."""
    while True:
        drawn = [units[index] for index in rng.integers(len(units), size=rng.integers(2, 6))]
        audio, text = plain_join(drawn, rng)
        if 2.0 <= len(audio) / RATE <= 8.0:
            return audio, text


def write_wav(path: Path, audio: np.ndarray) -> None:
    """Samples in [-1, 1] to a 16 kHz mono int16 WAV file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(np.round(audio * 32768.0).clip(-32768, 32767).astype("<i2").tobytes())


def write_folder(folder: Path, said: Sequence[Said]) -> None:
    """Writes numbered WAV files and a DeepSpeech CSV in one folder, with relative paths."""
    rows = []
    for number, (audio, text) in enumerate(said, 1):
        path = folder / f"{number:02d}.wav"
        write_wav(path, audio)
        rows.append((path.name, text))
    write_table(folder / f"{folder.name}.csv", rows)


def write_halves(unseen: Path, development: Path) -> None:
    """Writes the unseen phrases in two halves: one for tuning a scorer, as FLAC with the demo,
    and one for tests, ``test.csv``."""
    with (unseen / "unseen.csv").open(encoding="utf-8", newline="") as file:
        rows = [(row["wav_filename"], row["transcript"]) for row in csv.DictReader(file)]
    development.mkdir(parents=True, exist_ok=True)
    for name, _ in rows[::2]:
        audio, rate = soundfile.read(unseen / name, dtype="int16")
        soundfile.write(development / f"{Path(name).stem}.flac", audio, rate, subtype="PCM_16")
    tuned = [(f"{Path(name).stem}.flac", text) for name, text in rows[::2]]
    write_table(development / "dev.csv", tuned)
    write_table(unseen / "test.csv", rows[1::2])


def write_table(path: Path, said: Sequence[tuple[str, str]]) -> None:
    """Writes DeepSpeech's CSV of recordings in the same folder."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("wav_filename", "wav_filesize", "transcript"))
        writer.writerows((n, (path.parent / n).stat().st_size, text) for n, text in said)


def short_joins(sets: Sets) -> list[Said]:
    """The joins that are kept as test data: the shortest, to stay small."""
    return sorted(sets.joins, key=lambda said: len(said[0]))[5 : 5 + SHIPPED_JOINS]


def write_recordings(sets: Sets, demo: Path, tests: Path | None) -> None:
    """The shipped recordings with their transcripts, the alphabet, and the test folders."""
    for name, (audio, text) in (("sample", sets.sample), ("second", sets.second)):
        write_wav(demo / f"{name}.wav", audio)
        (demo / f"{name}.txt").write_text(text + "\n", encoding="utf-8")
    letters = [" ", *"abcdefghijklmnopqrstuvwxyz", "'"]
    header = "# One label a line; the order is the index, and the blank comes after the last.\n"
    (demo / "alphabet.txt").write_text(header + "\n".join(letters) + "\n", encoding="utf-8")
    if tests:
        write_folder(tests / "joins", short_joins(sets))
        write_folder(tests / "unseen", sets.unseen)
        write_halves(tests / "unseen", demo / "dev")
