"""The HTML page: self-contained, escaped, with the pictures it promises."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path

import building
import numpy as np
import pytest
import typer

from asrbuild.commands.report import report as report_command
from asrbuild.manifest import Manifest, read_manifest
from asrbuild.network import random_weights
from asrbuild.report.html import heat_map, html_report

WEIGHTS = random_weights(32, seed=3)


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("html")
    return building.publish(root / "artifacts", root / "work", WEIGHTS, "model=static")


def command(*arguments: object) -> int:
    app = typer.Typer()
    app.command()(report_command)
    return app([str(a) for a in arguments], standalone_mode=False) or 0


class Page(HTMLParser):
    """Elements that load something, and the text."""

    def __init__(self) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.sources += [v or "" for k, v in attributes if k in ("src", "href", "action")]

    def handle_data(self, data):
        self.text += data


def parse(html: str) -> Page:
    page = Page()
    page.feed(html)
    return page


def outputs(seed: int) -> dict[str, dict[str, np.ndarray]]:
    values = np.random.default_rng(seed).dirichlet(np.ones(29), 50).astype(np.float32)
    return {"sample": {"logits": values}}


def test_the_command_writes_one_page_that_loads_nothing(published, tmp_path, capsys):
    target = tmp_path / "proof.html"
    assert command(published, "--output", target) == 0
    assert f"wrote {target}" in capsys.readouterr().out
    page = parse(target.read_text(encoding="utf-8"))
    manifest = read_manifest(published)
    assert manifest.version in page.text
    assert "Proven: the package was executed" in page.text
    assert page.tags.count("img") == 1
    for source in page.sources:
        assert source.startswith("data:image/png;base64,")
        assert base64.b64decode(source.partition(",")[2]).startswith(b"\x89PNG")
    assert "script" not in page.tags
    assert "http" not in re.sub(r"base64,[^\"]+", "", target.read_text(encoding="utf-8"))


def test_a_page_that_cannot_be_written_is_an_error(published, tmp_path):
    from asrbuild.errors import AsrbuildError

    with pytest.raises(AsrbuildError, match="the page cannot be written"):
        command(published, "--output", tmp_path / "no" / "such" / "folder.html")


def _manifest(published: Path, **transcript: str | None) -> Manifest:
    manifest = read_manifest(published)
    (first, *_) = manifest.verification.transcripts
    verification = manifest.verification.model_copy(
        update={"transcripts": [first.model_copy(update={"input": "sample", **transcript})]}
    )
    return manifest.model_copy(update={"verification": verification})


def test_what_people_wrote_is_text_and_never_markup(published):
    manifest = _manifest(published, package="<b>x</b>", reference="<b>x</b>", expected="<i>")
    manifest = manifest.model_copy(update={"description": "<script>alert(1)</script>"})
    page = parse(html_report(manifest, outputs(0), outputs(0)))
    assert "script" not in page.tags
    assert "i" not in page.tags
    assert "<script>alert(1)</script>" in page.text
    assert "<b>x</b>" in page.text


def test_wrong_words_are_marked(published):
    manifest = _manifest(published, package="helo world you", expected="hello world")
    html = html_report(manifest, outputs(0), outputs(0))
    assert "<del>hello</del> <ins>helo</ins> <span>world</span> <ins>you</ins>" in html


def test_the_picture_shows_the_numbers_and_is_the_same_every_time():
    labels = [*"abc", "blank"]
    one = np.eye(4, dtype=np.float32)[[0, 1, 2, 3, 3]]
    first = heat_map("x", one, one, labels)
    assert heat_map("x", one, one, labels) == first
    assert heat_map("x", one, one[::-1], labels) != first
    assert heat_map("x", one, one[:3], labels)
    assert heat_map("x", one, np.full_like(one, np.nan), labels)
