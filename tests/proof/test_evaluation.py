"""Data sets, cached probabilities, and error rates compared with counts."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from asrbuild.artifact.runtime import Probabilities
from asrbuild.base.errors import AsrbuildError
from asrbuild.cli.evaluate import aligned
from asrbuild.handover.report.evaluation import write_page
from asrbuild.proof import evaluation
from asrbuild.proof.evaluation import SetResult, Spelled, decode, listen, spelled_by, words_folder
from asrbuild.speech.alphabet import make_alphabet
from asrbuild.speech.dataset import Recording, read_dataset
from asrbuild.speech.decoder import Hypothesis
from asrbuild.speech.decoder_settings import DecoderSettings
from asrbuild.speech.decoders import open_decoder
from asrbuild.speech.greedy import GreedyDecoder
from asrbuild.speech.rates import error_rates
from tests.paths import DEMO

LABELS = make_alphabet(" abcdefghijklmnopqrstuvwxyz'")


def _say(text: str) -> np.ndarray:
    rows = np.full((2 * len(text), 29), 0.1 / 28, np.float32)
    rows[np.arange(0, len(rows), 2), LABELS.encode(text)] = 0.9
    rows[1::2, 28] = 0.9
    return rows


class Listener:
    """A transcriber that gives its texts in turn, and counts its calls."""

    def __init__(self, texts: list[str], digest: str = "a") -> None:
        self.sample_rate = 16_000
        self.texts = texts
        self.asked = 0
        # Its package is any file, because it is not run.
        self.artifact = Path(__file__).parent
        section = SimpleNamespace(model_dump_json=lambda: digest, package=Path(__file__).name)
        self.manifest = SimpleNamespace(
            files=[], audio=section, features=section, streaming=section, model=section, state=[]
        )

    def probabilities(self, samples: np.ndarray) -> Probabilities:
        self.asked += 1
        return Probabilities(_say(self.texts[self.asked - 1]), {})


@pytest.fixture
def dataset(tmp_path: Path) -> list[Recording]:
    for name, text in (("a", "hello world"), ("b", "one two three")):
        shutil.copy(
            DEMO / ("sample.wav" if name == "a" else "second.wav"), tmp_path / f"{name}.wav"
        )
        (tmp_path / f"{name}.txt").write_text(text + "\n")
    return read_dataset(tmp_path)


def test_a_folder_and_a_table_are_read(tmp_path: Path, dataset: list[Recording]) -> None:
    assert [r.text for r in dataset] == ["hello world", "one two three"]
    table = tmp_path / "set.csv"
    table.write_text(
        "wav_filename,wav_filesize,transcript\n"
        f'b.wav,1,"one two three"\n{tmp_path / "a.wav"},2,hello world\n'
    )
    assert read_dataset(table) == [dataset[1], dataset[0]]
    # An editor's byte order mark is not a part of the words.
    (tmp_path / "a.txt").write_text("hello world\n", encoding="utf-8-sig")
    table.write_text(table.read_text(), encoding="utf-8-sig")
    assert read_dataset(tmp_path) == dataset
    assert read_dataset(table) == [dataset[1], dataset[0]]


@pytest.mark.parametrize(
    ("name", "content", "encoding"),
    [
        ("cv.tsv", 'client_id\tpath\tsentence\nx\tone.wav\tYes, "please"\n', "utf-8"),
        ("cv.tsv", 'path\tsentence\nold\tYes, "please"\n', "utf-8"),
        ("x.csv", 'wav_filename;wav_filesize;transcript\na.wav;1;Yes, "please"\n', "utf-8"),
        ("x.csv", 'wav_filename\ttranscript\na.wav\t"Yes, ""please"""\n', "utf-16"),
        ("x.csv", ' wav_filename , Transcript\r\n a.wav , "Yes, ""please"""\r\n', "utf-8-sig"),
        ("x.csv", 'transcript,wav_filename\n\n"Yes, ""please""",a.wav\n,\n', "utf-16-le"),
        ("x.csv", 'wav_filename,transcript\nclips\\one.wav,"Yes, ""please"""\n', "utf-8"),
    ],
)
def test_tables_of_other_programs_are_read(
    tmp_path: Path, name: str, content: str, encoding: str
) -> None:
    (tmp_path / "clips").mkdir()
    for audio in ("a.wav", "clips/one.wav", "clips/old.mp3"):
        (tmp_path / audio).touch()
    table = tmp_path / name
    table.write_bytes(content.encode(encoding))
    (found,) = read_dataset(table)
    assert found.text == 'Yes, "please"'
    assert found.audio.is_file()


def test_a_quotation_mark_does_not_swallow_the_next_line(tmp_path: Path) -> None:
    (tmp_path / "a.wav").touch()
    table = tmp_path / "cv.tsv"
    table.write_text('path\tsentence\na.wav\t"Yes\na.wav\tno\na.wav\t"maybe"\n')
    assert [recording.text for recording in read_dataset(table)] == ['"Yes', "no", "maybe"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such data set"),
        ("wav_filename,wav_filesize,transcript\n", "the data set has no recordings"),
        ("file,text\na,b\n", "the table has no columns transcript and wav_filename"),
        (
            "wav_filename,wav_filesize,transcript\nx.wav,1,hello\n",
            "1 of 1 recordings are not there",
        ),
        ("wav_filename,wav_filesize,transcript\nx.wav\n", "line 2 is not whole"),
        (
            "wav_filename,wav_filesize,transcript\nx.wav,1,yes, please\n",
            "line 2 has more cells than the first line",
        ),
        (b"\xff\xfe\x00", "this is a file of no kind that asrbuild knows"),
    ],
)
def test_unusable_tables_are_refused(tmp_path: Path, content: object, message: str) -> None:
    path = tmp_path / "set.csv"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else str(content).encode())
    with pytest.raises(AsrbuildError, match=message):
        read_dataset(path)


def test_a_folder_without_transcripts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AsrbuildError, match="the data set has no recordings"):
        read_dataset(tmp_path)
    (tmp_path / "a.wav").touch()
    with pytest.raises(AsrbuildError, match=r"a.wav has no a.txt next to it"):
        read_dataset(tmp_path)
    (tmp_path / "a.txt").write_bytes("grüße".encode("latin-1"))
    with pytest.raises(AsrbuildError, match="not UTF-8 text"):
        read_dataset(tmp_path)


def test_the_model_runs_once_for_each_recording(tmp_path: Path, dataset: list[Recording]) -> None:
    cache = tmp_path / "cache"
    listener = Listener(["hello world", "one two tree"])
    first = listen(listener, dataset, cache)
    again = listen(listener, dataset, cache)
    assert listener.asked == 2
    for left, right in zip(first, again, strict=True):
        np.testing.assert_array_equal(left.probabilities, right.probabilities)
        assert (left.audio_s, left.seconds) == (right.audio_s, right.seconds)
    other = Listener(["x", "y"], digest="another model")
    listen(other, dataset, cache)
    assert other.asked == 2


def test_an_interrupted_run_resumes(tmp_path: Path, dataset: list[Recording]) -> None:
    cache = tmp_path / "cache"

    def stop_after_one() -> None:
        raise KeyboardInterrupt

    listener = Listener(["hello world", "one two three"])
    with pytest.raises(KeyboardInterrupt):
        listen(listener, dataset, cache, stop_after_one)
    listen(listener, dataset, cache)
    assert listener.asked == 2
    for kept in cache.rglob("*.npz"):
        kept.write_bytes(kept.read_bytes()[:100])
    listener.asked = 0
    listen(listener, dataset, cache)
    assert listener.asked == 2, "damaged entries are computed again"


class Stopping(GreedyDecoder):
    """A decoder that stops within a batch, and counts its utterances."""

    asked = 0

    def decode_batch(self, batch: Sequence[np.ndarray], n_best: int = 1) -> list[list[Hypothesis]]:
        self.asked += 1
        if self.asked == 2:
            raise KeyboardInterrupt
        return super().decode_batch(batch, n_best)


def test_interrupted_decoding_resumes(
    tmp_path: Path, dataset: list[Recording], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "BATCH", 1)
    spoken = listen(Listener(["hello world", "one two tree"]), dataset, tmp_path)
    settings, kept = DecoderSettings("greedy"), tmp_path / "words"

    def run(decoder: Stopping) -> SetResult:
        return decode("demo", "greedy", settings, decoder, dataset, spoken, kept=kept)

    decoder = Stopping(LABELS, 0.02)
    with pytest.raises(KeyboardInterrupt):
        run(decoder)
    whole = run(decoder)
    assert decoder.asked == 3, "the first recording was decoded twice"
    assert whole.transcripts == ("hello world", "one two tree")
    assert run(decoder) == whole, "words and times are those of the first run"
    assert decoder.asked == 3
    for file in kept.iterdir():
        file.write_bytes(file.read_bytes()[:-3])
    assert run(decoder).transcripts == whole.transcripts
    assert decoder.asked == 5, "damaged words are decoded again"


def test_the_cache_of_words_depends_on_model_decoder_and_recording(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_text(name)
    at = SimpleNamespace(artifact=tmp_path, alphabet=LABELS)
    other = SimpleNamespace(artifact=tmp_path, alphabet=make_alphabet("ab "))
    first = DecoderSettings("ds_ctcdecoder", scorer=Path("one"), lm_alpha=1.0)
    folders = [
        words_folder(tmp_path, at, settings)
        for settings in (
            first,
            replace(first, scorer=Path("two")),
            replace(first, lm_alpha=1.01),
            replace(first, beam_width=499),
            replace(first, hot_words={"a": 2.0}),
            DecoderSettings("beam"),
        )
    ]
    folders.append(words_folder(tmp_path, other, first))
    assert len(set(folders)) == len(folders)
    (tmp_path / "two").write_text("one")
    for same in (replace(first, scorer=Path("two")), replace(first, interpreter=Path("python3.9"))):
        assert words_folder(tmp_path, at, same) == folders[0]


def test_references_that_the_alphabet_cannot_spell_are_reported(dataset: list[Recording]) -> None:
    strange = replace(dataset[1], text="one 2 three")

    def spelled(*recordings: Recording, count_all: bool = False) -> Spelled:
        return spelled_by([LABELS], recordings, count_all=count_all, option="--all")

    assert spelled(*dataset) == Spelled(dataset, [], "")
    found = spelled(dataset[0], strange)
    assert (found.counted, found.left_out) == ([dataset[0]], [strange])
    assert found.remark == (
        "the alphabet cannot spell '2' in 1 of 2 references: 1 not counted; --all counts them"
    )
    counted = spelled(dataset[0], strange, count_all=True)
    assert (counted.counted, counted.left_out) == ([dataset[0], strange], [])
    assert "1 counted as errors" in counted.remark
    with pytest.raises(AsrbuildError, match="none of the references") as caught:
        spelled(strange)
    assert "--all" in str(caught.value.fix)


def _result(dataset: list[Recording], texts: list[str], cache: Path) -> SetResult:
    spoken = listen(Listener(texts, digest=str(texts)), dataset, cache)
    seen: list[int] = []
    settings = DecoderSettings("greedy")
    with open_decoder(settings, LABELS, 20.0) as decoder:
        result = decode("demo", "greedy", settings, decoder, dataset, spoken, seen.append)
    assert sum(seen) == len(dataset)
    return result


def test_figures_are_those_of_the_transcripts(
    tmp_path: Path, dataset: list[Recording], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "BATCH", 1)
    result = _result(dataset, ["hello world", "one too"], tmp_path / "cache")
    assert result.transcripts == ("hello world", "one too")
    assert result.rates == error_rates([r.text for r in dataset], result.transcripts)
    assert result.rates.wer == pytest.approx(2 / 5)
    assert result.worst(5) == [1]
    assert result.audio_s > 15
    assert result.real_time_factor > 0


def test_the_page_names_every_mistake(tmp_path: Path, dataset: list[Recording]) -> None:
    right = _result(dataset, ["hello world", "one two three"], tmp_path / "cache")
    wrong = _result(dataset, ["hello word", "one two three four"], tmp_path / "cache")
    page = tmp_path / "pages" / "rates.html"
    write_page(page, "set.csv", dataset, [right, wrong])
    text = page.read_text()
    assert text.count("<svg") == 3
    assert 'data-value="40.0">40.0</td>' in text
    assert 'data-value="0.0">0.0</td>' in text
    for mistake in ("<del>world</del>", "<ins>word</ins>", "<ins>four</ins>"):
        assert mistake in text
    # Each of the two recordings lists both decoders, the correct one without errors.
    section = text[text.index("<h2>Recordings with wrong words</h2>") :]
    assert section.count(": 0 % of words wrong") == section.count(" of words wrong") / 2 == 2
    assert "<p>None.</p>" not in text
    write_page(page, "set.csv", dataset, [right])
    assert "<p>None.</p>" in page.read_text()
    # Half of the recordings have errors in a third of their words, the others in a half.
    assert 'd="M0 100H66.67V50.00H100.00V0.00H100"' in text


def test_the_alignment_is_in_columns() -> None:
    assert aligned("one two three", "one too three four") == (
        "one TWO three ****",
        "one TOO three FOUR",
    )
    assert aligned("a bb c", "a c") == ("a BB c", "a ** c")
