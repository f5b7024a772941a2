"""``asrbuild gc`` on the cache of real builds keeps the entries of artifacts and removes others."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

from asrbuild.base.cache import RECORD
from asrbuild.base.disk import remove_tree
from tests.acceptance.conftest import FORMATS, MODELS, Workshop, run_asrbuild

GONE = ("demo-static-mlprogram", "demo-static-neuralnetwork")


def test_only_entries_of_no_artifact_are_removed(workshop: Workshop, tmp_path: Path):
    folder = tmp_path / "workshop"
    shutil.copytree(workshop.folder, folder)
    old = time.time() - 30 * 86400
    cache = folder / ".asrbuild" / "cache"
    for record in cache.glob(f"*/*/{RECORD}"):
        os.utime(record, (old, old))
    # Other tests build into the workshop's cache, for stores of their own.
    done = run_asrbuild("gc", "--remove", cwd=folder)
    assert done.code == 0, done.err
    records = list(cache.glob(f"*/*/{RECORD}"))
    done = run_asrbuild("gc", "--json", cwd=folder)
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert found["gone"] == []
    steps = [item for item in found["kept"] if item["kind"] == "cache"]
    assert len(steps) == len(records)
    assert all(item["why"].startswith("a step towards demo-") for item in steps)
    # Without the static artifacts, entries that only they used are removable.
    for name in GONE:
        remove_tree(folder / "artifacts" / name)
    done = run_asrbuild("gc", "--json", "--remove", cwd=folder)
    assert done.code == 0, done.err
    gone = {item["name"] for item in json.loads(done.out)["gone"]}
    stages = [name.partition("/")[0] for name in gone]
    # There are more than two entries of a stage if another process built static models meanwhile.
    assert set(stages) - {"witness"} == {
        "artifact",
        "convert",
        "execute",
        "export",
        "prove",
        "reference",
        "vectors",
    }
    for stage in ("artifact", "convert", "execute", "vectors", "prove"):
        assert stages.count(stage) >= len(GONE), stage
    # The other artifacts are still whole, and building them again runs no stage.
    rest = ",".join(model for model in MODELS if model != "static")
    sweep = ("-m", f"model={rest}", f"coreml={','.join(FORMATS)}")
    done = run_asrbuild(*sweep, cwd=folder, env={"COLUMNS": "300"})
    assert done.code == 0, done.err
    assert done.out.count("unchanged") == (len(MODELS) - 1) * len(FORMATS)
    # Removed entries can be built again.
    done = run_asrbuild("model=static", "coreml=mlprogram", cwd=folder)
    assert done.code == 0, done.err
    assert (folder / "artifacts" / GONE[0]).is_dir()
