"""Writes the exact versions that `uv lock` resolves to into pyproject.toml, without index URLs.

    uv lock --upgrade && uv run tools/pin.py

A lock file records the index it was made with, so it is not committed; these constraints are, and
every install follows them.
"""

from __future__ import annotations

import argparse
import re
import subprocess
from pathlib import Path

EXPORT = (
    "uv",
    "export",
    "--no-hashes",
    "--no-emit-project",
    "--no-annotate",
    "--no-header",
    "--all-groups",
    "--all-extras",
)
#: uv repeats the marker of tool.uv.environments on every line; it is redundant here.
EVERYWHERE = (
    "(platform_machine == 'arm64' and platform_python_implementation == 'CPython' and "
    "sys_platform == 'darwin') or (platform_machine == 'x86_64' and "
    "platform_python_implementation == 'CPython' and sys_platform == 'linux')"
)


def pinned() -> list[str]:
    """One exact requirement a line, with its marker, sorted."""
    done = subprocess.run(EXPORT, capture_output=True, text=True, check=True)
    lines = (line.split("#")[0].strip() for line in done.stdout.splitlines())
    short = (
        line.replace(f" and ({EVERYWHERE})", "").replace(f" ; {EVERYWHERE}", "") for line in lines
    )
    return sorted({line for line in short if "==" in line})


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    path = Path("pyproject.toml")
    block = "".join(f'  "{line}",\n' for line in pinned())
    text, count = re.subn(
        r"(constraint-dependencies = \[\n).*?(\]\n)",
        lambda match: match[1] + block + match[2],
        path.read_text(encoding="utf-8"),
        flags=re.DOTALL,
    )
    if count != 1:
        raise SystemExit("pyproject.toml has no constraint-dependencies table to fill")
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
