"""A search for decoder values as a table and as a page: the front of error rate against time."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from asrbuild.base import terminal
from asrbuild.handover.report.html import render, write_html
from asrbuild.handover.report.table import Column, Entry, make_table

if TYPE_CHECKING:
    from asrbuild.build.tuning import Trial, Tuning

COLUMNS = (
    Column("alpha", "alpha", text="{:.2f}"),
    Column("beta", "beta", text="{:.2f}"),
    Column("beam", "beam", log=True, text="{:.0f}"),
    Column("wer", "WER %", text="{:.1f}"),
    Column("interval", "95 %", number=False),
    Column("cer", "CER %", text="{:.1f}"),
    Column("factor", "x real time", log=True, text="{:.4f}"),
)
HEADINGS = ("trial", "alpha", "beta", "beam", "WER %", "95 %", "CER %", "x real time")


def print_tuning(tuning: Tuning, output: Path) -> None:
    """Prints the front to standard output, and what to do with the best values."""
    from rich.table import Table

    console = terminal.console()
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), title_justify="left")
    table.title = f"{tuning.scorer} on {tuning.data}: {_size(tuning)}, {len(tuning.trials)} trials"
    for heading in ("", *HEADINGS):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    for label, trial in _rows(tuning):
        table.add_row(label, *_cells(trial))
    console.print(table)
    console.print("front: no other trial has fewer errors and is faster", style="dim")
    terminal.say(f"config: {output}/decoder/tuned.yaml   page: {output}/tuning.html")
    terminal.say(f"use it: asrbuild decoder=tuned --config-dir {shlex.quote(str(output))}")


def write_page(destination: Path, tuning: Tuning) -> None:
    """Writes one self-contained HTML file.

    Raises:
        AsrbuildError: the disk refuses.
    """
    labels = {trial.number: label for label, trial in _rows(tuning)}
    entries = [
        Entry(
            number=trial.number,
            name=labels.get(trial.number, ""),
            kind=labels.get(trial.number, "trials").split(", ")[-1],
            facts={
                "alpha": trial.lm_alpha,
                "beta": trial.lm_beta,
                "beam": trial.beam_width,
                "wer": 100 * trial.wer,
                "interval": "-".join(f"{100 * rate:.1f}" for rate in trial.wer_interval),
                "cer": 100 * trial.cer,
                "factor": trial.factor,
            },
        )
        for trial in tuning.trials
    ]
    text = render(
        "tuning.html.j2",
        scripts=("sort.js", "scatter.js"),
        t=tuning,
        size=_size(tuning),
        table=make_table(COLUMNS, entries),
    )
    write_html(destination, text)


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
