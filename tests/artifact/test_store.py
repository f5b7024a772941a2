"""The artifact store: versions are whole, read-only, never rewritten, and found by name or path."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from asrbuild.artifact import integrity, layout, lookup, store
from asrbuild.base.errors import AsrbuildError


def make(directory: Path, created: str = "monday", weights: bytes = b"\0" * 100) -> None:
    (directory / "package" / "Data").mkdir(parents=True)
    (directory / "package" / "Data" / "weight.bin").write_bytes(weights)
    (directory / "alphabet.txt").write_text("a\nb\n")
    (directory / "manifest.json").write_text(json.dumps({"created": created}))


def publish(root: Path, name: str = "dynamic", version: str = "1+abc", **content: object) -> Path:
    with store.staging(root) as directory:
        make(directory, **content)
        return store.publish(root, name, directory, version)


def test_published_artifact_has_every_byte_and_valid_sums(tmp_path: Path) -> None:
    path = publish(tmp_path / "fresh" / "store")
    assert path == tmp_path / "fresh" / "store" / "dynamic" / "1+abc"
    assert (path / "package" / "Data" / "weight.bin").read_bytes() == b"\0" * 100
    tool = ["sha256sum"] if shutil.which("sha256sum") else ["shasum", "-a", "256"]
    done = subprocess.run([*tool, "-c", layout.SUMS], cwd=path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(": OK") == 3
    assert integrity.verify_files(path) == []


def test_published_files_and_directories_are_read_only(tmp_path: Path) -> None:
    path = publish(tmp_path)
    for item in [path, *path.rglob("*")]:
        assert not stat.S_IMODE(item.stat().st_mode) & 0o222, item


def test_the_store_holds_only_the_artifact(tmp_path: Path) -> None:
    publish(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["dynamic"]
    assert sorted(p.name for p in (tmp_path / "dynamic").iterdir()) == ["1+abc", "latest"]


def test_a_failure_while_staging_leaves_nothing(tmp_path: Path) -> None:
    def interrupted() -> None:
        with store.staging(tmp_path) as directory:
            make(directory)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_publishing_the_same_version_again_keeps_the_first_bytes(tmp_path: Path) -> None:
    first = publish(tmp_path, created="monday")
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in first.rglob("*") if p.is_file()}
    assert publish(tmp_path, created="tuesday") == first
    assert before == {
        p: (p.stat().st_mtime_ns, p.read_bytes()) for p in first.rglob("*") if p.is_file()
    }


def test_another_artifact_under_the_same_version_is_refused(tmp_path: Path) -> None:
    first = publish(tmp_path)
    with pytest.raises(AsrbuildError) as caught:
        publish(tmp_path, weights=b"\1" * 100)
    assert "already published as dynamic/1+abc" in caught.value.message
    assert "package/Data/weight.bin" in caught.value.message
    assert (first / "package" / "Data" / "weight.bin").read_bytes() == b"\0" * 100
    assert [p.name for p in tmp_path.iterdir()] == ["dynamic"]


def test_a_wrong_copy_is_not_published(tmp_path: Path) -> None:
    digests = {"package/Data/weight.bin": hashlib.sha256(b"\0" * 100).hexdigest()}
    for weights, fits in ((b"\0" * 99 + b"\1", False), (b"\0" * 100, True)):
        with store.staging(tmp_path) as directory:
            make(directory, weights=weights)
            arguments = tmp_path, "dynamic", directory, "1+abc"
            if fits:
                assert store.publish(*arguments, digests=digests).is_dir()
                continue
            with pytest.raises(AsrbuildError, match=r"weight\.bin was not copied as it is"):
                store.publish(*arguments, digests=digests)
        assert not (tmp_path / "dynamic").exists()


def test_volatile_files_may_differ(tmp_path: Path) -> None:
    for text in ("3 ms", "4 ms"):
        with store.staging(tmp_path) as directory:
            make(directory)
            (directory / "report.md").write_text(text)
            path = store.publish(tmp_path, "a", directory, "1")
    assert (path / "report.md").read_text() == "3 ms"


def test_a_damaged_artifact_does_not_count_as_the_same(tmp_path: Path) -> None:
    path = publish(tmp_path)
    tamper(path / "alphabet.txt", b"a\nc\n")
    with pytest.raises(AsrbuildError, match=r"differs in alphabet\.txt"):
        publish(tmp_path)


def tamper(path: Path, content: bytes) -> None:
    os.chmod(path, 0o644)
    path.write_bytes(content)


def test_verify_names_each_tampered_missing_and_extra_file(tmp_path: Path) -> None:
    path = publish(tmp_path)
    weights = path / "package" / "Data" / "weight.bin"
    tamper(weights, b"\0" * 99 + b"\1")
    for folder in (path, weights.parent):
        os.chmod(folder, 0o755)
    (path / "alphabet.txt").unlink()
    (weights.parent / "extra.bin").write_bytes(b"")
    assert [str(problem) for problem in integrity.verify_files(path)] == [
        "alphabet.txt: missing",
        "package/Data/extra.bin: added",
        "package/Data/weight.bin: changed",
    ]


@pytest.mark.parametrize(
    "sums",
    [None, "not a sum\n", "0" * 64 + "  ../../etc/passwd\n", "0" * 64 + "  /etc/passwd\n"],
)
def test_verify_refuses_missing_and_malicious_sums(tmp_path: Path, sums: str | None) -> None:
    path = publish(tmp_path)
    os.chmod(path, 0o755)
    (path / layout.SUMS).unlink()
    if sums is not None:
        (path / layout.SUMS).write_text(sums)
    (problem,) = integrity.verify_files(path)
    assert problem.path == layout.SUMS


def test_latest_may_stay_unchanged(tmp_path: Path) -> None:
    """A sweep, or a build with nothing to do, leaves it unchanged, unless there is none yet."""
    for version in ("1+aaa", "2+bbb"):
        with store.staging(tmp_path) as staging:
            (staging / "manifest.json").write_text(version)
            store.publish(tmp_path, "dynamic", staging, version, move_latest=False)
    assert lookup.read_latest(tmp_path, "dynamic") == "1+aaa"
    assert store.point_latest(tmp_path, "dynamic", "2+bbb", move=False)
    assert not store.point_latest(tmp_path, "dynamic", "3+ccc", move=False)
    assert lookup.read_latest(tmp_path, "dynamic") == "1+aaa"
    assert store.point_latest(tmp_path, "dynamic", "2+bbb")
    assert lookup.read_latest(tmp_path, "dynamic") == "2+bbb"


def test_verify_refuses_links(tmp_path: Path) -> None:
    path = publish(tmp_path)
    os.chmod(path, 0o755)
    (path / "alphabet.txt").unlink()
    (path / "alphabet.txt").symlink_to("/etc/hostname")
    (problem,) = integrity.verify_files(path)
    assert "alphabet.txt" in problem.path
    assert "link" in problem.what


@pytest.mark.parametrize(
    "name", ["", "..", ".hidden", "a/b", "a b", "-x", "latest"], ids=lambda n: f"<{n}>"
)
def test_bad_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(AsrbuildError, match="cannot be an artifact's name"):
        publish(tmp_path, name=name)


def test_latest_follows_the_last_publication(tmp_path: Path) -> None:
    publish(tmp_path, version="1+aaa")
    publish(tmp_path, version="2+bbb", weights=b"2")
    assert lookup.read_latest(tmp_path, "dynamic") == "2+bbb"
    publish(tmp_path, version="1+aaa")
    assert [a.version for a in lookup.list_artifacts(tmp_path) if a.latest] == ["1+aaa"]


def test_list_sorts_versions_as_numbers(tmp_path: Path) -> None:
    for version in ("1.10+a", "1.9+b", "1.9.1+c"):
        publish(tmp_path, version=version)
    assert [a.version for a in lookup.list_artifacts(tmp_path)] == ["1.9+b", "1.9.1+c", "1.10+a"]
    assert lookup.list_artifacts(tmp_path / "absent") == []


@pytest.fixture
def two(tmp_path: Path) -> Path:
    root = tmp_path / "artifacts"
    publish(root, "static", "1+3f2a00")
    publish(root, "static", "1+9c1d00", weights=b"1")
    publish(root, "dynamic", "1+77aa00", weights=b"2")
    return root


def test_a_version_is_not_a_prefix_of_another(tmp_path: Path) -> None:
    ten, one = (publish(tmp_path, version=version) for version in ("1.0.10+aa", "1.0.1+bb"))
    assert lookup.resolve(tmp_path, "dynamic/1.0.1") == one
    assert lookup.resolve(tmp_path, "dynamic/1.0.10") == ten
    with pytest.raises(AsrbuildError, match="fits 2 artifacts"):
        lookup.resolve(tmp_path, "dynamic/1.0")
    with pytest.raises(AsrbuildError, match="no artifact is named"):
        lookup.resolve(tmp_path, "")


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        ("static", "static/1+9c1d00"),
        ("static/latest", "static/1+9c1d00"),
        ("static/1+3f2a00", "static/1+3f2a00"),
        ("static/1+3f", "static/1+3f2a00"),
        ("static/3f2", "static/1+3f2a00"),
        ("dynamic/1", "dynamic/1+77aa00"),
    ],
)
def test_resolve_finds(two: Path, spec: str, found: str) -> None:
    assert lookup.resolve(two, spec) == two / found


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("static/1", "fits 2 artifacts: static/1+3f2a00, static/1+9c1d00"),
        ("statik", "did you mean static?"),
        ("static/7", "there is no artifact 'static/7'"),
        ("nothing-like-it", "choose one of dynamic/1+77aa00, static/1+3f2a00, static/1+9c1d00"),
    ],
)
def test_resolve_lists_the_existing_names(two: Path, spec: str, message: str) -> None:
    with pytest.raises(AsrbuildError) as caught:
        lookup.resolve(two, spec)
    assert message in str(caught.value)


def test_resolve_takes_paths_but_prefers_names(two: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    artifact = two / "static" / "1+3f2a00"
    assert lookup.resolve(two, str(artifact)) == artifact
    assert lookup.resolve(two, str(artifact / "manifest.json")) == artifact
    elsewhere = two.parent / "static"
    shutil.copytree(artifact, elsewhere)
    monkeypatch.chdir(two.parent)
    assert lookup.resolve(two, "static") == two / "static" / "1+9c1d00"
    assert lookup.resolve(two, "./static") == Path("static")
    (two.parent / "plain").mkdir()
    with pytest.raises(AsrbuildError, match="this is a folder, not an artifact"):
        lookup.resolve(two, "plain")
    with pytest.raises(AsrbuildError, match="nothing is published here yet"):
        lookup.resolve(two.parent / "empty", "anything")


def test_the_content_digest_depends_on_every_part_but_not_on_order() -> None:
    files = {"a": "0" * 64, "b": "1" * 64}
    core = {"name": "x", "model": {"format": "mlprogram", "n": [1, 2]}}
    digest = integrity.content_digest(files, core)
    assert digest == integrity.content_digest(dict(reversed(files.items())), core)
    assert digest != integrity.content_digest({**files, "b": "2" * 64}, core)
    assert digest != integrity.content_digest({"a": "0" * 64, "c": "1" * 64}, core)
    assert digest != integrity.content_digest(
        files, {**core, "model": {"format": "x", "n": [1, 2]}}
    )


STAGE_AND_WAIT = """
import sys, time
from pathlib import Path
from asrbuild.artifact import integrity, lookup, store
with store.staging(Path(sys.argv[1])) as directory:
    (directory / "half").write_text("made")
    print(directory, flush=True)
    time.sleep(60)
"""


def test_leftovers_of_dead_processes_are_removed_and_others_kept(tmp_path: Path) -> None:
    def start() -> tuple[subprocess.Popen[str], Path]:
        process = subprocess.Popen(
            [sys.executable, "-c", STAGE_AND_WAIT, str(tmp_path)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        return process, Path(process.stdout.readline().strip())

    living, living_directory = start()
    dead, dead_directory = start()
    try:
        dead.send_signal(signal.SIGKILL)
        dead.wait()
        assert lookup.list_artifacts(tmp_path) == []
        publish(tmp_path)
        assert not dead_directory.exists()
        assert (living_directory / "half").read_text() == "made"
    finally:
        for process in (living, dead):
            process.kill()
            process.communicate()
    publish(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["dynamic"]


def test_links_are_not_published(tmp_path: Path) -> None:
    with store.staging(tmp_path) as directory:
        make(directory)
        (directory / "scorer").symlink_to("/etc/hostname")
        with pytest.raises(AsrbuildError, match="is a link or a device"):
            store.publish(tmp_path, "a", directory, "1")
    assert lookup.list_artifacts(tmp_path) == []


@pytest.mark.parametrize("with_memo", [False, True])
def test_an_artifact_counts_as_published_only_while_whole(tmp_path: Path, with_memo: bool) -> None:
    cache_root = tmp_path / "cache" if with_memo else None
    root = tmp_path / "artifacts"
    assert not integrity.is_published(root / "dynamic" / "1+abc", cache_root)
    path = publish(root, weights=b"1" * 500_000)
    assert integrity.is_published(path, cache_root)
    assert integrity.is_published(path, cache_root)
    tamper(path / "package" / "Data" / "weight.bin", b"2" * 500_000)
    assert not integrity.is_published(path, cache_root)
