"""Bad input: one clear error each, exit code 1, no traceback, nothing left behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import golden
from tests.acceptance.config_errors import CONFIG_ERRORS
from tests.acceptance.conftest import Workshop, assert_nothing_was_published, run_asrbuild
from tests.command import run_main
from tests.paths import DEMO


@pytest.mark.parametrize(("overrides", "message"), CONFIG_ERRORS)
def test_impossible_configs_are_refused(
    overrides: list[str],
    message: str,
    at: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    code, _, err = run_main([o.format(at=at) for o in overrides], monkeypatch, capfd)
    assert code == 1
    assert err.startswith("error: ")
    assert message.format(at=at) in err
    assert "Traceback" not in err
    assert_nothing_was_published(at)
    golden.check_error(" ".join(overrides), code, err, at)


#: (arguments, error as printed): command lines that a command refuses to parse.
MISUSES = [
    (["transcribe"], "missing argument 'ARTIFACT'\n  fix: see `asrbuild transcribe --help`"),
    (["ls", "there"], "got unexpected extra argument(s) (there)\n  fix: see `asrbuild ls --help`"),
    (["inspect", "modle", "x"], "no such command 'modle'"),
    (["verify", "x", "--quick"], "no such option: --quick"),
    (["run", "x", "--input"], "requires an argument"),
    (["transcribe", "x", "y", "--raw", "16k"], "value for '--raw': it is not a whole number\n"),
    (["ls", "--artifacts", __file__], f"'--artifacts': dir '{__file__}' is a file"),
    (["cache", "ls", "--cache", __file__], f"'--cache': dir '{__file__}' is a file"),
    (
        ["--cfg", "nope"],
        "argument --cfg/-c: invalid choice: 'nope' (choose from 'job', 'hydra', "
        "'all')\n  fix: see `asrbuild build --help`",
    ),
    (["-m", "model=static", "--yaml"], "unrecognized arguments: --yaml\n  fix: see"),
    (["-m", "--multirun=3"], "argument --multirun/-m: ignored explicit argument '3'"),
    (
        ["--json", "ls"],
        "--json is before the command\n  fix: write it behind: asrbuild ls --json …",
    ),
    (
        ["-m", "plan", "n_steps=1,2"],
        "-m is before the command\n  fix: write it behind: asrbuild pl",
    ),
    (["--bogus"], "no such option: --bogus\n  fix: see `asrbuild --help`"),
]


@pytest.mark.parametrize(("arguments", "message"), MISUSES)
def test_misused_commands_are_refused(
    arguments: list[str],
    message: str,
    at: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    code, _, err = run_main(arguments, monkeypatch, capfd)
    assert code == 2
    assert err.startswith("error: ")
    assert message in err
    assert "unexpected " not in err.replace("got unexpected extra", "")
    golden.check_error(" ".join(map(str, arguments)), code, err, at)


LONG = "x" * 300


#: (arguments, error as printed): parsed command lines that cannot run; {static} is an artifact.
HALF_RIGHT = [
    (
        ["run", "{static}", "--output", "out"],
        "--output requires --input: without it nothing is run\n  fix: ",
    ),
    (["run", "{static}", "--input", "x"], "--input x is not name=file.npy\n  fix: "),
    (["evaluate", "{static}"], "evaluate requires at least one artifact, and the data\n  fix: "),
    (
        ["evaluate", "{static}", str(DEMO / "dev" / "dev.csv"), "--decoder", ""],
        "no decoder is called ''\n  key: decoder.type",
    ),
    (
        ["cache", "clear", "--stage", "covert"],
        "'covert' is not a stage\n  key: --stage\n  fix: choose one of export, cases, ",
    ),
    (["scorer", "build", "-o", "x"], "a text or an ARPA file\n  fix: give either --text"),
    (
        ["scorer", "build", "-o", "x", "--text", "x"],
        "a scorer requires an alphabet\n  fix: give either",
    ),
    (["inspect", "scorer", "demo:none.scorer"], "no such scorer package\n  key: "),
    (
        ["transcribe", "{static}", "none.wav", "."],
        "2 of 2 recordings have no transcript:\n"
        "  none.wav: no such recording; give a WAV, FLAC, OGG or MP3 file\n  .: this is a folder",
    ),
    *(
        (
            arguments,
            f"the system refused: File name too long, while running asrbuild\n  file: {LONG}",
        )
        for arguments in (["verify", LONG], ["app", "{static}", "-o", LONG])
    ),
    (
        ["show", "{static}/.."],
        "this is a folder of artifacts, not one\n  file: {static}/..\n  fix: choose one of ",
    ),
    (["transcribe", "{static}", LONG], f"no such recording\n  file: {LONG}\n  fix: "),
]


@pytest.mark.parametrize(("arguments", "message"), HALF_RIGHT)
def test_impossible_commands_are_refused(
    arguments: list[str],
    message: str,
    at: Path,
    workshop: Workshop,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    static = workshop.artifact("static", "mlprogram")
    code, _, err = run_main([a.format(static=static) for a in arguments], monkeypatch, capfd)
    assert code == 1
    assert err.startswith("error: ")
    assert message.replace("{static}", str(static)) in err
    assert list(at.iterdir()) == []
    golden.check_error(" ".join(arguments), code, err, at)


def test_debug_shows_the_traceback(at: Path) -> None:
    done = run_asrbuild("model=dynamic", "export.n_hidden=512", "--debug", cwd=at)
    assert done.code != 0
    assert "Traceback" in done.err
