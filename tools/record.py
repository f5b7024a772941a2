"""Records a command as a picture of a terminal: `uv run tools/record.py docs/build.svg asrbuild …`."""  # noqa: E501

from __future__ import annotations

import subprocess
import sys

from rich.console import Console
from rich.text import Text


def main() -> None:
    target, *command = sys.argv[1:]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True
    )
    with open("/dev/null", "w", encoding="utf-8") as nowhere:
        console = Console(record=True, width=110, file=nowhere)
        console.print(Text(f"$ {' '.join(command)}", style="bold"))
        console.print(Text(done.stdout.rstrip()))
        console.save_svg(target, title="asrbuild")


if __name__ == "__main__":
    main()
