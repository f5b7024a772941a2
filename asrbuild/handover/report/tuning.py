"""The result of ``tune=scorer`` as a table and as a page: error rate against decoding time."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from asrbuild.base import terminal
from asrbuild.base.tables import folding, show
from asrbuild.handover.report.html import render, write_html
from asrbuild.handover.report.table import Column, Entry, Table, make_table

COLUMNS = (
    Column("alpha", "alpha", text="{:.2f}"),
    Column("beta", "beta", text="{:.2f}"),
    Column("beam", "beam", log=True, text="{:.0f}"),
    Column("wer", "WER %", text="{:.1f}"),
    Column("interval", "95 %", number=False),
    Column("cer", "CER %", text="{:.1f}"),
    Column("factor", "x real time", log=True, text="{:.4f}"),
)


@dataclass(frozen=True)
class Trial:
    """One set of decoder values and its error rates.

    Args:
        wer: word error rate; ``wer_interval`` is its 95 % confidence interval.
        cer: character error rate.
        factor: seconds of decoding for one second of sound.
    """

    number: int
    lm_alpha: float
    lm_beta: float
    beam_width: int
    wer: float
    wer_interval: tuple[float, float]
    cer: float
    factor: float


@dataclass(frozen=True)
class Tuning:
    """All trials of one search.

    Args:
        artifact: name and version of the artifact whose probabilities were decoded.
        data: name of the development set; ``sha256`` is its digest.
        recordings: how many the set has; ``words`` is how many words their transcripts have.
        trials: in order. The first one has the values of the recipe and the scorer.
    """

    artifact: str
    scorer: str
    data: str
    sha256: str
    recordings: int
    words: int
    trials: tuple[Trial, ...]

    @property
    def best(self) -> Trial:
        """The trial with the fewest word errors, then character errors, then the narrowest beam."""
        return min(self.trials, key=lambda t: (t.wer, t.cer, t.beam_width, t.number))

    @property
    def front(self) -> list[Trial]:
        """The trials that no other one beats in both error rate and time, fastest first."""
        kept: list[Trial] = []
        for trial in sorted(self.trials, key=lambda t: (t.factor, t.wer)):
            if not kept or trial.wer < kept[-1].wer:
                kept.append(trial)
        return kept


def print_tuning(tuning: Tuning, output: Path) -> None:
    """Prints the front and the commands that use the best values to standard output."""
    labelled, labels = _table(tuning), _labels(tuning)
    headings = [column.heading for column in labelled.columns]
    table = folding(
        f"{tuning.scorer} on {tuning.data}: {_size(tuning)}, {len(tuning.trials)} trials",
        *("", "trial", *headings),
        right=("trial", *headings),
    )
    for number, label in labels.items():
        table.add_row(label, str(number), *(cell.text for cell in labelled.cells[number]))
    table.caption = "front: no other trial has fewer errors and is faster"
    show(table)
    terminal.say(f"config: {output}/decoder/tuned.yaml   page: {output}/tuning.html")
    terminal.say(f"use it: asrbuild decoder=tuned --config-dir {shlex.quote(str(output))}")
    terminal.say("        and the other keys of this build")


def write_page(destination: Path, tuning: Tuning) -> None:
    """Writes one self-contained HTML file.

    Raises:
        AsrbuildError: the disk refuses.
    """
    text = render(
        "tuning.html.j2",
        scripts=("sort.js", "scatter.js"),
        t=tuning,
        size=_size(tuning),
        table=_table(tuning),
    )
    write_html(destination, text)


def _size(tuning: Tuning) -> str:
    return f"{tuning.recordings} recordings, {tuning.words} words"


def _labels(tuning: Tuning) -> dict[int, str]:
    """Number -> label of the first trial, of those on the front, and of the best."""
    labels: dict[int, list[str]] = {0: ["before"]}
    for trial in tuning.front:
        labels.setdefault(trial.number, []).append("front")
    labels.setdefault(tuning.best.number, []).append("best")
    return {number: ", ".join(names) for number, names in labels.items()}


def _table(tuning: Tuning) -> Table:
    labels = _labels(tuning)
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
    return make_table(COLUMNS, entries)
