"""A sweep as one table on a terminal: a row per job, so that people can compare."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from asrbuild.base import terminal


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
#: Narrower terminals show an artifact's version below its name, and the narrowest no figures of
#: parity: those are in the sweep's page.
_ROOMY, _NARROW = 170, 130
_STYLE = {"built": "green", "unchanged": "cyan", "failed": "bold red"}


def print_table(jobs: Sequence[Job], seconds: float) -> None:
    """Prints the table to standard output, and below it why each failed job failed."""
    import os

    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    # A file or a pipe has no width: there the table is as wide as it likes.
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
    # They are easier to read in pieces than a name is.
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
