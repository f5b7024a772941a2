"""A sweep as one table on a terminal: a row per job, so that people can compare."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Job(Protocol):
    """What a row needs to know of a job.

    ``seconds`` is its wall time, ``path`` and ``bytes`` are the artifact's. A job that failed its
    gates has a package all the same: ``package_bytes``, ``figures``, ``wer``, ``compress``.
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
    compress: str
    package_bytes: int
    wer: float | None


#: Metric -> heading: the worst over all inputs, probabilities against TensorFlow's.
FIGURES = {
    "argmax_agreement": "argmax",
    "kl_divergence": "KL nats",
    "max_abs_error": "max error",
    "psnr_db": "PSNR dB",
}
_FREE_WIDTH = 180
_STYLE = {"built": "green", "unchanged": "cyan", "failed": "bold red"}


def print_table(jobs: Sequence[Job], seconds: float) -> None:
    """Prints the table to standard output, and below it why each failed job failed."""
    import os
    import sys

    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    # A file or a pipe has no width: there the table is as wide as it likes.
    free = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    console = Console(highlight=False, width=_FREE_WIDTH if free else None)
    failed = [job for job in jobs if job.status == "failed"]
    verdict = f"{len(jobs) - len(failed)} of {len(jobs)} jobs succeeded in {seconds:.1f} s"
    table = Table(title=verdict, title_justify="left", box=SIMPLE_HEAD)
    table.add_column("#", justify="right")
    table.add_column("status", no_wrap=True)
    table.add_column("overrides", overflow="fold")
    table.add_column("artifact", no_wrap=True)
    table.add_column("model MB", justify="right")
    for heading in FIGURES.values():
        table.add_column(heading, justify="right")
    table.add_column("WER %", justify="right")
    table.add_column("words")
    table.add_column("s", justify="right")
    for job in jobs:
        good = job.status != "failed"
        table.add_row(
            str(job.number),
            Text(job.status, style=_STYLE.get(job.status, "")),
            " ".join(job.overrides),
            f"{job.name}/{job.version}" if good else "",
            f"{job.package_bytes / 1e6:.2f}" if job.package_bytes else "",
            *(_figure(job.figures.get(name)) for name in FIGURES),
            "" if job.wer is None else f"{100 * job.wer:.1f}",
            ("equal" if job.transcripts_match else "differ") if job.figures else "",
            f"{job.seconds:.1f}",
        )
    console.print(table)
    for job in failed:
        console.print(f"job {job.number} ({' '.join(job.overrides)}) failed:", style="bold red")
        console.print(Text("  " + job.error.replace("\n", "\n  ")))


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
