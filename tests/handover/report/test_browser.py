"""The pages in a real browser, at the widths of a desktop and a phone, light and dark."""

from __future__ import annotations

import csv
import io
import re
import shutil
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from asrbuild.handover.report.comparison import (
    artifact_rows,
    job_rows,
    swept_columns,
    write_page,
)
from asrbuild.handover.report.evaluation import write_page as write_evaluation
from asrbuild.handover.report.tuning import Trial, Tuning, write_page as write_tuning
from asrbuild.proof.evaluation import Recording, SetResult
from asrbuild.speech.audio import wav_bytes
from asrbuild.speech.decoder_settings import DecoderSettings
from asrbuild.speech.rates import error_rates
from tests.handover.report.conftest import DESKTOP, PHONE
from tests.handover.report.pages import BROKEN, WEAK, comparisons_of, html_of, job, refused, saying

WORDS = "hello world"
KINDS = ("report", "words", "sweep", "artifacts", "evaluation", "tuning")
#: An error with a word that is wider than a phone.
REFUSAL = f"it cannot be\n  file: {'/cache' * 20}/model.mlpackage"


@pytest.fixture(scope="session")
def pages(published, pair, tmp_path_factory) -> dict[str, Path]:
    """A page of each kind."""
    folder = tmp_path_factory.mktemp("pages")
    found = {kind: folder / f"{kind}.html" for kind in KINDS}
    # The letters of this artifact's sample are known; one of two words is wrong.
    words = saying(published, WORDS, "hallo world")
    sound = wav_bytes(np.zeros(16000, np.int16), 16000)
    html = html_of(published, words, comparisons_of(WORDS), {"sample": sound})
    found["words"].write_text(html, encoding="utf-8")
    jobs = [
        job(0, pair[0], "", "model=static", "n_steps=16", "coreml.compress=none"),
        job(1, None, REFUSAL, "model=static", "n_steps=0", "coreml.compress=none"),
        job(2, pair[1], "", "model=static", "n_steps=32", "coreml.compress=int8"),
        refused(3, "model=static", "n_steps=64", "coreml.compress=palettize_4"),
    ]
    write_page(found["sweep"], "Sweep", job_rows(jobs), swept_columns(jobs))
    write_page(found["artifacts"], "Side by side", artifact_rows(pair))
    write_evaluation(found["evaluation"], "set.csv", *evaluated(folder))
    write_tuning(found["tuning"], tuning())
    found["report"] = published / "report.html"
    return found


def evaluated(folder: Path) -> tuple[list[Recording], list[SetResult]]:
    """Two results on two recordings; the first has a wrong word."""
    said, heard = ["hello world", "one two three"], ("hello word", "one two three")
    dataset = [Recording(folder / f"{n}.wav", text) for n, text in enumerate(said)]
    results = [
        SetResult(
            f"model-{n}",
            "greedy",
            DecoderSettings("greedy"),
            texts,
            error_rates(said, texts),
            audio_s=5.0,
            acoustic_s=0.5,
            decoder_s=0.1,
        )
        for n, texts in enumerate((heard, tuple(said)))
    ]
    return dataset, results


def tuning() -> Tuning:
    trials = tuple(
        Trial(n, 0.5 + n, 1.0, 2 ** (n + 3), 0.3 - 0.05 * n, (0.1, 0.4), 0.1, 0.01 * 3**n)
        for n in range(5)
    )
    return Tuning("model/1", "words.scorer", "dev.csv", "0" * 64, 11, 49, trials)


def pixels(element) -> np.ndarray:
    """The pixels of an element, (height, width, 3)."""
    return np.array(Image.open(io.BytesIO(element.screenshot())).convert("RGB"), int)


def colours(element) -> int:
    return len(np.unique(pixels(element).reshape(-1, 3), axis=0))


def column(page, name: str) -> list[str]:
    """The cells below a heading, from top to bottom."""
    return page.evaluate(
        """name => {
            const table = document.querySelector("table.sortable.wide");
            const at = [...table.tHead.rows[0].cells].findIndex(
                cell => cell.textContent.trim() === name);
            return [...table.tBodies].map(body => body.rows[0].cells[at].dataset.value);
        }""",
        name,
    )


def test_a_stored_page_opens_without_other_files(look, published):
    page = look(published / "report.html").page
    assert page.locator("h1").inner_text() == published.parent.name
    headings = page.locator("h2").all_inner_texts()
    assert headings == [
        "Use it",
        "Words",
        "Sound to letters",
        "Against TensorFlow",
        "Streaming",
        "Inside",
        "Neural Engine",
        "Provenance",
    ]
    assert page.locator(".verdict").inner_text().startswith("Proven")
    for picture in ("figure .heat", ".gates svg", ".timeline", ".bars svg"):
        assert colours(page.locator(picture).first) >= 3, picture
    for link in page.locator("nav a").all():
        assert page.locator(link.get_attribute("href")).count() == 1


def test_words_and_letters_are_shown_at_their_places(look, pages):
    page = look(pages["words"]).page
    assert page.locator(".words").inner_text().split() == [
        "expected:",
        "hallo",
        "transcribed:",
        "hello",
        "world",
    ]
    letters = page.locator(".letter")
    assert "".join(letters.all_inner_texts()) == WORDS.replace(" ", "")
    wrong, right = (
        page.locator(f".letter.{kind}").first.evaluate("e => getComputedStyle(e).color")
        for kind in ("wrong", "right")
    )
    assert wrong != right
    lefts = [letter.bounding_box()["x"] for letter in letters.all()]
    assert lefts == sorted(lefts)


def test_the_cursor_shows_the_probabilities_of_a_step(look, pages):
    page = look(pages["words"]).page
    slider, said = page.locator("figure input[type=range]"), page.locator("figure output")
    slider.focus()
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    # Step 4 is the second letter: 0.9 for it, and 0.1 shared by all others.
    expect(said).to_have_text(re.compile(r"^0\.08 s: e (89|9\d) %, \w+ 0\.3"))
    lane = page.locator(".lane.sound").first
    steps = 3 * len(WORDS) + 3
    lane.hover(position={"x": lane.bounding_box()["width"] * 1.5 / steps, "y": 20})
    expect(said).to_have_text(re.compile(r"^0\.02 s: h (89|9\d) %"))
    assert page.locator(".cursor").first.is_visible()


#: The length of a sound in seconds, once the browser has read it.
DURATION = """audio => audio.readyState ? audio.duration
    : new Promise(done => audio.onloadedmetadata = () => done(audio.duration))"""


def test_playback_moves_the_cursor_over_the_letters(look, pages, tmp_path):
    page = look(pages["words"]).page
    button, slider = page.locator("figure .play"), page.locator("figure input[type=range]")
    audio = page.locator("figure audio")
    assert audio.evaluate(DURATION) == 1
    button.focus()
    start = page.evaluate("performance.now()")
    page.keyboard.press("Enter")
    assert button.get_attribute("aria-pressed") == "true"
    steps = 3 * len(WORDS) + 3
    moved = page.evaluate(
        """async () => {
            const slider = document.querySelector("input[type=range]");
            const seen = new Set();
            while (document.querySelector(".play").ariaPressed === "true") {
                seen.add(slider.value);
                await new Promise(requestAnimationFrame);
            }
            return seen.size;
        }"""
    )
    assert moved > 5
    assert page.evaluate("performance.now()") - start >= 20 * steps - 21, "a step is 20 ms"
    assert page.locator(".cursor").first.evaluate("e => e.style.display") == "block"
    expect(button).to_have_text("Play")  # playback stops at the end
    assert slider.input_value() == str(steps - 1)
    assert page.locator("figure output").inner_text().startswith(f"{0.02 * (steps - 1):.2f} s:")
    own = tmp_path / "own.wav"
    own.write_bytes(wav_bytes(np.zeros(8000, np.int16), 16000))
    page.locator("figure input[type=file]").set_input_files(own)
    assert audio.evaluate(DURATION) == 0.5
    assert audio.get_attribute("src").startswith("blob:")


def test_a_click_sorts_and_another_reverses_the_order(look, pages):
    page = look(pages["sweep"]).page
    heading = page.locator("th", has_text="max error")
    assert column(page, "#") == ["0", "1", "2", "3"]
    heading.locator("button").click()
    assert heading.get_attribute("aria-sort") == "ascending"
    rising = column(page, "max error")
    assert [float(v) for v in rising[:-1]] == sorted(float(v) for v in rising[:-1])
    assert rising[-1] == "", "what failed has no error to sort by, and stays at the end"
    heading.locator("button").focus()
    page.keyboard.press("Enter")
    assert heading.get_attribute("aria-sort") == "descending"
    falling = column(page, "max error")
    assert [float(v) for v in falling[:-1]] == [float(v) for v in rising[:-1]][::-1]
    assert falling[-1] == ""
    assert page.locator('th[aria-sort]:not([aria-sort="none"])').count() == 1
    page.locator("th", has_text="format").locator("button").click()
    assert column(page, "format") == ["mlprogram", "neuralnetwork", "", ""]
    page.locator("th", has_text="n_steps").locator("button").click()
    assert column(page, "n_steps") == ["0.0", "16.0", "32.0", "64.0"]


def test_the_plot_shows_every_artifact_and_links_to_its_row(look, pages):
    page = look(pages["sweep"]).page
    plot = page.locator("svg.plot")
    assert colours(plot) >= 4
    assert plot.locator("circle.point").count() == 3
    assert plot.get_attribute("aria-label") == "max error against MB of 3 rows"
    before = pixels(plot)
    page.locator("#axis-y").select_option("psnr_db")
    assert plot.get_attribute("aria-label") == "PSNR dB against MB of 2 rows"
    assert (pixels(plot) != before).any()
    for anchor in ("middle", "end"):
        ticks = plot.locator(f":scope > text[text-anchor={anchor}]").all_text_contents()
        numbers = [text for text in ticks if re.match(r"[-\d]", text)]
        assert len(numbers) >= 2
        assert len(set(numbers)) == len(numbers), "ticks are told apart"
    page.locator("#axis-x").select_option("steps")
    page.locator("#axis-y").select_option("latency")
    assert plot.locator("a").count() == 1, "rows at one place share a mark"
    assert plot.locator("circle.point").count() == 2, "of both formats' colours"
    mark = plot.locator("a").first
    assert mark.get_attribute("aria-label").count("demo-") == 2
    mark.focus()
    assert page.locator("tr.picked").count() == 2
    page.locator("#axis-x").select_option("coreml.compress")
    page.locator("#axis-y").select_option("max_abs_error")
    words = plot.locator(":scope > text[text-anchor=middle]").all_text_contents()
    assert words == ["none", "int8", "palettize_4", "coreml.compress"], "a swept key is an axis"
    for width in (DESKTOP, PHONE):
        page.set_viewport_size({"width": width, "height": 900})
        box = plot.bounding_box()
        for text in plot.locator("text").all():
            inside = text.bounding_box()
            assert box["x"] - 1 <= inside["x"]
            assert inside["x"] + inside["width"] <= box["x"] + box["width"] + 1


def test_the_front_has_the_rows_that_no_other_row_beats(look, pages):
    page = look(pages["sweep"]).page
    plot, told = page.locator("svg.plot"), page.locator(".front")
    size, error = (
        {int(n): float(v) for n, v in zip(column(page, "#"), column(page, name), strict=True) if v}
        for name in ("MB", "max error")
    )
    del size[3]  # it failed its gates
    expected = [
        n
        for n in sorted(size, key=size.get)
        if not any(size[o] < size[n] and error[o] <= error[n] for o in size)
    ]
    assert told.inner_text().startswith(f"Front: {', '.join(map(str, expected))}. ")
    assert plot.locator(".front-ring").count() == len(expected)
    assert plot.locator(".front-line").count() == (len(expected) > 1)
    page.locator("#axis-x").select_option("n_steps")  # neither end of the value is better
    assert not told.is_visible()
    assert plot.locator(".front-ring").count() == 0


def test_the_table_can_be_saved_as_csv(look, pages):
    page = look(pages["sweep"]).page
    with page.expect_download() as saved:
        page.locator("a[download]").click()
    assert saved.value.suggested_filename == "sweep.csv"
    rows = list(csv.DictReader(saved.value.path().read_text("utf-8").splitlines(keepends=True)))
    assert [row["n_steps"] for row in rows] == ["16", "0", "32", "64"]
    assert [row["status"] for row in rows] == ["built", "failed", "built", "failed"]
    assert rows[1]["error"] == REFUSAL
    assert float(rows[3]["MB"]) == 0.5


def test_a_link_opens_an_artifacts_own_page(look, pair, tmp_path):
    home = tmp_path / "models #1, 100 %?"
    shutil.copytree(pair[0].parent, home / pair[0].parent.name)
    path = home / pair[0].parent.name / pair[0].name
    write_page(home / "sweep.html", "Sweep", job_rows([job(0, path)]))
    window = look(home / "sweep.html")
    link = window.page.locator("tbody a").first
    target = urlsplit(link.evaluate("link => link.href"))
    assert (target.query, target.fragment) == ("", "")
    assert Path(unquote(target.path)) == path / "report.html"


def test_a_failure_is_shown_in_full(look, pages):
    page = look(pages["sweep"]).page
    assert page.locator("tr.why pre").first.inner_text() == REFUSAL
    assert page.locator(".verdict").inner_text() == "2 of 4 jobs succeeded, 2 failed"


def test_an_evaluation_shows_rates_and_every_decoder_under_each_mistake(look, pages):
    page = look(pages["evaluation"]).page
    assert colours(page.locator(".bars svg").first) >= 3
    assert colours(page.locator(".curves svg")) >= 3
    assert page.locator("h3").all_inner_texts() == ["0.wav"], "the other recording is right"
    assert page.locator("h3 ~ p.muted").all_inner_texts() == [
        "model-0, greedy: 50 % of words wrong",
        "model-1, greedy: 0 % of words wrong",
    ]
    assert page.locator(".words del").all_inner_texts() == ["world"]
    assert page.locator(".words ins").all_inner_texts() == ["word"]
    assert page.locator(".words .right").all_inner_texts() == ["hello", "hello world"]
    page.locator("th", has_text="WER").locator("button").click()
    assert page.locator("tbody .what").all_inner_texts() == ["model-1", "model-0"]


def test_a_search_shows_its_trials_and_the_best_ones(look, pages):
    page = look(pages["tuning"]).page
    assert page.locator("svg.plot").get_attribute("aria-label") == (
        "WER % against x real time of 5 rows"
    )
    assert page.locator("svg.plot circle.point").count() == 5
    assert page.locator("tbody .what").all_inner_texts() == [
        "before, front",
        "front",
        "front",
        "front",
        "front, best",
    ]
    assert page.locator(".key li").all_inner_texts()[:2] == ["front", "best"]


#: Text on a plain background, and shapes whose colour has a meaning.
TEXTS = (
    "p, li, td, th, dt, dd, h1, h2, h3, a, code, summary, label, button, select, output, ins, del, "
    "figcaption, time, pre, .tick, .muted, svg text"
)
SHAPES = (
    "rect.bar, rect[class^=bar-], circle.point, circle.dot, circle.call, path.curve, rect.chunk, "
    ".front-line, .front-ring, line.gate, line.wait, line.carry, line.whisker, .key .swatch"
)
#: Pictures and controls without a name, and pictures without a text.
UNNAMED = """() => [
    ...[...document.querySelectorAll("svg, figure, input, select, button, a")].filter(e =>
        !e.closest("[aria-hidden=true]") && !e.getAttribute("aria-label")
        && !e.closest("label")?.textContent.trim() && !e.textContent.trim()),
    ...[...document.querySelectorAll("img")].filter(e => !e.alt.trim()),
].map(e => e.outerHTML.slice(0, 90))"""
#: Visible controls that Tab does not reach, or that show no focus ring.
UNREACHED = """() => {
    const usable = [...document.querySelectorAll("a[href], button, select, input, summary")]
        .filter(e => e.checkVisibility());
    return usable.filter(e => {
        e.focus();
        const shown = e.closest(".open") ?? e;
        return document.activeElement !== e || e.tabIndex < 0
            || getComputedStyle(shown).outlineStyle === "none";
    }).map(e => e.outerHTML.slice(0, 90));
}"""


#: Marks of calls that lie on one another.
CROWDED = """() => {
    const marks = [...document.querySelectorAll("circle.call")].map(e => e.getBoundingClientRect());
    return marks.filter((a, at) => marks.slice(at + 1).some(b =>
        a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom)).length;
}"""


@pytest.mark.parametrize("kind", KINDS)
def test_every_page_is_readable_at_every_width_and_scheme(look, pages, kind):
    """Text stands out as WCAG AA asks, 4.5 to 1, and shapes 3 to 1; a keyboard reaches all."""
    window = look(pages[kind])
    page = window.page
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    page.keyboard.press("Tab")  # later focus counts as that of a keyboard
    seen = set()
    for width in (DESKTOP, PHONE):
        for scheme in ("light", "dark"):
            window.show(width, scheme)
            seen.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
            count, weak = page.evaluate(WEAK, [TEXTS, SHAPES])
            assert count > 20
            assert weak == [], (width, scheme)
            assert window.overflow() == [], (width, scheme)
        assert page.evaluate(UNREACHED) == [], width
        assert page.evaluate(BROKEN) == [], width
        assert page.evaluate(CROWDED) == 0, width
    assert len(seen) == 2
    assert page.evaluate(UNNAMED) == []


def test_the_contrast_check_finds_weak_text_and_shapes(look, pages):
    page = look(pages["sweep"]).page
    page.add_style_tag(content=":root { --muted: #aaa; --bar-1: #cfd8f6 }")
    _, weak = page.evaluate(WEAK, [TEXTS, SHAPES])
    assert any("<p" in each for each in weak)
    assert any("<circle" in each for each in weak)


def test_a_printed_page_has_all_content(chromium, published, tmp_path):
    context = chromium.new_context(offline=True)
    page = context.new_page()
    page.goto((published / "report.html").as_uri())
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator(".readout").first.is_visible()
    assert page.pdf(format="A4").startswith(b"%PDF")
    context.close()


def test_an_injected_script_does_not_run(chromium, published, tmp_path):
    """The page's policy blocks scripts even if an escape were forgotten."""
    text = (published / "report.html").read_text(encoding="utf-8")
    attacks = (
        '<script>document.title = "taken"</script>'
        '<img src="x" onerror="document.title = 1"><img src="http://127.0.0.1:9/x.png">'
    )
    path = tmp_path / "report.html"
    path.write_text(text.replace("<header>", attacks + "<header>"), encoding="utf-8")
    context = chromium.new_context()
    page = context.new_page()
    asked: list[str] = []
    page.on("requestfinished", lambda request: asked.append(request.url))
    page.goto(path.as_uri())
    assert page.title() == f"{published.parent.name} {published.name}"
    assert [url for url in asked if not url.startswith("data:")] == [path.as_uri()]
    assert page.locator("figure .readout").first.is_visible(), "our own script ran"
    context.close()
