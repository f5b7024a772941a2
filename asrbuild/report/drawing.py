"""What the pages with plots share: the style, and Matplotlib figures as SVG text."""

from __future__ import annotations

import io
from typing import Any

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse } td, th { padding: .2rem .8rem .2rem 0; text-align: left }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums }
tr + tr td { border-top: 1px solid #ddd }
.wrong { color: #b00020 } svg { max-width: 100%; height: auto }
"""


def figure(width: float, height: float) -> tuple[Any, Any]:
    """A figure of that many inches, and its axes."""
    from matplotlib.figure import Figure

    made = Figure(figsize=(width, height), layout="constrained")
    return made, made.add_subplot()


def svg(drawn: Any) -> str:
    """The figure as an SVG element."""
    buffer = io.StringIO()
    drawn.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
