"""Records the output of a command as a picture of a terminal.

uv run tools/record.py docs/build.svg asrbuild model=dynamic
"""

from __future__ import annotations

import argparse
import os
import subprocess
from pathlib import Path

from rich.console import Console
from rich.text import Text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("picture", type=Path, help="the SVG file to write")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="the command to run")
    chosen = parser.parse_args()
    done = subprocess.run(
        chosen.command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True
    )
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        console = Console(record=True, width=110, file=nowhere)
        console.print(Text(f"$ {' '.join(chosen.command)}", style="bold"))
        console.print(Text(done.stdout.rstrip()))
        console.save_svg(str(chosen.picture), title="asrbuild")


if __name__ == "__main__":
    main()
