"""Whether the tests of the app kit find a fault: changes to its data and code, one after another.

    uv run python -m benchmarks.app_kit [--folder FOLDER] [--only TEXT]

builds artifacts and their Swift package (with the stand-in for Core ML that asrbuild's executor
answers) with all changes of ``tests/handover/app/changes.py`` in it, and runs the tests with each.
A change is found if a test fails. At least 95 % must be found; the others are printed, with the
reason where the table gives one. It takes a quarter of an hour of processor time.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asrbuild.artifact.layout import SWIFT_KIT
from asrbuild.artifact.reading import read_manifest
from asrbuild.base import terminal
from asrbuild.base.errors import AsrbuildError
from asrbuild.handover.app.kit import write_folder, write_swift
from asrbuild.handover.evidence.kept import check_file
from asrbuild.handover.ship.signing.keys import new_key
from asrbuild.speech.decoder import Hypothesis, Word
from tests.acceptance.conftest import run_asrbuild
from tests.architectures.recipes import write_recipe
from tests.handover.app import comparison
from tests.handover.app.changes import CODE, DATA, DATA_2, KNOWN, SEED, Code, Data
from tests.handover.app.package import OF_NETWORK
from tests.handover.app.stand_in import add_stand_in, serving
from tests.handover.app.swift_decoder import (
    Tool,
    build_tool,
    difference,
    make_scorers,
    random_cases,
)

LEAST = 0.95
CASES = 200
#: Suites that find a change of a folder most often, which run first.
FIRST = {
    "ASRCore/Model": "StreamingTests|FailureTests",
    "ASRCore/Decoding": "StreamingTests|DecoderTests",
    "ASRCore/Features": "FeatureTests",
    "ASRCore/Manifest": "ManifestTests|InterfaceTests|ArtifactTests|LoadingTests",
    "ASRCore/Sound": "SoundTests|ComparisonTests|SpeechTests",
    "ASRCore": "ArtifactTests",
    "ASRSession": "RecognizerTests|FailureTests",
    "ASRCoreML": "ArtifactTests|TranscriberTests",
    "ASRConformance": "ConformanceTests",
}
#: Kinds of packages; the tests of the first run first.
KINDS = {
    "static": ("model=static",),
    "whole": ("model=dynamic",),
    "stateful": ("model=static", "coreml.state=stateful"),
    "multifunction": ("model=multifunction",),
}
NETWORKS = ("silero", "quartznet")


@dataclass(frozen=True)
class Bench:
    """The package with all changes in it, the artifacts, and the cases of the decoders."""

    folder: Path
    artifacts: dict[str, Path]

    @property
    def package(self) -> Path:
        return self.folder / "ASRKit"

    def passes(self, name: str, suites: str | None, seed: int | None = None) -> bool:
        """Whether the tests of some suites pass on an artifact; None: of all."""
        artifact = self.artifacts[name]
        with tempfile.TemporaryDirectory() as folder:
            pipes, results = Path(folder, "pipes"), Path(folder, "results")
            signer = new_key("iphone", Path(folder, "config"))
            # The executor reads the manifest as it was.
            manifest = read_manifest(self.folder / "kept" / name)
            with serving(artifact, manifest, pipes, signer):
                command = ["swift", "test", "--skip-build", "--package-path", str(self.package)]
                done = subprocess.run(
                    [*command, *(["--filter", suites] if suites else [])],
                    env=os.environ
                    | {
                        "ASRKIT_ARTIFACT": str(artifact),
                        "ASRKIT_EXECUTOR": str(pipes),
                        "ASRKIT_EXPECTED": str(self.folder / "expected"),
                        "ASRKIT_KEY_ID": signer.keyid,
                        "ASRKIT_RESULTS": str(results),
                        "XDG_DATA_HOME": folder,
                        **({} if seed is None else {"ASRKIT_SEED": str(seed)}),
                    },
                    capture_output=True,
                    text=True,
                    check=False,
                    timeout=900,
                )
            evidence = results / "evidence.json"
            try:
                if evidence.exists():
                    check_file(evidence, artifact, signer.trust)
            except AsrbuildError:
                return False
        return done.returncode == 0

    def finds(self, change: Data | Code, number: int, network: bool) -> bool:
        """Whether some test finds the change."""
        if isinstance(change, Data):
            names = NETWORKS if network else ("static",)
            for name in names:
                with changed(change, self.artifacts[name]) as fits:
                    if fits and not self.passes(name, OF_NETWORK if network else None):
                        return True
            return False
        first = next(suites for place, suites in FIRST.items() if change.file.startswith(place))
        if not self.passes("static", first, number):
            return True
        others = [name for name in self.artifacts if name != "static"]
        tries = [("static", None), *((name, OF_NETWORK) for name in others)]
        return any(not self.passes(name, suites, number) for name, suites in tries)


@contextmanager
def changed(change: Data, artifact: Path) -> Iterator[bool]:
    """The change made, and taken back; whether the artifact has what it changes."""
    kept = artifact.with_name(f"{artifact.name}-kept")
    shutil.copytree(artifact, kept, ignore=shutil.ignore_patterns(SWIFT_KIT))
    try:
        try:
            change.change(artifact)
            fits = True
        except (KeyError, IndexError, FileNotFoundError, TypeError):
            fits = False
        yield fits
    finally:
        shutil.copytree(kept, artifact, dirs_exist_ok=True)
        shutil.rmtree(kept)


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
        network = name in NETWORKS
        given = ["model=static", f"source={name}", "coreml.precision=fp32"]
        inputs = ["verify.inputs=[sample]", "verify.edge_lengths=false"]
        if network:
            write_recipe(name, root / "recipes")
        done = run_asrbuild(
            *(["--config-dir", "recipes", *given, *inputs] if network else KINDS[name]),
            f"name={name}",
            "verify=quick",
            "verify.witness=off",
            cwd=root,
        )
        assert done.code == 0, done.err
    (published,) = (path for path in store.iterdir() if path.is_dir() and path.name != "latest")
    return published


def prepare(root: Path) -> Bench:
    """Builds what is not there yet."""
    root.mkdir(parents=True, exist_ok=True)
    artifacts = {}
    for name in (*KINDS, *NETWORKS):
        kept = build(root, name)
        artifacts[name] = once(
            root / "app" / name, lambda at, kept=kept: write_folder(at, kept, read_manifest(kept))
        )
        (root / "kept").mkdir(exist_ok=True)
        if not (root / "kept" / name).exists():
            (root / "kept" / name).symlink_to(kept)

    def package(at: Path) -> None:
        write_swift(at)
        add_stand_in(at)
        shutil.copy(comparison.SWIFT, at / "Tests" / "ASRKitTests")
        seed(at / "Sources")

    once(root / "ASRKit", package)

    def expected(at: Path) -> None:
        at.mkdir()
        comparison.write_expected(at)

    once(root / "expected", expected)
    command = ["swift", "build", "--build-tests", "--package-path", str(root / "ASRKit")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return Bench(root, artifacts)


@dataclass(frozen=True)
class Decoders:
    """The program that decodes, and the answers that the tests hold against ds-ctcdecoder."""

    tool: Tool
    cases: list[Any]
    tokens: tuple[Any, ...]
    right: list[tuple[list[Hypothesis], list[str]]]

    @classmethod
    def build(cls, folder: Path) -> Decoders:
        tool = build_tool(once(folder / "decoders", lambda at: at.mkdir()), seed)
        cases, tokens = random_cases(make_scorers(folder), CASES)
        right = [
            (
                [
                    Hypothesis(
                        one["text"], one["confidence"], tuple(Word(**w) for w in one["words"])
                    )
                    for one in answer["hypotheses"]
                ],
                answer["partials"],
            )
            for answer in tool.decode(cases, tokens)
        ]
        return cls(tool, cases, tokens, right)

    def finds(self, number: int) -> bool:
        os.environ["ASRKIT_SEED"] = str(number)
        try:
            answers = self.tool.decode(self.cases, self.tokens)
        except AssertionError:  # it ended
            return True
        finally:
            del os.environ["ASRKIT_SEED"]
        return any(
            difference(found, right) or found["partials"] != partials
            for found, (right, partials) in zip(answers, self.right, strict=True)
        )


def why(change: Data | Code) -> str:
    """Why no test finds a change."""
    known = (reason for text, reason in KNOWN.items() if text in getattr(change, "text", ""))
    return next(known, "a hole in the tests")


def main() -> int:
    """Makes every change; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="where to build; it stays for the next time")
    parser.add_argument("--only", default="", help="changes whose names have this text")
    given = parser.parse_args()
    root = given.folder or Path(tempfile.mkdtemp(prefix="asrkit-changes-"))
    found, left = 0, []
    try:
        bench, decoders = prepare(root.absolute()), None
        changes = [(change, number, False) for number, change in enumerate([*CODE, *DATA])]
        changes += [(change, -1, True) for change in DATA_2]
        changes = [each for each in changes if given.only in each[0].name]
        for name in bench.artifacts:
            suites = OF_NETWORK if name in NETWORKS else None
            assert bench.passes(name, suites), f"without a change the tests of {name} pass"
        for change, number, network in changes:
            start = time.monotonic()
            if isinstance(change, Code) and change.decoding:
                decoders = decoders or Decoders.build(root.absolute())
                seen = decoders.finds(number)
            else:
                seen = bench.finds(change, number, network)
            found += seen
            if not seen:
                left.append(change)
            mark = "found" if seen else "NOT FOUND"
            terminal.say(f"{mark:<10} {time.monotonic() - start:5.1f} s  {change.name}")
    finally:
        if given.folder is None:
            subprocess.run(["chmod", "-R", "u+w", str(root)], check=False)
            shutil.rmtree(root)
    share = found / len(changes)
    terminal.say(f"{found} of {len(changes)} changes were found: {100 * share:.1f} %")
    for change in left:
        why = next(
            (why for text, why in KNOWN.items() if text in getattr(change, "text", "")), None
        )
        terminal.say(f"  not found: {change.name}: {why(change)}")
    return 0 if share >= LEAST else 1


if __name__ == "__main__":
    sys.exit(main())
