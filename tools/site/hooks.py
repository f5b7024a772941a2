"""Hooks of mkdocs: the pages made from the code, and links that leave the site."""

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
        "changes.md": changes(),
        "licences.md": licences(),
    }
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Links to files of the repository as their names: a site has only its own pages."""
    return _LINK.sub(lambda link: f"`{link[2].replace('../', '')}`", markdown)


def changes() -> str:
    """The changelog, with the links of a page in docs/."""
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    return text.replace("](docs/", "](").replace("](examples/", "](../examples/")


def licences() -> str:
    """The licence of the code, and of what comes with it."""
    notice = (ROOT / "NOTICE").read_text("utf-8")
    return (
        "# Licences\n\n"
        "| what | licence |\n|---|---|\n"
        "| asrbuild, its examples and this documentation | Apache License 2.0 |\n"
        "| `ASRKit/`, the Swift code of an artifact and of `asrbuild app` | Apache License 2.0; "
        "an app that ships it names that |\n"
        "| your model, in an artifact | what the recipe has in `source.license`: manifest, package "
        "and README repeat it |\n"
        "| the demo model, its recordings and its scorer, and what is built of them | "
        "CC-BY-SA-3.0: an app that ships them keeps the attribution and the licence |\n"
        "| ds-ctcdecoder, which `asrbuild decoder install` brings | Mozilla Public License 2.0; "
        "no artifact contains it |\n"
        "| Apple's Core AI runtime, which `asrbuild coreai install` brings | Apple's; no artifact "
        "contains it |\n\n"
        f"## Notices\n\n```text\n{notice}```\n"
    )
