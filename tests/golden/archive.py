"""Makes ``written-by-VERSION.tar.xz``: files of one version of asrbuild, for tests of later ones.

    uv run python -m tests.golden.archive 0.1.0

The archive is a user's home: keys, a store with two versions of one artifact and one of another,
the cache they were built with, one signed bundle, and a remote folder with a channel and a set. The
source is a small genuine checkpoint of ``tests/data``. An archive is made only once: a release that
changes a format adds another.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.golden import FOLDER
from tests.paths import GENUINE

SOURCE = (
    "source=checkpoint",
    "source.checkpoint_dir=checkpoint",
    "source.sample.audio=hello.wav",
    "source.sample.text=hello.txt",
    "verify=quick",
)
#: Placeholder of the home's path in the archive.
HOME = "/home/of/golden"
COMMANDS = (
    ("key", "new", "golden"),
    (*SOURCE, "name=old", "model=static"),
    (*SOURCE, "name=old", "model=static", "version=1.1.0"),
    (*SOURCE, "name=old-network", "model=dynamic", "coreml=neuralnetwork"),
    ("ship", "old/1.0.0", "remote", "--channel", "stable", "--allow-unproven"),
    ("ship", "old/1.1.0", "remote", "--channel", "beta", "--allow-unproven"),
    (
        "ship",
        "old/1.1.0",
        "old-network",
        "remote",
        "--set",
        "choice",
        "--channel",
        "stable",
        "--allow-unproven",
    ),
    ("bundle", "old/1.0.0", "old.asrb"),
)


def write(archive: Path) -> None:
    """Runs ``COMMANDS`` in an empty home and packs the files that they wrote."""
    with TemporaryDirectory() as temporary:
        home = Path(temporary)
        shutil.copytree(GENUINE / "coqui-1.4.0" / "checkpoint", home / "checkpoint")
        for name in ("hello.wav", "hello.txt"):
            shutil.copy(GENUINE / name, home)
        inputs = set(home.iterdir())
        (home / "remote").mkdir()
        for command in COMMANDS:
            subprocess.run(
                [Path(sys.executable).with_name("asrbuild"), *command],
                cwd=home,
                check=True,
                env=os.environ | {"ASRBUILD_CONFIG": "config", "ASRBUILD_STATE": "state"},
            )
        move_seen(home, str(home), HOME)
        with tarfile.open(archive, "w:xz", preset=9) as packed:
            for path in sorted(set(home.iterdir()) - inputs):
                packed.add(path, path.name, filter=_plain)


def move_seen(home: Path, before: str, now: str) -> None:
    """Replaces the remote's folder in the file of channels seen."""
    seen = home / "config" / "seen.json"
    seen.write_text(seen.read_text(encoding="utf-8").replace(before, now), encoding="utf-8")


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """The entry without owner and time; None if it is valid for one boot of one machine only."""
    if entry.name.split("/")[-1] in (".digests", ".locks", ".recipes", "state"):
        return None
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = ""
    return entry


if __name__ == "__main__":
    write(FOLDER / f"written-by-{sys.argv[1]}.tar.xz")
