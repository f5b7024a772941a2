"""``asrbuild doctor``: the installed and missing parts, and their consequences."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import typer

from asrbuild.base import terminal
from asrbuild.base.tables import folding, show
from asrbuild.cli.options import JsonOption

LineStatus = Literal["ok", "missing", "info"]


@dataclass(frozen=True)
class DoctorLine:
    """One line of the report. ``needed``: builds require it."""

    name: str
    status: LineStatus
    found: str
    meaning: str
    needed: bool


def doctor(
    as_json: JsonOption = False,
) -> None:
    """Show what is installed, what is missing, and the consequences.

    The exit code is 1 if a part that builds require is missing.

    Examples:
        asrbuild doctor
    """
    findings = examine()
    if as_json:
        terminal.say_json([asdict(finding) for finding in findings])
    else:
        _print(findings)
    if any(finding.needed and finding.status == "missing" for finding in findings):
        raise typer.Exit(1)


def examine() -> list[DoctorLine]:
    """Examines the installation, without importing heavy libraries."""
    return [
        _python(),
        *_libraries(),
        _extras(),
        _core_ml(),
        _swift(),
        _genuine_decoder(),
        _core_ai(),
        _disk(),
        _writable("artifacts", Path(os.environ.get("ASRBUILD_ARTIFACTS", "artifacts"))),
        _writable("cache", Path(os.environ.get("ASRBUILD_CACHE", ".asrbuild/cache"))),
    ]


def _python() -> DoctorLine:
    version = platform.python_version()
    good = (3, 10) <= sys.version_info[:2] <= (3, 13)
    return DoctorLine(
        "Python",
        "ok" if good else "missing",
        version,
        "" if good else "asrbuild's dependencies have wheels for 3.10 to 3.13",
        True,
    )


def _libraries() -> list[DoctorLine]:
    from asrbuild.base.libraries import extra_of, install_fix, library_version

    roles = {
        "hydra-core": ("composes recipes", True),
        "coremltools": ("writes Core ML packages", True),
        "tensorflow": ("the reference that a package is proven against", True),
        "numpy": ("runs packages off macOS", True),
        "soundfile": ("reads recordings", True),
        "soxr": ("resamples recordings", True),
        "jiwer": ("counts word errors", True),
    }
    findings = []
    for name, (role, needed) in roles.items():
        version = library_version(name)
        absent = version == "absent"
        meaning = f"{role}; {install_fix(extra_of(name))}" if absent else role
        findings.append(DoctorLine(name, "missing" if absent else "ok", version, meaning, needed))
    return findings


def _extras() -> DoctorLine:
    from asrbuild.base.libraries import extras, install_fix, library_version

    # TensorFlow has a line of its own.
    optional = {extra: brought for extra, brought in extras().items() if extra != "build"}
    absent = [
        extra
        for extra, brought in optional.items()
        if any(library_version(name) == "absent" for name in brought)
    ]
    return DoctorLine(
        "extras",
        "info" if absent else "ok",
        ", ".join(extra for extra in optional if extra not in absent) or "none",
        f"not installed: {', '.join(absent)}; for example {install_fix(absent[0])}"
        if absent
        else "",
        False,
    )


def _core_ml() -> DoctorLine:
    if sys.platform == "darwin":
        return DoctorLine("Core ML", "ok", platform.mac_ver()[0], "also runs every package", False)
    return DoctorLine(
        "Core ML",
        "info",
        platform.system(),
        "runs on macOS only; packages are proven by asrbuild's own executor here",
        False,
    )


def _swift() -> DoctorLine:
    found = shutil.which("swift")
    return DoctorLine(
        "Swift",
        "ok" if found else "info",
        found or "no toolchain",
        "compiles and tests what `asrbuild app` writes"
        if found
        else "`asrbuild app` checks the syntax of its Swift, and compiles nothing",
        False,
    )


def _genuine_decoder() -> DoctorLine:
    from asrbuild.speech.deepspeech_decoder.environment import status

    found = status()
    return DoctorLine(
        "ds-ctcdecoder",
        "ok" if found.ready else "info",
        found.detail,
        "for decoder=ds_ctcdecoder"
        if found.ready
        else "only decoder=ds_ctcdecoder needs it; `asrbuild decoder install` sets it up",
        False,
    )


def _core_ai() -> DoctorLine:
    from asrbuild.coreai.environment import status

    found = status()
    return DoctorLine(
        "Core AI",
        "ok" if found.ready else "info",
        found.detail,
        "witnesses every build with Apple's own runtime"
        if found.ready
        else "builds are proven without a second runtime",
        False,
    )


def _disk() -> DoctorLine:
    free = shutil.disk_usage(Path.cwd()).free
    enough = free > 2e9
    return DoctorLine(
        "disk",
        "ok" if enough else "missing",
        f"{free / 1e9:.1f} GB free",
        "" if enough else "a full-size build keeps about 1 GB in its cache",
        True,
    )


def _writable(name: str, path: Path) -> DoctorLine:
    probe = next(p for p in (path.absolute(), *path.absolute().parents) if p.exists())
    good = os.access(probe, os.W_OK)
    return DoctorLine(
        name,
        "ok" if good else "missing",
        str(path),
        "" if good else f"cannot be written; set ASRBUILD_{name.upper()}",
        True,
    )


def _print(findings: list[DoctorLine]) -> None:
    table = folding("asrbuild doctor", "", "what", "found", "meaning")
    marks = {"ok": ("ok", "green"), "missing": ("missing", "red"), "info": ("note", "cyan")}
    for finding in findings:
        table.add_row(
            terminal.line(*marks[finding.status]), finding.name, finding.found, finding.meaning
        )
    show(table)
