"""``asrbuild -m tune=scorer``: search, page, config, a build with it, and its record."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import pytest
import yaml

from asrbuild.artifact import layout
from asrbuild.artifact.reading import read_manifest
from asrbuild.base.libraries import install_fix
from asrbuild.builder import tuning
from asrbuild.handover.report.tuning import Trial, Tuning
from asrbuild.speech.dataset import dataset_digest, read_dataset
from asrbuild.speech.deepspeech_decoder import environment as ds_environment
from tests.acceptance.conftest import Finished, Workshop, run_asrbuild
from tests.command import run_main
from tests.marks import needs_ds_ctcdecoder
from tests.paths import DATA, DEMO
from tests.scripts import write_script

UNSEEN = DATA / "unseen"
TRIALS = 8


def _tune(workshop: Workshop, output: Path, *more: str) -> Finished:
    """Tunes the sweep's static package in the sweep's folder, whose cache holds the conversion."""
    search = (
        f"tune.output={output}",
        f"tune.trials={TRIALS}",
        "tune.beam_width=[8,64]",
        f"paths.artifacts={output.parent / 'untuned'}",
        *more,
    )
    return run_asrbuild("tune=scorer", "-m", "model=static", *search, cwd=workshop.folder)


def _printed(done: Finished) -> list[str]:
    """The arguments of the command that a search ends with."""
    [line] = [line for line in done.out.splitlines() if line.startswith("use it: ")]
    return shlex.split(line.removeprefix("use it: asrbuild "))


def _kept(workshop: Workshop) -> dict[Path, int]:
    """Cached probabilities and transcripts, with the time of each file."""
    kept = (workshop.folder / ".asrbuild" / "cache" / layout.PROBABILITIES_FOLDER).glob("*/*")
    return {path: path.stat().st_mtime_ns for path in kept}


@needs_ds_ctcdecoder
def test_from_the_search_to_an_artifact_that_names_its_set(
    workshop: Workshop, tmp_path: Path
) -> None:
    done = _tune(workshop, tmp_path / "tuned")
    assert done.code == 0, done.err
    assert any(line.startswith("before") for line in done.out.splitlines())
    assert "front: no other trial has fewer errors and is faster" in done.out
    page = (tmp_path / "tuned" / "tuning.html").read_text()
    assert page.count("<svg") == 1
    found = json.loads((tmp_path / "tuned" / "tuning.json").read_text())
    assert len(found["trials"]) == TRIALS
    first, best = found["trials"][0], found["trials"][found["best"]]
    assert (first["lm_alpha"], first["lm_beta"], first["beam_width"]) == (0.75, 1.85, 500)
    assert best["wer"] == min(trial["wer"] for trial in found["trials"]) <= first["wer"]
    assert all(8 <= trial["beam_width"] <= 64 for trial in found["trials"][1:])

    config = yaml.safe_load((tmp_path / "tuned" / "decoder" / "tuned.yaml").read_text())
    settings = config["tuned"].pop("settings")
    assert config["tuned"] == {
        "data": "dev.csv",
        "sha256": dataset_digest(read_dataset(DEMO / "dev" / "dev.csv")),
        "recordings": 11,
        "words": 49,
        "wer": round(best["wer"], 6),
        "trials": TRIALS,
    }
    # The printed command works as typed, without --trust-config.
    built = run_asrbuild(
        *_printed(done),
        "model=static",
        f"paths.artifacts={tmp_path / 'artifacts'}",
        cwd=workshop.folder,
    )
    assert built.code == 0, built.err
    [artifact] = [p for p in (tmp_path / "artifacts").glob("*/*") if p.is_dir()]
    decoder = read_manifest(artifact).decoder
    assert decoder.tuned is not None
    assert decoder.tuned.model_dump() == config["tuned"]
    assert decoder.scorer is not None
    assert (decoder.scorer.lm_alpha, decoder.scorer.lm_beta, decoder.beam_width) == (
        best["lm_alpha"],
        best["lm_beta"],
        best["beam_width"],
    )
    shown = run_asrbuild("show", str(artifact), cwd=tmp_path)
    assert "tuned on" in shown.out
    # The artifact's error rates on that set equal those that the search reported for the best
    # values.
    again = run_asrbuild(
        "evaluate", str(artifact), str(DEMO / "dev" / "dev.csv"), "--json", cwd=workshop.folder
    )
    assert json.loads(again.out)["results"][0]["wer"] == best["wer"]

    # The same seed gives the same trials, and their cached probabilities and transcripts are used,
    # so that an interrupted search continues. It runs in the interpreter that the recipe names.
    heard = _kept(workshop)
    script = f'touch "$0.used"\nexec {ds_environment.decoder_python()} "$@"'
    named = write_script(tmp_path / "python", script)
    again = _tune(workshop, tmp_path / "again", f"decoder.interpreter={named}")
    assert again.code == 0, again.err
    assert (tmp_path / "python.used").exists()
    assert _kept(workshop) == heard
    repeated = json.loads((tmp_path / "again" / "tuning.json").read_text())
    assert repeated["trials"] == found["trials"]
    text = yaml.safe_load((tmp_path / "again" / "decoder" / "tuned.yaml").read_text())
    tuned_on = {**config["tuned"], "settings": settings}
    # The Python of the decoder is a setting of this machine, and a configuration folder may not
    # name it without --trust-config: the config leaves it out, and a key sets it.
    assert text == {**config, "tuned": tuned_on}
    assert text["interpreter"] is None
    chosen = run_asrbuild(
        *_printed(again), f"decoder.interpreter={named}", "--cfg", "job", cwd=workshop.folder
    )
    assert chosen.code == 0, chosen.err
    assert f"interpreter: {named}" in chosen.out

    # A value other than the found one was not tuned, and the manifest does not call it tuned.
    other = run_asrbuild(
        "decoder=tuned",
        "--config-dir",
        str(tmp_path / "tuned"),
        "model=static",
        "decoder.lm_alpha=0.33",
        f"paths.artifacts={tmp_path / 'other'}",
        cwd=workshop.folder,
    )
    assert other.code == 0, other.err
    [artifact] = [p for p in (tmp_path / "other").glob("*/*") if p.is_dir()]
    assert read_manifest(artifact).decoder.tuned is None


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["source=frozen_graph", "source.path=x.pb"],
            "tune=scorer has no recordings to tune on\n  key: tune.data",
        ),
        (
            ["source=frozen_graph", "source.path=x.pb", "tune.data=dev.csv"],
            "tune=scorer has no scorer to tune\n  key: decoder.scorer_path",
        ),
        (["tune.lm_alpha=[2,1]"], "tune.lm_alpha=[2.0, 1.0] is not a range"),
        (["tune.beam_width=[0,9]"], "tune.beam_width=[0, 9] is not a range"),
        (["tune.trials=0"], "tune.trials=0 must be at least 1"),
        (["tune.output=/dev/null/x"], "while making the folder for what is tuned"),
        (["tune.data=none.csv"], "tune.data names no file\n  key: tune.data\n  file: none.csv"),
        (["decoder=beam"], "the beam decoder uses no scorer and no hot words"),
        (["tune.target=model"], "tune.target=model is not a choice"),
    ],
)
def test_impossible_searches_are_refused(
    overrides: list[str],
    message: str,
    at: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    code, _, err = run_main(["tune=scorer", *overrides], monkeypatch, capfd)
    assert code == 1
    assert message in err
    assert list(at.iterdir()) == []


def test_a_search_without_optuna_names_the_extra(
    at: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    code, _, err = run_main(["tune=scorer"], monkeypatch, capfd)
    assert code == 1
    assert "Optuna, which is not installed" in err
    assert f"fix: {install_fix('tune')}" in err


def _trial(number: int, wer: float, factor: float, cer: float = 0.1, beam_width: int = 9) -> Trial:
    return Trial(number, 1.0, 1.0, beam_width, wer, (0.0, 1.0), cer, factor)


def test_the_front_and_the_best_trial_are_found() -> None:
    trials = (
        _trial(0, 0.3, 0.5),
        _trial(1, 0.2, 0.4),
        _trial(2, 0.2, 0.2, cer=0.2),
        _trial(3, 0.4, 0.1),
        _trial(4, 0.4, 0.1, cer=0.0),
        _trial(5, 0.2, 0.6, beam_width=8),
        _trial(6, 0.3, 0.2),
    )
    found = Tuning("a", "s", "d", "0", 1, 1, trials)
    assert [trial.number for trial in found.front] == [3, 2]
    assert found.best.number == 5
    assert tuning.record(found)["front"] == [3, 2]
