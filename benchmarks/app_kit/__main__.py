"""Whether the tests of the app kit find a fault: changes to its data and code, one after another.

    uv run python -m benchmarks.app_kit [--folder FOLDER] [--only TEXT] [--workers N]

builds artifacts and their Swift package (with the stand-in for Core ML that asrbuild's executor
answers) with all changes of ``tests/handover/app/changes.py`` in it, and runs the tests with each.
A change is found if a test fails, crashes or does not end, and does so again. At least 95 % must be
found; the others are holes in the tests.

A run that breaks for another reason is an error and finds nothing. Without a change every test must
run and pass. ``FOLDER/results.jsonl`` keeps the results: a change is tried again when it or the kit
differs, first by the test that found it. It takes half an hour of a machine with two cores.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from asrbuild.artifact.layout import SWIFT_KIT
from asrbuild.base import terminal
from benchmarks.app_kit.bench import NETWORKS, NONE, SUITES, Bench, Try, digests, prepare, select
from benchmarks.app_kit.decoders import Decoders
from benchmarks.app_kit.swift_tests import BrokenError, Fault, end_all
from tests.handover.app.changes import CODE, DATA, DATA_2, Code, Data

LEAST = 0.95
#: Suites that find a change of a folder most often, which run first.
FIRST = {
    "ASRCore/Model": "StreamingTests|FailureTests",
    "ASRCore/Decoding": "StreamingTests|DecoderTests",
    "ASRCore/Features": "FeatureTests|ComparisonTests",
    "ASRCore/Manifest": "ManifestTests|InterfaceTests|ArtifactTests|LoadingTests",
    "ASRCore/Transcript": "SpeechTests",
    "ASRCore/Sound": "SoundTests|ComparisonTests|SpeechTests",
    "ASRCore": "ArtifactTests",
    "ASRSession": "RecognizerTests|FailureTests",
    "ASRCoreML": "ArtifactTests|TranscriberTests",
    "ASRConformance": "ConformanceTests",
}
FIRST_OF_DATA = "FeatureTests|StreamingTests|InterfaceTests|ManifestTests|DecoderTests"


@dataclass(frozen=True)
class Result:
    """A change and the test that found it, a line of ``results.jsonl``."""

    key: str
    kind: str
    name: str
    artifact: str
    pattern: str
    test: str
    fault: str
    seconds: float

    @property
    def found(self) -> bool:
        return bool(self.fault)

    def __str__(self) -> str:
        by = f"{self.artifact}: {self.test} {self.fault}" if self.found else "NOT FOUND"
        return f"{self.kind:<8} {self.seconds:6.1f} s  {self.name}  [{by}]"


@contextmanager
def changed(change: Data, artifacts: dict[str, Path]) -> Iterator[dict[str, Path]]:
    """Copies with the change of the artifacts that have what it changes."""
    copies = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, artifact in artifacts.items():
            copy = Path(folder, name)
            shutil.copytree(artifact, copy, ignore=shutil.ignore_patterns(SWIFT_KIT))
            before = digests(copy)
            try:
                change.change(copy)
            except (KeyError, IndexError, FileNotFoundError, TypeError):
                continue
            if digests(copy) == before:
                raise BrokenError(f"{change.name} changes nothing in {name}")
            copies[name] = copy
        if not copies:
            raise BrokenError(f"no artifact has what {change.name} changes")
        yield copies


@dataclass(frozen=True)
class Measure:
    """Makes changes and keeps the results."""

    bench: Bench
    kit: str
    decoders: Decoders | None
    kept: list[Result]

    def __call__(self, kind: str, change: Data | Code, number: int) -> Result:
        """The result for a change, a kept one if neither it nor the kit differs since."""
        start = time.monotonic()
        if isinstance(change, Data):
            names = NETWORKS if kind == "data 2.0" else ("static",)
            with changed(change, {name: self.bench.artifacts[name] for name in names}) as copies:
                content = [change.name, [digests(copy) for copy in copies.values()]]
                find = partial(self.bench.find, self.tries(change, list(copies)), copies, NONE)
                return self.result(kind, change, content, find, start)
        find = partial(
            self.bench.find, self.tries(change, list(SUITES)), self.bench.artifacts, number
        )
        if change.decoding:
            find = partial(self.decode, number)
        content = [change.file, change.text, change.wrong]
        return self.result(kind, change, content, find, start)

    def decode(self, number: int) -> tuple[Try, Fault] | None:
        assert self.decoders is not None
        found = self.decoders.find(number)
        return (Try("decoding", ""), Fault("random cases", found)) if found else None

    def tries(self, change: Data | Code, names: list[str]) -> list[Try]:
        """Tests in the order of the likelihood that they find the change."""
        found = [
            Try(old.artifact, old.pattern)
            for old in reversed(self.kept)
            if old.name == change.name and old.artifact in names
        ]
        pattern = FIRST_OF_DATA
        if isinstance(change, Code):
            pattern = next(FIRST[place] for place in FIRST if change.file.startswith(place))
        probable = [select(name, suites=pattern) for name in names]
        others = [select(name, but=pattern) for name in names]
        tries = [one for one in [*found, *probable, *others] if self.bench.tests(one)]
        return list(dict.fromkeys(tries))

    def result(
        self,
        kind: str,
        change: Data | Code,
        content: list[Any],
        find: Callable[[], tuple[Try, Fault] | None],
        start: float,
    ) -> Result:
        key = hashlib.sha256(json.dumps([self.kit, content]).encode()).hexdigest()
        for old in self.kept:
            if old.key == key:
                return old
        found = find()
        one, fault = found or (Try("", ""), Fault("", ""))
        seconds = time.monotonic() - start
        return Result(
            key, kind, change.name, one.artifact, one.pattern, fault.test, fault.what, seconds
        )


def summary(results: list[Result]) -> float:
    """Prints the figures; returns the share of the changes that were found."""
    for kind in dict.fromkeys(result.kind for result in results):
        of_kind = [result.found for result in results if result.kind == kind]
        terminal.say(f"{kind}: {sum(of_kind)} of {len(of_kind)} changes were found")
    share = sum(result.found for result in results) / len(results)
    found = sum(result.found for result in results)
    terminal.say(f"{found} of {len(results)} changes were found: {100 * share:.1f} %")
    for result in results:
        if not result.found:
            terminal.say(f"  not found: {result.name}")
    return share


def main() -> int:
    """Makes every change; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="where to build; it stays for the next time")
    parser.add_argument("--only", default="", help="changes whose names have this text")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="changes at a time")
    given = parser.parse_args()
    root = (given.folder or Path(tempfile.mkdtemp(prefix="asrkit-changes-"))).absolute()
    changes: list[tuple[str, Data | Code, int]] = [
        *(("code", change, number) for number, change in enumerate(CODE)),
        *(("data", change, NONE) for change in DATA),
        *(("data 2.0", change, NONE) for change in DATA_2),
    ]
    changes = [each for each in changes if given.only in each[1].name]
    if not changes:
        parser.error(f"no change has {given.only!r} in its name")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    pool = ThreadPoolExecutor(given.workers)
    try:
        results = run(root, changes, pool)
    except BrokenError as error:
        terminal.say(f"nothing is shown: {error}", err=True)
        return 2
    finally:
        end_all()
        pool.shutdown(cancel_futures=True)
        if given.folder is None:
            subprocess.run(["chmod", "-R", "u+w", str(root)], check=False)
            shutil.rmtree(root)
    return 0 if summary(results) >= LEAST else 1


def run(
    root: Path, changes: list[tuple[str, Data | Code, int]], pool: ThreadPoolExecutor
) -> list[Result]:
    """The results for changes, in their order; each is printed and kept as soon as it is there."""
    bench, kit = prepare(root, pool)
    file = root / "results.jsonl"
    before = file.read_text() if file.exists() else ""
    kept = [Result(**json.loads(line)) for line in before.splitlines()]
    decoding = any(isinstance(change, Code) and change.decoding for _, change, _ in changes)
    decoders = Decoders.build(root, root / SWIFT_KIT / "Sources") if decoding else None
    measure = Measure(bench, kit, decoders, kept)
    order = {pool.submit(measure, *each): number for number, each in enumerate(changes)}
    results: dict[int, Result] = {}
    with file.open("a") as lines:
        for future in as_completed(order):
            result = results[order[future]] = future.result()
            if result not in kept:
                lines.write(json.dumps(asdict(result)) + "\n")
                lines.flush()
            terminal.say(str(result))
            sys.stdout.flush()
    try:
        # What else may have failed meanwhile, such as a full disk, fails here as well.
        bench.run_unchanged(bench.artifacts, pool)
        if decoders and (differs := decoders.find(NONE)):
            raise BrokenError(f"without a change the decoders differ: {differs}")
    except BrokenError:
        file.write_text(before)
        raise
    return [results[number] for number in sorted(results)]


if __name__ == "__main__":
    sys.exit(main())
