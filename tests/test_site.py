"""The documentation's site builds, needs no network, and has a complete reference."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.handover.report.conftest import DESKTOP, PHONE
from tests.handover.report.pages import BROKEN, WEAK
from tests.paths import ROOT
from tests.readme import commands, section
from tools.site import keys, manifest


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; a broken link fails the build."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_pages_load_nothing_from_a_network(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) >= 20
    for page in pages:
        loaded = re.findall(
            r'<(?:script|img|iframe|link)[^>]*(?:src|href)="([^"]+)"', page.read_text()
        )
        assert [each for each in loaded if "//" in each] == [], page.name


def test_the_reference_has_every_key_command_and_section(site: Path) -> None:
    from asrbuild.cli.tree import PANELS, Group

    reference = (site / "reference" / "keys.html").read_text("utf-8")
    found = [key for key, _, _ in keys.leaves()]
    assert set(found) == set(keys.MEANINGS)
    assert [key for key in found if f"<code>{key}</code>" not in reference] == []
    listed = (site / "reference" / "commands.html").read_text("utf-8")
    for entries in PANELS.values():
        for name, entry in entries.items():
            for inner in entry.commands if isinstance(entry, Group) else [""]:
                assert f"asrbuild {name} {inner}".strip() + "<" in listed
    for major, name in ((1, "manifest"), (2, "manifest2")):
        page = (site / "reference" / f"{name}.html").read_text("utf-8")
        for title in manifest.sections(major):
            assert f">{title}<a" in page
    both = [*manifest.sections(1).items(), *manifest.sections(2).items()]
    keys_of = {(manifest.plain(name), key) for name, value in both for key in value["properties"]}
    assert keys_of == {(name, key) for name, each in manifest.MEANINGS.items() for key in each} - {
        ("Features", "place")
    }


def test_a_key_names_the_stages_that_read_it() -> None:
    from asrbuild.builder.api import compose

    readers = keys.stages_of(compose())
    assert "coreml.precision" in readers["convert"] & readers["prove"]
    assert "coreml.lstm" in readers["convert"] - readers["prove"]
    assert "decoder.beam_width" in readers["prove"] - readers["convert"]


def test_the_tutorial_has_only_lines_of_the_readmes_tour() -> None:
    """test_readme.py runs them."""
    text = (ROOT / "docs" / "from-nothing-to-an-app.md").read_text("utf-8")
    lines = commands(text)
    assert len(lines) == 10
    assert set(lines) <= set(commands(section("A tour")))


#: Text that is always visible (a heading's mark and the jump to the content show on demand), and
#: the buttons' pictures.
TEXTS = "p, li, td, th, h1, h2, h3, a:not(.headerlink, .md-skip), code, label, .highlight span"
SHAPES = ".md-header__button svg"


def test_text_stands_out_in_both_schemes(site: Path, chromium: Any) -> None:
    """Contrasts are those of WCAG AA, 4.5 to 1 (pictures: 3 to 1), and no word is broken."""
    grounds = set()
    for scheme in ("light", "dark"):
        page = chromium.new_context(offline=True, color_scheme=scheme).new_page()
        for name in ("from-nothing-to-an-app.html", "compression.html", "reference/keys.html"):
            for width in (DESKTOP, PHONE):
                page.set_viewport_size({"width": width, "height": 900})
                page.goto((site / name).as_uri())
                count, weak = page.evaluate(WEAK, [TEXTS, SHAPES])
                assert count > 100
                assert weak == [], (name, width, scheme)
                assert page.evaluate(BROKEN) == [], (name, width)
        grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    page.add_style_tag(content="body { --md-typeset-color: #555 !important }")
    assert page.evaluate(WEAK, [TEXTS, SHAPES])[1], "the check finds weak text"
    assert len(grounds) == 2
