"""Where templates are rendered: one Jinja environment a folder, so that each is compiled once."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment


@functools.cache
def environment(folder: Path) -> Environment:
    """Templates of a folder; those named ``.html.j2`` escape what goes into them.

    A name that a template is not given is an error, as it is rendered.
    """
    import jinja2

    from asrbuild.quantities import size_text

    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=lambda name: name is not None and name.endswith(".html.j2"),
    )
    made.filters["size"] = size_text
    return made
