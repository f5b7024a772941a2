"""Genuine checkpoints and exports, built with no key but the source, give their transcripts.

Each was trained on its recording. Another kind of source is one more row.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from asrbuild.artifact.reading import read_manifest
from asrbuild.base.errors import AsrbuildError
from asrbuild.builder.compose import compose_recipe
from asrbuild.builder.engine import build
from tests import golden
from tests.acceptance.conftest import run_asrbuild
from tests.paths import GENUINE

SENTENCE = (GENUINE / "hello.txt").read_text().strip()
AT_8_KHZ = "hello worl you are currently caller number"
OF_BYTES = "hllooltlcallee"
#: The kind of source, its path, its recording, and the transcript of the genuine graph.
ROWS = [
    ("checkpoint", "deepspeech-0.6.1/checkpoint", "hello.wav", SENTENCE),
    ("frozen_graph", "deepspeech-0.6.1/x_r061.pb", "hello.wav", SENTENCE),
    ("checkpoint", "deepspeech-0.9.3/checkpoint", "hello.wav", SENTENCE),
    ("frozen_graph", "deepspeech-0.9.3/x_r1_16.pb", "hello.wav", SENTENCE),
    ("frozen_graph", "deepspeech-0.9.3/x_r1_dyn.pb", "hello.wav", SENTENCE),
    ("checkpoint", "deepspeech-0.9.3-layer-norm/checkpoint", "hello.wav", SENTENCE),
    ("frozen_graph", "deepspeech-0.9.3-layer-norm/x_r2_16.pb", "hello.wav", SENTENCE),
    ("frozen_graph", "deepspeech-0.9.3-layer-norm/x_r2_dyn.pb", "hello.wav", SENTENCE),
    ("checkpoint", "deepspeech-0.9.3-swahili-labels/checkpoint", "hello.wav", SENTENCE),
    ("frozen_graph", "deepspeech-0.9.3-swahili-labels/x_r3sw_16.pb", "hello.wav", SENTENCE),
    ("checkpoint", "coqui-1.4.0/checkpoint", "hello.wav", SENTENCE),
    ("frozen_graph", "coqui-1.4.0/x_q1.pb", "hello.wav", SENTENCE),
    ("checkpoint", "deepspeech-0.9.3-8khz/checkpoint", "hello8k.wav", AT_8_KHZ),
    ("frozen_graph", "deepspeech-0.9.3-8khz/x_r4k8_16.pb", "hello8k.wav", AT_8_KHZ),
    ("checkpoint", "deepspeech-0.9.3-bytes/checkpoint", "hello.wav", OF_BYTES),
    ("frozen_graph", "deepspeech-0.9.3-bytes/x_r5b_16.pb", "hello.wav", OF_BYTES),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sources")


def overrides(kind: str, path: str, folder: Path) -> list[str]:
    key = "source.checkpoint_dir" if kind == "checkpoint" else "source.path"
    return [
        f"source={kind}",
        f"{key}={GENUINE / path}",
        "verify=quick",
        f"paths.artifacts={folder / 'artifacts'}",
        f"paths.cache={folder / 'cache'}",
    ]


@pytest.mark.parametrize(("kind", "path", "recording", "words"), ROWS, ids=[r[1] for r in ROWS])
def test_a_genuine_source_gives_its_transcript(
    kind: str, path: str, recording: str, words: str, folder: Path
) -> None:
    sample = f"source.sample.audio={GENUINE / recording}"
    built = build(compose_recipe([*overrides(kind, path, folder), sample]))
    assert built.receipt.transcripts == {"sample": words}
    manifest = read_manifest(built.path)
    stated = {fact.name: fact for fact in manifest.provenance.source_facts or ()}
    rate = stated["export.audio_sample_rate"]
    assert rate.value == manifest.audio.sample_rate == (8000 if "8k" in recording else 16000)
    assert rate.file == (path.rpartition("/")[2] if kind == "frozen_graph" else "flags.txt")
    assert stated["export.upper_frequency_limit"].value == manifest.features.upper_hz
    assert "No known words were checked" in (built.path / "report.md").read_text()
    golden.check_artifact(path, built.path)


KNOWN = ("checkpoint", "deepspeech-0.9.3/checkpoint")


def test_a_model_with_only_wrong_words_is_refused_unless_allowed(folder: Path) -> None:
    (folder / "wrong.txt").write_text("ifmmp xpsme zpv bsf dvssfoumz dbmmfs ovncfs\n")
    given = [
        *overrides(*KNOWN, folder),
        f"source.sample.audio={GENUINE / 'hello.wav'}",
        f"source.sample.text={folder / 'wrong.txt'}",
    ]
    with pytest.raises(AsrbuildError, match="the model gets no word right") as error:
        build(compose_recipe(given))
    assert error.value.key == "verify.allow_wrong_words"
    assert SENTENCE in error.value.message
    golden.check_error("all words are wrong", 1, f"error: {error.value}", folder)
    allowed = run_asrbuild(*given, "verify.allow_wrong_words=true", cwd=folder)
    assert allowed.code == 0, allowed.err
    assert "WRONG: no word is as spoken" in allowed.out


def test_transcripts_that_the_alphabet_cannot_spell_are_not_counted(folder: Path) -> None:
    """No gate counts them by default; on request, or next to spellable words, all are wrong."""
    (folder / "digits.txt").write_text("911 112 24 7 365 1000 0\n")
    (folder / "wrong.txt").write_text("ifmmp xpsme zpv bsf\n")
    sample = f"source.sample.audio={GENUINE / 'hello.wav'}"
    text = f"source.sample.text={folder / 'digits.txt'}"
    given = [*overrides(*KNOWN, folder), "name=digits", sample, text]
    built = run_asrbuild(*given, cwd=folder)
    assert built.code == 0, built.err
    assert "the alphabet cannot spell '9' in 1 of 1 references" in built.err
    assert "no known words were checked" in built.out
    assert "WRONG" not in built.out
    (report,) = folder.glob("artifacts/digits/*/report.md")
    assert "as the alphabet cannot spell those of the recordings" in report.read_text()
    for more in (
        ["verify.count_unspelled=true"],
        [
            f"source.second.audio={GENUINE / 'hello.wav'}",
            f"source.second.text={folder / 'wrong.txt'}",
            "verify.inputs=[sample,second]",
        ],
    ):
        refused = run_asrbuild(*given, *more, cwd=folder)
        assert refused.code == 1
        assert "the model gets no word right" in refused.err
        golden.check_error(f"no word is right, {more[0].partition('=')[0]}", 1, refused.err, folder)


def test_correct_transcripts_are_reported(folder: Path) -> None:
    given = [*overrides(*KNOWN, folder), f"source.sample.audio={GENUINE / 'hello.wav'}"]
    without = run_asrbuild(*given, cwd=folder)
    assert "no known words were checked" in without.out
    assert "source.sample.text=words.txt" in without.out
    told = run_asrbuild(*given, f"source.sample.text={GENUINE / 'hello.txt'}", cwd=folder)
    assert told.code == 0, told.err
    assert "as spoken, word for word" in told.out
    assert "no known words" not in told.out


@pytest.mark.parametrize(
    "source",
    [
        "deepspeech-0.9.3/checkpoint",
        "deepspeech-0.9.3/checkpoint/best_dev-590",
        "deepspeech-0.9.3/x_r1_16.pb",
    ],
)
def test_inspect_source_prints_the_table(source: str, folder: Path) -> None:
    shown = run_asrbuild("inspect", "source", str(GENUINE / source), cwd=folder)
    assert shown.code == 0, shown.err
    for text in ("export.audio_sample_rate", "16000", "28 labels", "export.relu_clip"):
        assert text in shown.out
    assert "not stated" not in shown.out


def test_a_missing_source_is_refused_without_a_key(folder: Path) -> None:
    done = run_asrbuild("inspect", "source", "nowhere/best_dev-1", cwd=folder)
    assert done.code == 1
    assert "error: the source does not exist\n  file: nowhere/best_dev-1\n" in done.err
