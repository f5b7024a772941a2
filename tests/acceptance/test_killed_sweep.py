"""A real sweep is killed at fifty random moments, and all visible results are whole each time."""

from __future__ import annotations

import os
import re
import signal
import time
from collections import Counter
from contextlib import suppress
from multiprocessing.process import BaseProcess
from pathlib import Path

from asrbuild.artifact import integrity, lookup
from asrbuild.base import cache, cache_cleanup
from asrbuild.base.digest import file_digest, tree_digests
from tests import forking
from tests.acceptance.conftest import Workshop, run_asrbuild
from tests.killing import seeded

KILLS = 50
MODELS, FORMATS = ("static", "dynamic_to_static"), ("mlprogram", "neuralnetwork")
#: Stages in which a kill must fall; the others take a hundredth of a second.
STAGES = ("reference", "convert", "execute", "vectors", "prove", "publication")
#: A stage that did work, in the progress of a sweep: `[0] convert    ...   1.2 s`.
DONE = re.compile(r"^\[\d+\] ([a-z]+) .* \d+\.\d s$", re.MULTILINE)


def sweep(steps: int) -> list[str]:
    """Four jobs of seven stages, twice with the same weights."""
    shapes = f"model={','.join(MODELS)}", f"coreml={','.join(FORMATS)}", f"n_steps={steps}"
    return ["-m", *shapes, "verify=quick"]


def entries(at: Path) -> dict[tuple[str, str], tuple[int, str]]:
    """Stage and fingerprint of every visible entry -> the identity of its record on the disk."""
    root = at / ".asrbuild" / "cache"
    found = {}
    for entry in cache_cleanup.list_entries(root):
        record = entry.path / cache.RECORD
        found[entry.stage, entry.fingerprint] = record.stat().st_ino, record.read_text()
    return found


def assert_whole(at: Path, new: set[tuple[str, str]]) -> None:
    root = at / ".asrbuild" / "cache"
    for stage, fingerprint in new:
        assert cache.entry_problem(root, root / stage / fingerprint, verify=True) is None
    visible = {path.parent for path in root.glob("[a-z]*/*/*")}
    assert visible == {entry.path for entry in cache_cleanup.list_entries(root)}
    for artifact in lookup.list_artifacts(at / "artifacts"):
        assert integrity.verify_files(artifact.path) == []
    for folder in at.glob("artifacts/[!.]*"):
        latest = lookup.read_latest(at / "artifacts", folder.name)
        # A kill between the artifact's rename and its pointer leaves none yet.
        assert latest is None or (folder / latest).is_dir()


def under_way(at: Path) -> set[tuple[str, str]]:
    """The unfinished work of a killed process: (stage, fingerprint) of builds, and publications."""
    builds = (at / ".asrbuild" / "cache" / cache.BUILDING).glob("*-*.*")
    found = {tuple(path.name.split(".")[0].split("-", 1)) for path in builds}
    # Marks of the entries that a build uses are in this folder too; they are not a stage's work.
    found = {piece for piece in found if piece[0] != "use"}
    return found | {("publication", path.name) for path in at.glob("artifacts/.staging-*[!ke]")}


def traces(at: Path) -> set[str]:
    """Files that appear or vanish with a piece of work: builds, entries, publications."""
    root = at / ".asrbuild" / "cache"
    found = {path.name for path in (*root.glob(".building/*"), *root.glob("[a-z]*/*"))}
    found = {name for name in found if not name.startswith("use-")}
    return found | {path.name for path in at.glob("artifacts/.staging-*")}


def wait_for(
    process: BaseProcess, at: Path, stage: str | None, beginnings: int, share: float
) -> None:
    """Waits until ``stage`` begins, or for so many changes of work, and a little longer.

    The extra wait is a ``share`` of the time of one piece of work, not a number of seconds, so that
    a busy machine sees the same kills.
    """
    old, seen, left = traces(at), set[str](), under_way(at)
    start = time.monotonic()
    while process.is_alive():
        seen |= traces(at) - old
        begun = {name for name, _ in under_way(at) - left}
        if stage in begun or len(seen) >= beginnings:
            break
        time.sleep(0.003)
    process.join(share / (beginnings + 1) * (time.monotonic() - start))


def kill(process: BaseProcess, everyone: bool) -> None:
    """Kills the whole group, as a power cut does, or one process, as a lack of memory does."""
    with suppress(ProcessLookupError):
        if everyone:
            os.killpg(process.pid or 0, signal.SIGKILL)
    process.kill()
    process.join()


def test_fifty_kills_of_a_real_sweep(workshop: Workshop, tmp_path: Path) -> None:
    moments = seeded(20261)
    log = tmp_path / "log"
    kills = steps = 0
    hit: Counter[str] = Counter()
    while kills < KILLS:
        exitcode: int | None = None
        while exitcode != 0 and kills < KILLS:
            before, left = entries(tmp_path), under_way(tmp_path)
            log.write_text("")
            process = forking.context().Process(
                target=forking.run_ahead, args=(tmp_path, sweep(16 + steps), log), daemon=True
            )
            process.start()
            # Half of the kills are at any moment, half in the stage that was killed least.
            if moments.random() < 0.5:
                least = min(STAGES, key=lambda stage: hit[stage])
                wait_for(process, tmp_path, least, 12, moments.random())
            else:
                wait_for(process, tmp_path, None, moments.randint(0, 3), moments.random())
            kill(process, everyone=moments.random() < 0.7)
            exitcode = process.exitcode
            assert exitcode in (0, -signal.SIGKILL), log.read_text()
            kills += exitcode != 0
            after = entries(tmp_path)
            new = after.keys() - before.keys()
            # Finished results still exist unchanged, and no process was making them again.
            assert {name: after[name] for name in before} == before
            interrupted = under_way(tmp_path)
            assert not interrupted & before.keys()
            worked = Counter(DONE.findall(log.read_text()))
            del worked["job"]  # a line of the sweep, not of a stage
            del worked["artifact"]  # reported when it is published, a moment before its receipt
            assert worked <= Counter(stage for stage, _ in new), log.read_text()
            assert_whole(tmp_path, new)
            hit.update(stage for stage, _ in interrupted - left)
        steps += exitcode == 0
    print(f"{KILLS} kills in", dict(hit), "and", steps, "finished sweeps")
    assert set(hit) >= {*STAGES}, hit

    done = run_asrbuild(*sweep(16 + steps), cwd=tmp_path)
    assert done.code == 0, done.err
    assert "4 of 4 jobs succeeded" in done.out
    assert under_way(tmp_path) == set()
    assert list((tmp_path / ".asrbuild" / "cache" / cache.LOCKS).iterdir()) == []
    assert [path.name for path in (tmp_path / "artifacts").iterdir() if path.name[0] == "."] == []
    again = run_asrbuild(*sweep(16), cwd=tmp_path, env={"COLUMNS": "250"})
    assert again.out.count("unchanged") == 4, again.out
    for model in MODELS:
        for coreml in FORMATS:
            undisturbed = next(workshop.artifact(model, coreml).glob("model.*"))
            same = tmp_path.glob(f"artifacts/demo-{model}-{coreml}-quick/*/{undisturbed.name}")
            digest = tree_digests if undisturbed.is_dir() else file_digest
            assert digest(undisturbed) in [digest(path) for path in same]
