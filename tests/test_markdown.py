"""Links and file names in the project's Markdown lead to files that exist."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.paths import ROOT

FOLDERS = ("asrbuild", "benchmarks", "docs", "examples", "tests", "tools")
#: Templates of pages in an artifact are left out.
PAGES = sorted(
    str(page.relative_to(ROOT))
    for page in [*ROOT.glob("*.md"), *(p for name in FOLDERS for p in (ROOT / name).rglob("*.md"))]
    if "templates" not in page.parts
)
LINK = re.compile(r"\]\(([^)\s]+)\)")
#: A path of this project in code quotes.
PATH = re.compile(
    r"(?:asrbuild|benchmarks|conf|docs|examples|hydra_plugins|tests|tools|\.ci|\.github)/[\w./-]+"
)
HEADING = re.compile(r"^#+ (.*)$", re.M)


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    headings = HEADING.findall(page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_errors_in_the_guides_are_quoted_as_asrbuild_writes_them() -> None:
    """Reasons in capitals and texts in quotation marks are in the source; … stands for a value."""
    source = "".join(
        # Adjacent literals are one text.
        re.sub(r'"\s*\n\s*f?"', "", file.read_text(encoding="utf-8"))
        for file in (ROOT / "asrbuild").rglob("*.py")
    )
    quoted = [
        quote
        for page in ("troubleshooting", "your-checkpoint")
        for quote in re.findall(
            r'(?:^\*\*|^\| )(?:"([^"]+)"|([A-Z_]{4,}))',
            (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8"),
            re.M,
        )
    ]
    assert len(quoted) > 8
    parts = [part.strip() for text, reason in quoted for part in (text or reason).split("…")]
    assert [part for part in parts if part not in source] == []


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_to_files_and_headings(name: str) -> None:
    page = ROOT / name
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", link):
            continue
        if link.startswith("reference/"):
            continue  # made from the code; mkdocs checks these links, see test_site.py
        path, _, anchor = unquote(link).partition("#")
        target = page.parent / path if path else page
        assert target.exists(), f"{name}: {link} does not exist"
        assert not anchor or anchor in anchors(target), f"{name}: {link} is no heading"


@pytest.mark.parametrize("name", PAGES)
def test_named_files_exist(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    for quoted in re.findall(r"`([^`\n]+)`", text):
        for word in quoted.split():
            if PATH.fullmatch(word):
                assert (ROOT / word).exists(), f"{name}: {word} does not exist"
