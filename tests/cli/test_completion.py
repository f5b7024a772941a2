"""Completion with Tab in real shells."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from asrbuild.cli.completion import SCRIPTS, candidates
from asrbuild.cli.main import dispatch
from tests.scripts import write_script

#: Typed text -> a word that must be offered, and one that must not.
TYPED = {
    "asrbuild tran": ("transcribe", "verify"),
    "asrbuild cache ": ("remove", "clear"),
    "asrbuild verify mi": ("mine", "demo-dynamic-mlprogram"),
    "asrbuild verify mine/1": ("mine/1.0.0+0123456789ab", "mine"),
    "asrbuild gc --newer": ("--newer-than", "--newer"),
    "asrbuild evaluate mine --decoder be": ("beam", "greedy"),
    "asrbuild pull mine --os macOS1": ("macOS14", "iOS17"),
    "asrbuild model=dyn": ("model=dynamic_to_static", "model=static"),
    "asrbuild -m model=static,enu": ("model=static,enumerated", "model=enumerated"),
    "asrbuild coreml.prec": ("coreml.precision=", "precision"),
    "asrbuild plan coreml.precision=f": ("coreml.precision=fp16", "fp16"),
    "asrbuild model=static verify.edge_lengths=": ("verify.edge_lengths=true", "true"),
    "asrbuild --config-dir own model=mi": ("model=mine", "model=static"),
    "asrbuild -m hydra/l": ("hydra/launcher=", "hydra/sweeper="),
    "asrbuild -m hydra/launcher=j": ("hydra/launcher=joblib", "hydra/launcher=ray"),
    "asrbuild source.path=own/mo": ("source.path=own/model/", "own/model/"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with two names, a config folder, and ``asrbuild`` on the path."""
    at = tmp_path_factory.mktemp("completion")
    for name in ("mine", "demo-dynamic-mlprogram"):
        (at / "artifacts" / name / "1.0.0+0123456789ab").mkdir(parents=True)
    (at / "own" / "model").mkdir(parents=True)
    (at / "own" / "model" / "mine.yaml").write_text("name: mine\n")
    write_script(at / "bin" / "asrbuild", f'exec {sys.executable} -m asrbuild.cli.main "$@"')
    return at


def shell(folder: Path, *command: str) -> list[str]:
    """Runs a shell in the folder and returns its lines; standard error must be empty."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    environment = {k: v for k, v in os.environ.items() if k != "ASRBUILD_ARTIFACTS"}
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment | {"PATH": path, "HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout.splitlines()


def split(line: str) -> tuple[list[str], str]:
    """The words without the command and the last one, and the last one."""
    *before, last = line.split(" ")[1:]
    return before, last


def test_completion_offers_the_expected_words(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.delenv("ASRBUILD_ARTIFACTS", raising=False)
    for line, (offered, refused) in TYPED.items():
        before, last = split(line)
        found = [word for word in candidates(before, last) if word.startswith(last)]
        assert offered in found, line
        assert refused not in found, line


LINES = [
    "asrbuild verify mi",
    "asrbuild model=dyn",
    "asrbuild gc --newer",
    "asrbuild plan coreml.precision=f",
]


def test_bash_completes(folder: Path) -> None:
    script = 'eval "$(asrbuild completion bash)"\n' + "\n".join(
        f'COMP_LINE="{line}" COMP_POINT={len(line)}; _asrbuild; echo "${{COMPREPLY[*]}}"'
        for line in LINES
    )
    found = shell(folder, "bash", "--norc", "-c", script)
    # bash itself replaces what follows the last =.
    assert found == ["mine", "dynamic dynamic_to_static", "--newer-than", "fp16 fp32"]


def test_zsh_completes(folder: Path) -> None:
    ask = "\n".join(f"words=({line}) CURRENT={len(line.split())}; _asrbuild" for line in LINES)
    script = (
        "compdef() { : }\n"
        'compadd() { while [[ $1 != -- ]] { shift }; shift; (( $# )) && print -- "$@"; true }\n'
        f'eval "$(asrbuild completion zsh)"\n{ask}'
    )
    assert shell(folder, "zsh", "-f", "-c", script) == [
        "mine",
        "model=dynamic model=dynamic_to_static",
        "--newer-than",
        "coreml.precision=fp16 coreml.precision=fp32",
    ]


def test_fish_completes(folder: Path) -> None:
    script = "asrbuild completion fish | source\n" + "\n".join(
        f"complete -C '{line}'" for line in LINES
    )
    assert shell(folder, "fish", "--no-config", "-c", script) == [
        "mine",
        "model=dynamic",
        "model=dynamic_to_static",
        "--newer-than",
        "coreml.precision=fp16",
        "coreml.precision=fp32",
    ]


def test_every_option_and_command_can_be_completed(capsys: pytest.CaptureFixture[str]) -> None:
    for name, script in SCRIPTS.items():
        assert dispatch(["completion", name]) == 0
        assert capsys.readouterr().out == script
    from asrbuild.cli.tree import COMMANDS

    assert set(COMMANDS) <= set(candidates([], ""))


def test_a_failed_completion_is_silent(folder: Path) -> None:
    """Neither an unreadable store nor nonsense makes it write anything."""
    (folder / "blocked").write_text("")
    for line in ("verify x", "show --nonsense x", "source.path=/nowhere/x", "a=b=c[", "+~=", "@@"):
        environment = os.environ | {"_ASRBUILD_COMPLETE": "1", "ASRBUILD_ARTIFACTS": "blocked"}
        done = subprocess.run(
            [folder / "bin" / "asrbuild", *line.split()],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), line
