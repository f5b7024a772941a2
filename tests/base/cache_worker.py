"""A build of three stages and a publication, small enough to be killed fifty times in a test.

    python cache_worker.py ROOT LOG TAG [--slow SECONDS] [--no-flock]

Every start and end of a stage's work is a line in LOG; messages for the user go to stdout.
"""

from __future__ import annotations

import argparse
import errno
import os
import time
from pathlib import Path

from asrbuild.artifact import store
from asrbuild.base.cache import StageKey, run_stage
from asrbuild.base.digest import file_digest

STAGES = ("source", "export", "convert")


def key(stage: str, tag: str) -> StageKey:
    return StageKey(stage, 1, {"tag": tag}, {}, {})


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("root", type=Path)
    parser.add_argument("log", type=Path)
    parser.add_argument("tag")
    parser.add_argument("--slow", type=float, default=0.02)
    parser.add_argument("--no-flock", action="store_true")
    options = parser.parse_args()
    if options.no_flock:
        without_flock()
    run(options.root, options.log, options.tag, options.slow)


def run(root: Path, log_file: Path, tag: str, slow: float = 0.02) -> None:
    log = os.open(log_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def note(what: str, stage: str) -> None:
        os.write(log, f"{what} {stage} {tag} {os.getpid()}\n".encode())

    def build(stage: str, directory: Path) -> None:
        note("start", stage)
        (directory / "sub").mkdir()
        for index in range(4):
            # The first file is large and equal under all tags, so that it is linked.
            content = f"{stage} {tag} {index}\n".encode() * 2_000
            if not index:
                content = f"{stage} of all\n".encode() * 20_000
            (directory / "sub" / f"{index}.bin").write_bytes(content)
            time.sleep(slow / 4)
        note("end", stage)

    for stage in STAGES:
        result = run_stage(
            root / "cache",
            key(stage, tag),
            lambda directory, stage=stage: build(stage, directory),
            notify=lambda text: print(text, flush=True),
        )
        print("hit" if result.hit else "built", stage, flush=True)
    artifacts = root / "artifacts"
    with store.staging(artifacts) as directory:
        for source in sorted((result.path / "sub").iterdir()):
            digest = file_digest(source, root / "cache")
            store.put(source, directory, source.name, digest, root / "cache")
            time.sleep(slow / 8)
        (directory / "manifest.json").write_text("{}")
        store.publish(artifacts, "killed", directory, f"1+{tag}")


def without_flock() -> None:
    """Makes flock fail, as in a shared folder without kernel locks."""
    import filelock

    class NoFlock(filelock.FileLock):
        def _acquire(self) -> None:
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    filelock.FileLock = NoFlock


if __name__ == "__main__":
    main()
