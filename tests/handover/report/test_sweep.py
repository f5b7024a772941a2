"""The table at the end of a sweep, on terminals and in a pipe."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rich.console import Console

from asrbuild.base import terminal
from asrbuild.handover.report.sweep import JobRecord, print_table, swept

FIGURES = {
    "argmax_agreement": 0.97979,
    "kl_divergence": 0.000101131,
    "max_abs_error": 0.0071091,
    "psnr_db": 76.8907,
}
JOBS = [
    JobRecord(
        number,
        ("verify=quick", *asked),
        "built",
        name,
        f"1.0.0+{number:012d}",
        f"/{number}",
        1,
        FIGURES,
        True,
        12.9,
        "",
        "none",
        11_730_000,
        0.113,
    )
    for number, (name, *asked) in enumerate(
        [
            ("demo-static-mlprogram", "model=static", "coreml.compress=palettize_6"),
            ("demo-dynamic_to_static-neuralnetwork", "model=dynamic_to_static", "n_steps=32"),
        ]
    )
]
FAILED = replace(
    JOBS[1],
    number=2,
    overrides=("verify=quick", "model=nothing"),
    status="failed",
    name="",
    version="",
    error="there is no\n  model",
    figures={},
    package_bytes=0,
    wer=None,
)


def test_the_swept_keys_are_those_that_differ() -> None:
    assert swept([*JOBS, FAILED]) == {
        "model": {0: "static", 1: "dynamic_to_static", 2: "nothing"},
        "coreml.compress": {0: "palettize_6"},
        "n_steps": {1: "32"},
    }
    assert swept(JOBS[:1]) == {}


@pytest.mark.parametrize("width", [60, 80, 120, 150, 180])
def test_a_terminal_breaks_no_name(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminal, "is_terminal", lambda **_: True)
    monkeypatch.setattr(terminal, "console", lambda: Console(width=width, markup=False))
    print_table([*JOBS, FAILED], "3 jobs", 3.0)
    text = capsys.readouterr().out
    assert max(map(len, map(str.rstrip, text.splitlines()))) <= width
    assert "2 of 3 jobs succeeded in 3.0 s" in text
    for job in JOBS:
        assert {job.name, job.version} <= set(text.split())
    for word in ("palettize_6", "dynamic_to_static", "nothing", "11.73", "11.3", "12.9"):
        assert word in text.split()
    assert ("0.0001011" in text) == (width >= 130)
    assert "job 2 (verify=quick model=nothing) failed:" in text
    assert "there is no\n    model" in text


def test_a_pipe_gets_a_line_for_each_job(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(JOBS, "2 jobs", 3.0)
    title, *rows = capsys.readouterr().out.splitlines()
    assert title == "2 of 2 jobs succeeded in 3.0 s"
    headings, first, second = (row.split("\t") for row in rows)
    assert headings[:5] == ["#", "status", "model", "coreml.compress", "n_steps"]
    assert first[:6] == [
        "0",
        "built",
        "static",
        "palettize_6",
        "",
        "demo-static-mlprogram/1.0.0+000000000000",
    ]
    assert len(headings) == len(first) == len(second)
    assert second[headings.index("KL nats")] == "0.0001011"
