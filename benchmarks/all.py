"""Every ratio of time and memory with a limit, in one run.

    uv run benchmarks/all.py [--n-hidden 2048] [--repeat 3]

Rows of ``startup.py`` (help and a build with nothing to do), ``convert.py`` (the convert stage by
front end and format) and ``build.py`` (whole cold builds, their memory, a sweep of 16 shapes with
two BLAS kernels and its bytes on the disk). ``decoding.py`` (decoders), ``executor.py`` (packages
in the executor), ``features.py`` (features in Swift), ``fit.py`` (rules against labels) and
``matrix.py`` (every recipe) have no ratio with a limit, and run alone; so do ``coreai.py`` (Core AI
assets), which needs ``asrbuild coreai install``, and ``models.py`` and ``cells.py`` (models of
other architectures; their sweep over shapes and formats), which fetch some from the package index.
With Swift: ``swift_decoding.py`` (beam search), ``app_kit_hour.py`` (an hour in small pieces) and
``app_kit`` (faults that the kit's tests find). ``compare.py`` runs two checkouts in turns:
start-up, a build with nothing to do, a cold build and a sweep.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n-hidden", type=int, default=2048)
    parser.add_argument("--repeat", type=int, default=3)
    chosen = parser.parse_args()
    width, repeat = f"--n-hidden={chosen.n_hidden}", str(chosen.repeat)
    codes = [
        run("startup.py", "--runs", str(2 * chosen.repeat + 1)),
        run("convert.py", width, "--runs", repeat, "--plain-runs", repeat),
        run("build.py", width, "--repeat", repeat, "--only", "cold,sweep,noop"),
    ]
    return max(codes)


def run(script: str, *arguments: str) -> int:
    print(f"\n{script}", flush=True)
    path = Path(__file__).with_name(script)
    return subprocess.run([sys.executable, str(path), *arguments], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
