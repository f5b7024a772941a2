"""Writes the page of supported ops: ``python -m asrbuild.executor.page docs/executor-ops.md``."""

from __future__ import annotations

import sys
from pathlib import Path

from asrbuild.executor.table import supported_ops


def render() -> str:
    """The table as a Markdown page."""
    lines = [
        "# Ops the executor runs",
        "",
        "Written by `python -m asrbuild.executor.page docs/executor-ops.md`. A test keeps it up to",
        "date, another wants a conformance test of every op here.",
    ]
    titles = {"mlprogram": "ML programs (MIL ops)", "neuralnetwork": "Neural networks (layers)"}
    rows = supported_ops()
    for package_format, title in titles.items():
        chosen = [row for row in rows if row.format == package_format]
        lines += ["", f"## {title}: {len(chosen)}", "", "| op | family | what it does |"]
        lines += ["|---|---|---|"]
        lines += [
            f"| `{row.name}` | {row.family} | {row.summary.replace('|', chr(92) + '|')} |"
            for row in chosen
        ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(render(), encoding="utf-8")
