"""A search for decoder values as a table and as a page: the front of error rate against time."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from asrbuild.report.drawing import STYLE, figure, svg

if TYPE_CHECKING:
    from asrbuild.tuning import Trial, Tuning

HEADINGS = ("trial", "alpha", "beta", "beam", "WER %", "95 %", "CER %", "x real time")


def print_tuning(tuning: Tuning, output: Path) -> None:
    """Prints the front to standard output, and what to do with the best values."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), title_justify="left")
    table.title = f"{tuning.scorer} on {tuning.data}: {_size(tuning)}, {len(tuning.trials)} trials"
    for heading in ("", *HEADINGS):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    for label, trial in _rows(tuning):
        table.add_row(label, *_cells(trial))
    console.print(table)
    console.print("front: no other trial has fewer errors and is faster", style="dim")
    print(f"config: {output}/decoder/tuned.yaml   page: {output}/tuning.html")
    print(f"use it: asrbuild decoder=tuned --config-dir {output}")


def write_page(destination: Path, tuning: Tuning) -> None:
    """Writes one self-contained HTML file."""
    head = "".join(f"<th class=n>{name}" for name in HEADINGS)
    parts = [
        "<!doctype html><html lang='en'><meta charset='utf-8'>",
        f"<title>Tuning on {escape(tuning.data)}</title><style>{STYLE}</style>",
        f"<h1>{escape(tuning.scorer)} on {escape(tuning.data)}</h1>",
        f"<p>{escape(tuning.artifact)}; {_size(tuning)}; set {tuning.sha256[:12]}. "
        f"{len(tuning.trials)} trials. Time is decoding only. Intervals: 95 %, from resampled "
        "recordings.</p>",
        _plot(tuning),
        f"<h2>Front</h2>{_table(head, _rows(tuning))}",
        f"<h2>All trials</h2>{_table(head, [('', trial) for trial in tuning.trials])}",
        "</html>",
    ]
    destination.parent.mkdir(parents=True, exist_ok=True)
    destination.write_text("\n".join(parts), encoding="utf-8")


def _size(tuning: Tuning) -> str:
    return f"{tuning.recordings} recordings, {tuning.words} words"


def _rows(tuning: Tuning) -> list[tuple[str, Trial]]:
    """The values before, the front, and the best, each with its label."""
    labels: dict[int, list[str]] = {0: ["before"]}
    for trial in tuning.front:
        labels.setdefault(trial.number, []).append("front")
    labels.setdefault(tuning.best.number, []).append("best")
    return [(", ".join(names), tuning.trials[number]) for number, names in labels.items()]


def _cells(trial: Trial) -> tuple[str, ...]:
    low, high = trial.wer_interval
    return (
        str(trial.number), f"{trial.lm_alpha:.2f}", f"{trial.lm_beta:.2f}", str(trial.beam_width),
        f"{100 * trial.wer:.1f}", f"{100 * low:.1f}-{100 * high:.1f}", f"{100 * trial.cer:.1f}",
        f"{trial.factor:.4f}",
    )  # fmt: skip


def _table(head: str, rows: Sequence[tuple[str, Trial]]) -> str:
    body = "".join(
        f"<tr><td>{label}{''.join(f'<td class=n>{cell}' for cell in _cells(trial))}"
        for label, trial in rows
    )
    return f"<table><tr><th>{head}{body}</table>"


def _plot(tuning: Tuning) -> str:
    drawn, axes = figure(width=8, height=4)
    axes.plot(
        [t.factor for t in tuning.trials], [100 * t.wer for t in tuning.trials], "o",
        color="0.7", label="trials",
    )  # fmt: skip
    front = tuning.front
    axes.step(
        [t.factor for t in front], [100 * t.wer for t in front], "o-", where="post", label="front"
    )
    for label, trial in (("before", tuning.trials[0]), ("best", tuning.best)):
        axes.plot([trial.factor], [100 * trial.wer], "D", label=label)
    axes.set_xscale("log")
    axes.set_xlabel("seconds of decoding for a second of sound")
    axes.set_ylabel("word error rate, %")
    axes.legend()
    return svg(drawn)
