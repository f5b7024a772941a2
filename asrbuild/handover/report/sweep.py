"""The terminal's table of a sweep: one row a job."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from asrbuild.base import terminal

#: Metric -> heading. Each figure is the worst over all inputs, of the probabilities.
FIGURES = {
    "argmax_agreement": "argmax",
    "kl_divergence": "KL nats",
    "max_abs_error": "max error",
    "psnr_db": "PSNR dB",
}
_FREE_WIDTH = 180
#: Below this width an artifact's version is printed below its name.
_ROOMY = 170
#: Below this width the table has no figures of parity; the sweep's page has them.
_NARROW = 130
_STYLE = {"built": "green", "unchanged": "cyan", "failed": "bold red"}


@dataclass(frozen=True)
class JobRecord:
    """The outcome of one job of a sweep.

    A job whose package failed its gates has no artifact (``path`` and ``bytes``), but the package's
    size and figures.

    Args:
        number: of the job, from 0.
        overrides: the keys that the sweep varies, with this job's values.
        status: ``built``, ``unchanged`` or ``failed``; in a record on disk also ``running``.
        bytes: the size of the artifact.
        figures: metric -> its worst value over all inputs, of the probabilities.
        seconds: wall time.
        compress: how the weights are stored, as the table and the page show it.
        wer: word error rate on the recordings of the proof whose transcript is known.
    """

    number: int
    overrides: tuple[str, ...]
    status: str
    name: str
    version: str
    path: str
    bytes: int
    figures: dict[str, float]
    transcripts_match: bool
    seconds: float
    error: str
    compress: str = "none"
    package_bytes: int = 0
    wer: float | None = None


def print_table(jobs: Sequence[JobRecord], seconds: float) -> None:
    """Prints the table to standard output, and below it the error of each failed job."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    # A file or a pipe has no width.
    free = not terminal.is_terminal() and "COLUMNS" not in os.environ
    console = terminal.console(width=_FREE_WIDTH if free else None)
    failed = [job for job in jobs if job.status == "failed"]
    verdict = f"{len(jobs) - len(failed)} of {len(jobs)} jobs succeeded in {seconds:.1f} s"
    table = Table(title=verdict, title_justify="left", box=SIMPLE_HEAD)
    roomy = console.width >= _ROOMY
    figures = FIGURES if console.width >= _NARROW else {}
    between = "/" if roomy else "\n"

    def number(heading: str) -> None:
        table.add_column(heading, justify="right", no_wrap=True)

    number("#")
    table.add_column("status", no_wrap=True)
    # Overrides fold first: they are easier to read in pieces than a name.
    most = None if roomy else console.width // 7
    table.add_column("overrides", overflow="fold", max_width=most)
    table.add_column("artifact", no_wrap=roomy, overflow="fold")
    number("model MB" if roomy else "MB")
    for heading in figures.values():
        number(heading)
    number("WER %")
    table.add_column("words", no_wrap=True)
    number("s")
    for job in jobs:
        good = job.status != "failed"
        table.add_row(
            str(job.number),
            Text(job.status, style=_STYLE.get(job.status, "")),
            " ".join(job.overrides),
            f"{job.name}{between}{job.version}" if good else "",
            f"{job.package_bytes / 1e6:.2f}" if job.package_bytes else "",
            *(_figure(job.figures.get(name)) for name in figures),
            "" if job.wer is None else f"{100 * job.wer:.1f}",
            ("equal" if job.transcripts_match else "differ") if job.figures else "",
            f"{job.seconds:.1f}",
        )
    console.print(table)
    for job in failed:
        console.print(f"job {job.number} ({' '.join(job.overrides)}) failed:", style="bold red")
        console.print("  " + job.error.replace("\n", "\n  "))


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
