"""Pages for the tests, their inputs, and a reader of their HTML."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np

from asrbuild.artifact.manifest import Manifest
from asrbuild.artifact.reading import read_manifest
from asrbuild.handover.report.anatomy import anatomy
from asrbuild.handover.report.artifact import TranscriptPair, page
from asrbuild.handover.report.sweep import JobRecord

HOSTILE = (
    "<script>alert(1)</script>",
    "</style><script>alert(1)</script>",
    "'\"><img src=x onerror=a()>",
    "{{ 7 * 7 }}",
    "<!--",
    "]]>",
    "&lt;b&gt;",
    "\u202egnp.exe",
)
LABELS = " abcdefghijklmnopqrstuvwxyz'"


class Page(HTMLParser):
    """The addresses and scripts of a page, and its visible text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.tags: list[str] = []
        self.handlers: list[str] = []
        self.scripts: list[str] = []
        self.text = ""
        self._inside = ""
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self._inside = tag
        for name, value in attributes:
            if name in ("src", "href", "action", "srcset"):
                self.sources.append(value or "")
            if name.startswith("on"):
                self.handlers.append(name)

    def handle_endtag(self, tag):
        self._inside = ""

    def handle_data(self, data):
        if self._inside == "script":
            self.scripts.append(data)
        elif self._inside != "style":
            self.text += data


def comparisons_of(text: str, steps: int | None = None) -> dict[str, TranscriptPair]:
    """A sample whose most likely path spells the text, with a letter every third step."""
    length = steps or 3 * len(text) + 3
    rows = np.full((length, 29), 0.1 / 28, np.float32)
    rows[:, 28] = 0.9
    for index, character in enumerate(text):
        rows[3 * index + 1] = 0.1 / 28
        rows[3 * index + 1, LABELS.index(character)] = 0.9
    bands = np.random.default_rng(0).standard_normal((length, 26)).astype(np.float32)
    return {"sample": TranscriptPair(bands, rows, rows)}


def saying(published: Path, package: str, expected: str | None = None, **fields: str) -> Manifest:
    """The artifact's manifest with other words for its sample."""
    manifest = read_manifest(published)
    first = manifest.verification.transcripts[0].model_copy(
        update={"input": "sample", "package": package, "reference": package, "expected": expected}
        | fields
    )
    verification = manifest.verification.model_copy(update={"transcripts": [first]})
    return manifest.model_copy(update={"verification": verification})


def html_of(
    published: Path,
    manifest: Manifest,
    recordings: Mapping[str, TranscriptPair] | None = None,
    sounds: Mapping[str, bytes] | None = None,
) -> str:
    inside = anatomy(published / manifest.model.package)
    return page(manifest, inside, recordings or {}, sounds=sounds)


def job(number: int, path: Path | None, error: str = "", *overrides: str) -> JobRecord:
    """A sweep's record of an artifact, or of an error."""
    manifest = read_manifest(path) if path else None
    return JobRecord(
        number,
        overrides,
        "built" if path else "failed",
        manifest.name if manifest else "",
        manifest.version if manifest else "",
        str(path or ""),
        1000,
        {},
        True,
        2.5,
        error,
    )


def refused(number: int, *overrides: str) -> JobRecord:
    """A sweep's record of a package that failed its gates."""
    return replace(
        job(number, None, "not published", *overrides),
        figures={"max_abs_error": 0.5},
        package_bytes=500_000,
        wer=0.25,
        compress="palettize_4",
        transcripts_match=False,
    )


#: Words of at most sixteen letters that end on another line than they begin on.
BROKEN = r"""() => {
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), broken = [];
    for (let text = texts.nextNode(); text; text = texts.nextNode()) {
        const owner = text.parentElement;
        if (!owner.checkVisibility() || owner.closest(".hidden")) continue;
        for (const word of text.data.matchAll(/[\p{L}\d]+/gu)) {
            if (word[0].length > 16) continue;
            const range = document.createRange();
            range.setStart(text, word.index);
            range.setEnd(text, word.index + word[0].length);
            const tops = [...range.getClientRects()].map(each => Math.round(each.top));
            if (new Set(tops).size > 1) broken.push(word[0]);
        }
    }
    return broken;
}"""
#: Counts texts and shapes on a page, and lists those with too little contrast.
WEAK = """([texts, shapes]) => {
    const channels = colour => {
        const parts = (colour.match(/[\\d.]+/g) ?? []).map(Number);
        return colour.startsWith("color(") ? parts.map((v, i) => i < 3 ? 255 * v : v) : parts;
    };
    const over = (top, under, share) => top.map((v, i) => v * share + under[i] * (1 - share));
    const light = colour => {
        const linear = v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
        const [r, g, b] = colour.map(v => linear(v / 255));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const contrast = (one, two) => {
        const [a, b] = [light(one), light(two)];
        return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    };
    // What is painted behind: the nearest background, and in a row of gates also its areas.
    const ground = element => {
        for (let e = element; e; e = e.parentElement) {
            const colour = channels(getComputedStyle(e).backgroundColor);
            if (colour.length === 3) return colour;
            if (colour[3] > 0) return over(colour.slice(0, 3), ground(e.parentElement), colour[3]);
        }
        return [255, 255, 255];
    };
    const grounds = element => {
        const svg = element.closest(".gates svg");
        const areas = svg ? [...svg.querySelectorAll(".pass-area, .fail-area")] : [];
        const fills = areas.map(e => channels(getComputedStyle(e).fill).slice(0, 3));
        const parent = (element.closest("svg") ?? element).parentElement;
        return fills.length ? fills : [ground(parent)];
    };
    const visible = e => e.checkVisibility() && e.getBoundingClientRect().width > 0;
    const found = [];
    let count = 0;
    const judge = (element, colours, behind, least) => {
        count += 1;
        const best = Math.max(...colours.map(c => contrast(c, behind)));
        if (best < least) found.push(`${best.toFixed(2)} ${element.outerHTML.slice(0, 90)}`);
    };
    for (const e of document.querySelectorAll(texts)) {
        if (!e.textContent.trim() || !visible(e) || e.matches("svg a")) continue;
        const style = getComputedStyle(e);
        const [r, g, b, alpha = 1] = channels(e.closest("svg") ? style.fill : style.color);
        const behind = e.closest("svg") ? ground(e.closest("svg").parentElement) : ground(e);
        judge(e, [over([r, g, b], behind, alpha * Number(style.opacity))], behind, 4.5);
    }
    for (const e of document.querySelectorAll(shapes)) {
        if (!visible(e) && !e.closest("svg")) continue;
        const style = getComputedStyle(e);
        for (const behind of grounds(e)) {
            const painted = [];
            if (e.matches(".swatch")) {
                if (style.backgroundImage !== "none") continue;
                painted.push(channels(style.backgroundColor).slice(0, 3));
            } else {
                if (style.fill !== "none" && !style.fill.startsWith("url"))
                    painted.push(over(channels(style.fill).slice(0, 3), behind, style.fillOpacity));
                const line = channels(style.stroke).slice(0, 3);
                if (style.stroke !== "none") painted.push(over(line, behind, style.strokeOpacity));
            }
            judge(e, painted, behind, 3);
        }
    }
    return [count, found];
}"""
