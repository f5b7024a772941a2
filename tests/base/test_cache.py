"""The stage cache: fingerprints, whole entries, detection of damage, and reasons of misses."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from asrbuild.base import cache, cache_cleanup, digest
from asrbuild.base.cache import StageKey
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.why import KeyChange, why

KEY = StageKey(
    stage="convert",
    code_version=1,
    keys={"coreml": {"format": "mlprogram", "sizes": [16, 32]}, "n_steps": 16},
    files={"checkpoint": "a" * 64},
    versions={"coremltools": "9.0"},
)
LARGE = 400_000  # digests of larger files are remembered

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(),
)
json_values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
    max_leaves=12,
)


def shuffled(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: shuffled(item) for key, item in reversed(value.items())}
    if isinstance(value, list):
        return [shuffled(item) for item in value]
    return value


def typed(value: Any) -> Any:
    """A value for comparisons in which True is not 1, but 1.0 is, as in JSON."""
    if isinstance(value, dict):
        return {key: typed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [typed(item) for item in value]
    return (isinstance(value, bool), value)


@settings(max_examples=60)
@given(st.dictionaries(st.text(), json_values, max_size=5))
def test_fingerprint_does_not_depend_on_the_order_of_keys(keys: dict[str, Any]) -> None:
    a, b = replace(KEY, keys=keys), replace(KEY, keys=shuffled(keys))
    assert cache.fingerprint(a) == cache.fingerprint(b)


@settings(max_examples=60)
@given(
    st.dictionaries(st.text(), json_values, max_size=4),
    st.dictionaries(st.text(), json_values, max_size=4),
)
def test_fingerprints_are_equal_for_equal_keys_only(a: dict[str, Any], b: dict[str, Any]) -> None:
    same = cache.fingerprint(replace(KEY, keys=a)) == cache.fingerprint(replace(KEY, keys=b))
    assert same == (typed(a) == typed(b))


@settings(max_examples=60)
@given(st.dictionaries(st.text(), json_values, min_size=1, max_size=4), st.data())
def test_fingerprint_changes_with_any_value(keys: dict[str, Any], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(keys)))
    other = data.draw(json_values.filter(lambda value: typed(value) != typed(keys[name])))
    changed = replace(KEY, keys={**keys, name: other})
    assert cache.fingerprint(changed) != cache.fingerprint(replace(KEY, keys=keys))


@pytest.mark.parametrize(
    "changed",
    [
        replace(KEY, stage="export"),
        replace(KEY, code_version=2),
        replace(KEY, files={"checkpoint": "b" * 64}),
        replace(KEY, files={"graph": "a" * 64}),
        replace(KEY, versions={"coremltools": "9.0.1"}),
        replace(KEY, keys={**KEY.keys, "n_steps": "16"}),
        replace(KEY, keys={**KEY.keys, "n_steps": True}),
        replace(KEY, keys={**KEY.keys, "extra": None}),
    ],
)
def test_every_part_of_the_key_counts(changed: StageKey) -> None:
    assert cache.fingerprint(changed) != cache.fingerprint(KEY)


def test_fingerprint_is_the_same_in_another_process_with_another_hash_seed() -> None:
    code = (
        "from asrbuild.base.cache import *; print(fingerprint(StageKey('convert', 1, "
        "{'n_steps': 16, 'coreml': {'sizes': (16, 32), 'format': 'mlprogram'}}, "
        "{'checkpoint': 'a' * 64}, {'coremltools': '9.0'})))"
    )
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        out = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
        assert out.stdout.decode().strip() == cache.fingerprint(KEY)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), Path("x"), {1: 2}, b"x", {1, 2}])
def test_values_without_a_digest_are_refused_by_name(value: object) -> None:
    with pytest.raises(AsrbuildError) as caught:
        cache.fingerprint(replace(KEY, keys={"coreml": {"bad": value}}))
    assert caught.value.key == "value.keys.coreml.bad"


class Builder:
    """Counts its runs and writes a small file, a large one and one in a folder."""

    def __init__(self) -> None:
        self.runs = 0
        self.said: list[str] = []

    def __call__(self, directory: Path) -> None:
        assert list(directory.iterdir()) == []
        self.runs += 1
        (directory / "small.txt").write_text("hello")
        (directory / "weights.bin").write_bytes(b"\7" * LARGE)
        (directory / "package").mkdir()
        (directory / "package" / "model").write_text("spec")

    def run(self, root: Path, key: StageKey = KEY, **options: bool) -> cache.StageResult:
        return cache.run_stage(root, key, self, notify=self.said.append, **options)


@pytest.fixture
def build() -> Builder:
    return Builder()


def tidy(root: Path) -> bool:
    """Asserts that no temporary directory and no lock is left."""
    return not any(
        (root / folder).exists() and list((root / folder).iterdir())
        for folder in (cache.BUILDING, cache.LOCKS)
    )


def test_the_second_run_does_no_work(tmp_path: Path, build: Builder) -> None:
    first, second = build.run(tmp_path), build.run(tmp_path)
    assert (first.hit, second.hit, build.runs) == (False, True, 1)
    assert first.path == second.path == tmp_path / "convert" / cache.fingerprint(KEY)
    assert (first.path / "package" / "model").read_text() == "spec"
    assert build.said == []
    assert cache.is_cached(tmp_path, KEY)
    assert tidy(tmp_path)


def test_the_record_lists_every_file_with_its_digest(tmp_path: Path, build: Builder) -> None:
    path = build.run(tmp_path).path
    record = json.loads((path / cache.RECORD).read_text())
    files = {file["path"]: file for file in record["files"]}
    assert set(files) == {"small.txt", "weights.bin", "package/model"}
    assert files["small.txt"]["sha256"] == hashlib.sha256(b"hello").hexdigest()
    assert files["weights.bin"]["sha256"] == hashlib.sha256(b"\7" * LARGE).hexdigest()
    assert files["weights.bin"]["bytes"] == LARGE
    assert record["key"]["keys"] == KEY.keys


@pytest.mark.parametrize("error", [AsrbuildError("no"), ValueError("no"), KeyboardInterrupt()])
def test_a_failed_stage_is_not_cached(tmp_path: Path, build: Builder, error: BaseException) -> None:
    def fail(directory: Path) -> None:
        (directory / "half").write_text("made")
        raise error

    with pytest.raises(type(error)):
        cache.run_stage(tmp_path, KEY, fail, notify=print)
    assert not cache.is_cached(tmp_path, KEY)
    assert tidy(tmp_path)
    assert not build.run(tmp_path).hit


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def flip_and_set_the_time_back(path: Path) -> None:
    before = path.stat()
    flip(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def replace_by_link(path: Path) -> None:
    path.rename(path.parents[2] / "elsewhere")
    path.symlink_to(path.parents[2] / "elsewhere")


DAMAGES = [truncate, Path.unlink, replace_by_link]


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        (name, damage)
        for name in ("small.txt", "weights.bin")
        for damage in (flip, flip_and_set_the_time_back, *DAMAGES)
    ]
    + [(cache.RECORD, damage) for damage in DAMAGES],
)
def test_a_damaged_entry_is_a_miss_with_a_warning(
    tmp_path: Path, build: Builder, name: str, damage: Callable[[Path], None]
) -> None:
    path = build.run(tmp_path).path
    damage(path / name)
    assert not cache.is_cached(tmp_path, KEY)
    assert not build.run(tmp_path).hit
    (warning,) = build.said
    assert warning.startswith("convert: the cached entry is damaged (")
    assert name in warning
    assert build.run(tmp_path).hit
    assert build.runs == 2
    assert tidy(tmp_path)


def test_an_added_file_counts_as_damage(tmp_path: Path, build: Builder) -> None:
    path = build.run(tmp_path).path
    (path / "package" / "stray").write_text("")
    assert not build.run(tmp_path).hit
    assert "package/stray was added" in build.said[0]


def test_a_record_of_another_entry_counts_as_damage(tmp_path: Path, build: Builder) -> None:
    other = build.run(tmp_path, replace(KEY, code_version=2)).path
    other.rename(cache.entry_path(tmp_path, KEY))
    assert not build.run(tmp_path).hit
    assert "belongs to another entry" in build.said[0]


def test_verify_reads_files_that_look_unchanged(
    tmp_path: Path, build: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    build.run(tmp_path)
    read: list[str] = []
    honest = digest._read_digest
    monkeypatch.setattr(digest, "_read_digest", lambda p: (read.append(p.name), honest(p))[1])
    build.run(tmp_path)
    assert "weights.bin" not in read
    build.run(tmp_path, verify=True)
    assert "weights.bin" in read
    assert build.runs == 1


def test_the_memo_of_another_boot_is_not_used(
    tmp_path: Path, build: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = build.run(tmp_path).path / "weights.bin"
    before = path.stat()
    record = digest._memo_path(tmp_path, before)
    assert record.exists()
    monkeypatch.setattr(digest, "_boot", lambda: "another")
    # A power cut can leave zeros at the right size and times. Only reading finds it.
    path.write_bytes(bytes(LARGE))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert not build.run(tmp_path).hit


def test_the_digest_of_a_file_follows_its_content_and_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "graph.pb"
    path.write_bytes(b"1" * LARGE)
    monkeypatch.setattr(digest, "_SETTLED_SECONDS", -1.0)
    read: list[Path] = []
    honest = digest._read_digest
    monkeypatch.setattr(digest, "_read_digest", lambda p: (read.append(p), honest(p))[1])
    first = digest.file_digest(path, tmp_path / "cache")
    assert digest.file_digest(path, tmp_path / "cache") == first
    assert len(read) == 1
    flip_and_set_the_time_back(path)
    assert digest.file_digest(path, tmp_path / "cache") != first
    with pytest.raises(AsrbuildError, match="No such file"):
        digest.file_digest(tmp_path / "absent")
    with pytest.raises(AsrbuildError, match="is not a file"):
        digest.file_digest(tmp_path)


def test_the_digest_of_a_file_just_written_is_not_remembered(tmp_path: Path) -> None:
    path = tmp_path / "graph.pb"
    path.write_bytes(b"1" * LARGE)
    digest.file_digest(path, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("junk", ["", "{", "[]", '{"identity": 1}', '{"sha256": "x"}', "\0"])
def test_a_broken_memo_is_ignored(tmp_path: Path, build: Builder, junk: str) -> None:
    path = build.run(tmp_path).path
    digest._memo_path(tmp_path, (path / "weights.bin").stat()).write_text(junk)
    assert build.run(tmp_path).hit


def test_tree_digests_depend_on_names_and_bytes_only(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    for folder in (a, b):
        (folder / "sub").mkdir(parents=True)
        (folder / "sub" / "x").write_text("1")
    os.utime(a / "sub" / "x", (0, 0))
    assert digest.tree_digests(a) == digest.tree_digests(b)
    (b / "sub" / "x").rename(b / "sub" / "y")
    assert digest.tree_digests(a) != digest.tree_digests(b)


def test_why_names_the_key_the_file_and_the_version(tmp_path: Path, build: Builder) -> None:
    assert "no earlier entry" in str(why(tmp_path, KEY))
    build.run(tmp_path, replace(KEY, keys={"other": 1}, files={}, versions={}))
    build.run(tmp_path)
    assert str(why(tmp_path, KEY)).endswith("cached, nothing to do")
    now = StageKey(
        stage="convert",
        code_version=2,
        keys={"coreml": {"format": "neuralnetwork", "sizes": [16, 32]}, "n_steps": 16},
        files={"checkpoint": "b" * 64, "alphabet": "c" * 64},
        versions={"coremltools": "9.1"},
    )
    explanation = why(tmp_path, now)
    assert explanation.nearest == cache.fingerprint(KEY)
    assert explanation.changes == (
        KeyChange("code", "", "version 1", "version 2"),
        KeyChange("key", "coreml.format", '"mlprogram"', '"neuralnetwork"'),
        KeyChange("file", "alphabet", "(absent)", "c" * 16),
        KeyChange("file", "checkpoint", "a" * 16, "b" * 16),
        KeyChange("version", "coremltools", "9.0", "9.1"),
    )
    assert 'key coreml.format: "mlprogram" -> "neuralnetwork"' in str(explanation)


def test_why_shows_letters_and_short_digests(tmp_path: Path, build: Builder) -> None:
    build.run(tmp_path, replace(KEY, keys={"file": "Wörter.txt", "proofs": ["a" * 64]}))
    (change, proofs) = why(tmp_path, replace(KEY, keys={"file": "x", "proofs": ["b" * 64]})).changes
    assert str(change) == 'key file: "Wörter.txt" -> "x"'
    assert str(proofs) == f"key proofs: [{'a' * 12}] -> [{'b' * 12}]"


def test_why_reports_damage(tmp_path: Path, build: Builder) -> None:
    flip(build.run(tmp_path).path / "small.txt")
    assert "its entry is damaged (small.txt was changed)" in str(why(tmp_path, KEY))


keys_with_two_levels = st.dictionaries(
    st.sampled_from(["a", "b", "c"]),
    st.one_of(st.integers(0, 2), st.dictionaries(st.sampled_from("xyz"), st.integers(0, 2))),
)


@given(keys_with_two_levels, keys_with_two_levels)
def test_differences_are_empty_for_equal_keys_only(a: dict[str, Any], b: dict[str, Any]) -> None:
    from asrbuild.base.why import differences

    assert (differences(replace(KEY, keys=a), replace(KEY, keys=b)) == ()) == (a == b)


def test_list_and_clear(tmp_path: Path, build: Builder) -> None:
    assert cache_cleanup.list_entries(tmp_path / "absent") == []
    assert cache_cleanup.clear(tmp_path / "absent") == 0
    build.run(tmp_path)
    build.run(tmp_path, replace(KEY, stage="export"))
    entries = cache_cleanup.list_entries(tmp_path)
    assert [entry.stage for entry in entries] == ["convert", "export"]
    size = LARGE + len("hello") + len("spec")
    assert [entry.bytes for entry in entries] == [size, size]
    # Evaluations have folders without a record in the cache.
    kept = tmp_path / "probabilities" / ("0" * 64) / "words.json"
    kept.parent.mkdir(parents=True)
    kept.write_text("12345")
    assert cache_cleanup.clear(tmp_path, older_than=3600) == 0
    assert kept.exists()
    assert cache_cleanup.clear(tmp_path, "probabilities") == 5
    assert not kept.exists()
    records = [(entry.path / cache.RECORD).stat().st_size for entry in entries]
    assert cache_cleanup.clear(tmp_path, "export") == size + records[1]
    assert [entry.stage for entry in cache_cleanup.list_entries(tmp_path)] == ["convert"]
    assert cache_cleanup.clear(tmp_path) == size + records[0]
    assert not build.run(tmp_path).hit


def test_a_stage_must_not_write_the_record(tmp_path: Path) -> None:
    def build(directory: Path) -> None:
        (directory / cache.RECORD).write_text("{}")

    with pytest.raises(AsrbuildError, match=r"wrote stage\.json"):
        cache.run_stage(tmp_path, KEY, build, notify=print)
    assert tidy(tmp_path)


def test_a_cache_path_that_is_a_file_is_refused(tmp_path: Path, build: Builder) -> None:
    (tmp_path / "cache").write_text("")
    with pytest.raises(AsrbuildError) as caught:
        build.run(tmp_path / "cache")
    assert "cannot be written" in caught.value.message
    assert caught.value.fix
