"""What this machine can say of the Swift package: its syntax, and where there is a toolchain, all.

A check that cannot be made here is a result too, with its reason: nothing is passed over.
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

Notify = Callable[[str], None]


@dataclass(frozen=True)
class Check:
    """One check; ``passed`` is None where it could not be made, and ``detail`` says why."""

    what: str
    passed: bool | None
    detail: str


def check_kit(directory: Path, notify: Notify = lambda _: None) -> list[Check]:
    """Checks a kit that ``write_kit`` wrote, as far as this machine can.

    Args:
        directory: the artifact with its kit.
        notify: told what takes its time.
    """
    checks = [check_syntax(directory / SWIFT_KIT)]
    swift = shutil.which("swift")
    if swift is None:
        missing = "not checked: there is no Swift toolchain here"
        return [*checks, *(Check(what, None, missing) for what in ("compiled", "tested"))]
    with tempfile.TemporaryDirectory(prefix="asrkit-") as scratch:
        return [*checks, *_toolchain_checks(swift, directory, Path(scratch), notify)]


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
    """The nodes that are errors or were made up by the parser."""
    if node.is_error or node.is_missing:
        yield node
    elif node.has_error:
        for child in node.children:
            yield from _broken(child)


def _toolchain_checks(
    swift: str, directory: Path, scratch: Path, notify: Notify
) -> Iterator[Check]:
    results = scratch / "results"
    results.mkdir()
    where = ["--package-path", str(directory / SWIFT_KIT), "--scratch-path", str(scratch / "build")]
    environment = os.environ | {"ASRKIT_RESULTS": str(results)}
    environment["ASRKIT_ARTIFACT"] = str(directory.resolve())
    version = _run([swift, "--version"], environment).stdout.splitlines()
    name = next((line for line in version if "Swift version" in line), "Swift").strip()
    core_ml = "" if sys.platform == "darwin" else "; without Core ML, which is Apple's alone"
    for what, command in (("compiled", ["build", "--build-tests"]), ("tested", ["test"])):
        notify(f"swift {command[0]}: this takes about a minute")
        done = _run([swift, *command, *where], environment)
        if done.returncode != 0:
            yield Check(what, False, _first_error(done.stdout + done.stderr))
            return
        yield Check(what, True, f"{name}{core_ml}")
    checker = directory / CONFORMANCE_KIT / "check.py"
    done = _run(python_script(checker, str(results)), environment)
    lines = done.stdout.strip().splitlines() or ["the checker said nothing"]
    yield Check("conformance", done.returncode == 0, lines[-1].strip())


def _run(command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, errors="replace", check=False
    )


def _first_error(output: str) -> str:
    """The first line that names a place in a file; else one that says error, or the last."""
    lines = [line.strip() for line in output.splitlines() if line.strip()] or ["no output"]
    for pattern in (r"[^/]+\.swift:\d+:.*error: .*", r"error: .*"):
        for line in lines:
            if found := re.search(pattern, line):
                return found[0]
    return lines[-1]
