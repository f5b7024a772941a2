"""Decoders, scorers and alphabets through the command line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from asrbuild.architectures.deepspeech.checkpoint import find_checkpoint, read_weights
from asrbuild.architectures.deepspeech.export import write_frozen_graph
from asrbuild.architectures.deepspeech.flags import ExportFlags
from asrbuild.artifact.reading import read_manifest
from asrbuild.base.errors import AsrbuildError
from asrbuild.cli.main import dispatch
from asrbuild.speech.alphabet import bytes_alphabet, read_alphabet
from asrbuild.speech.deepspeech_decoder import environment as ds_environment
from tests.acceptance.conftest import Finished, Workshop, run_asrbuild
from tests.marks import needs_ds_ctcdecoder
from tests.paths import DATA, DEMO, SAMPLE_TEXT

DS = ("decoder=ds_ctcdecoder", "decoder.beam_width=50")


def converted(folder: Path) -> bool:
    return (folder / ".asrbuild" / "cache" / "convert").exists()


def refused(done: Finished, message: str, folder: Path) -> None:
    """The only error of a build that converts nothing and publishes nothing."""
    assert done.code == 1
    assert done.err.count("error:") == 1
    assert message in done.err
    assert "Traceback" not in done.err
    assert not converted(folder)
    assert not (folder / "artifacts").exists()


@pytest.fixture
def scorers(tmp_path: Path) -> Path:
    """A folder of scorers that do not fit the demo's alphabet or decoders."""
    whole = (DEMO / "prompts.scorer").read_bytes()
    (tmp_path / "cut.scorer").write_bytes(whole[: len(whole) * 2 // 3])
    (tmp_path / "text.scorer").write_text("the estimated hold time is\n" * 20)
    (tmp_path / "other.txt").write_text("\n".join("abcdefghijklmnopqrstuvwxyz' ") + "\n")
    (tmp_path / "corpus.txt").write_text("thank you for your patience\n")
    for name, labels in (("other", "--alphabet=other.txt"), ("bytes", "--bytes-output")):
        made = run_asrbuild(
            "scorer", "build", "--text=corpus.txt", labels, "-o", f"{name}.scorer", cwd=tmp_path
        )
        assert made.code == 0, made.err
    return tmp_path


UNFIT = {
    "cut": "is a bare KenLM binary model (its name ends in .scorer), not a scorer package: it ends "
    "without the word trie",
    "text": "is a text",
    "other": "the scorer was made for another alphabet: its words end with label 27, "
    "the alphabet's space is 0",
    "bytes": "the scorer was made for UTF-8 bytes, the model writes characters",
}


def test_unfit_scorers_are_refused_before_anything_is_converted(scorers: Path) -> None:
    for name, message in UNFIT.items():
        path = f"decoder.scorer_path={scorers}/{name}.scorer"
        done = run_asrbuild("model=static", *DS, path, cwd=scorers)
        refused(done, f"{message}", scorers)
        assert f"\n  key: decoder.scorer_path\n  file: {scorers}/{name}.scorer\n" in done.err


def test_unfit_scorers_are_refused_before_any_recording_is_read(
    workshop: Workshop, scorers: Path
) -> None:
    artifact = str(workshop.artifact("static", "mlprogram"))
    (scorers / "set").mkdir()
    shutil.copy(DEMO / "second.wav", scorers / "set" / "a.wav")
    shutil.copy(DEMO / "second.txt", scorers / "set" / "a.txt")
    for name, message in UNFIT.items():
        given = ("--decoder", "ds_ctcdecoder", "--scorer", f"{name}.scorer")
        done = run_asrbuild("transcribe", artifact, str(DEMO / "sample.wav"), *given, cwd=scorers)
        assert (done.code, done.out) == (1, "")
        assert message in done.err
    given = ("--decoder", "greedy,ds_ctcdecoder", "--scorer", "cut.scorer")
    done = run_asrbuild("evaluate", artifact, "set", *given, cwd=scorers)
    assert (done.code, done.out) == (1, "")
    assert UNFIT["cut"] in done.err
    assert not (scorers / ".asrbuild").exists(), "the model ran before the scorer was refused"


@needs_ds_ctcdecoder
def test_hot_words_and_weights_of_the_command_line_are_used(
    workshop: Workshop, tmp_path: Path
) -> None:
    """A boost makes a word of the scorer appear; JSON has times, confidences and N best."""
    artifact = str(workshop.artifact("static", "mlprogram"))
    told = ("--decoder", "ds_ctcdecoder", "--scorer", "demo:prompts.scorer", "--json")

    def heard(*more: str) -> dict:
        done = run_asrbuild(
            "transcribe", artifact, str(DEMO / "second.wav"), *told, *more, cwd=tmp_path
        )
        assert done.code == 0, done.err
        return json.loads(done.out)["recordings"][0]

    plain = heard("--n-best", "3")
    assert plain["text"] == "you have five new messages"
    assert len(plain["alternatives"]) == 2
    assert plain["confidence"] > plain["alternatives"][0]["confidence"]
    assert [word["text"] for word in plain["words"]] == plain["text"].split()
    times = [at for word in plain["words"] for at in (word["start_s"], word["end_s"])]
    assert times == sorted(times)
    assert all(0.5 < word["confidence"] < 1 for word in plain["words"])
    assert "five" not in heard("--hot-word", "five=-90")["text"]
    # A large reward for every word without the language model's weight gives more words.
    assert len(heard("--lm-alpha", "0", "--lm-beta", "30")["words"]) > 5
    wrong = run_asrbuild("transcribe", artifact, "x.wav", "--hot-word", "five", cwd=tmp_path)
    assert wrong.err.startswith("error: --hot-word 'five' is not WORD=BOOST")


@needs_ds_ctcdecoder
def test_a_scorer_without_the_words_of_a_recording_is_named_as_the_reason(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With none of a sample's words to choose from, half precision chooses other wrong words."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ASRBUILD_ARTIFACTS", str(tmp_path / "artifacts"))
    monkeypatch.setenv("ASRBUILD_CACHE", str(workshop.folder / ".asrbuild" / "cache"))
    (tmp_path / "corpus.txt").write_text(
        "you have five new messages\nyour message has been saved\nincoming call from\n"
        "you are now muted\n"
    )
    scorer = ("--alphabet", "demo:alphabet.txt", "-o", "narrow.scorer")
    assert dispatch(["scorer", "build", "--text", "corpus.txt", *scorer]) == 0
    with pytest.raises(AsrbuildError) as caught:
        dispatch(["model=static", "verify=quick", DS[0], "decoder.scorer_path=narrow.scorer"])
    assert caught.value.key == "verify.require_transcript"
    assert "recordings whose words the scorer has" in (caught.value.fix or "")
    assert "call are you" in str(caught.value)
    assert not any((tmp_path / "artifacts").glob("demo*"))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["decoder.hot_words={asterisk: 3}"], "hot words need a scorer"),
        (
            ["decoder.scorer_path=demo:prompts.scorer", "decoder.hot_words={a b: 3}"],
            "the hot word 'a b' is not one word",
        ),
        (
            ["decoder.scorer_path=demo:prompts.scorer", "decoder.hot_words={h2o: 3}"],
            "the hot word 'h2o' cannot be spelled: not in the alphabet: '2'",
        ),
        (["decoder.interpreter=/none/python"], "/none/python is not a Python that runs"),
    ],
)
def test_decoders_that_cannot_decode_are_refused(
    tmp_path: Path, overrides: list[str], message: str
) -> None:
    refused(run_asrbuild("model=static", *DS, *overrides, cwd=tmp_path), message, tmp_path)


@pytest.fixture(scope="module")
def bytes_graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's network with its letters at their places in UTF-8 mode: 255 bytes and a blank."""
    weights = read_weights(find_checkpoint(DEMO / "checkpoint"))
    labels = read_alphabet(DEMO / "alphabet.txt").labels
    places = [*bytes_alphabet().encode("".join(labels)), 255]
    kernel = np.zeros((weights.n_hidden, 256), np.float32)
    bias = np.full(256, -30, np.float32)
    kernel[:, places], bias[places] = weights.layer_6_weights, weights.layer_6_bias
    written = replace(weights, layer_6_weights=kernel, layer_6_bias=bias)
    graph = tmp_path_factory.mktemp("bytes") / "output_graph.pb"
    flags = ExportFlags(-1, weights.n_hidden)
    write_frozen_graph(written, flags, bytes_alphabet().graph_labels, graph)
    return graph


def _of_bytes(graph: Path, *more: str) -> list[str]:
    source = ["source=frozen_graph", f"source.path={graph}", "verify=quick"]
    text = f"source.sample.text={DEMO / 'sample.txt'}"
    return [*source, text, "model=dynamic_to_static", *more]


@needs_ds_ctcdecoder
def test_a_model_of_utf_8_bytes_is_decoded_by_every_decoder(
    bytes_graph: Path, tmp_path: Path
) -> None:
    """The build decodes with a scorer of characters."""
    (tmp_path / "corpus.txt").write_text(SAMPLE_TEXT + "\n")
    made = run_asrbuild(
        "scorer",
        "build",
        "--text=corpus.txt",
        "--bytes-output",
        "--order=5",
        "--output=characters.scorer",
        cwd=tmp_path,
    )
    assert made.code == 0, made.err
    shown = run_asrbuild("inspect", "scorer", "characters.scorer", "--bytes-output", cwd=tmp_path)
    assert "character based  yes, UTF-8 bytes" in shown.out
    assert "fits UTF-8 mode" in shown.out
    mode = "source.bytes_output_mode=true"
    scorer = "decoder.scorer_path=characters.scorer"
    built = run_asrbuild(*_of_bytes(bytes_graph, mode, *DS, scorer), cwd=tmp_path)
    assert built.code == 0, built.err
    assert "as spoken, word for word" in built.out
    [artifact] = [p for p in (tmp_path / "artifacts").glob("*/*") if p.is_dir()]
    manifest = read_manifest(artifact)
    assert (manifest.decoder.utf8, manifest.decoder.blank_index) == (True, 255)
    assert manifest.decoder.alphabet_file is None
    assert not (artifact / "alphabet.txt").exists()
    for kind in ("greedy", "beam", "ds_ctcdecoder"):
        width = () if kind == "greedy" else ("--beam-width", "20")
        wanted = ("--decoder", kind, *width, "--json")
        said = run_asrbuild(
            "transcribe", str(artifact), str(DEMO / "sample.wav"), *wanted, cwd=tmp_path
        )
        assert json.loads(said.out)["recordings"][0]["text"] == SAMPLE_TEXT
    assert run_asrbuild("verify", str(artifact), cwd=tmp_path).code == 0


def test_a_recipe_that_contradicts_the_output_mode_is_refused(
    bytes_graph: Path, tmp_path: Path
) -> None:
    wrong = {
        "source.bytes_output_mode=false in the recipe, but the source states true": (
            "source.bytes_output_mode",
            _of_bytes(bytes_graph, "source.bytes_output_mode=false"),
        ),
        "source.bytes_output_mode=true in the recipe, but the source states false": (
            "source.bytes_output_mode",
            ["model=static", "source.bytes_output_mode=true"],
        ),
    }
    for message, (key, overrides) in wrong.items():
        done = run_asrbuild(*overrides, cwd=tmp_path)
        assert done.code == 1
        assert message in done.err
        assert f"\n  key: {key}\n" in done.err
        assert not (tmp_path / "artifacts").exists()


UNSEEN = DATA / "unseen" / "test.csv"


@dataclass(frozen=True)
class Gated:
    """A build with overrides, and the store that it publishes to."""

    build: Callable[..., Finished]
    store: Path

    def published(self, name: str) -> list[Path]:
        return [p for p in (self.store / name).glob("*+*") if p.is_dir()]


@pytest.fixture(scope="module")
def gated(workshop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> Gated:
    """Builds a package whose conversion is in the cache, into an empty store."""
    folder = tmp_path_factory.mktemp("gated")

    def build(*overrides: str) -> Finished:
        own = ("model=static", "verify.inputs=[sample]", "verify.edge_lengths=false")
        at = f"paths.artifacts={folder}"
        return run_asrbuild(*own, at, *overrides, cwd=workshop.folder)

    return Gated(build, folder)


def test_a_word_error_rate_gates_a_build(gated: Gated) -> None:
    told = ("name=gated", f"verify.evaluation={UNSEEN}")
    done = gated.build(*told, "verify.max_wer=0.5")
    assert done.code == 1
    assert "error: the word error rate is 62.3% on test.csv (69 words); at most 50.0%" in done.err
    assert f"\n  key: verify.max_wer\n  file: {UNSEEN}\n" in done.err
    assert gated.published("gated") == []
    done = gated.build(*told, "verify.max_wer=0.65")
    assert done.code == 0, done.err
    [artifact] = gated.published("gated")
    found = read_manifest(artifact).verification.evaluation
    assert found is not None
    assert (found.data, found.recordings, found.words) == ("test.csv", 11, 69)
    assert (round(found.wer, 3), found.reference) == (0.623, None)
    assert found.wer_low < found.wer < found.wer_high
    assert "Word errors: 62.3%" in (artifact / "report.md").read_text()
    assert "nothing to do" in gated.build(*told, "verify.max_wer=0.65").out


def test_a_rise_above_tensorflow_gates_a_build(gated: Gated) -> None:
    """The package's transcripts equal TensorFlow's, so a required improvement fails."""
    told = ("name=risen", f"verify.evaluation={UNSEEN}")
    done = gated.build(*told, "verify.max_wer_increase=-0.01")
    assert done.code == 1
    assert "is 62.3% on test.csv (69 words), tensorflow has 62.3%: +0.0%" in done.err
    assert "at most -1.0% is allowed" in done.err
    assert "\n  key: verify.max_wer_increase\n" in done.err
    assert gated.published("risen") == []
    assert gated.build(*told, "verify.max_wer_increase=0").code == 0
    [artifact] = gated.published("risen")
    found = read_manifest(artifact).verification.evaluation
    assert found is not None
    assert (found.reference, found.reference_wer) == ("tensorflow", found.wer)


@needs_ds_ctcdecoder
def test_a_rise_above_a_named_artifact_gates_a_build(gated: Gated) -> None:
    """On unseen phrases the scorer lowers the word error rate far below the greedy one."""
    scorer = "decoder.scorer_path=demo:prompts.scorer"
    python = f"decoder.interpreter={ds_environment.decoder_python()}"
    assert gated.build("name=better", *DS, scorer, python).code == 0
    [better] = gated.published("better")
    assert "interpreter" not in read_manifest(better).provenance.recipe["decoder"]
    told = ("name=worse", f"verify.evaluation={UNSEEN}", "verify.max_wer_increase=0.05")
    done = gated.build(*told, "verify.compared_with=better")
    assert done.code == 1
    assert "is 62.3% on test.csv (69 words), better has 4" in done.err
    assert "\n  key: verify.max_wer_increase\n" in done.err
    assert gated.published("worse") == []
    # Both transcribe the recordings of the proof correctly.
    done = gated.build("name=worse", "verify.compared_with=better", "verify.max_wer_increase=0")
    assert done.code == 0, done.err
    [artifact] = gated.published("worse")
    found = read_manifest(artifact).verification.evaluation
    assert found is not None
    assert (found.data, found.wer, found.reference_wer) == ("sample", 0.0, 0.0)
    done = gated.build("name=worse", "verify.compared_with=bettor")
    assert "verify.compared_with=bettor is neither tensorflow nor an artifact" in done.err
    assert "did you mean better?" in done.err


def test_without_a_set_the_known_recordings_are_gated(gated: Gated, tmp_path: Path) -> None:
    (tmp_path / "said.txt").write_text("something else altogether\n")
    wrong = f"source.sample.text={tmp_path / 'said.txt'}"
    done = gated.build("name=other", wrong, "verify.max_wer=0.5")
    assert done.code == 1
    assert "sample: the word error rate is" in done.err
    assert gated.published("other") == []
