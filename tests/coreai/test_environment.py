"""The environment of coreai-core: machines that can have it, and reasons of failures."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

import pytest

from asrbuild.base import environments
from asrbuild.base.errors import AsrbuildError
from asrbuild.coreai import environment
from tests.scripts import write_script


@pytest.fixture(scope="module", autouse=True)
def runtime() -> None:
    """These tests make their own environments."""


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A supported machine without uv or another Python, and an empty cache."""
    monkeypatch.setenv("ASRBUILD_COREAI", str(tmp_path / "cache" / "coreai"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("PYENV_ROOT", raising=False)
    monkeypatch.setattr(environment, "unsupported", lambda: None)
    return tmp_path


@pytest.mark.parametrize(
    ("system", "machine", "library", "reason"),
    [
        ("linux", "x86_64", ("glibc", "2.36"), None),
        ("linux", "x86_64", ("glibc", "2.31"), "requires glibc 2.34 or later; this machine has"),
        ("linux", "x86_64", ("", ""), "this machine has another C library"),
        ("linux", "aarch64", ("glibc", "2.36"), "this machine is"),
        ("darwin", "arm64", ("", ""), None),
        ("darwin", "x86_64", ("", ""), "macOS on Apple silicon"),
        ("win32", "AMD64", ("", ""), "has wheels for x86-64 Linux"),
    ],
)
def test_machines_with_a_wheel_are_supported(
    monkeypatch: pytest.MonkeyPatch,
    system: str,
    machine: str,
    library: tuple[str, str],
    reason: str | None,
) -> None:
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(platform, "libc_ver", lambda: library)
    monkeypatch.setattr(platform, "mac_ver", lambda: ("26.1", ("", "", ""), machine))
    found = environment.unsupported()
    assert found is None if reason is None else reason in str(found)


def test_a_machine_without_a_wheel_gets_the_reason(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "unsupported", lambda: "coreai-core requires glibc 2.34")
    status = environment.status()
    assert (status.ready, status.python, status.detail) == (
        False,
        None,
        "coreai-core requires glibc 2.34",
    )
    with pytest.raises(AsrbuildError) as caught:
        environment.install()
    assert caught.value.message == "coreai-core requires glibc 2.34"
    assert "witness=off" in str(caught.value.fix)


def test_a_missing_environment_names_the_command(bare: Path) -> None:
    assert environment.find() is None
    with pytest.raises(AsrbuildError, match="is not installed") as caught:
        environment.coreai_python()
    assert caught.value.fix == "run `asrbuild coreai install`"


def test_a_machine_without_a_fitting_python_is_refused(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "PYTHONS", ("3.99",))
    assert environment.find_python() is None
    assert environment.status().python is None
    with pytest.raises(AsrbuildError, match=r"no Python 3\.11 to 3\.14 found") as caught:
        environment.install()
    assert "asrbuild coreai install" in str(caught.value.fix)


def test_a_python_that_does_not_fit_is_refused(bare: Path) -> None:
    old = write_script(bare / "old", "echo '[3, 9]'")
    for chosen in (old, bare / "missing", write_script(bare / "liar", "echo hello")):
        with pytest.raises(AsrbuildError, match=r"is not a Python 3\.11 to 3\.14"):
            environment.install(chosen)


def test_a_failed_installation_leaves_nothing(bare: Path) -> None:
    python = write_script(
        bare / "bin" / "python3.12",
        "case $2 in -c) echo '[3, 12]';; *) echo 'no matching distribution' >&2; exit 1;; esac",
    )
    with pytest.raises(AsrbuildError) as caught:
        environment.install(python)
    assert caught.value.message == (
        "the environment for coreai-core could not be made: no matching distribution"
    )
    assert "package index" in str(caught.value.fix)
    assert environment.find() is None
    assert [p.name for p in (bare / "cache").iterdir() if p.is_dir()] == []


def test_an_environment_that_fails_its_self_test_is_not_used(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Python cannot run the worker, because it lacks coreai-core."""

    def make(target: Path, *more: object) -> None:
        write_script(environments.python_in(target), f'exec {sys.executable} "$@"')

    monkeypatch.setattr(environments, "install", make)
    with pytest.raises(AsrbuildError, match=r"fails its self-test: .*coreai"):
        environment.install(write_script(bare / "python", "echo '[3, 12]'"))
    assert environment.find() is None
    assert environment.remove()
    assert not environment.remove()
