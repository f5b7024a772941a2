"""DeepSpeech's own decoder, ds-ctcdecoder 0.9.3, behind the interface of every decoder.

It runs in processes of its own (see ``environment``), for a batch one on each core; if this
interpreter has ds_ctcdecoder, it runs in this process, one utterance after the other. If a process
dies, a new one decodes its utterance again, and streams start again from their first step. After
three deaths on one utterance an ``UtteranceError`` is raised; the rest of the batch is decoded.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

import numpy as np

from asrbuild.base.array import Array
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.processors import usable_processors
from asrbuild.speech.alphabet import Alphabet
from asrbuild.speech.decoder import (
    Decoder,
    DecoderStream,
    Hypothesis,
    LabelPath,
    UtteranceError,
    check_probabilities,
    hypothesis,
)
from asrbuild.speech.decoder_settings import DecoderSettings
from asrbuild.speech.deepspeech_decoder.environment import decoder_python
from asrbuild.speech.deepspeech_decoder.process import DecoderProcess, InProcess, WorkerDiedError
from asrbuild.speech.scorer.fit import check_scorer, compare_spelling, unknown_words
from asrbuild.speech.scorer.package import ScorerInfo

TRIES = 3


class DeepSpeechDecoder(Decoder):
    """Beam search with a scorer and hot words, exactly as DeepSpeech decodes.

    Args:
        settings: how to decode.
        alphabet: the model's labels.
        step_s: seconds from one step to the next.
        base_dir: the folder for a relative ``settings.scorer``.
        processes: the number of processes for a batch; None: one for each core.
    """

    def __init__(
        self,
        settings: DecoderSettings,
        alphabet: Alphabet,
        step_s: float,
        base_dir: Path | None = None,
        processes: int | None = None,
    ) -> None:
        opening = _opening(settings, alphabet, base_dir)
        self._base_dir = base_dir
        python = decoder_python(settings.interpreter)
        here = python == Path(sys.executable)
        self._alphabet = alphabet
        self._step_s = step_s
        self._names = itertools.count()
        count = processes or usable_processors()
        self.workers = [DecoderProcess(python, opening) for _ in range(count)]
        self._single = InProcess(opening) if here else self.workers[0]
        self._single.start()

    def change(self, settings: DecoderSettings) -> None:
        """Changes the settings; open streams are lost."""
        opening = _opening(settings, self._alphabet, self._base_dir)
        for worker in {id(each): each for each in (self._single, *self.workers)}.values():
            worker.reopen(opening)

    def decode(self, probabilities: Array, n_best: int = 1) -> list[Hypothesis]:
        return self._decode(self._single, probabilities, n_best)

    def decode_batch(self, batch: Sequence[Array], n_best: int = 1) -> list[list[Hypothesis]]:
        free: SimpleQueue[DecoderProcess] = SimpleQueue()
        for worker in self.workers:
            free.put(worker)

        def one(probabilities: Array) -> list[Hypothesis] | UtteranceError:
            worker = free.get()
            try:
                return self._decode(worker, probabilities, n_best)
            except UtteranceError as error:
                return error
            finally:
                free.put(worker)

        with ThreadPoolExecutor(len(self.workers)) as pool:
            tried = list(pool.map(one, batch))
        found = {at: each for at, each in enumerate(tried) if not isinstance(each, UtteranceError)}
        for position, each in enumerate(tried):
            if isinstance(each, UtteranceError):
                each.position, each.others = position, found
                raise each
        return list(found.values())

    def stream(self) -> DecoderStream:
        return _DsStream(self._single, self._names, self._alphabet, self._step_s)

    def close(self) -> None:
        for worker in self.workers:
            worker.close()

    def _decode(
        self, worker: DecoderProcess | InProcess, rows: Array, n_best: int
    ) -> list[Hypothesis]:
        checked = check_probabilities(rows, self._alphabet)
        paths = _persist(
            lambda wanted: worker.call({"op": "decode", "n_best": wanted}, checked), n_best
        )
        return [hypothesis(path, checked, self._alphabet, self._step_s) for path in paths]


class _DsStream(DecoderStream):
    def __init__(
        self,
        worker: DecoderProcess | InProcess,
        names: Iterator[int],
        alphabet: Alphabet,
        step_s: float,
    ) -> None:
        self._worker = worker
        self._names = names
        self._name = -1
        self._alphabet = alphabet
        self._step_s = step_s
        self._rows = np.zeros((0, alphabet.size + 1), np.float32)
        self._fed = 0
        self._started_in = -1

    def feed(self, probabilities: Array) -> str:
        checked = check_probabilities(probabilities, self._alphabet)
        self._rows = np.concatenate([self._rows, checked])
        [best] = _persist(lambda _: self._catch_up(), 1)
        return self._alphabet.decode(best.tokens)

    def finish(self, n_best: int = 1) -> list[Hypothesis]:
        def final(wanted: int) -> list[LabelPath]:
            self._catch_up()
            return self._worker.call({"op": "finish", "stream": self._name, "n_best": wanted})

        paths = _persist(final, n_best)
        return [hypothesis(path, self._rows, self._alphabet, self._step_s) for path in paths]

    def _catch_up(self) -> list[LabelPath]:
        """Feeds the rows that this process has not seen: all of them, if the process is new."""
        self._worker.start()
        if self._worker.starts != self._started_in:
            self._started_in, self._fed = self._worker.starts, 0
            self._name = next(self._names)
        rows = self._rows[self._fed :]
        paths = self._worker.call({"op": "feed", "stream": self._name}, rows)
        if self._worker.starts != self._started_in:
            # The process died between the two calls above, and the new one saw only these rows.
            self._started_in = -1
            raise WorkerDiedError("it ended between two requests")
        self._fed = len(self._rows)
        return paths


def _persist(work: Callable[[int], list[LabelPath]], n_best: int) -> list[LabelPath]:
    """Runs ``work``, and again if the process dies.

    The library crashes if ``n_best`` exceeds the number of hypotheses with a probability, so
    ``n_best`` is halved after the third death.
    """
    deaths = 0
    while True:
        try:
            return work(n_best)
        except WorkerDiedError as death:
            deaths += 1
            if deaths < TRIES:
                continue
            if n_best > 1:
                n_best //= 2
                continue
            raise UtteranceError(
                f"ds-ctcdecoder ended {deaths} times on this utterance: {death.last_words}",
                key="decoder.type",
                fix="leave it out, or use another decoder: decoder=beam, or --decoder beam",
            ) from death


def check_language(
    settings: DecoderSettings, alphabet: Alphabet, base_dir: Path | None = None
) -> ScorerInfo | None:
    """Raises unless the scorer and the hot words fit the alphabet; returns the scorer's facts.

    Raises:
        AsrbuildError: it names the scorer or the hot word that does not fit.
    """
    info = None
    if settings.scorer is not None:
        info = check_scorer(_scorer_path(settings.scorer, base_dir), alphabet)
    for word in settings.hot_words:
        _check_hot_word(word, alphabet)
    return info


def language_remarks(
    settings: DecoderSettings, alphabet: Alphabet, base_dir: Path | None = None
) -> list[str]:
    """Warnings about scorers and hot words that have no effect or a wrong one."""
    if settings.type != "ds_ctcdecoder" or settings.scorer is None:
        return []
    path = _scorer_path(settings.scorer, base_dir)
    remarks = []
    if unknown := unknown_words(path, settings.hot_words, alphabet):
        several = f"s {', '.join(map(repr, unknown))} are" if unknown[1:] else f" {unknown[0]!r} is"
        remarks.append(f"the hot word{several} not in the scorer {path.name}: no boost has effect")
    spelling = compare_spelling(path, alphabet, whole=False)
    if not spelling.fits:
        remarks.append(
            f"the scorer {path.name} may be of another alphabet: of the words looked at, {spelling}"
        )
    return remarks


def _scorer_path(scorer: Path, base_dir: Path | None) -> Path:
    return Path(base_dir or ".") / scorer


def _check_hot_word(word: str, alphabet: Alphabet) -> None:
    """Raises unless a hot word is a single word, or in UTF-8 mode a single character."""
    key = f"decoder.hot_words.{word}"
    if alphabet.bytes_output:
        if len(word) != 1:
            raise AsrbuildError(
                f"the hot word {word!r} is not a single character, and a UTF-8 mode scorer has no "
                "other words",
                key=key,
                fix="leave it out",
            )
        return
    if not word or " " in word:
        raise AsrbuildError(
            f"the hot word {word!r} is not one word", key=key, fix="give single words"
        )
    try:
        alphabet.encode(word)
    except AsrbuildError as error:
        raise AsrbuildError(
            f"the hot word {word!r} cannot be spelled: {error.message}", key=key, fix=error.fix
        ) from error


def _opening(
    settings: DecoderSettings, alphabet: Alphabet, base_dir: Path | None
) -> dict[str, object]:
    """The message that opens a decoder; it is checked, because the library aborts on bad input."""
    scorer = alpha = beta = None
    info = check_language(settings, alphabet, base_dir)
    if settings.scorer is not None and info is not None:
        scorer = str(_scorer_path(settings.scorer, base_dir).resolve())
        alpha = info.lm_alpha if settings.lm_alpha is None else settings.lm_alpha
        beta = info.lm_beta if settings.lm_beta is None else settings.lm_beta
    return {
        "op": "open",
        "alphabet": None if alphabet.bytes_output else alphabet.file_text(),
        "beam_width": settings.beam_width,
        "cutoff_prob": settings.cutoff_prob,
        "cutoff_top_n": settings.cutoff_top_n,
        "scorer": scorer,
        "lm_alpha": alpha,
        "lm_beta": beta,
        "hot_words": dict(settings.hot_words),
    }
