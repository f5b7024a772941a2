"""Large files are stored once, damage is not linked on, and reported sizes are true."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from asrbuild.artifact import integrity, store
from asrbuild.base import cache, digest, links
from asrbuild.base.cache import StageKey
from asrbuild.base.disk import remove_tree
from asrbuild.base.links import LARGE, NamedFiles, link_first

WEIGHTS = b"weights " * (LARGE // 8)
DIGEST = hashlib.sha256(WEIGHTS).hexdigest()


def entry(root: Path, number: int, weights: bytes = WEIGHTS) -> Path:
    """The weights of a cache entry that also has a small file."""

    def build(directory: Path) -> None:
        (directory / "package").mkdir()
        (directory / "package" / "weight.bin").write_bytes(weights)
        (directory / "shape.txt").write_text(str(number))

    key = StageKey("convert", 1, {"n_steps": number}, {}, {})
    return cache.run_stage(root / "cache", key, build, notify=print).path / "package/weight.bin"


def artifact(root: Path, number: int, weights: Path, at: Path | None = None) -> Path:
    """The weights of an artifact made of those of an entry."""
    at = at or root / "artifacts"
    with store.staging(at) as staging:
        store.put(weights, staging, "weight.bin", DIGEST, root / "cache")
        (staging / "manifest.json").write_text(str(number))
        return store.publish(at, "model", staging, f"1+{number}") / "weight.bin"


def inodes(*paths: Path) -> set[int]:
    return {path.stat().st_ino for path in paths}


def on_disk(root: Path) -> int:
    """The bytes that ``du`` counts: the blocks of each file once."""
    found = {s.st_ino: 512 * s.st_blocks for s in (p.stat() for p in root.rglob("*"))}
    return sum(found.values())


def change(path: Path) -> None:
    """Edits a file in place after making it writable."""
    path.chmod(0o644)
    with path.open("r+b") as stream:
        stream.write(b"W")


def test_sixteen_shapes_take_the_space_of_one_and_are_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A later use reads none of their bytes."""
    large = b"w" * (8 * LARGE)
    monkeypatch.setattr(f"{__name__}.DIGEST", hashlib.sha256(large).hexdigest())
    files: list[Path] = []
    for number in range(16):
        files.append(entry(tmp_path, number, large))
        files.append(artifact(tmp_path, number, files[-1]))
        if number == 0:
            one = on_disk(tmp_path)
    assert len(inodes(*files)) == 1
    assert {stat.S_IMODE(file.stat().st_mode) & 0o222 for file in files} == {0}
    assert on_disk(tmp_path) <= 1.3 * one
    monkeypatch.setattr(digest, "_read_digest", lambda path: pytest.fail(f"{path} is read"))
    assert {digest.file_digest(file, tmp_path / "cache") for file in files} == {DIGEST}


def test_entries_that_are_made_at_the_same_time_have_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each would look for the other's file before either is there."""
    record, together = cache._record, threading.Barrier(4)

    def slow(*given: Any) -> None:
        time.sleep(0.1)
        record(*given)

    def make(number: int) -> Path:
        def build(folder: Path) -> None:
            (folder / "weight.bin").write_bytes(bytes(LARGE))
            together.wait(20)

        key = StageKey("convert", 1, {"n_steps": number}, {}, {})
        return cache.run_stage(tmp_path, key, build, notify=lambda _: None).path

    monkeypatch.setattr(cache, "_record", slow)
    with ThreadPoolExecutor(4) as threads:
        entries = list(threads.map(make, range(4)))
    assert len({(entry / "weight.bin").stat().st_ino for entry in entries}) == 1
    assert not list((tmp_path / cache.LOCKS).iterdir())


def test_an_edit_is_found_under_each_name_and_is_not_linked_on(tmp_path: Path) -> None:
    first = entry(tmp_path, 1)
    published = artifact(tmp_path, 1, first)
    change(published)
    (problem,) = integrity.verify_files(published.parent)
    assert str(problem) == "weight.bin: changed"
    # The entry shares the file, so it is made again, and neither shape gets the damage.
    again, other = entry(tmp_path, 1), entry(tmp_path, 2)
    assert again.read_bytes() == other.read_bytes() == WEIGHTS
    assert inodes(again, other).isdisjoint(inodes(published))
    second = artifact(tmp_path, 2, other)
    assert second.read_bytes() == WEIGHTS
    assert integrity.verify_files(second.parent) == []
    assert not stat.S_IMODE(second.stat().st_mode) & 0o222


def test_removal_keeps_other_names_read_only_and_reports_freed_bytes(
    tmp_path: Path,
) -> None:
    weights = entry(tmp_path, 1)
    published = artifact(tmp_path, 1, weights)
    small = len("manifest.json") + 2 * 64  # at least the list of digests
    names = NamedFiles()
    assert small < names.without(published.parent) < LARGE
    assert names.without(weights) == LARGE
    assert NamedFiles().without(weights) == 0
    both = NamedFiles([tmp_path / "cache" / "convert", tmp_path / "artifacts"])
    assert LARGE <= both.bytes < 2 * LARGE
    os.chmod(published.parent, 0o555)
    remove_tree(published.parent)
    assert not stat.S_IMODE(weights.stat().st_mode) & 0o222
    assert NamedFiles().without(weights) == LARGE
    kept = tmp_path / "by-hand"
    os.link(weights, kept)
    assert NamedFiles().without(weights) == 0


@pytest.mark.parametrize("refusal", [errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP])
def test_bytes_are_copied_if_a_link_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: int
) -> None:
    def link(*_: object) -> None:
        raise OSError(refusal, os.strerror(refusal))

    monkeypatch.setattr(os, "link", link)
    weights = [entry(tmp_path, 1), entry(tmp_path, 2)]
    published = artifact(tmp_path, 1, weights[0])
    assert len(inodes(*weights, published)) == 3
    assert published.read_bytes() == WEIGHTS
    assert not [path for path in (tmp_path / "cache").rglob(".*") if path.is_file()]


@pytest.fixture
def other_disk(tmp_path: Path) -> Iterator[Path]:
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK) or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second disk here")
    folder = Path(tempfile.mkdtemp(dir=memory))
    yield folder
    remove_tree(folder)


def test_a_store_on_another_disk_has_the_weights_once(tmp_path: Path, other_disk: Path) -> None:
    weights = [entry(tmp_path, number) for number in (1, 2)]
    published = [artifact(tmp_path, n, w, other_disk) for n, w in enumerate(weights)]
    assert len(inodes(*published)) == 1
    assert published[0].stat().st_dev != weights[0].stat().st_dev
    assert published[0].stat().st_nlink == 2
    assert integrity.verify_files(published[1].parent) == []


def test_only_safe_files_with_the_same_bytes_are_linked(tmp_path: Path) -> None:
    good, target = tmp_path / "good", tmp_path / "target"
    good.write_bytes(WEIGHTS)
    open_to_all = tmp_path / "open"
    shutil.copyfile(good, open_to_all)
    open_to_all.chmod(0o666)
    changed = tmp_path / "changed"
    changed.write_bytes(b"W" + WEIGHTS[1:])
    small = tmp_path / "small"
    small.write_bytes(b"w")
    pointer = tmp_path / "pointer"
    pointer.symlink_to(good)
    refused = [tmp_path / "absent", tmp_path, open_to_all, changed, small, pointer]
    assert not link_first(refused, target, DIGEST, tmp_path / "cache")
    assert not os.path.lexists(target)
    assert link_first([*refused, good], target, DIGEST, tmp_path / "cache")
    assert inodes(target) == inodes(good)


def test_a_file_that_changes_while_it_is_linked_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, target = tmp_path / "good", tmp_path / "target"
    good.write_bytes(WEIGHTS)
    read = digest.file_digest

    def then_changed(path: Path, root: Path) -> str:
        found = read(path, root)
        change(path)
        return found

    monkeypatch.setattr(links, "file_digest", then_changed)
    assert not link_first([good], target, DIGEST, tmp_path / "cache")
    assert not target.exists()
