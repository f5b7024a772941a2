"""Start-up time of asrbuild, compared with an empty Typer app and an empty Hydra app.

    python benchmarks/startup.py [--runs 7] [--json]

Each pair of commands runs in turns, so that a busy machine slows both. The ratios are of medians,
of elapsed time and of processor time; other work on the machine hardly changes the latter. The
first build, which makes the artifact that the no-op build finds, is not timed. All modules run from
compiled files, as those of an installed package do.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

EMPTY_TYPER = """
import typer

app = typer.Typer()


@app.command()
def main(name: str = "world") -> None:
    print(name)


app()
"""

EMPTY_HYDRA = """
import hydra
from omegaconf import DictConfig


@hydra.main(version_base=None, config_path=None)
def main(config: DictConfig) -> None:
    pass


main()
"""

ASRBUILD = [sys.executable, "-c", "from asrbuild.cli.main import main; main()"]


@dataclass(frozen=True)
class Row:
    """One comparison; seconds are medians, ratios are ours over theirs."""

    what: str
    against: str
    seconds: float
    plain_seconds: float
    ratio: float
    cpu_ratio: float
    at_most: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=7, help="runs of each command")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    rows = list(measure(options.runs))
    if options.json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
    else:
        for row in rows:
            print(
                f"{row.what:<28} {row.seconds:6.2f} s   {row.against:<18} "
                f"{row.plain_seconds:6.2f} s   ratio {row.ratio:5.2f}   "
                f"cpu ratio {row.cpu_ratio:5.2f}   at most {row.at_most}"
            )
    return int(any(row.ratio > row.at_most for row in rows))


def measure(runs: int) -> list[Row]:
    """Measures both comparisons in a folder that is removed afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder)
        (at / "empty_typer.py").write_text(EMPTY_TYPER)
        (at / "empty_hydra.py").write_text(EMPTY_HYDRA)
        environment = {
            **os.environ,
            "ASRBUILD_ARTIFACTS": str(at / "artifacts"),
            "ASRBUILD_CACHE": str(at / "cache"),
            "PYTHONPYCACHEPREFIX": str(at / "compiled"),
        }
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        build = [*ASRBUILD, "model=dynamic"]
        subprocess.run(build, check=True, cwd=at, env=environment, stdout=subprocess.DEVNULL)
        pairs = (
            (
                "asrbuild --help",
                [*ASRBUILD, "--help"],
                "empty Typer app",
                [sys.executable, "empty_typer.py", "--help"],
                1.5,
            ),
            (
                "build with nothing to do",
                build,
                "empty Hydra app",
                [sys.executable, "empty_hydra.py"],
                1.2,
            ),
        )
        return [
            compare(what, ours, against, theirs, at_most, runs, at, environment)
            for what, ours, against, theirs, at_most in pairs
        ]


def compare(
    what: str,
    ours: Sequence[str],
    against: str,
    theirs: Sequence[str],
    at_most: float,
    runs: int,
    at: Path,
    environment: Mapping[str, str],
) -> Row:
    """Runs both commands in turns, after one of each to warm the disk."""
    samples: tuple[list[tuple[float, float]], list[tuple[float, float]]] = ([], [])
    for turn in range(runs + 1):
        for command, taken in zip((ours, theirs), samples, strict=True):
            measured = clock(command, at, environment)
            if turn:
                taken.append(measured)
    (seconds, cpu), (plain_seconds, plain_cpu) = (
        tuple(statistics.median(column) for column in zip(*taken, strict=True)) for taken in samples
    )
    return Row(
        what, against, seconds, plain_seconds, seconds / plain_seconds, cpu / plain_cpu, at_most
    )


def clock(command: Sequence[str], at: Path, environment: Mapping[str, str]) -> tuple[float, float]:
    """Elapsed and processor seconds of one command, which must succeed."""
    start = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=at, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    elapsed = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"failed with {process.returncode}: {' '.join(command)}")
    return elapsed, usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    sys.exit(main())
