"""Error rates of artifacts and decoders on a set of recordings.

Probabilities are computed once per artifact and recording and kept, so that another decoder, or a
run that was interrupted, does not run the model again.
"""

from __future__ import annotations

import csv
import hashlib
import os
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asrbuild.digest import file_digest
from asrbuild.errors import AsrbuildError
from asrbuild.runtime import Transcriber, timed
from asrbuild.speech.audio import read_audio
from asrbuild.speech.decoding import Decoder, DecoderSettings
from asrbuild.speech.rates import ErrorRates, error_rates

FOLDER = "probabilities"
BATCH = 16


@dataclass(frozen=True)
class Recording:
    """A file and what is said in it."""

    audio: Path
    text: str


@dataclass(frozen=True)
class Spoken:
    """What a model made of one recording; ``seconds`` is what that took when it was computed."""

    probabilities: np.ndarray
    audio_s: float
    seconds: float


@dataclass(frozen=True)
class Result:
    """One artifact with one decoder on the whole set. ``heard`` is in the set's order."""

    artifact: str
    decoder: str
    settings: DecoderSettings
    heard: tuple[str, ...]
    rates: ErrorRates
    audio_s: float
    acoustic_s: float
    decoder_s: float

    @property
    def real_time_factor(self) -> float:
        """Seconds of work for a second of sound."""
        return (self.acoustic_s + self.decoder_s) / self.audio_s if self.audio_s else 0.0

    def worst(self, count: int) -> list[int]:
        """Indices of the recordings with most word errors."""
        errors = [-utterance.words.errors for utterance in self.rates.utterances]
        wrong = [int(at) for at in np.argsort(errors, kind="stable") if errors[at] < 0]
        return wrong[:count]


def read_dataset(path: Path) -> list[Recording]:
    """DeepSpeech's CSV (``wav_filename, wav_filesize, transcript``), or a folder of WAV and TXT.

    A relative ``wav_filename`` is relative to the CSV.

    Raises:
        AsrbuildError: there is nothing in it, or a part of it is missing.
    """
    if path.is_dir():
        found = list(_folder(path))
    elif path.exists():
        found = list(_table(path))
    else:
        raise AsrbuildError("no such data set", file=path)
    if not found:
        raise AsrbuildError(
            "the data set has no recordings",
            file=path,
            fix="give a CSV with wav_filename and transcript, or a folder of a.wav with a.txt",
        )
    missing = [recording.audio for recording in found if not recording.audio.is_file()]
    if missing:
        raise AsrbuildError(
            f"{len(missing)} of {len(found)} recordings are not there, first {missing[0]}",
            file=path,
        )
    return found


def dataset_digest(dataset: Sequence[Recording]) -> str:
    """SHA-256 of what is said in the set, recording by recording: not of names and order."""
    lines = sorted(f"{file_digest(one.audio)} {one.text}" for one in dataset)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def listen(
    transcriber: Transcriber,
    dataset: Sequence[Recording],
    cache_root: Path,
    advance: Callable[[], None] = lambda: None,
) -> list[Spoken]:
    """Probabilities of every recording, from the cache where they are known."""
    folder = cache_root / FOLDER / _model_digest(transcriber)
    spoken = []
    for recording in dataset:
        kept = folder / f"{file_digest(recording.audio)}.npz"
        found = _load(kept)
        if found is None:
            samples = read_audio(recording.audio, transcriber.sample_rate)
            given, seconds = timed(transcriber.probabilities, samples)
            audio_s = len(samples) / transcriber.sample_rate
            found = Spoken(given.probabilities, audio_s, seconds)
            _save(kept, found)
        spoken.append(found)
        advance()
    return spoken


def decode(
    name: str,
    decoder_name: str,
    settings: DecoderSettings,
    decoder: Decoder,
    dataset: Sequence[Recording],
    spoken: Sequence[Spoken],
    advance: Callable[[int], None] = lambda _: None,
) -> Result:
    """Words and rates of one artifact's probabilities with one decoder."""
    heard: list[str] = []
    decoder_s = 0.0
    for start in range(0, len(spoken), BATCH):
        batch = [one.probabilities for one in spoken[start : start + BATCH]]
        found, seconds = timed(decoder.decode_batch, batch)
        decoder_s += seconds
        heard += [hypotheses[0].text for hypotheses in found]
        advance(len(batch))
    return Result(
        name,
        decoder_name,
        settings,
        tuple(heard),
        error_rates([recording.text for recording in dataset], heard),
        audio_s=sum(one.audio_s for one in spoken),
        acoustic_s=sum(one.seconds for one in spoken),
        decoder_s=decoder_s,
    )


def _table(path: Path) -> Iterator[Recording]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines)
            lacking = {"wav_filename", "transcript"} - set(reader.fieldnames or ())
            if lacking:
                raise AsrbuildError(
                    f"the table has no column {' and '.join(sorted(lacking))}",
                    file=path,
                    fix="DeepSpeech's columns are wav_filename, wav_filesize, transcript",
                )
            for row in reader:
                if not row["wav_filename"] or row["transcript"] is None:
                    raise AsrbuildError(f"line {reader.line_num} is not whole", file=path)
                yield Recording(path.parent / row["wav_filename"], row["transcript"])
    except (UnicodeDecodeError, csv.Error) as error:
        raise AsrbuildError(f"not a CSV file: {error}", file=path) from error


def _folder(path: Path) -> Iterator[Recording]:
    for audio in sorted(path.glob("*.wav")):
        text = audio.with_suffix(".txt")
        if not text.is_file():
            raise AsrbuildError(f"{audio.name} has no {text.name} beside it", file=path)
        yield Recording(audio, text.read_text(encoding="utf-8").strip())


def _model_digest(transcriber: Transcriber) -> str:
    """Of the package and the sections that say how it is fed: not of the decoder."""
    manifest = transcriber.manifest
    own = {entry.path: entry.sha256 for entry in manifest.files if entry.role == "package"}
    parts = [str(sorted(own.items())), manifest.audio.model_dump_json()]
    parts += [manifest.features.model_dump_json(), manifest.streaming.model_dump_json()]
    parts += [manifest.model.model_dump_json(), *(s.model_dump_json() for s in manifest.state)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _load(path: Path) -> Spoken | None:
    """What was kept; None if nothing was, or it is damaged, and then it is computed again."""
    try:
        with np.load(path) as kept:
            return Spoken(kept["probabilities"], float(kept["audio_s"]), float(kept["seconds"]))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _save(path: Path, spoken: Spoken) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.stem}.{os.getpid()}.tmp")
    with fresh.open("wb") as file:
        np.savez(
            file,
            probabilities=spoken.probabilities,
            audio_s=spoken.audio_s,
            seconds=spoken.seconds,
        )
    fresh.replace(path)
