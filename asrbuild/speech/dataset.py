"""Data sets: recordings with their expected transcripts.

A data set is a table (DeepSpeech's CSV, Common Voice's TSV) or a folder of WAV and TXT files."""

from __future__ import annotations

import csv
import hashlib
import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from asrbuild.base.digest import file_digest
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.kinds.places import DATASET
from asrbuild.base.kinds.recognition import require
from asrbuild.base.text_files import decode_text, read_text

#: Names of the columns of file and transcript: DeepSpeech's, then Common Voice's.
_AUDIO = ("wav_filename", "path")
_TEXT = ("transcript", "sentence")
_DELIMITERS = (",", "\t", ";")
#: The folder next to a Common Voice table that its ``path`` column is relative to.
_CLIPS = "clips"


@dataclass(frozen=True)
class Recording:
    """A recording's file and its expected transcript."""

    audio: Path
    text: str


def read_dataset(path: Path) -> list[Recording]:
    """Reads a data set: a table with one recording a line, or a folder of WAV and TXT files.

    A table is DeepSpeech's CSV (``wav_filename, wav_filesize, transcript``) or Common Voice's TSV
    (``path, sentence``; the recordings are in ``clips/`` next to it). Its cells are separated by
    commas, tabs or semicolons; it is UTF-8, or UTF-16 as spreadsheets write it. Spaces around a
    cell, and the case of column names, do not count. A relative file name is relative to the table.

    Raises:
        AsrbuildError: the data set has no recordings, or a part of it is missing.
    """
    require(path, DATASET)
    found = list(_folder(path) if os.path.isdir(path) else _table(path))
    if not found:
        raise AsrbuildError(
            "the data set has no recordings",
            file=path,
            fix="give a table with wav_filename and transcript, or a folder of a.wav with a.txt",
        )
    missing = [recording.audio for recording in found if not os.path.isfile(recording.audio)]
    if missing:
        raise AsrbuildError(
            f"{len(missing)} of {len(found)} recordings are not there, first {missing[0]}",
            file=path,
            fix="copy them there, or correct their names: a name is relative to the table's folder",
        )
    return found


def dataset_digest(dataset: Sequence[Recording]) -> str:
    """SHA-256 of the recordings and transcripts of a data set; names and order do not count."""
    lines = sorted(f"{file_digest(one.audio)} {one.text}" for one in dataset)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _table(path: Path) -> Iterator[Recording]:
    try:
        text = decode_text(path.read_bytes())
    except UnicodeDecodeError as error:
        raise AsrbuildError(
            f"not a CSV file: neither UTF-8 nor UTF-16 text (byte {error.start})",
            file=path,
            fix="save the table as UTF-8",
        ) from error
    except OSError as error:
        raise AsrbuildError(f"cannot be read: {error.strerror}", file=path) from error
    try:
        delimiter, columns = _columns(text, path)
        audio = next(name for name in _AUDIO if name in columns)
        spoken = next(name for name in _TEXT if name in columns)
        reader = _rows(text, delimiter)
        next(reader)
        for cells in reader:
            row = [cell.strip() for cell in cells]
            if delimiter == "\t":
                row = [_without_quotes(cell) for cell in row]
            if not any(row):
                continue
            if len(row) > len(columns):
                raise AsrbuildError(
                    f"line {reader.line_num} has more cells than the first line has columns",
                    file=path,
                    fix='put a transcript that has commas in quotes: "yes, please"',
                )
            if len(row) <= max(columns[audio], columns[spoken]) or not row[columns[audio]]:
                raise AsrbuildError(
                    f"line {reader.line_num} is not whole",
                    file=path,
                    fix="give each line a recording and its words",
                )
            file = _audio_file(path.parent, row[columns[audio]], audio)
            yield Recording(file, row[columns[spoken]])
    except csv.Error as error:
        raise AsrbuildError(
            f"not a CSV file: {error}", file=path, fix="save the table again as CSV, in UTF-8"
        ) from error


def _rows(text: str, delimiter: str) -> Any:
    # Common Voice writes its tables without quoting: a sentence may begin with a quotation mark.
    quoting: Literal[0, 3] = csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL
    lines = io.StringIO(text, newline="")
    return csv.reader(lines, delimiter=delimiter, quoting=quoting, skipinitialspace=True)


def _columns(text: str, path: Path) -> tuple[str, dict[str, int]]:
    """The delimiter of the cells, and the index of each column of the first line."""
    found: dict[str, dict[str, int]] = {}
    for delimiter in _DELIMITERS:
        first: list[str] = next(_rows(text, delimiter), [])
        names = [cell.strip().strip('"').strip().lower().replace(" ", "_") for cell in first]
        columns = found[delimiter] = {name: at for at, name in reversed([*enumerate(names)])}
        if columns.keys() & set(_AUDIO) and columns.keys() & set(_TEXT):
            return delimiter, columns
    seen = max(found.values(), key=len)
    lacking = [names[0] for names in (_TEXT, _AUDIO) if not seen.keys() & set(names)]
    raise AsrbuildError(
        f"the table has no column{'s' * (len(lacking) - 1)} {' and '.join(lacking)}",
        file=path,
        fix="DeepSpeech's columns are wav_filename, wav_filesize, transcript; Common Voice's are "
        "path, sentence",
    )


def _without_quotes(text: str) -> str:
    """The text of a cell without the quotation marks of a spreadsheet or of Common Voice."""
    if len(text) > 1 and text[0] == text[-1] == '"':
        text = text[1:-1]
    return text.replace('""', '"')


def _audio_file(folder: Path, name: str, column: str) -> Path:
    """The path of a table's recording; if the file is in none of the places, the first of them."""
    guesses = [folder / name]
    if column == "path":
        # Common Voice's first releases omit the suffix.
        guesses = [folder / _CLIPS / name, folder / name, folder / _CLIPS / f"{name}.mp3"]
    if "\\" in name:
        guesses.append(folder / name.replace("\\", "/"))
    return next((guess for guess in guesses if os.path.isfile(guess)), guesses[0])


def _folder(path: Path) -> Iterator[Recording]:
    for audio in sorted(path.glob("*.wav")):
        text = audio.with_suffix(".txt")
        if not text.is_file():
            raise AsrbuildError(
                f"{audio.name} has no {text.name} next to it",
                file=path,
                fix=f"write its words into {text.name}, or move it out of the folder",
            )
        yield Recording(audio, read_text(text).strip())
