"""Two checkouts of asrbuild, compared in one run: seconds of each, and their ratio.

    uv run python -m benchmarks.compare OLD NEW [--runs 5] [--only help,noop]

OLD and NEW are folders with an ``asrbuild`` package; ``git worktree add /tmp/old TAG`` makes one of
an old commit. Both run with this Python and its libraries, or with those of the folder's own
``.venv``. The commands run in turns, so that a busy machine slows both; the first turn only warms
the disk and is not counted. Seconds are medians, and so are the ratios of the turns.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.startup import clock

_MAIN = "from asrbuild.cli.main import main; main()"
#: Name -> code, arguments, and whether every run begins without a cache and a store.
COMMANDS: dict[str, tuple[str, Sequence[str], bool]] = {
    "import": ("import asrbuild.cli.main", (), False),
    "help": (_MAIN, ("--help",), False),
    "noop": (_MAIN, ("model=dynamic",), False),
    "cold": (_MAIN, ("model=dynamic",), True),
    "sweep": (_MAIN, ("-m", "model=static", "n_steps=8,16,32,64"), True),
}


@dataclass(frozen=True)
class Row:
    """One command; seconds are medians, ratios are NEW over OLD, elapsed and of the processor."""

    what: str
    old_seconds: float
    new_seconds: float
    ratio: float
    cpu_ratio: float


@dataclass(frozen=True)
class Checkout:
    """A folder with the package, and a folder of its own to run in."""

    folder: Path
    work: Path

    def run(self, name: str) -> tuple[float, float]:
        """Elapsed and processor seconds of one command, which must succeed."""
        code, arguments, cold = COMMANDS[name]
        if cold:
            shutil.rmtree(self.work / "cold", ignore_errors=True)
        place = self.work / ("cold" if cold else "warm")
        environment = os.environ | {
            "PYTHONPATH": str(self.folder),
            "PYTHONPYCACHEPREFIX": str(self.work / "compiled"),
            "ASRBUILD_ARTIFACTS": str(place / "artifacts"),
            "ASRBUILD_CACHE": str(place / "cache"),
        }
        own = self.folder / ".venv" / "bin" / "python"
        python = str(own) if own.exists() else sys.executable
        return clock([python, "-c", code, *arguments], self.work, environment)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old", type=Path, metavar="OLD")
    parser.add_argument("new", type=Path, metavar="NEW")
    parser.add_argument("--runs", type=int, default=5, help="counted runs of each command")
    parser.add_argument("--only", default=",".join(COMMANDS), help=f"of {', '.join(COMMANDS)}")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    names = options.only.split(",")
    if unknown := sorted(set(names) - set(COMMANDS)):
        parser.error(f"--only has {', '.join(unknown)}; choose from {', '.join(COMMANDS)}")
    for folder in (options.old, options.new):
        if not (folder / "asrbuild" / "cli" / "main.py").is_file():
            parser.error(f"{folder} has no asrbuild/cli/main.py")
    rows = measure(options.old.resolve(), options.new.resolve(), names, options.runs)
    if options.json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
        return 0
    for row in rows:
        print(
            f"{row.what:<8} old {row.old_seconds:7.2f} s   new {row.new_seconds:7.2f} s   "
            f"ratio {row.ratio:5.2f}   cpu ratio {row.cpu_ratio:5.2f}"
        )
    return 0


def measure(old: Path, new: Path, names: Sequence[str], runs: int) -> list[Row]:
    """Every command on both checkouts, in folders that are removed afterwards."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        both = []
        for name, checkout in (("old", old), ("new", new)):
            (work := Path(folder) / name).mkdir()
            both.append(Checkout(checkout, work))
        for name in names:
            turns = [[each.run(name) for each in both] for _ in range(runs + 1)][1:]
            seconds = [statistics.median(turn[at][0] for turn in turns) for at in (0, 1)]
            ratios = [
                statistics.median(turn[1][kind] / turn[0][kind] for turn in turns)
                for kind in (0, 1)
            ]
            rows.append(Row(name, *seconds, *ratios))
    return rows


if __name__ == "__main__":
    sys.exit(main())
