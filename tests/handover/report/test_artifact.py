"""The HTML page of an artifact is self-contained, escaped, exact and deterministic."""

from __future__ import annotations

import base64
import hashlib
import io
import re

import numpy as np
import pytest
from hypothesis import given, strategies as st
from PIL import Image

from asrbuild.architectures.deepspeech.network import random_weights
from asrbuild.artifact.manifest import Evaluation, Metric
from asrbuild.artifact.reading import read_manifest
from asrbuild.base.errors import AsrbuildError
from asrbuild.handover.report.anatomy import anatomy
from asrbuild.handover.report.artifact import page, used_place
from asrbuild.handover.report.page import evaluation_text, feeding_text
from asrbuild.handover.report.pictures import error_levels, png, probability_levels, spectrum_levels
from asrbuild.handover.report.recording import LONGEST, SEGMENT
from asrbuild.handover.report.timeline import timeline
from tests.command import run
from tests.handover.report.pages import HOSTILE, Page, comparisons_of, html_of, saying
from tests.proof import building


def test_an_artifact_carries_its_page(published):
    text = (published / "report.html").read_text(encoding="utf-8")
    manifest = read_manifest(published)
    found = Page(text)
    assert manifest.version in found.text
    assert "Proven: the package was executed" in found.text
    for tensor in manifest.model.inputs + manifest.model.outputs:
        assert tensor.name in found.text
    for metric in manifest.verification.metrics:
        assert f"<title>{metric.input}: {metric.value:.4g}</title>" in text
    assert found.tags.count("img") == 3 * -(-manifest.verification.inputs[0].steps // SEGMENT)
    assert len(text) < 300_000


def test_a_page_loads_nothing_and_runs_only_its_own_scripts(published):
    text = (published / "report.html").read_text(encoding="utf-8")
    found = Page(text)
    kinds = {"data:image/png;base64,": b"\x89PNG", "data:audio/wav;base64,": b"RIFF"}
    for source in found.sources:
        head, comma, content = source.partition(",")
        if not source.startswith("#"):
            assert base64.b64decode(content).startswith(kinds[head + comma])
    assert found.handlers == []
    (script,) = found.scripts
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest.replace('+', '&#43;')}'" in text.replace("&#39;", "'") or (
        f"script-src 'sha256-{digest}'" in text.replace("&#39;", "'")
    )
    assert "default-src 'none'" in text.replace("&#39;", "'")
    assert "url(http" not in text
    assert not re.search(r"@import|<link|<iframe|<object", text)


def test_the_command_proves_again_and_writes_the_page(published, tmp_path, capsys):
    target = tmp_path / "new" / "proof.html"
    assert run("report", published, "--output", target) == 0
    assert f"wrote {target}" in capsys.readouterr().out
    assert target.read_text(encoding="utf-8") == (published / "report.html").read_text(
        encoding="utf-8"
    )


def test_a_page_that_cannot_be_written_is_an_error(published, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(AsrbuildError, match=r"cannot be written.* while writing the page"):
        run("report", published, "--output", tmp_path / "file" / "page.html")


@pytest.mark.parametrize("text", HOSTILE)
def test_texts_of_the_manifest_are_escaped(published, text):
    manifest = saying(published, text, f"said {text}", reference=text)
    alphabet = [text, *manifest.decoder.alphabet[1:]]
    provenance = manifest.provenance.model_copy(
        update={"overrides": [text], "recipe": {"a": text}, "parents": [text]}
    )
    manifest = manifest.model_copy(
        update={
            "name": text,
            "version": text,
            "description": text,
            "author": text,
            "license": text,
            "languages": [text],
            "provenance": provenance,
            "decoder": manifest.decoder.model_copy(update={"alphabet": alphabet}),
        }
    )
    plain = Page(html_of(published, saying(published, "a", "b"), comparisons_of("a")))
    found = Page(html_of(published, manifest, comparisons_of("a")))
    assert set(found.tags) <= set(plain.tags) | {"ins", "del"}
    assert found.tags.count("img") == plain.tags.count("img")
    assert found.handlers == []
    assert found.scripts == plain.scripts
    assert found.text.count(text) >= 8


def test_wrong_words_are_marked(published):
    html = html_of(published, saying(published, "helo world you", "hello world"))
    for mark in ("<del>hello</del>", "<ins>helo</ins>", "<ins>you</ins>"):
        assert mark in html
    assert '<span class="right">world</span>' in html
    assert "Word error rate 100.0 %" in html
    assert ">1 of 2<" in html


def test_letters_are_at_their_steps_in_the_colour_of_their_word(published):
    html = html_of(published, saying(published, "ab cd", "ab ce"), comparisons_of("ab cd"))
    letters = re.findall(r'<span class="letter (\w+)"[^>]*left:([\d.]+)%">(.)</span>', html)
    assert [(kind, text) for kind, _, text in letters] == [
        ("right", "a"),
        ("right", "b"),
        ("wrong", "c"),
        ("wrong", "d"),
    ]
    # Letter n is step 3n + 1 of the 18 that the only segment has.
    places = [float(place) for _, place, _ in letters]
    assert places == pytest.approx([100 * (3 * n + 1.5) / 18 for n in (0, 1, 3, 4)], abs=0.01)


def test_letters_that_a_beam_changed_are_not_marked(published):
    html = html_of(published, saying(published, "abcd", "ab ce"), comparisons_of("ab cd"))
    assert re.findall(r'class="letter (\w+)"', html) == ["unknown"] * 4


def test_a_long_recording_is_shown_in_part_with_a_note(published):
    html = html_of(published, saying(published, "a", "a"), comparisons_of("a", steps=LONGEST + 700))
    assert f"The first {LONGEST} of {LONGEST + 700} steps are shown." in html
    assert html.count('<div class="segment">') == LONGEST // SEGMENT


def test_a_failed_gate_is_shown_in_the_verdict(published):
    manifest = saying(published, "a", "b", reference="c")
    bad = Metric(
        input="sample",
        output="logits",
        name="kl_divergence",
        value=0.5,
        comparison="<=",
        threshold=0.001,
        passed=False,
    )
    verification = manifest.verification.model_copy(update={"metrics": [bad], "passed": False})
    html = html_of(published, manifest.model_copy(update={"verification": verification}))
    assert '<p class="verdict no"><span>Not proven: 1 of 1 gates' in html
    assert "1 FAILED" in html
    assert 'class="dot no worst" cx="100.0%"' in html
    assert "used 500 times of its gate" in html


def test_word_errors_are_shown_with_their_set(published):
    manifest = saying(published, "a", "a")
    evaluation = Evaluation(
        data="<dev>.csv",
        sha256="0" * 64,
        recordings=11,
        words=49,
        wer=0.184,
        wer_low=0.1,
        wer_high=0.3,
        reference="tensorflow",
        reference_wer=0.1837,
    )
    verification = manifest.verification.model_copy(update={"evaluation": evaluation})
    found = Page(html_of(published, manifest.model_copy(update={"verification": verification})))
    assert "Words wrong on <dev>.csv18.4 %of 49 words, 11 recordings" in found.text
    assert evaluation_text(evaluation) in found.text
    assert "On a set of recordings" not in html_of(published, manifest)


def test_a_package_that_was_not_executed_has_a_page(published):
    from asrbuild.proof.verdict import unproven

    manifest = read_manifest(published).model_copy(update={"verification": unproven("tensorflow")})
    html = html_of(published, manifest)
    assert "Not executed: this package has not been run." in html
    assert "No recording was decoded." in html
    assert 'id="streaming"' not in html


def test_every_function_of_a_package_is_described(tmp_path):
    manifest = building.build(tmp_path, random_weights(32), "model=multifunction")
    html = page(manifest, anatomy(tmp_path / manifest.model.package), {})
    others = [f for f in manifest.model.functions if f.name != manifest.model.default_function]
    assert len(others) == 2
    for function in others:
        said = feeding_text(function.streaming)
        assert f"Function <code>{function.name}</code>, for {said}</summary>" in html
    assert f"<code>{manifest.model.default_function}</code> runs when none is named" in html
    assert html.count('<td data-label="name"><code>logits</code>') == 3


@given(st.floats(0, 1e9))
def test_gates_have_a_logarithmic_scale_that_ends(share):
    place = used_place(share)
    assert 0 <= place <= 100
    assert (place > used_place(1.0)) == (share > 1.001) or 1.0 < share <= 1.001
    assert used_place(share * 2) >= place


@pytest.mark.parametrize(
    ("mode", "chunk", "steps", "calls", "tail"),
    [
        ("chunked", 16, 588, 37, 12),
        ("chunked", 16, 32, 2, 16),
        ("chunked", 16, 5, 1, 5),
        ("whole", None, 588, 1, 588),
        ("whole", 3000, 588, 1, 588),
        ("whole", 300, 588, 2, 288),
    ],
)
def test_the_timeline_counts_calls_and_the_tail(published, mode, chunk, steps, calls, tail):
    manifest = read_manifest(published)
    first = manifest.verification.inputs[0].model_copy(update={"steps": steps})
    manifest = manifest.model_copy(
        update={
            "streaming": manifest.streaming.model_copy(
                update={"mode": mode, "steps_per_chunk": chunk}
            ),
            "verification": manifest.verification.model_copy(update={"inputs": [first]}),
        }
    )
    drawn = timeline(manifest)
    assert drawn is not None
    assert (drawn.calls, drawn.tail) == (calls, tail)
    numbers = [c.number for c in drawn.chunks]
    assert numbers[0] == 1
    assert numbers[-1] == calls
    assert len(numbers) == min(calls, 6)
    assert all(0 <= c.left < c.real <= c.right <= 100 for c in drawn.chunks)
    # A call waits for its chunk and its look-ahead, except at the end of the recording.
    assert all(c.call > c.real for c in drawn.chunks[:-1])
    assert drawn.chunks[-1].call == drawn.chunks[-1].real


def decoded(uri: str) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))


def test_pictures_encode_the_numbers_deterministically():
    values = np.random.default_rng(1).dirichlet(np.ones(29), 50)
    uri = png(probability_levels(values))
    assert png(probability_levels(values)) == uri
    assert png(probability_levels(values[::-1])) != uri
    # The page's cursor reads the fourth power of a level.
    found = (decoded(uri).T / 255) ** 4
    np.testing.assert_allclose(found, values, atol=0.01)


def test_pictures_of_numbers_that_are_not_finite():
    bad = np.array([[np.nan, np.inf, -np.inf, 0.5]])
    np.testing.assert_array_equal(decoded(png(probability_levels(bad)))[:, 0], [0, 255, 0, 214])
    assert decoded(png(error_levels(bad, bad)))[0, 0] == 255
    assert decoded(png(error_levels(bad[:, 3:], bad[:, 3:])))[0, 0] == 0
    assert png(spectrum_levels(np.zeros((5, 40))))
    assert png(np.zeros((4, 1))).startswith("data:image/png;base64,")
