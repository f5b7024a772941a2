"""Artifacts, their Swift package with all changes in it, and runs of its tests."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from asrbuild.artifact.layout import CONFORMANCE_KIT, MANIFEST, SWIFT_KIT
from asrbuild.artifact.reading import read_manifest
from asrbuild.base import terminal
from asrbuild.base.errors import AsrbuildError
from asrbuild.handover.app.kit import write_folder, write_swift
from asrbuild.handover.evidence.kept import check_file
from asrbuild.handover.ship.signing.keys import new_key
from benchmarks.app_kit.swift_tests import BrokenError, Fault, Ran, finish, read_tests
from tests.acceptance.conftest import run_asrbuild
from tests.architectures.recipes import MODELS, write_recipe
from tests.handover.app import comparison
from tests.handover.app.changes import CODE, SEED
from tests.handover.app.package import EVIDENCE, OF_KIND, OF_NETWORK
from tests.handover.app.stand_in import add_stand_in, serving

#: The variable with the number of the active change; a number that no change has.
ACTIVE, NONE = "ASRKIT_SEED", -1
#: Seconds after which a run does not end, if that is more than four times what it takes.
LONGEST = 60.0
#: Kinds of packages; the tests of the first run first, and all of them.
KINDS = {
    "static": ("model=static",),
    "whole": ("model=dynamic",),
    "stateful": ("model=static", "coreml.state=stateful"),
    "multifunction": ("model=multifunction",),
}
#: Packages with a manifest 2.0; the last is DeepSpeech with its front end in the package.
NETWORKS = {
    "silero": ("source=silero", "coreml.precision=fp32"),
    "quartznet": ("source=quartznet", "coreml.precision=fp32"),
    "demo_conv": ("source=demo_conv", "features.place=app"),
    "samples": ("features.place=package",),
}
#: The tests of an artifact: those that run on it in CI.
SUITES = {"static": "", **dict.fromkeys(list(KINDS)[1:], OF_KIND)}
SUITES |= dict.fromkeys(NETWORKS, OF_NETWORK)
#: The artifact whose evidence is signed, which takes as long as all other tests.
SIGNED = "static"
#: The test whose results Python checks.
CHECKER = "TranscriberTests.testResultsForTheChecker"


@dataclass(frozen=True)
class Try:
    """Tests to run with a change: an artifact, and a pattern of their names."""

    artifact: str
    pattern: str


def select(name: str, suites: str = "", but: str = "") -> Try:
    """The tests that CI runs on an artifact, of some suites or of all but some."""
    rules = [f"(?!{EVIDENCE})"] if name != SIGNED else []
    rules += [f"(?={suites})"] if suites else []
    rules += [f"(?!{but})"] if but else []
    return Try(name, rf"\.{''.join(rules)}({SUITES[name]})")


@dataclass(frozen=True)
class Bench:
    """The package with all changes in it, and the artifacts.

    ``unchanged``: artifact -> the tests that pass on it without a change, and their seconds.
    """

    folder: Path
    artifacts: dict[str, Path]
    unchanged: dict[str, dict[str, float]]

    def run(self, artifact: Path, one: Try, active: int, limit: float) -> Ran:
        """Runs tests, and the checks that Python makes of their results."""
        if not (artifact / MANIFEST).exists():
            raise BrokenError(f"artifact {artifact} does not exist")
        with tempfile.TemporaryDirectory() as folder:
            pipes, results = Path(folder, "pipes"), Path(folder, "results")
            signer = new_key("iphone", Path(folder, "config"))
            # The executor reads the manifest as it was.
            manifest = read_manifest(self.folder / "kept" / one.artifact)
            command = ["swift", "test", "--skip-build", "--ignore-lock", "--package-path"]
            command += [str(self.folder / SWIFT_KIT), "--filter", one.pattern]
            variables = {
                "ASRKIT_ARTIFACT": artifact,
                "ASRKIT_EXECUTOR": pipes,
                "ASRKIT_EXPECTED": self.folder / "expected",
                "ASRKIT_KEY_ID": signer.keyid,
                "ASRKIT_RESULTS": results,
                "XDG_DATA_HOME": folder,
                "SWIFT_BACKTRACE": "enable=no",
                ACTIVE: active,
            }
            run = partial(finish, command, limit, {key: str(v) for key, v in variables.items()})
            with serving(artifact, manifest, pipes, signer):
                done = run()
                if done.code is not None and done.code < 0:
                    done = run()  # swift test itself crashed, not a test
            ran = read_tests(done)
            if ran.fault is not None:
                return ran
            if EVIDENCE in ran.passed:
                try:
                    check_file(results / "evidence.json", artifact, signer.trust)
                except AsrbuildError as error:
                    return Ran({}, Fault(EVIDENCE, f"writes what is refused: {error.message}"))
            if CHECKER in ran.passed:
                checker = artifact / CONFORMANCE_KIT / "check.py"
                if finish([sys.executable, str(checker), str(results)], limit, {}).code != 0:
                    return Ran({}, Fault(CHECKER, "writes what check.py refuses"))
        return ran

    def run_unchanged(
        self, names: Iterable[str], pool: ThreadPoolExecutor
    ) -> dict[str, dict[str, float]]:
        """Runs all tests of artifacts without a change; returns their seconds.

        Raises:
            BrokenError: one fails.
        """

        def one(name: str) -> dict[str, float]:
            ran = self.run(self.artifacts[name], select(name), NONE, 900)
            if ran.fault is not None:
                raise BrokenError(f"without a change: {name}: {ran.fault.test} {ran.fault.what}")
            terminal.say(f"{name}: {len(ran.passed)} tests pass without a change")
            return ran.passed

        names = list(names)
        return dict(zip(names, pool.map(one, names), strict=True))

    def tests(self, one: Try) -> dict[str, float]:
        """The tests that a pattern selects, as ``swift test --filter`` does."""
        return {
            name: seconds
            for name, seconds in self.unchanged[one.artifact].items()
            if re.search(one.pattern, f"ASRKitTests.{name.replace('.', '/')}")
        }

    def fault(self, artifact: Path, one: Try, active: int) -> Fault | None:
        """The fault of tests with a change; None: all of them pass."""
        tests = self.tests(one)
        if not tests:
            raise BrokenError(f"no test of {one.artifact} matches {one.pattern!r}")
        ran = self.run(artifact, one, active, max(LONGEST, 4 * sum(tests.values())))
        if ran.fault is None and ran.passed.keys() != tests.keys():
            differ = sorted(ran.passed.keys() ^ tests.keys())
            raise BrokenError(f"other tests of {one.artifact} ran than without a change: {differ}")
        return ran.fault

    def find(
        self, tries: list[Try], artifacts: dict[str, Path], active: int
    ) -> tuple[Try, Fault] | None:
        """The first test that fails, and fails again: alone, or else after the same tests."""
        for one in tries:
            artifact = artifacts[one.artifact]
            if (fault := self.fault(artifact, one, active)) is None:
                continue
            alone = Try(one.artifact, rf"\.{fault.test.replace('.', '/')}$")
            for again in (alone, one):
                if self.fault(artifact, again, active) is not None:
                    return again, fault
        return None


def digests(folder: Path, *without: str) -> dict[str, str]:
    """Path -> SHA-256 of the files below a folder; ``without``: folders in it that are left out."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.relative_to(folder).parts[0] not in without
    }


def seed(sources: Path) -> None:
    """Makes every change in the sources that the folder has."""
    (sources / "ASRCore" / "Seed.swift").write_text(SEED)
    for number, change in enumerate(CODE):
        file = sources / change.file
        if file.exists():
            file.write_text(change.seeded(file.read_text(), number))


def once(folder: Path, make: Callable[[Path], object]) -> Path:
    """A folder that is made where it is not there."""
    if not folder.exists():
        part = folder.with_name(f"{folder.name}-part")
        shutil.rmtree(part, ignore_errors=True)
        part.parent.mkdir(parents=True, exist_ok=True)
        make(part)
        part.rename(folder)
    return folder


def build(root: Path, name: str) -> Path:
    """An artifact."""
    store = root / "artifacts" / name
    if not store.exists():
        given = KINDS.get(name, ())
        if name in NETWORKS:
            given = ("model=static", *NETWORKS[name])
            given += ("verify.inputs=[sample]", "verify.edge_lengths=false")
        if name in MODELS:
            write_recipe(name, root / "recipes")
            given = ("--config-dir", "recipes", *given)
        common = (f"name={name}", "verify=quick", "verify.witness=off")
        done = run_asrbuild(*given, *common, cwd=root)
        if done.code != 0:
            raise BrokenError(done.err)
    (published,) = (path for path in store.iterdir() if path.is_dir() and path.name != "latest")
    return published


def build_package(root: Path) -> str:
    """Compiles the package with all changes in it; returns the digest of the kit and its tests."""
    part, package = root / "package-part", root / SWIFT_KIT
    shutil.rmtree(part, ignore_errors=True)
    write_swift(part)
    add_stand_in(part)
    shutil.copy(comparison.SWIFT, part / "Tests" / "ASRKitTests")
    values = Path(comparison.__file__).read_text()
    kit = hashlib.sha256(json.dumps([digests(part), values]).encode()).hexdigest()
    seed(part / "Sources")
    package.mkdir(exist_ok=True)
    there, wanted = digests(package, ".build"), digests(part)
    for path in there.keys() - wanted.keys():
        (package / path).unlink()
    for path, value in wanted.items():
        # A file that stays is not compiled again.
        if there.get(path) != value:
            (package / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(part / path, package / path)
    shutil.rmtree(part)
    command = ["swift", "build", "--build-tests", "--package-path", str(package)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BrokenError(done.stdout + done.stderr)
    return kit


def prepare(root: Path, pool: ThreadPoolExecutor) -> tuple[Bench, str]:
    """Builds what is missing, and runs all tests without a change; returns the kit's digest."""
    root.mkdir(parents=True, exist_ok=True)
    artifacts = {}
    for name in SUITES:
        kept = build(root, name)
        write = partial(write_folder, artifact=kept, manifest=read_manifest(kept))
        artifacts[name] = once(root / "app" / name, write)
        (root / "kept").mkdir(exist_ok=True)
        if not (root / "kept" / name).exists():
            (root / "kept" / name).symlink_to(kept)
    kit = build_package(root)
    shutil.rmtree(root / "expected", ignore_errors=True)
    (root / "expected").mkdir()
    comparison.write_expected(root / "expected")
    file = root / f"unchanged-{kit[:12]}.json"
    known = json.loads(file.read_text()) if file.exists() else {}
    missing = [name for name in artifacts if name not in known]
    known |= Bench(root, artifacts, {}).run_unchanged(missing, pool)
    file.write_text(json.dumps(known))
    return Bench(root, artifacts, known), kit
