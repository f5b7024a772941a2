"""What mkdocs calls: the pages made from the code, and links that leave the site."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))  # mkdocs loads this file by its path

_LINK = re.compile(r"\[([^\]]+)\]\(((?:\.\./)[^)#]+)[^)]*\)")


def on_files(files: Any, config: Any) -> Any:
    """Adds the reference, the changes and the licences to the pages of docs/."""
    from mkdocs.structure.files import File

    from tools.site import commands, keys, manifest

    pages = {
        "reference/keys.md": keys.page(),
        "reference/commands.md": commands.page(),
        "reference/manifest.md": manifest.page(1),
        "reference/manifest2.md": manifest.page(2),
        "changes.md": (ROOT / "CHANGELOG.md").read_text("utf-8"),
        "licences.md": licences(),
    }
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Links to files of the repository as their names: a site has only its own pages."""
    return _LINK.sub(lambda link: f"`{link[2].replace('../', '')}`", markdown)


def licences() -> str:
    """The licence of the code, and of what comes with it."""
    notice = (ROOT / "NOTICE").read_text("utf-8")
    return (
        "# Licences\n\nasrbuild is under the Apache License 2.0. An artifact is under the "
        "licence that its recipe names in `source.license`; manifest and package repeat it. "
        f"Code in an app kit is under the Apache License 2.0, too.\n\n```text\n{notice}```\n"
    )
