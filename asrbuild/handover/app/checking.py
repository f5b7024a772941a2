"""Checks the Swift package: its syntax, and its build and tests if Swift is installed.

A check that cannot run on this machine is reported with the reason.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asrbuild.artifact.layout import CONFORMANCE_KIT, SWIFT_KIT
from asrbuild.base.processes import python_script

#: A note on the conformance check without Core ML.
PLAYED_BACK = "features, calls and text are computed; the package's outputs are played back"
NotifyLine = Callable[[str], None]


@dataclass(frozen=True)
class Check:
    """One check; ``passed`` is None if it could not run, and ``detail`` gives the reason."""

    what: str
    passed: bool | None
    detail: str


def check_kit(
    directory: Path, notify: NotifyLine = lambda _: None, build: Path | None = None
) -> list[Check]:
    """Checks a kit that ``write_kit`` wrote, as far as this machine can.

    Args:
        directory: the artifact with its kit.
        notify: called before a step that takes long.
        build: the folder for Swift's build; None: a temporary folder.
    """
    checks = [check_syntax(directory / SWIFT_KIT)]
    swift = shutil.which("swift")
    if swift is None:
        missing = "not checked: Swift is not installed"
        return [*checks, *(Check(what, None, missing) for what in ("compiled", "tested"))]
    with tempfile.TemporaryDirectory(prefix="asrkit-") as scratch:
        made = build or Path(scratch, "build")
        return [*checks, *_toolchain_checks(swift, directory, Path(scratch), made, notify)]


def check_syntax(package: Path) -> Check:
    """Parses every Swift file with tree-sitter's grammar."""
    files = sorted(package.rglob("*.swift"))
    try:
        from tree_sitter import Language, Parser
        from tree_sitter_swift import language
    except ImportError:
        return Check("syntax", None, "not checked: tree-sitter-swift is not installed")
    parser = Parser(Language(language()))
    for file in files:
        broken = next(_broken(parser.parse(file.read_bytes()).root_node), None)
        if broken is not None:
            where = f"{file.relative_to(package)}:{broken.start_point[0] + 1}"
            return Check("syntax", False, f"{where} does not parse")
    return Check("syntax", True, f"{len(files)} files parse (tree-sitter)")


def _broken(node: Any) -> Iterator[Any]:
    """Yields the nodes that are errors or that the parser added."""
    if node.is_error or node.is_missing:
        yield node
    elif node.has_error:
        for child in node.children:
            yield from _broken(child)


def _toolchain_checks(
    swift: str, directory: Path, scratch: Path, build: Path, notify: NotifyLine
) -> Iterator[Check]:
    results = scratch / "results"
    results.mkdir()
    where = ["--package-path", str(directory / SWIFT_KIT), "--scratch-path", str(build)]
    environment = os.environ | {"ASRKIT_RESULTS": str(results)}
    environment["ASRKIT_ARTIFACT"] = str(directory.resolve())
    version = _run([swift, "--version"], environment).stdout.splitlines()
    name = next((line for line in version if "Swift version" in line), "Swift").strip()
    core_ml = (
        "" if sys.platform == "darwin" else "; without Core ML, which is on Apple systems only"
    )
    for what, command in (("compiled", ["build", "--build-tests"]), ("tested", ["test"])):
        notify(f"swift {command[0]}: this takes about a minute")
        done = _run([swift, *command, *where], environment)
        if done.returncode != 0:
            yield Check(what, False, _first_error(done.stdout + done.stderr))
            return
        yield Check(what, True, f"{name}{core_ml}")
    checker = directory / CONFORMANCE_KIT / "check.py"
    done = _run(python_script(checker, str(results)), environment)
    lines = done.stdout.strip().splitlines() or ["the checker printed nothing"]
    # Elsewhere the kit's tests use the probabilities of the vectors instead of the package.
    played = "" if sys.platform == "darwin" else f" ({PLAYED_BACK})"
    yield Check("conformance", done.returncode == 0, lines[-1].strip() + played)


def _run(command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, errors="replace", check=False
    )


def _first_error(output: str) -> str:
    """The first line with an error in a file; else the first error, or the last line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()] or ["no output"]
    for pattern in (r"[^/]+\.swift:\d+:.*error: .*", r"error: .*"):
        for line in lines:
            if found := re.search(pattern, line):
                return found[0]
    return lines[-1]
