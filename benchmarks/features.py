"""The speed of the features in ASRKit: 60 s of sound in at most 25 ms, for every recipe.

    uv run benchmarks/features.py [--limit 25] [--seconds 60]

Builds ``asrkit`` in release mode in a temporary folder, which takes minutes, and lets ``asrkit
bench`` print the best of five runs of each recipe. Exits with 1 if one takes longer. Needs a
Swift toolchain.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from asrbuild.handover.app.kit import write_swift


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--limit", type=float, default=25.0, help="milliseconds")
    parser.add_argument("--seconds", type=int, default=60, help="of sound")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_swift(Path(folder, "ASRKit"))
        done = subprocess.run(
            [
                "swift",
                "run",
                "-c",
                "release",
                "--package-path",
                f"{folder}/ASRKit",
                "asrkit",
                "bench",
                "--seconds",
                str(chosen.seconds),
            ],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    found = re.findall(r"^features +(\w+): ([\d.]+) ms", done.stdout, re.MULTILINE)
    for recipe, milliseconds in found:
        slow = float(milliseconds) > chosen.limit
        print(f"{recipe:16} {milliseconds:>8} ms  {'SLOW' if slow else 'ok'}")
    return int(not found or any(float(ms) > chosen.limit for _, ms in found))


if __name__ == "__main__":
    sys.exit(main())
