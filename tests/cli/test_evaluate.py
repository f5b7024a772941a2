"""``asrbuild evaluate``: comparison of artifacts, resumption after a kill, one run of the model."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from asrbuild.artifact import layout
from asrbuild.base.digest import file_digest
from asrbuild.speech.deepspeech_decoder import environment as ds_environment
from tests.acceptance.conftest import Finished, run_asrbuild
from tests.marks import needs_ds_ctcdecoder
from tests.paths import DATA, DEMO
from tests.scripts import write_script


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two demo artifacts, ``a`` and ``b``."""
    at = tmp_path_factory.mktemp("evaluate")
    for name, more in (("a", ()), ("b", ("coreml=neuralnetwork",))):
        built = run_asrbuild("model=static", "verify=quick", f"name={name}", *more, cwd=at)
        assert built.code == 0, built.err
    return at


def kept(folder: Path) -> dict[Path, int]:
    """Cached probabilities, with the time of each file."""
    found = (folder / ".asrbuild" / "cache" / layout.PROBABILITIES_FOLDER).rglob("*.npz")
    return {path: path.stat().st_mtime_ns for path in found}


def test_artifacts_and_decoders_are_compared(folder: Path) -> None:
    table = DATA / "unseen" / "test.csv"
    asked = ("evaluate", "a", "b", str(table), "--decoder")
    done = run_asrbuild(*asked, "greedy", "--page", "pages/rates.html", cwd=folder)
    assert done.code == 0, done.err
    rows = [line.split() for line in done.out.splitlines()]
    assert [row[:3] for row in rows if row[:1] in (["a"], ["b"])] == [
        ["a", "greedy", "69"],
        ["b", "greedy", "69"],
    ]
    assert "  expected   " in done.out
    assert "  transcript " in done.out
    assert "11 recordings, 33 s" in done.out
    page = (folder / "pages" / "rates.html").read_text()
    assert page.count("<svg") >= 2
    assert "16.wav" in page
    heard = kept(folder)
    assert len(heard) == 22

    again = run_asrbuild(*asked, "greedy,beam", "--beam-width", "20", "--json", cwd=folder)
    assert again.code == 0, again.err
    assert kept(folder) == heard, "another decoder ran the model again"
    results = json.loads(again.out)["results"]
    assert [(r["artifact"], r["decoder"]) for r in results] == [
        ("a", "greedy"),
        ("a", "beam"),
        ("b", "greedy"),
        ("b", "beam"),
    ]
    for result in results:
        assert result["wer_interval"][0] < result["wer"] < result["wer_interval"][1]
        errors = sum(result["words"][kind] for kind in ("substitutions", "deletions", "insertions"))
        assert result["wer"] == pytest.approx(errors / 69)
        assert sum(r["words"]["reference"] for r in result["recordings"]) == 69
        assert result["real_time_factor"] > 0


def test_references_that_the_alphabet_cannot_spell_are_reported(
    folder: Path, tmp_path: Path
) -> None:
    """They count in no rate and no gate unless an option requests it."""
    table = tmp_path / "set.csv"
    table.write_text(
        "wav_filename,wav_filesize,transcript\n"
        f"{DEMO}/sample.wav,0,{(DEMO / 'sample.txt').read_text().strip()}\n"
        f"{DEMO}/second.wav,0,you have 5 new messages\n"
    )
    asked = ("evaluate", "a", str(table), "--json")
    reported = "'5' in 1 of 2 references"
    done = run_asrbuild(*asked, cwd=folder)
    assert done.code == 0, done.err
    assert reported in done.err
    found = json.loads(done.out)
    assert (found["results"][0]["wer"], len(found["left_out"])) == (0, 1)
    counted = run_asrbuild(*asked, "--count-unspelled", cwd=folder)
    assert counted.code == 0, counted.err
    assert reported in counted.err
    assert json.loads(counted.out)["results"][0]["wer"] > 0

    gate = (
        "model=static",
        "verify=quick",
        "name=a",
        f"verify.evaluation={table}",
        "verify.max_wer=0",
    )
    built = run_asrbuild(*gate, cwd=folder)
    assert built.code == 0, built.err
    assert reported in built.err
    (path,) = {
        one.resolve()
        for one in folder.glob("artifacts/a/*/manifest.json")
        if json.loads(one.read_text())["verification"]["evaluation"]
    }
    measured = json.loads(path.read_text())["verification"]["evaluation"]
    assert (measured["recordings"], measured["left_out"]) == (1, 1)
    for page in ("report.md", "report.html"):
        assert "1 more left out, as the alphabet" in path.with_name(page).read_text()
    changed = json.loads(run_asrbuild("diff", "b", str(path.parent), "--json", cwd=folder).out)
    assert {"what": "references left out", "before": 0, "now": 1}.items() <= next(
        change for change in changed["changes"] if change["what"] == "references left out"
    ).items()
    refused = run_asrbuild(*gate, "verify.count_unspelled=true", cwd=folder)
    assert refused.code == 1
    assert "the word error rate is" in refused.err
    table.write_text(f"wav_filename,transcript\n{DEMO}/second.wav,5 messages\n")
    for command in (asked, gate):
        nothing = run_asrbuild(*command, cwd=folder)
        assert nothing.code == 1
        assert "'5' in 1 of 1 references" in nothing.err
        assert f"file: {table}" in nothing.err


def test_a_recording_is_read_from_standard_input(folder: Path, tmp_path: Path) -> None:
    """It is WAV, here with the unfinished header of a pipe, or samples alone."""
    wav = bytearray((DEMO / "second.wav").read_bytes())
    at = wav.index(b"data")
    samples = bytes(wav[at + 8 :])
    wav[4:8] = wav[at + 4 : at + 8] = bytes(4)
    said = (DEMO / "second.txt").read_text().strip()
    for data, options in ((bytes(wav), ()), (samples, ("--raw", "16000"))):
        done = subprocess.run(
            [sys.executable, "-m", "asrbuild.cli.main", "transcribe", "a", "-", *options],
            input=data,
            capture_output=True,
            cwd=folder,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        assert done.stdout.decode().strip() == said
        assert ("never finished" in done.stderr.decode()) == (not options)
    empty = run_asrbuild("transcribe", "a", "-", cwd=folder)
    assert empty.code == 1
    assert "standard input is empty" in empty.err


def test_recordings_of_a_lower_rate_are_reported(folder: Path, tmp_path: Path) -> None:
    """``transcribe``, both runs of ``evaluate`` and a build that uses them report them."""
    hello = DATA / "genuine" / "hello8k.wav"
    (tmp_path / "set.csv").write_text(f"wav_filename,transcript\n{hello},hello world\n")
    note = "8000 samples a second and the model takes 16000"
    spoken = run_asrbuild("transcribe", "a", str(hello), "--json", cwd=folder)
    assert spoken.code == 0, spoken.err
    assert note in spoken.err
    assert note in json.loads(spoken.out)["recordings"][0]["notes"][0]
    for _ in range(2):
        done = run_asrbuild("evaluate", "a", str(tmp_path / "set.csv"), cwd=folder)
        assert done.code == 0, done.err
        assert f"{note}: nothing above 4000 Hz is in it" in done.err
        assert "(1 of 1 recordings, first hello8k.wav)" in done.err
    build = (
        "model=static",
        "verify=quick",
        "name=a",
        f"source.second.audio={hello}",
        f"source.sample.audio={hello}",
        "source.sample.text=null",
    )
    built = run_asrbuild(*build, cwd=folder)
    assert f"source.sample.audio: the recording has {note}" in built.err


def test_an_option_that_has_no_effect_is_refused(folder: Path) -> None:
    hello = str(DEMO / "second.wav")
    refused = run_asrbuild("transcribe", "a", hello, "--beam-width", "9", cwd=folder)
    assert refused.code == 1
    assert "greedy decoder has no beam" in refused.err


def test_evaluate_runs_the_chosen_function(tmp_path: Path) -> None:
    """Functions give equal transcripts; cached probabilities of one are not used for another."""
    built = run_asrbuild("model=multifunction", "verify=quick", "name=m", cwd=tmp_path)
    assert built.code == 0, built.err
    asked = ("evaluate", "m", str(DATA / "unseen" / "test.csv"), "--decoder", "greedy", "--json")
    said = []
    for number, function in enumerate(("whole", "chunk_32"), 1):
        done = run_asrbuild(*asked, "--function", function, cwd=tmp_path)
        assert done.code == 0, done.err
        (result,) = json.loads(done.out)["results"]
        said.append([one["heard"] for one in result["recordings"]])
        assert len(kept(tmp_path)) == 11 * number
    assert said[0] == said[1]
    wrong = run_asrbuild(*asked, "--function", "half", cwd=tmp_path)
    assert wrong.code == 1
    assert "no function half" in wrong.err
    assert "chunk_32" in wrong.err


@needs_ds_ctcdecoder
def test_the_scorer_lowers_the_demos_word_error_rate(folder: Path) -> None:
    """Both halves of the recordings outside of the training set are decoded without and with it."""
    for table in (DEMO / "dev" / "dev.csv", DATA / "unseen" / "test.csv"):
        told = ("--decoder", "greedy,ds_ctcdecoder", "--scorer", "demo:prompts.scorer", "--json")
        done = run_asrbuild("evaluate", "a", str(table), *told, "--beam-width", "50", cwd=folder)
        assert done.code == 0, done.err
        rates = {result["decoder"]: result["wer"] for result in json.loads(done.out)["results"]}
        assert list(rates) == ["greedy", "ds_ctcdecoder", "ds_ctcdecoder + prompts.scorer"]
        assert rates["ds_ctcdecoder + prompts.scorer"] < 0.8 * rates["ds_ctcdecoder"]


#: The genuine decoder, killed by an utterance of so many steps; it counts decoded utterances.
DEADLY = """
import os, runpy, sys
from ds_ctcdecoder import swigwrapper
steps, log = int(sys.argv[1]), sys.argv[2]
decode = swigwrapper.ctc_beam_search_decoder
begin, feed = swigwrapper.DecoderState.init, swigwrapper.DecoderState.next
fed = {}

def die_of(count):
    if count == steps:
        sys.stderr.write("terminate called after throwing an instance of 'std::bad_alloc'\\n")
        sys.stderr.flush()
        os.abort()

def decode_or_die(rows, *more):
    die_of(len(rows))
    with open(log, "a") as file:
        file.write("decoded\\n")
    return decode(rows, *more)

def begin_counting(self, *more):
    fed[id(self)] = 0
    return begin(self, *more)

def feed_or_die(self, rows):
    fed[id(self)] += len(rows)
    die_of(fed[id(self)])
    return feed(self, rows)

swigwrapper.ctc_beam_search_decoder = decode_or_die
swigwrapper.DecoderState.init = begin_counting
swigwrapper.DecoderState.next = feed_or_die
runpy.run_path(sys.argv[3], run_name="__main__")
"""


@needs_ds_ctcdecoder
def test_a_recording_that_kills_the_decoder_is_named_and_others_are_kept(
    folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(folder / "artifacts", tmp_path / "artifacts")
    table = DATA / "unseen" / "test.csv"
    head, *lines = table.read_text().splitlines()
    lines = [f"{table.parent}/{line}" for line in lines]
    assert run_asrbuild("evaluate", "a", str(table), cwd=tmp_path).code == 0
    steps = {file.stem: len(np.load(file)["probabilities"]) for file in kept(tmp_path)}
    audio = {line.split(",")[0]: steps[file_digest(Path(line.split(",")[0]))] for line in lines}
    deadly = max(audio, key=audio.get)
    assert list(audio.values()).count(audio[deadly]) == 1

    (tmp_path / "deadly.py").write_text(DEADLY)
    log, real = tmp_path / "decoded", ds_environment.decoder_python()
    python = write_script(
        tmp_path / "python",
        'for last; do :; done\ncase "$last" in */worker.py) '
        f'exec {real} {tmp_path}/deadly.py {audio[deadly]} {log} "$last";;\n'
        f'*) exec {real} "$@";; esac',
    )
    asked = ("--decoder", "ds_ctcdecoder", "--beam-width", "20", "--json")

    env = {"ASRBUILD_DECODER_PYTHON": str(python)}

    def evaluate(data: Path, *options: str) -> Finished:
        return run_asrbuild("evaluate", "a", str(data), *options, cwd=tmp_path, env=env)

    for _ in range(2):
        failed = evaluate(table, *asked)
        assert (failed.code, failed.out) == (1, "")
        assert failed.err == (
            "error: ds-ctcdecoder ended 3 times on this utterance: terminate called after throwing "
            "an instance of 'std::bad_alloc' (signal 6)\n  key: decoder.type\n"
            f"  file: {deadly}\n"
            "  fix: leave it out, or use another decoder: decoder=beam, or --decoder beam\n"
        )
        assert len(log.read_text().splitlines()) == len(lines) - 1, "the others are decoded once"
    without = tmp_path / "without.csv"
    without.write_text("\n".join([head, *(line for line in lines if deadly not in line)]) + "\n")
    rest = evaluate(without, *asked)
    assert rest.code == 0, rest.err
    (result,) = json.loads(rest.out)["results"]
    assert len(result["recordings"]) == len(lines) - 1
    assert len(log.read_text().splitlines()) == len(lines) - 1, "leaving it out costs nothing"
    other = evaluate(table, "--decoder", "beam", "--beam-width", "20", "--json")
    assert other.code == 0, other.err

    names = [next(name for name in audio if name != deadly), deadly]
    spoken = run_asrbuild("transcribe", "a", *names, *asked, cwd=tmp_path, env=env)
    assert spoken.code == 1
    found, lost = json.loads(spoken.out)["recordings"]
    assert found["text"]
    assert lost["error"].startswith("ds-ctcdecoder ended 3 times on this utterance: terminate")
    assert f"file: {deadly}" in spoken.err


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_run_resumes(how: signal.Signals, folder: Path, tmp_path: Path) -> None:
    table = str(DATA / "joins" / "joins.csv")
    shutil.copytree(folder / "artifacts", tmp_path / "artifacts")
    command = [sys.executable, "-m", "asrbuild.cli.main", "evaluate", "a", table, "--json"]
    running = subprocess.Popen(
        command,
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # SIGINT is ignored if the tests run in the background of a shell.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 120
    while not kept(tmp_path) and running.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(running.pid, how)
    _, told = running.communicate()
    if how is signal.SIGINT:
        assert (running.returncode, "error: interrupted" in told) == (130, True)
    before = kept(tmp_path)
    assert 0 < len(before) < 20
    resumed = run_asrbuild("evaluate", "a", table, "--json", cwd=tmp_path)
    assert resumed.code == 0, resumed.err
    after = kept(tmp_path)
    assert len(after) == 20
    assert {path: after[path] for path in before} == before
    whole = run_asrbuild("evaluate", "a", table, "--json", cwd=folder)
    texts = [
        [r["heard"] for r in json.loads(done.out)["results"][0]["recordings"]]
        for done in (resumed, whole)
    ]
    assert texts[0] == texts[1]
