"""Error rates of artifacts and decoders on a data set.

Probabilities are computed once per artifact and recording and kept, so that another decoder does
not run the model again. Transcripts are kept too, by probabilities and decoder settings, so that an
interrupted run continues. Times are those of the first computation.

A recording that a decoder cannot decode fails the whole set, because a rate without it would be
that of another set. The transcripts of the others are kept, so that a run without it is quick.
"""

from __future__ import annotations

import hashlib
import io
import os
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from asrbuild.architectures.architecture import Architecture, Original, of_recorded
from asrbuild.architectures.original import Result as OriginalResult, save_cases
from asrbuild.artifact.layout import PROBABILITIES_FOLDER
from asrbuild.artifact.named_files import package_path
from asrbuild.artifact.runtime import Transcriber, timed
from asrbuild.base.array import Array
from asrbuild.base.cache import require_own
from asrbuild.base.code import code_digest
from asrbuild.base.digest import (
    canonical_json,
    file_digest,
    text_digest,
    tree_digests,
)
from asrbuild.base.disk import disk_errors, read_plain
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.ownership import require_own as require_own_files
from asrbuild.proof.calls import calls_as_fed, outputs_as_fed
from asrbuild.proof.execution import probabilities_of
from asrbuild.speech.audio import read_audio
from asrbuild.speech.dataset import Recording
from asrbuild.speech.decoder import Decoder, Hypothesis, UtteranceError
from asrbuild.speech.decoder_settings import DecoderSettings
from asrbuild.speech.rates import ErrorRates, error_rates, unspelled, unspelled_text
from asrbuild.speech.tokens import Tokens

BATCH = 16
#: Limit of different notes on recordings that are shown.
MOST_NOTES = 5
#: Modules that shape probabilities, and modules that shape transcripts.
_LISTENING = ("artifact/runtime.py", "speech/audio.py")
_DECODING = ("speech/decoders.py",)
#: The transcript of a recording, and its share of the seconds of its batch.
_WORDS = TypeAdapter(tuple[str, float])


@dataclass(frozen=True)
class Spoken:
    """The probabilities of one recording, with the time of their computation.

    ``seconds`` is the time of the first computation; ``notes`` are those of ``read_audio``.
    """

    probabilities: Array
    audio_s: float
    seconds: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class SetResult:
    """The results of one artifact and decoder on a data set."""

    artifact: str
    decoder: str
    settings: DecoderSettings
    transcripts: tuple[str, ...]
    rates: ErrorRates
    audio_s: float
    acoustic_s: float
    decoder_s: float

    @property
    def real_time_factor(self) -> float:
        """Seconds of work per second of audio."""
        return (self.acoustic_s + self.decoder_s) / self.audio_s if self.audio_s else 0.0

    def worst(self, count: int) -> list[int]:
        """Indices of the recordings with the most word errors."""
        errors = [-utterance.words.errors for utterance in self.rates.utterances]
        wrong = [int(at) for at in np.argsort(errors, kind="stable") if errors[at] < 0]
        return wrong[:count]


@dataclass(frozen=True)
class Spelled:
    """A data set without the references that an alphabet cannot spell.

    Args:
        counted: the recordings that count.
        left_out: the others.
        remark: the characters that the alphabet cannot spell: ``'1' in 3 of 8 references``; or
            empty.
    """

    counted: list[Recording]
    left_out: list[Recording]
    remark: str


def spelled_by(
    alphabets: Sequence[Tokens], dataset: Sequence[Recording], *, count_all: bool, option: str
) -> Spelled:
    """Selects the recordings whose references every alphabet can spell.

    A model cannot get any other reference right, so such references would distort its error rate.

    Args:
        alphabets: those of the models that are compared on the set.
        dataset: the recordings with their references.
        count_all: leave nothing out; the remark is made all the same.
        option: the option or key that counts all of them, for messages.

    Raises:
        AsrbuildError: the alphabets spell none of the references.
    """
    references = [recording.text for recording in dataset]
    remarks = dict.fromkeys(unspelled_text(references, alphabet) for alphabet in alphabets)
    remark = "; ".join(text for text in remarks if text)
    if not remark:
        return Spelled(list(dataset), [], "")
    strange = [any(unspelled(text, alphabet) for alphabet in alphabets) for text in references]
    left_out = [one for one, out in zip(dataset, strange, strict=True) if out and not count_all]
    counted = [one for one, out in zip(dataset, strange, strict=True) if count_all or not out]
    remark = f"the alphabet cannot spell {remark}"
    if not counted:
        raise AsrbuildError(
            f"none of the references can be compared: {remark}",
            fix="write the references with the letters that the model writes (numbers as words, "
            f"composed letters), or count them as errors with {option}",
        )
    what = "counted as errors" if count_all else f"not counted; {option} counts them"
    return Spelled(counted, left_out, f"{remark}: {sum(strange)} {what}")


def listen(
    transcriber: Transcriber,
    dataset: Sequence[Recording],
    cache_root: Path,
    advance: Callable[[], None] = lambda: None,
) -> list[Spoken]:
    """The probabilities of every recording, from the cache if it has them."""
    require_own(cache_root)
    folder = cache_root / PROBABILITIES_FOLDER / _model_digest(transcriber, cache_root)
    spoken = []
    for recording in dataset:
        kept = folder / f"{file_digest(recording.audio)}.npz"
        found = _load(kept)
        if found is None:
            notes: list[str] = []
            samples = read_audio(recording.audio, transcriber.sample_rate, notes.append)
            given, seconds = timed(transcriber.probabilities, samples)
            audio_s = len(samples) / transcriber.sample_rate
            found = Spoken(given.probabilities, audio_s, seconds, tuple(notes))
            _save(kept, found)
        spoken.append(found)
        advance()
    return spoken


def notes_text(dataset: Sequence[Recording], spoken: Sequence[Spoken]) -> list[str]:
    """Notes on causes of wrong words, one line each, with the first recording of each."""
    found: dict[str, list[Path]] = {}
    for recording, one in zip(dataset, spoken, strict=True):
        for note in one.notes:
            found.setdefault(note, []).append(recording.audio)
    lines = [
        f"{note} ({len(files)} of {len(dataset)} recordings, first {files[0].name})"
        for note, files in list(found.items())[:MOST_NOTES]
    ]
    more = len(found) - MOST_NOTES
    return [*lines, f"{more} more such notes"] if more > 0 else lines


def listen_in_original(
    original: Original, transcriber: Transcriber, dataset: Sequence[Recording]
) -> list[Spoken]:
    """The original's probabilities for the features of the artifact's front end.

    An original that runs call by call gets the calls of the package, as in the proof.
    """
    samples = [read_audio(one.audio, transcriber.sample_rate) for one in dataset]
    cases = {f"{at}": transcriber.windows(each) for at, each in enumerate(samples)}
    manifest = transcriber.manifest
    architecture, config = of_recorded(manifest.provenance.recipe)
    name = probabilities_of(manifest)
    calls = calls_as_fed(manifest, cases) if architecture.CALLS else cases
    given, seconds = timed(_run_original, architecture, config, original, calls)
    outputs = (
        outputs_as_fed(manifest, cases, given)
        if architecture.CALLS
        else {case: result.outputs for case, result in given.items()}
    )
    return [
        Spoken(
            outputs[f"{at}"][name],
            len(each) / transcriber.sample_rate,
            seconds / len(dataset),
        )
        for at, each in enumerate(samples)
    ]


def decode(
    name: str,
    decoder_name: str,
    settings: DecoderSettings,
    decoder: Decoder,
    dataset: Sequence[Recording],
    spoken: Sequence[Spoken],
    advance: Callable[[int], None] = lambda _: None,
    kept: Path | None = None,
    alphabet: Tokens | None = None,
) -> SetResult:
    """Decodes an artifact's probabilities with one decoder; returns transcripts and error rates.

    Args:
        name: the artifact's name, for the result.
        decoder_name: the decoder's name, likewise.
        settings: the settings of ``decoder``.
        decoder: an open decoder; it stays open.
        dataset: the recordings with their references.
        spoken: their probabilities, in the same order.
        advance: called with the number of recordings after each batch.
        kept: a folder for the transcripts of this decoder, from ``words_folder``.
        alphabet: the model's labels, which decide lower case.

    Raises:
        UtteranceError: a recording cannot be decoded; it names the recording.
    """
    transcripts: list[str] = []
    decoder_s = 0.0
    for start in range(0, len(spoken), BATCH):
        batch = [one.probabilities for one in spoken[start : start + BATCH]]
        try:
            found = _decode(decoder, batch, kept)
        except UtteranceError as error:
            error.file = str(dataset[start + error.position].audio)
            raise
        transcripts += [text for text, _ in found]
        decoder_s += sum(seconds for _, seconds in found)
        advance(len(batch))
    return SetResult(
        name,
        decoder_name,
        settings,
        tuple(transcripts),
        error_rates([recording.text for recording in dataset], transcripts, tokens=alphabet),
        audio_s=sum(one.audio_s for one in spoken),
        acoustic_s=sum(one.seconds for one in spoken),
        decoder_s=decoder_s,
    )


def words_folder(cache_root: Path, transcriber: Transcriber, settings: DecoderSettings) -> Path:
    """The folder that keeps the transcripts of a decoder with these settings."""
    alphabet, scorer = transcriber.alphabet, settings.scorer
    found = None if scorer is None else file_digest(transcriber.artifact / scorer, cache_root)
    parts = asdict(settings) | {
        "scorer": found,
        "interpreter": None,
        "labels": alphabet.labels,
        "kind": alphabet.kind,
        "code": code_digest(*_DECODING),
    }
    return cache_root / PROBABILITIES_FOLDER / text_digest(canonical_json(parts))


def _decode(decoder: Decoder, batch: Sequence[Array], kept: Path | None) -> list[tuple[str, float]]:
    """The transcript of each recording, and the seconds of its decoding."""
    files = [None if kept is None else kept / f"{_rows_digest(rows)}.json" for rows in batch]
    known = [_load_words(file) for file in files]
    missing = [at for at, words in enumerate(known) if words is None]

    def keep(found: Mapping[int, list[Hypothesis]], seconds: float) -> None:
        for position, hypotheses in found.items():
            at = missing[position]
            words = known[at] = hypotheses[0].text, seconds / len(missing)
            if (file := files[at]) is not None:
                _write(file, _WORDS.dump_json(words))

    start = time.perf_counter()
    try:
        found = decoder.decode_batch([batch[at] for at in missing]) if missing else []
    except UtteranceError as error:
        keep(error.others, time.perf_counter() - start)
        error.position = missing[error.position]
        raise
    keep(dict(enumerate(found)), time.perf_counter() - start)
    return [words for words in known if words is not None]


def _rows_digest(rows: Array) -> str:
    digest = hashlib.sha256(f"{rows.dtype} {rows.shape}\n".encode())
    digest.update(np.ascontiguousarray(rows).data)
    return digest.hexdigest()


def _load_words(path: Path | None) -> tuple[str, float] | None:
    """The kept transcript; None if there is none or it is damaged, so that it is decoded again."""
    if path is not None:
        require_own_files(path.parent, path)
    try:
        return None if path is None else _WORDS.validate_json(read_plain(path))
    except (OSError, ValueError):
        return None


def _model_digest(transcriber: Transcriber, cache_root: Path) -> str:
    """SHA-256 of everything that shapes probabilities: the package, its calls and the code.

    The package counts by its bytes on the disk, not by the digests in the manifest.
    """
    manifest = transcriber.manifest
    package = package_path(transcriber.artifact, manifest)
    own = (
        tree_digests(package, cache_root)
        if package.is_dir()
        else {package.name: file_digest(package, cache_root)}
    )
    parts = [str(sorted(own.items())), manifest.audio.model_dump_json()]
    parts += [manifest.features.model_dump_json(), manifest.streaming.model_dump_json()]
    parts += [manifest.model.model_dump_json(), *(s.model_dump_json() for s in manifest.state)]
    parts += [code_digest(*_LISTENING), np.__version__, sys.platform]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _load(path: Path) -> Spoken | None:
    """The kept probabilities; None if there are none or they are damaged."""
    require_own_files(path.parent, path)
    try:
        with np.load(path) as kept:
            return Spoken(
                kept["probabilities"],
                float(kept["audio_s"]),
                float(kept["seconds"]),
                tuple(str(note) for note in kept["notes"]),
            )
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _save(path: Path, spoken: Spoken) -> None:
    content = io.BytesIO()
    np.savez(
        content,
        probabilities=spoken.probabilities,
        audio_s=spoken.audio_s,
        seconds=spoken.seconds,
        notes=np.array(spoken.notes, np.str_),
    )
    _write(path, content.getvalue())


def _write(path: Path, content: bytes) -> None:
    fresh = path.with_name(f"{path.stem}.{os.getpid()}.tmp")
    with disk_errors("keeping the probabilities of a recording", path):
        for attempts_left in (2, 1, 0):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                fresh.write_bytes(content)
                fresh.replace(path)
                return
            except FileNotFoundError:  # a clean-up removed the folder
                if not attempts_left:
                    raise


def _run_original(
    architecture: Architecture, config: Any, original: Original, cases: Mapping[str, Array]
) -> dict[str, OriginalResult]:
    """Runs the original's worker on these cases and waits for its results."""
    with tempfile.TemporaryDirectory(prefix="asrbuild-original-") as folder:
        path = Path(folder, "cases.npz")
        save_cases(path, cases)
        run = architecture.start(original, config, path, Path(folder, "out.npz"))
        return architecture.read(run.wait())
