"""Compiled templates are kept beside Python's compiled modules, and follow their sources."""

from __future__ import annotations

import errno
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import jinja2
import pytest
from jinja2.bccache import Bucket

from asrbuild.handover.report import environment as module
from asrbuild.handover.report.environment import environment


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of compiled templates, at a place of this test."""
    monkeypatch.setattr(sys, "pycache_prefix", str(tmp_path / "compiled"))
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    folder = Path(importlib.util.cache_from_source(module.__file__)).parent
    folder.mkdir(parents=True)
    environment.cache_clear()
    yield folder
    environment.cache_clear()


@pytest.fixture
def templates(tmp_path: Path) -> Path:
    folder = tmp_path / "templates"
    folder.mkdir()
    (folder / "page.html.j2").write_text("<p>{{ text }}</p>")
    return folder


def rendered(templates: Path) -> str:
    environment.cache_clear()
    return environment(templates).get_template("page.html.j2").render(text="<b>")


def test_a_template_is_compiled_once(
    kept: Path, templates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert rendered(templates) == "<p>&lt;b&gt;</p>"
    assert len(list(kept.iterdir())) == 1
    monkeypatch.delattr(jinja2.Environment, "compile")
    assert rendered(templates) == "<p>&lt;b&gt;</p>"


def test_a_changed_template_is_compiled_again(kept: Path, templates: Path) -> None:
    rendered(templates)
    (templates / "page.html.j2").write_text("<i>{{ text }}</i>")
    assert rendered(templates) == "<i>&lt;b&gt;</i>"
    assert len(list(kept.iterdir())) == 1


@pytest.mark.parametrize("setting", ["dont_write_bytecode", "pycache_prefix"])
def test_nothing_is_kept_where_python_keeps_nothing(
    setting: str, kept: Path, templates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second setting names a folder that does not exist, as one that cannot be written."""
    monkeypatch.setattr(sys, setting, str(kept / "other"))
    assert rendered(templates) == "<p>&lt;b&gt;</p>"
    assert list(kept.iterdir()) == []


def test_a_full_disk_keeps_nothing(
    kept: Path, templates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(Bucket, "write_bytecode", full)
    assert rendered(templates) == "<p>&lt;b&gt;</p>"
    assert list(kept.iterdir()) == []


def test_a_damaged_file_is_not_used(kept: Path, templates: Path) -> None:
    rendered(templates)
    [file] = kept.iterdir()
    file.write_bytes(b"damaged")
    assert rendered(templates) == "<p>&lt;b&gt;</p>"
