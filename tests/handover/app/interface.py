"""The public symbols of ASRKit, read from compiled modules, and the recorded list.

    uv run python -m tests.handover.app.interface BUILD

records the symbols of a build (``swift build --scratch-path BUILD``) with the kit's version: do so
when a version is released. A removed symbol or declaration requires a new major version.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from asrbuild.artifact.layout import SWIFT_KIT
from asrbuild.handover.app.kit import TEMPLATES

MODULES = (
    "ASRCore",
    "ASRSession",
    "ASRCoreML",
    "ASRAudio",
    "ASRDelivery",
    "ASRConformance",
)
RECORDED = Path(__file__).parent / "interface.json"


def version() -> str:
    """The kit's own version."""
    code = (TEMPLATES / SWIFT_KIT / "Sources" / "ASRCore" / "Version.swift").read_text()
    (found,) = re.findall(r'current = "(\d+\.\d+\.\d+)"', code)
    return str(found)


#: The protocol of values that cross from one task to another, and the kinds of types.
SENDABLE, TYPES = "s:s8SendableP", ("swift.struct", "swift.enum", "swift.class")


@dataclass(frozen=True)
class Symbol:
    """A public symbol: whether it is described, and whether it is a type that is not Sendable."""

    described: bool
    unsendable: bool


def symbols(build: Path) -> dict[str, Symbol]:
    """Public declaration with its module and place -> what is known of it."""
    target = json.loads(
        subprocess.run(
            ["swift", "-print-target-info"], capture_output=True, text=True, check=True
        ).stdout
    )["target"]["triple"]
    found: dict[str, Symbol] = {}
    with tempfile.TemporaryDirectory() as folder:
        for module in MODULES:
            subprocess.run(
                [
                    "swift",
                    "symbolgraph-extract",
                    "-module-name",
                    module,
                    "-I",
                    str(build / "debug" / "Modules"),
                    "-target",
                    target,
                    "-minimum-access-level",
                    "public",
                    "-skip-synthesized-members",
                    "-output-dir",
                    folder,
                ],
                capture_output=True,
                check=True,
            )
        for file in sorted(Path(folder).glob("*.symbols.json")):
            graph = json.loads(file.read_text())
            sendable = {
                each["source"]
                for each in graph["relationships"]
                if (each["kind"], each["target"]) == ("conformsTo", SENDABLE)
            }
            for one in graph["symbols"]:
                code = "".join(part["spelling"] for part in one["declarationFragments"])
                place = ".".join([file.name.split(".")[0], *one["pathComponents"]])
                is_type = one["kind"]["identifier"] in TYPES
                unsendable = is_type and one["identifier"]["precise"] not in sendable
                found[f"{place}: {code}"] = Symbol(bool(one.get("docComment")), unsendable)
    return found


def main(build: str) -> None:
    made = {"version": version(), "symbols": sorted(symbols(Path(build)))}
    RECORDED.write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
