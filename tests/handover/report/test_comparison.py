"""The page of a sweep or of named artifacts: one row each, with the values of its manifest."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from urllib.parse import unquote

import pytest

from asrbuild.artifact.reading import read_manifest
from asrbuild.handover.report.comparison import (
    artifact_rows,
    csv_text,
    job_rows,
    swept_columns,
    write_page,
)
from tests.command import run
from tests.forging import agree, copy_artifact
from tests.handover.report.pages import HOSTILE, Page, job, refused


def test_rows_have_the_values_of_the_manifests(pair):
    rows = artifact_rows(pair)
    for row, path in zip(rows, pair, strict=True):
        manifest = read_manifest(path)
        assert row.name == f"{manifest.name}/{manifest.version}"
        assert row.page == path / "report.html"
        assert row.facts["format"] == manifest.model.format
        package = path / manifest.model.package
        files = [package] if package.is_file() else [f for f in package.rglob("*") if f.is_file()]
        assert row.facts["size"] == sum(f.stat().st_size for f in files) / 1e6
        errors = [
            m.value
            for m in manifest.verification.metrics
            if (m.output, m.name) == ("logits", "max_abs_error")
        ]
        assert row.facts["max_abs_error"] == max(errors)
        assert 0 <= row.facts["used"] <= 100
        assert row.facts["steps"] == 16
        assert row.facts["latency"] == 500
        assert row.facts["compress"] == "none"
    assert rows[0].facts["shape"] == "16"
    assert rows[1].facts["shape"] == "16 or 32 or 64"


def test_compression_has_a_column_if_a_recipe_sets_it(pair, tmp_path):
    manifest = read_manifest(pair[0])
    recipe = manifest.provenance.recipe
    layers = {"lstm": "none", "layer_1": None}
    coreml = recipe["coreml"] | {"compress": "palettize_4", "compress_layers": layers}
    asked = recipe | {"coreml": coreml}
    copy = copy_artifact(pair[0], tmp_path / "a" / "1")
    (copy / "report.html").unlink()
    agree(copy, lambda fields: fields["provenance"].update(recipe=asked))
    (row,) = artifact_rows([copy])
    assert row.facts["compress"] == "palettize_4"
    assert row.page is None, "an artifact from before pages has no link"
    write_page(tmp_path / "page.html", "title", artifact_rows(pair))
    assert ">compression<" not in (tmp_path / "page.html").read_text(encoding="utf-8")
    write_page(tmp_path / "page.html", "title", [*artifact_rows(pair), row])
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert ">compression<" in html
    assert 'data-value="palettize_4">palettize_4</td>' in html


def test_the_page_of_a_sweep_has_its_failures(pair, tmp_path):
    jobs = [
        job(0, pair[0], "", "model=static"),
        job(1, None, "no such shape\n  key: model.steps", "n_steps=0"),
        replace(job(2, pair[1]), status="unchanged"),
        replace(job(3, pair[1]), path=str(tmp_path / "gone" / "1.0")),
    ]
    rows = job_rows(jobs)
    assert [bool(row.error) for row in rows] == [False, True, False, True]
    assert rows[0].facts["seconds"] == 2.5
    page = tmp_path / "my sweeps #1, 100%" / "sweep.html"
    write_page(page, "Sweep of 4 jobs", rows)
    html = page.read_text(encoding="utf-8")
    found = Page(html)
    assert "2 of 4 jobs succeeded, 2 failed" in found.text
    assert "no such shape\n  key: model.steps" in found.text
    assert "SHA256SUMS is missing" in found.text
    assert "unchanged" in found.text
    links = [source for source in found.sources if source.endswith("report.html")]
    assert len(links) == 2
    for link, path in zip(links, pair, strict=True):
        assert (page.parent / unquote(link)).resolve() == (path / "report.html").resolve()
    assert found.handlers == []


def test_a_package_that_failed_its_gates_has_figures(pair, tmp_path):
    failed = refused(1, "coreml.compress=palettize_4")
    rows = job_rows([job(0, pair[0]), failed])
    facts = {
        "size": 0.5,
        "wer": 25.0,
        "compress": "palettize_4",
        "words": "differ",
        "max_abs_error": 0.5,
        "seconds": 2.5,
    }
    assert rows[1].facts == {**facts, "coreml.compress": "palettize_4"}, "a swept key is a fact"
    write_page(tmp_path / "page.html", "Sweep", rows)
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert 'data-value="25.0">25</td>' in html
    assert html.count('data-kind="bad-mark"') == 1
    assert "failed its gates</li>" in html


@pytest.mark.parametrize("text", HOSTILE)
def test_texts_of_the_manifest_are_escaped(tmp_path, text):
    write_page(tmp_path / "page.html", text, job_rows([job(0, None, text, text)]))
    found = Page((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert "img" not in found.tags
    assert len(found.scripts) == 1
    assert found.handlers == []
    assert found.text.count(text) >= 3


def test_a_swept_key_with_only_numbers_is_a_column_of_numbers(tmp_path):
    jobs = [
        job(0, None, "no", "model=static", "n_steps=16", "coreml.compress=none"),
        job(1, None, "no", "model=static", "n_steps=32", "coreml.compress=int8"),
    ]
    columns = swept_columns(jobs)
    assert [(c.key, c.number, c.scale) for c in columns] == [
        ("n_steps", True, "linear"),
        ("coreml.compress", False, "words"),
    ]
    lines = write_page(tmp_path / "page.html", "Sweep", job_rows(jobs), columns)
    assert lines[0] == [
        "#",
        "artifact",
        "version",
        "status",
        "n_steps",
        "coreml.compress",
        "overrides",
        "error",
    ]
    assert lines[2] == [
        "1",
        "",
        "",
        "failed",
        "32",
        "int8",
        "model=static n_steps=32 coreml.compress=int8",
        "no",
    ]


def test_the_csv_has_no_formulas():
    text = csv_text([["=1+1", "-3.5", "@x", 'a "b", c\n d', "-m"]])
    assert next(csv.reader(io.StringIO(text))) == ["'=1+1", "-3.5", "'@x", 'a "b", c\n d', "'-m"]


def test_a_sweep_without_a_single_artifact_has_a_page(tmp_path):
    write_page(tmp_path / "page.html", "Sweep", job_rows([job(0, None, "no")]))
    found = Page((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert "0 of 1 job succeeded" in found.text
    assert "select" not in found.tags


def test_the_command_compares_several(pair, tmp_path, capsys):
    target = tmp_path / "pair.html"
    assert run("report", *pair, "--output", target) == 0
    assert f"wrote {target}" in capsys.readouterr().out
    found = Page(target.read_text(encoding="utf-8"))
    assert "2 artifacts" in found.text
    for path in pair:
        assert path.name in found.text
    assert json.loads((pair[0] / "manifest.json").read_text())["version"] in found.text
