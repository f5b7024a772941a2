"""Builds and clean-ups in separate processes, for tests of races and kills.

python -m ... build ROOT NAME    claims every entry and publishes every version again
python -m ... collect ROOT       cleans up until ROOT/stop exists
python -m ... kill ROOT POINT    removes killed/1+0; is killed at that line of asrbuild
"""

from __future__ import annotations

import sys
from pathlib import Path

from asrbuild.artifact import cleanup as collect, integrity, layout, lookup, store
from asrbuild.artifact.cleanup import CacheRules
from asrbuild.artifact.retention import Rules
from asrbuild.base import cache
from asrbuild.base.cache import StageKey
from asrbuild.base.digest import file_digest
from tests.killing import run_until

COUNT = 40
SIZE = 300_000  # large enough for its digest to be remembered


def key(number: int) -> StageKey:
    return StageKey("convert", 1, {"number": number}, {}, {})


def content(number: int) -> bytes:
    """The bytes of an entry. Beyond the numbers of ``grown``, every fourth is equal and linked."""
    return f"{number if number < 8 else number % 4}\n".encode() * (SIZE // 2)


def make(root: Path, number: int) -> Path:
    """The cache entry of a number."""

    def build(directory: Path) -> None:
        (directory / "a.bin").write_bytes(content(number))

    return cache.run_stage(root / "cache", key(number), build, notify=print).path


def publish(root: Path, name: str, number: int) -> Path:
    artifacts = root / "artifacts"
    with store.staging(artifacts) as directory:
        source, cache_root = make(root, number) / "a.bin", root / "cache"
        store.put(source, directory, "a.bin", file_digest(source, cache_root), cache_root)
        (directory / layout.MANIFEST).write_text("{}")
        return store.publish(artifacts, name, directory, f"1+{number}")


def build(root: Path, name: str) -> None:
    for number in range(COUNT):
        assert (make(root, number) / "a.bin").read_bytes() == content(number)
        path = publish(root, name, number)
        # No other process publishes this name, so this version is the latest, and stays.
        assert lookup.read_latest(root / "artifacts", name) == path.name
        assert integrity.verify_files(path) == [], path
        assert lookup.resolve(root / "artifacts", name) == path


def clean(root: Path) -> int:
    """Runs one clean-up that keeps as little as it may; returns how many items it removed."""
    folders = root / "artifacts", root / "cache"
    items = collect.survey(*folders, Rules(1, 0.0), CacheRules(0.0), {})
    return len(list(collect.remove(*folders, items)))


def kill(root: Path, point: int) -> None:
    """Removes an artifact up to that line of asrbuild; point 0 only counts and prints the lines."""
    print(run_until(point, lambda: store.remove(root / "artifacts", "killed", "1+0")))


def main() -> None:
    what, folder, *more = sys.argv[1:]
    root = Path(folder)
    if what == "build":
        build(root, *more)
    elif what == "kill":
        kill(root, int(more[0]))
    else:
        gone = 0
        while not (root / "stop").exists():
            gone += clean(root)
        print(gone)


if __name__ == "__main__":
    main()
