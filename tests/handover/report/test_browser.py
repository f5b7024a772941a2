"""The pages in a real browser, at the widths of a desk, a tablet and a phone."""

from __future__ import annotations

import io
import re
import shutil
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from asrbuild.handover.report.comparison import job_rows, write_page
from asrbuild.handover.report.evaluation import write_page as write_evaluation
from asrbuild.handover.report.tuning import Trial, Tuning
from asrbuild.handover.report.tuning import write_page as write_tuning
from asrbuild.proof.evaluation import Recording, Result
from asrbuild.speech.decoder_settings import DecoderSettings
from asrbuild.speech.rates import error_rates
from tests.handover.report.pages import comparisons_of, html_of, job, saying

WORDS = "hello world"
#: An error with a word that no line of a phone holds.
REFUSAL = f"it cannot be\n  file: {'/cache' * 20}/model.mlpackage"


@pytest.fixture
def page_of_words(published, tmp_path) -> Path:
    """An artifact whose sample is known letter by letter; of two words one is wrong."""
    html = html_of(published, saying(published, WORDS, "hallo world"), comparisons_of(WORDS))
    path = tmp_path / "report.html"
    path.write_text(html, encoding="utf-8")
    return path


@pytest.fixture
def sweep(pair, tmp_path) -> Path:
    jobs = [job(0, pair[0]), job(1, None, REFUSAL, "n_steps=0"), job(2, pair[1])]
    write_page(tmp_path / "sweep.html", "Sweep", job_rows(jobs))
    return tmp_path / "sweep.html"


def pixels(element) -> np.ndarray:
    """What is painted there, (height, width, 3)."""
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


def test_a_stored_page_opens_alone_and_is_whole(look, published):
    page = look(published / "report.html").page
    assert page.locator("h1").inner_text() == published.parent.name
    headings = page.locator("h2").all_inner_texts()
    assert headings == ["Use it", "Words", "Sound to letters", "Against TensorFlow", "Streaming",
                        "Inside", "Neural Engine", "Provenance"]  # fmt: skip
    assert page.locator(".verdict").inner_text().startswith("Proven")
    for picture in ("figure .heat", ".gates svg", ".timeline", ".bars svg"):
        assert colours(page.locator(picture).first) >= 3, picture
    for link in page.locator("nav a").all():
        assert page.locator(link.get_attribute("href")).count() == 1


def test_words_and_letters_are_read_right(look, page_of_words):
    page = look(page_of_words).page
    assert page.locator(".words").inner_text().split() == [
        "expected:", "hallo", "transcribed:", "hello", "world",
    ]  # fmt: skip
    letters = page.locator(".letter")
    assert "".join(letters.all_inner_texts()) == WORDS.replace(" ", "")
    wrong, right = (
        page.locator(f".letter.{kind}").first.evaluate("e => getComputedStyle(e).color")
        for kind in ("wrong", "right")
    )
    assert wrong != right
    lefts = [letter.bounding_box()["x"] for letter in letters.all()]
    assert lefts == sorted(lefts)


def test_the_cursor_tells_what_the_model_thought(look, page_of_words):
    page = look(page_of_words).page
    slider, said = page.locator("figure input"), page.locator("figure output")
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


def test_a_click_sorts_and_another_turns_it_round(look, sweep):
    page = look(sweep).page
    heading = page.locator("th", has_text="max error")
    assert column(page, "#") == ["0", "1", "2"]
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
    assert column(page, "format") == ["mlprogram", "neuralnetwork", ""]


def test_the_plot_shows_every_artifact_and_leads_to_its_row(look, sweep):
    page = look(sweep).page
    plot = page.locator("svg.plot")
    assert colours(plot) >= 4
    assert plot.locator("circle").count() == 2
    assert plot.get_attribute("aria-label") == "max error against MB of 2 rows"
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
    assert plot.locator("circle").count() == 2, "of both formats' colours"
    mark = plot.locator("a").first
    assert mark.get_attribute("aria-label").count("demo-") == 2
    mark.focus()
    assert page.locator("tr.picked").count() == 2
    box = plot.bounding_box()
    for text in plot.locator("text").all():
        inside = text.bounding_box()
        assert box["x"] - 1 <= inside["x"]
        assert inside["x"] + inside["width"] <= box["x"] + box["width"] + 1


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


def test_a_failure_is_read_in_full(look, sweep):
    page = look(sweep).page
    assert page.locator("tr.why pre").inner_text() == REFUSAL
    assert page.locator(".verdict").inner_text() == "2 of 3 jobs succeeded, 1 failed"


def test_an_evaluation_shows_rates_and_every_mistake(look, tmp_path):
    said, heard = ["hello world", "one two three"], ("hello word", "one two three")
    dataset = [Recording(tmp_path / f"{n}.wav", text) for n, text in enumerate(said)]
    results = [
        Result(
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
    write_evaluation(tmp_path / "rates.html", "set.csv", dataset, results)
    page = look(tmp_path / "rates.html").page
    assert colours(page.locator(".bars svg").first) >= 3
    assert colours(page.locator(".curves svg")) >= 3
    assert page.locator(".words del").all_inner_texts() == ["world"]
    assert page.locator(".words ins").all_inner_texts() == ["word"]
    page.locator("th", has_text="WER").locator("button").click()
    assert page.locator("tbody .what").all_inner_texts() == ["model-1", "model-0"]


def test_a_search_shows_its_trials_and_which_are_best(look, tmp_path):
    trials = tuple(
        Trial(n, 0.5 + n, 1.0, 2 ** (n + 3), 0.3 - 0.05 * n, (0.1, 0.4), 0.1, 0.01 * 3**n)
        for n in range(5)
    )
    write_tuning(
        tmp_path / "tuning.html",
        Tuning("model/1", "words.scorer", "dev.csv", "0" * 64, 11, 49, trials),
    )
    page = look(tmp_path / "tuning.html").page
    assert page.locator("svg.plot").get_attribute("aria-label") == (
        "WER % against x real time of 5 rows"
    )
    assert page.locator("svg.plot circle").count() == 5
    assert page.locator("tbody .what").all_inner_texts() == [
        "before, front", "front", "front", "front", "front, best",
    ]  # fmt: skip
    assert page.locator(".key li").all_inner_texts()[:2] == ["front", "best"]


def test_contrast_and_names(look, published):
    """Text stands out from its ground as WCAG AA asks (4.5 to 1), and pictures have names."""
    page = look(published / "report.html").page
    weak = page.evaluate(
        """() => {
            const light = colour => {
                const parts = colour.match(/[\\d.]+/g).slice(0, 3).map(v => v / 255);
                const linear = v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
                const [r, g, b] = parts.map(linear);
                return 0.2126 * r + 0.7152 * g + 0.0722 * b;
            };
            const ground = element => {
                for (let e = element; e; e = e.parentElement) {
                    const colour = getComputedStyle(e).backgroundColor;
                    if (!colour.endsWith(", 0)")) return colour;
                }
                return "rgb(255, 255, 255)";
            };
            const texts = "p, li, td, th, dt, dd, h1, h2, h3, a, code, summary, .muted";
            return [...document.querySelectorAll(texts)]
                .filter(e => e.textContent.trim() && e.checkVisibility())
                .map(e => {
                    const [one, two] = [light(getComputedStyle(e).color), light(ground(e))];
                    return [(Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05), e.outerHTML];
                })
                .filter(([ratio]) => ratio < 4.5)
                .map(([ratio, html]) => `${ratio.toFixed(2)} ${html.slice(0, 90)}`);
        }"""
    )
    assert weak == []
    unnamed = page.evaluate(
        """() => [...document.querySelectorAll("svg, figure, input, select")]
            .filter(e => !e.closest("[aria-hidden=true]") && !e.getAttribute("aria-label")
                && !e.closest("label")).map(e => e.outerHTML.slice(0, 90))"""
    )
    assert unnamed == []


def test_on_paper_nothing_is_lost(chromium, published, tmp_path):
    context = chromium.new_context(offline=True)
    page = context.new_page()
    page.goto((published / "report.html").as_uri())
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator(".readout").first.is_visible()
    assert page.pdf(format="A4").startswith(b"%PDF")
    context.close()


def test_a_script_that_got_in_would_not_run(chromium, published, tmp_path):
    """Should an escape ever be forgotten, the page's own policy is the second wall."""
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
