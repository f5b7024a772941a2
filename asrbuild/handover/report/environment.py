"""Jinja environments, one a folder of templates, with escaping for HTML and Markdown."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asrbuild.base.terminal import plain

if TYPE_CHECKING:
    from jinja2 import Environment
    from jinja2.bccache import Bucket, BytecodeCache
    from jinja2.runtime import Context
    from markupsafe import Markup


#: Places in a path or an override where a line may end; not within ``&amp;``.
_JOINTS = re.compile(r"(?<=[/=:_,])|(?<=\w)(?=\.\w)")
_MARKS = re.compile(r"([\\`*~<>|\[\]]|&(?=[#\w]))")


class Markdown(str):
    """Text that is Markdown already and is not escaped again."""


def markdown(text: str) -> Markdown:
    """``text`` as one line of Markdown without marks, links, tags and table cells.

    Source: CommonMark 0.31.2, section 2.4; ``|`` and ``~`` are marks of GitHub's dialect.
    """
    return Markdown(_MARKS.sub(r"\\\1", plain(text).replace("\n", " ")))


def code(text: str) -> Markdown:
    """``text`` as a code span, also in a table."""
    shown = plain(text).replace("\n", " ").replace("`", "'").replace("|", "\\|")
    return Markdown(f"`{shown}`")


def breakable(text: str) -> Markup:
    """``text`` as HTML that may break after each ``/ = : _ ,`` and before a dot."""
    from markupsafe import Markup, escape

    return Markup(_JOINTS.sub("<wbr>", str(escape(text))))


def _escaped_in_markdown(context: Context, value: Any) -> Any:
    if isinstance(value, Markdown) or not isinstance(value, str):
        return value
    return markdown(value) if (context.name or "").endswith(".md.j2") else value


def _compiled() -> BytecodeCache | None:
    """Compiled templates beside Python's own compiled modules; None if those are not written.

    A build compiles its templates in 0.1 s. Their code depends on this module, too.
    """
    import jinja2

    folder = Path(importlib.util.cache_from_source(__file__)).parent
    if sys.dont_write_bytecode or not os.access(folder, os.W_OK):
        return None

    class Kept(jinja2.FileSystemBytecodeCache):
        def dump_bytecode(self, bucket: Bucket) -> None:
            with suppress(OSError):  # a full disk
                super().dump_bytecode(bucket)

    own = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:16]
    return Kept(str(folder), f"template-%s.{sys.implementation.cache_tag}.{own}")


@functools.cache
def environment(folder: Path) -> Environment:
    """Templates of a folder; ``.html.j2`` and ``.md.j2`` escape what goes into them.

    An undefined name in a template is an error.
    """
    import jinja2

    from asrbuild.base.quantities import size_text

    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        bytecode_cache=_compiled(),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=lambda name: name is not None and name.endswith(".html.j2"),
        finalize=jinja2.pass_context(_escaped_in_markdown),
    )
    made.filters["breakable"] = breakable
    made.filters["code"] = code
    made.filters["size"] = size_text
    return made
