"""The Swift code of the project's documents: what a reader pastes."""

from __future__ import annotations

import re

from tests.paths import ROOT

#: The kit's README, and the page about apps.
README, PAGE = "asrbuild/handover/app/templates/README.md.j2", "docs/an-app.md"
#: Document -> its blocks of Swift, each of which tests compile, and run where Linux can.
BLOCKS = {README: ("package", "listen", "fetch", "prove", "replay"), PAGE: ("pull",)}


def swift_blocks(text: str) -> list[str]:
    """The blocks of Swift in a Markdown text, in order."""
    return re.findall(r"^```swift\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def counted() -> dict[str, int]:
    """Each document of the project with blocks of Swift, and their number."""
    folders = [ROOT / name for name in ("asrbuild", "benchmarks", "docs", "examples", "tools")]
    files = [*ROOT.glob("*.md"), *(path for folder in folders for path in folder.rglob("*.md*"))]
    found = {path.relative_to(ROOT).as_posix(): swift_blocks(path.read_text()) for path in files}
    return {path: len(blocks) for path, blocks in found.items() if blocks}


def readme_code(readme: str) -> dict[str, str]:
    """The blocks of an artifact's README by name."""
    return dict(zip(BLOCKS[README], swift_blocks(readme), strict=True))


def page_code(name: str) -> str:
    """The block of the page about apps as a function, of an artifact with this name."""
    (block,) = swift_blocks((ROOT / PAGE).read_text())
    body = "".join(f"    {line}\n" for line in block.replace('"mine"', f'"{name}"').splitlines())
    return (
        "import ASRDelivery\nimport ASRKit\nimport Foundation\n\n"
        "func pulledArtifact(from address: URL, publisher: String) async throws -> ASRArtifact {\n"
        f"{body}    return artifact\n}}\n"
    )
