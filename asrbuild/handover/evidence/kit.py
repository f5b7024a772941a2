"""Writes the evidence kit: a folder that measures an artifact on a device.

README.md               how to measure on a Mac and on an iPhone, and what is not known yet
measure.py              measures on a Mac, with coremltools
ASRKit/                 a Swift package: the sources of the app kit, and the target that measures
  Tests/ASRKitEvidence/measured/   the package, manifest.json, kit.json, conformance/
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from pathlib import Path

from asrbuild.artifact.layout import CONFORMANCE_KIT, MANIFEST, SWIFT_KIT
from asrbuild.artifact.manifest import Manifest, with_function
from asrbuild.artifact.named_files import package_path
from asrbuild.base.disk import disk_errors, files_in, rename_directory
from asrbuild.base.errors import AsrbuildError
from asrbuild.handover.app.kit import write_swift, write_vectors
from asrbuild.handover.app.limits import check_kit
from asrbuild.handover.evidence.checks import operations
from asrbuild.handover.evidence.document import package_digest
from asrbuild.handover.report.environment import environment

FORMAT = "asrbuild-evidence-kit/1"
TARGET = "ASRKitEvidence"
TEMPLATES = Path(__file__).parent / "templates"
#: The target of the evidence kit, which replaces the app kit's tests.
_TARGET = f'''.testTarget(
            name: "{TARGET}", dependencies: ["ASRKit", "ASRConformance"],
            resources: [.copy("measured")],
            // XCTest and Foundation on Apple systems: not compiled elsewhere.
            swiftSettings: [.swiftLanguageMode(.v5)]
        )'''


def write_evidence_kit(
    directory: Path, artifact: Path, manifest: Manifest, function: str | None = None
) -> None:
    """Writes the kit of an artifact into a new folder, in one step.

    Args:
        artifact: the artifact's directory, whole.
        function: the function of the package to measure; None: the manifest's default.

    Raises:
        AsrbuildError: the folder exists, the function does not exist, or the package cannot run.
    """
    if directory.exists():
        raise AsrbuildError(
            "this folder exists already", file=directory, fix="name a folder that does not exist"
        )
    check_kit(manifest)
    chosen = with_function(manifest, function or manifest.model.default_function)
    directory.parent.mkdir(parents=True, exist_ok=True)
    with (
        disk_errors("writing an evidence kit", directory),
        tempfile.TemporaryDirectory(prefix=f".{directory.name}-", dir=directory.parent) as folder,
    ):
        made = Path(folder, directory.name)
        write_swift(made / SWIFT_KIT)
        tests = made / SWIFT_KIT / "Tests" / TARGET
        _add_target(made / SWIFT_KIT / "Package.swift")
        for file in files_in(TEMPLATES / TARGET):
            (tests / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(TEMPLATES / TARGET / file, tests / file)
        _write_measured(tests / "measured", artifact, chosen)
        for script in ("measure.py", "calls.py"):
            shutil.copyfile(TEMPLATES / script, made / script)
        page = environment(TEMPLATES).get_template("README.md.j2").render(m=chosen)
        (made / "README.md").write_text(page, encoding="utf-8", newline="\n")
        rename_directory(made, directory)


def _add_target(settings: Path) -> None:
    text = settings.read_text(encoding="utf-8")
    made = re.sub(r"\.testTarget\(name: \"ASRKitTests\".*\)", lambda _: _TARGET, text)
    assert made != text
    settings.write_text(made, encoding="utf-8", newline="\n")
    shutil.rmtree(settings.parent / "Tests" / "ASRKitTests")


def _write_measured(directory: Path, artifact: Path, manifest: Manifest) -> None:
    """Writes the package, its manifest, and the expected results."""
    package = package_path(artifact, manifest)
    copy = directory / manifest.model.package
    copy.parent.mkdir(parents=True)
    files = [Path(file) for file in files_in(package)] if package.is_dir() else [Path()]
    for file in files:
        (copy / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(package / file, copy / file)
    shutil.copyfile(artifact / MANIFEST, directory / MANIFEST)
    write_vectors(directory / CONFORMANCE_KIT, artifact, manifest)
    functions = len(manifest.model.functions)
    name = manifest.model.default_function
    kit = {
        "format": FORMAT,
        "package_sha256": package_digest(package),
        "function": name,
        "ops": operations(package, name if functions > 1 else None),
    }
    text = json.dumps(kit, indent=1) + "\n"
    (directory / "kit.json").write_text(text, encoding="utf-8", newline="\n")
