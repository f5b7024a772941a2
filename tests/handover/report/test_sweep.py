"""The table that ends a sweep, at the widths that terminals have."""

from __future__ import annotations

import pytest

from asrbuild.handover.report.sweep import JobRecord, print_table

FIGURES = {
    "argmax_agreement": 0.97979, "kl_divergence": 0.000101131,
    "max_abs_error": 0.0071091, "psnr_db": 76.8907,
}  # fmt: skip
JOBS = [
    JobRecord(
        number, tuple(asked), "built", name, f"1.0.0+{number:012d}", f"/{number}", 1, FIGURES,
        True, 12.9, "", "none", 11_730_000, 0.113,
    )
    for number, (name, *asked) in enumerate(
        [
            ("demo-static-mlprogram", "model=static", "coreml.compress=palettize_6"),
            ("demo-dynamic_to_static-neuralnetwork", "model=dynamic_to_static", "n_steps=32"),
        ]
    )
]  # fmt: skip


@pytest.mark.parametrize("width", [80, 100, 120, 150, 180, None])
def test_nothing_is_cut_off(
    width: int | None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    if width is not None:
        monkeypatch.setenv("COLUMNS", str(width))
    print_table(JOBS, 3.0)
    lines = capsys.readouterr().out.splitlines()
    text = "\n".join(lines)
    assert "…" not in text
    assert max(map(len, lines)) <= (width or 180)
    for heading in ("status", "overrides", "artifact", "WER %", "words"):
        assert heading in lines[2]
    # Read down its column, every letter of what was asked for is there.
    start, end = (lines[2].index(heading) for heading in ("overrides", "artifact"))
    asked = "".join(line[start:end].replace(" ", "") for line in lines[4:])
    assert asked == "".join("".join(job.overrides) for job in JOBS)
    assert text.count("11.73") == text.count("11.3 ") == text.count("12.9") == len(JOBS)
    assert ("0.0001011" in text) == (width not in (80, 100, 120))
    assert ("mlprogram/1.0.0+000000000000" in text) == (width in (180, None))
