"""The search for a Python 3.9 for ds-ctcdecoder, and the error if there is none."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from asrbuild.base.errors import AsrbuildError
from asrbuild.speech.alphabet import make_alphabet
from asrbuild.speech.decoder_settings import DecoderSettings
from asrbuild.speech.decoders import open_decoder
from asrbuild.speech.deepspeech_decoder import environment as ds_environment
from tests.scripts import write_script


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without Python 3.9, uv or pyenv, and an empty cache folder."""
    tools = tmp_path / "bin"
    tools.mkdir()
    monkeypatch.setenv("PATH", str(tools))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("PYENV_ROOT", "ASRBUILD_DECODER_PYTHON"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def _python(path: Path, version: str = "3, 9", decoder: str = "null") -> Path:
    return write_script(path, f"echo '[{version}, {decoder}, \"x86_64\"]'")


def test_a_machine_without_python_3_9_is_refused(bare: Path) -> None:
    assert ds_environment.find_python() is None
    status = ds_environment.status()
    assert (status.ready, status.python) == (False, None)
    with pytest.raises(AsrbuildError) as caught:
        open_decoder(DecoderSettings("ds_ctcdecoder"), make_alphabet("ab "), 20.0)
    assert caught.value.message == (
        "no Python 3.9 found, and ds-ctcdecoder 0.9.3 runs on no newer one"
    )
    assert "asrbuild decoder install" in caught.value.fix


def test_a_shim_that_does_not_run_is_skipped(bare: Path) -> None:
    write_script(bare / "bin" / "uv", "echo 'no interpreter' >&2; exit 2")
    write_script(
        bare / "bin" / "python3.9", "echo 'pyenv: python3.9: command not found' >&2; exit 127"
    )
    assert ds_environment.find_python() is None
    real = _python(bare / ".pyenv" / "versions" / "3.9.18" / "bin" / "python")
    assert ds_environment.find_python().path == real


def test_an_unreadable_folder_is_skipped(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Any, *more: Any, **named: Any) -> Any:
        if str(bare / ".pyenv") in os.fspath(path):
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, *more, **named)

    stat = os.stat
    _python(bare / ".pyenv" / "versions" / "3.9.18" / "bin" / "python")
    monkeypatch.setattr(os, "stat", refuse)
    monkeypatch.setattr(os, "lstat", refuse)
    assert ds_environment.find_python() is None


def test_the_search_has_an_order(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_path = _python(bare / "bin" / "python3.9")
    assert ds_environment.find_python().path == on_path
    _python(bare / ".pyenv" / "versions" / "3.8.18" / "bin" / "python", "3, 8")
    in_pyenv = _python(bare / "other" / "versions" / "3.9.1" / "bin" / "python")
    monkeypatch.setenv("PYENV_ROOT", str(bare / "other"))
    assert ds_environment.find_python().path == in_pyenv
    of_uv = _python(bare / "uv39" / "python")
    write_script(bare / "bin" / "uv", f"echo {of_uv}")
    assert ds_environment.find_python().path == of_uv


def test_an_interpreter_with_the_decoder_is_used_directly(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = _python(bare / "mine" / "python", "3, 7", '"0.9.3"')
    assert ds_environment.decoder_python(mine) == mine
    assert ds_environment.status(mine).ready
    monkeypatch.setenv("ASRBUILD_DECODER_PYTHON", str(mine))
    assert ds_environment.decoder_python() == mine
    assert ds_environment.status().ready


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing", "is not a Python that runs"),
        ("liar", "is not a Python that runs"),
        ("new", "the decoder needs Python 3.9"),
    ],
)
def test_an_unusable_interpreter_is_refused(bare: Path, name: str, message: str) -> None:
    write_script(bare / "liar", "echo hello")
    chosen = Path(sys.executable) if name == "new" else bare / name
    with pytest.raises(AsrbuildError, match=message) as caught:
        ds_environment.decoder_python(chosen)
    if name != "new":
        assert caught.value.key == "decoder.interpreter"
    # The search does not replace a requested interpreter by a usable one.
    _python(bare / "bin" / "python3.9")
    status = ds_environment.status(chosen)
    assert (status.ready, status.python, status.detail) == (False, None, caught.value.message)


def test_a_failed_installation_leaves_nothing(bare: Path) -> None:
    write_script(
        bare / "bin" / "python3.9",
        'case "$3" in import*) echo \'[3, 9, null, "x86_64"]\';; '
        "*) echo 'no matching distribution' >&2; exit 1;; esac",
    )
    with pytest.raises(AsrbuildError) as caught:
        ds_environment.install()
    assert caught.value.message == (
        "the environment for ds-ctcdecoder could not be made: no matching distribution"
    )
    assert [p.name for p in (bare / "cache" / "asrbuild").iterdir() if p.is_dir()] == []


def test_concurrent_processes_make_the_environment_once(bare: Path) -> None:
    """They replace the remains of a killed installation and a damaged environment."""
    _python(bare / "bin" / "python3.9")
    answer = _python(bare / "answer", decoder='"0.9.3"')
    write_script(
        bare / "bin" / "uv",
        f"PATH=/usr/bin:/bin\ntest $1 = python && exit 2\ntest $1 = pip && exit 0\n"
        f"echo made >> {bare}/made\nfor last; do :; done\nsleep 0.2\n"
        f'mkdir -p "$last/bin" && cp {answer} "$last/bin/python"',
    )
    target = ds_environment.environment_dir()
    write_script(target / "bin" / "python", "exit 1")
    (target.with_name(target.name + ".new") / "half").mkdir(parents=True)
    with ThreadPoolExecutor(4) as pool:
        pythons = list(pool.map(lambda _: ds_environment.decoder_python(), range(4)))
    assert set(pythons) == {target / "bin" / "python"}
    assert (bare / "made").read_text() == "made\n"
    assert [p.name for p in target.parent.iterdir() if p.is_dir()] == [target.name]
    assert not (target / "half").exists()


def test_a_read_only_cache_folder_is_refused(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _python(bare / "bin" / "python3.9")
    (bare / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(bare / "file"))
    with pytest.raises(AsrbuildError, match="while making the environment for ds-ctcdecoder"):
        ds_environment.install()


def test_a_damaged_environment_stays_until_a_new_one_is_complete(bare: Path) -> None:
    """Another process may run in it, and a busy machine may only have answered too late."""
    write_script(
        bare / "bin" / "python3.9",
        'case "$3" in import*) echo \'[3, 9, null, "x86_64"]\';; *) exit 1;; esac',
    )
    kept = ds_environment.environment_dir() / "bin" / "python"
    write_script(kept, "exit 1")
    with pytest.raises(AsrbuildError, match="could not be made"):
        ds_environment.install()
    assert kept.exists()


def test_the_pins_of_a_project_are_ignored(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """uv must ignore the numpy pin of a pyproject.toml in the current folder."""
    write_script(bare / "bin" / "uv", f'test "$1" = python && exit 2; pwd >> {bare}/where; exit 1')
    (bare / "project").mkdir()
    monkeypatch.chdir(bare / "project")
    with pytest.raises(AsrbuildError, match="could not be made"):
        ds_environment.install()
    assert (bare / "where").read_text().split() == [str(bare / "cache" / "asrbuild")]
