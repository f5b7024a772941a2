"""Self-contained HTML pages: one style, inline scripts, no request to anywhere.

The page's Content-Security-Policy lets a browser run only the scripts named by their digest and
fetch nothing, so that a hostile name or transcript does no harm even if it were not escaped.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from asrbuild.base.disk import disk_errors
from asrbuild.handover.report.environment import environment

TEMPLATES = Path(__file__).parent / "templates"


def render(template: str, scripts: Iterable[str] = (), **values: Any) -> str:
    """A page from a template of this folder; everything in ``values`` is escaped.

    Args:
        template: the name of a file in ``templates``, which extends ``base.html.j2``.
        scripts: names of the scripts that it needs, in the same folder.
        values: the variables of the template.
    """
    from markupsafe import Markup

    script = "\n".join((TEMPLATES / name).read_text(encoding="utf-8") for name in scripts)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    policy = (
        "default-src 'none'; img-src data:; media-src data: blob:; style-src 'unsafe-inline'; "
        f"base-uri 'none'; form-action 'none'; script-src 'sha256-{digest}'"
    )
    return (
        environment(TEMPLATES)
        .get_template(template)
        .render(
            style=Markup((TEMPLATES / "page.css").read_text(encoding="utf-8")),
            script=Markup(script),
            policy=policy,
            **values,
        )
    )


def write_html(path: Path, text: str) -> None:
    """Writes a page, and makes its folder.

    Raises:
        AsrbuildError: the disk refuses.
    """
    with disk_errors("writing the page", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")


def data_uri(kind: str, content: bytes) -> str:
    """A file inside a page; ``kind`` is its media type."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def figure_text(value: float) -> str:
    """A measured value in four digits at most: ``0.00711``, ``7.2e-12``, ``1``."""
    text = f"{value:.3g}"
    return text.replace("e-0", "e-").replace("e+0", "e")
