"""The terminal's table of a sweep: one row a job."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from asrbuild.base import terminal
from asrbuild.base.tables import folding, show

#: Metric -> heading. Each figure is the worst over all inputs, of the probabilities.
FIGURES = {
    "argmax_agreement": "argmax",
    "kl_divergence": "KL nats",
    "max_abs_error": "max error",
    "psnr_db": "PSNR dB",
}
#: Below this width the table has no figures of parity; the sweep's page has them.
_NARROW = 130
#: Between an artifact's name and its version.
_BREAK = "\n"
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


def swept(jobs: Sequence[JobRecord]) -> dict[str, dict[int, str]]:
    """Key or group -> job -> its value, of those that differ among the jobs."""
    found: dict[str, dict[int, str]] = {}
    for job in jobs:
        for override in job.overrides:
            key, _, value = override.lstrip("+~").partition("=")
            found.setdefault(key, {})[job.number] = value
    return {
        key: values
        for key, values in found.items()
        if len({values.get(job.number) for job in jobs}) > 1
    }


def print_table(jobs: Sequence[JobRecord], total: str, seconds: float) -> None:
    """Prints the table to standard output, and below it the error of each failed job.

    ``total``: the number of all jobs of the sweep, as ``12 jobs``.
    """
    failed = [job for job in jobs if job.status == "failed"]
    piped = not terminal.is_terminal()
    roomy = piped or terminal.console().width >= _NARROW
    figures, keys = FIGURES if roomy else {}, swept(jobs)
    numbers = ("#", "model MB", *figures.values(), "WER %", "s")
    table = folding(
        f"{len(jobs) - len(failed)} of {total} succeeded in {seconds:.1f} s",
        *("#", "status", *keys, "artifact", "model MB", *figures.values(), "WER %", "words", "s"),
        right=numbers,
    )
    for job in jobs:
        good = job.status != "failed"
        table.add_row(
            str(job.number),
            terminal.line(job.status, _STYLE.get(job.status, "")),
            *(values.get(job.number, "") for values in keys.values()),
            f"{job.name}{'/' if piped else _BREAK}{job.version}" if good else "",
            f"{job.package_bytes / 1e6:.2f}" if job.package_bytes else "",
            *(_figure(job.figures.get(name)) for name in figures),
            "" if job.wer is None else f"{100 * job.wer:.1f}",
            ("equal" if job.transcripts_match else "differ") if job.figures else "",
            f"{job.seconds:.1f}",
        )
    show(table)
    console = terminal.console()
    for job in failed:
        console.print(f"job {job.number} ({' '.join(job.overrides)}) failed:", style="bold red")
        console.print("  " + job.error.replace("\n", "\n  "))


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
