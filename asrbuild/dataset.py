"""Recordings whose words are known: DeepSpeech's CSV, or a folder of WAV and TXT files."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from asrbuild.digest import file_digest
from asrbuild.disk import read_text
from asrbuild.errors import AsrbuildError


@dataclass(frozen=True)
class Recording:
    """A file and what is said in it."""

    audio: Path
    text: str


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
                if None in row:
                    raise AsrbuildError(
                        f"line {reader.line_num} has more cells than the first line has columns",
                        file=path,
                        fix='put a transcript that has commas in quotes: "yes, please"',
                    )
                yield Recording(path.parent / row["wav_filename"], row["transcript"])
    except (UnicodeDecodeError, csv.Error) as error:
        raise AsrbuildError(f"not a CSV file: {error}", file=path) from error
    except OSError as error:
        raise AsrbuildError(f"cannot be read: {error.strerror}", file=path) from error


def _folder(path: Path) -> Iterator[Recording]:
    for audio in sorted(path.glob("*.wav")):
        text = audio.with_suffix(".txt")
        if not text.is_file():
            raise AsrbuildError(f"{audio.name} has no {text.name} beside it", file=path)
        yield Recording(audio, read_text(text).strip())
