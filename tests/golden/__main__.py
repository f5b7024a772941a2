"""Makes the golden files anew and prints what changed; see the package's docstring."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests import golden


def main(chosen: list[str]) -> int:
    tests = chosen or sorted(
        str(path)
        for path in golden.FOLDER.parent.rglob("test_*.py")
        if "golden.check_" in path.read_text(encoding="utf-8")
    )
    with TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", *tests],
            env=os.environ | {golden.COLLECT: folder},
            check=False,
        )
        if done.returncode:
            return done.returncode
        found: dict[str, dict[str, Any]] = defaultdict(dict)
        for path in Path(folder).iterdir():
            entry = json.loads(path.read_text())
            found[entry["file"]][entry["name"]] = entry["record"]
    for file, records in sorted(found.items()):
        before = golden.read(file)
        after = {**before, **records} if chosen else records
        for line in golden.differences(before, after):
            sys.stdout.write(f"{file}:{line}\n")
        golden.write(file, after)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
