"""Error rates of artifacts and decoders on a set of recordings.

Probabilities are computed once per artifact and recording and kept, so that another decoder, or a
run that was interrupted, does not run the model again.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asrbuild.dataset import Recording
from asrbuild.digest import file_digest
from asrbuild.runtime import Transcriber, timed
from asrbuild.speech.audio import read_audio
from asrbuild.speech.decoding import Decoder, DecoderSettings
from asrbuild.speech.rates import ErrorRates, error_rates

FOLDER = "probabilities"
BATCH = 16


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


def listen_in_tensorflow(
    graph: Path, transcriber: Transcriber, dataset: Sequence[Recording]
) -> list[Spoken]:
    """What a frozen graph makes of the features that the artifact's front end gives."""
    from asrbuild.graph.reference import run_reference

    samples = [read_audio(one.audio, transcriber.sample_rate) for one in dataset]
    cases = {f"{at}": transcriber.windows(each) for at, each in enumerate(samples)}
    given, seconds = timed(run_reference, graph, cases)
    return [
        Spoken(given[f"{at}"].logits, len(each) / transcriber.sample_rate, seconds / len(dataset))
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
