"""Commands check the bytes of artifacts, caches and configurations, not their claims."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asrbuild.artifact import integrity
from asrbuild.artifact.reading import read_manifest
from asrbuild.artifact.runtime import open_artifact
from asrbuild.base import cache, cache_cleanup, digest
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.places import resolve_file
from asrbuild.builder.compose import compose_recipe
from asrbuild.builder.stage import View
from asrbuild.builder.stages import prove
from asrbuild.cli.main import dispatch
from asrbuild.proof.evaluation import listen
from asrbuild.speech.dataset import read_dataset
from tests.acceptance.conftest import PLAIN, Finished, finish, refusal
from tests.forging import agree, copy_artifact, spoil_weights

PROGRAM = Path(sys.executable).with_name("asrbuild")
RECIPE = ("model=static", "verify=quick")
SECOND = str(resolve_file("demo:second.wav"))


@dataclass(frozen=True)
class Place:
    """A folder with one build; commands run in it as those of a user."""

    folder: Path
    artifact: Path

    def run(self, *arguments: str, **options: Any) -> Finished:
        return run_program(*arguments, folder=self.folder, **options)


def run_program(
    *arguments: str, folder: Path, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> Finished:
    own = {
        "ASRBUILD_CACHE": str(folder / "cache"),
        "ASRBUILD_ARTIFACTS": str(folder / "artifacts"),
        "ASRBUILD_CONFIG": str(folder / "config"),
        "HOME": str(folder / "home"),
        **PLAIN,
    }
    return finish(PROGRAM, *arguments, cwd=cwd or folder, env=os.environ | own | dict(env or {}))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("place")
    done = run_program(*RECIPE, folder=folder)
    assert done.code == 0, done.err
    (artifact,) = (folder / "artifacts").glob("*/1.0.0+*")
    return Place(folder, artifact)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    shutil.copy(SECOND, folder / "second.wav")
    shutil.copy(resolve_file("demo:second.txt"), folder / "second.txt")
    return folder


def test_damaged_weights_are_an_error_that_names_the_file(
    place: Place, data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASRBUILD_CACHE", str(place.folder / "cache"))
    damaged = copy_artifact(place.artifact, data.parent / "damaged")
    weights = spoil_weights(damaged)
    at = str(damaged)
    for arguments in (
        ("transcribe", at, SECOND),
        ("run", at),
        ("evaluate", at, str(data)),
        ("show", at),
        ("diff", at, str(place.artifact)),
        ("report", at),
        ("inspect", "model", at),
        ("app", at, "--out", str(data.parent / "app")),
        ("build", *RECIPE, f"verify.compared_with={at}", f"paths.artifacts={data}/a"),
    ):
        error = refusal(*arguments)
        assert "the artifact is damaged: model.mlpackage/Data/" in error.message, arguments
        assert error.file == str(weights), arguments
        assert "pull it again" in str(error.fix), arguments
    assert "hvde" not in capsys.readouterr().out


def test_a_file_without_a_digest_is_an_error(place: Place, tmp_path: Path) -> None:
    added = copy_artifact(place.artifact, tmp_path / "added")
    (added / "model.mlpackage" / "more.bin").write_bytes(b"")
    assert "more.bin was added" in refusal("transcribe", str(added), SECOND).message
    unlisted = copy_artifact(place.artifact, tmp_path / "unlisted")
    agree(
        unlisted,
        lambda fields: fields.update(files=[f for f in fields["files"] if f["role"] != "package"]),
    )
    for command in (("transcribe", str(unlisted), SECOND), ("verify", str(unlisted))):
        assert "is not among the files that the manifest lists" in refusal(*command).message


def test_cached_probabilities_belong_to_the_bytes_of_their_package(
    place: Place, data: Path
) -> None:
    damaged = copy_artifact(place.artifact, data.parent / "damaged")
    spoil_weights(damaged)  # its manifest is that of the good one
    dataset, cache = read_dataset(data), data.parent / "cache"
    found = {}
    for path in (damaged, place.artifact):
        with open_artifact(path) as transcriber:
            found[path] = listen(transcriber, dataset, cache)[0].probabilities
    assert not np.array_equal(found[damaged], found[place.artifact])


def test_the_memo_of_digests_finds_a_change_of_the_same_size_and_time(tmp_path: Path) -> None:
    file = tmp_path / "large"
    file.write_bytes(bytes(300_000))
    old = time.time_ns() - 10**10
    os.utime(file, ns=(old, old))
    before = digest.file_digest(file, tmp_path / "cache")
    file.write_bytes(b"1" + bytes(299_999))
    os.utime(file, ns=(old, old))
    assert digest.file_digest(file, tmp_path / "cache") != before


OUTSIDE: dict[str, Callable[[dict[str, Any], str], object]] = {
    "model.package": lambda m, path: m["model"].update(package=path),
    "features.reference.audio": lambda m, path: m["features"]["reference"].update(audio=path),
    "decoder.alphabet_file": lambda m, path: m["decoder"].update(alphabet_file=path),
    "decoder.scorer.path": lambda m, path: m["decoder"].update(
        scorer={"path": path, "sha256": "0" * 64, "lm_alpha": 1.0, "lm_beta": 1.0}
    ),
    "files.0.path": lambda m, path: m["files"][0].update(path=path),
}


@pytest.mark.parametrize("key", OUTSIDE)
@pytest.mark.parametrize("path", ["/etc/hostname", "../x", "a/../../x", "", ".", "a//b", "a\\b"])
def test_a_path_out_of_the_artifact_is_refused(
    place: Place, tmp_path: Path, key: str, path: str
) -> None:
    shutil.copyfile(place.artifact / "manifest.json", tmp_path / "manifest.json")
    fields = json.loads((tmp_path / "manifest.json").read_text())
    OUTSIDE[key](fields, path)
    (tmp_path / "manifest.json").write_text(json.dumps(fields))
    with pytest.raises(AsrbuildError, match="leads out of it") as refused:
        read_manifest(tmp_path)
    assert refused.value.key == key


def test_a_link_out_of_the_artifact_is_refused(place: Place, tmp_path: Path) -> None:
    linked = copy_artifact(place.artifact, tmp_path / "linked")
    shutil.move(linked / "model.mlpackage", tmp_path / "elsewhere")
    (linked / "model.mlpackage").symlink_to(tmp_path / "elsewhere")
    assert "is a link" in refusal("transcribe", str(linked), SECOND).message
    assert dispatch(["verify", str(linked)]) == 1


def test_a_build_imports_nothing_from_the_current_folder(place: Place, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    names = ("json", "argparse", "numpy", "tensorflow", "signal", "coremltools", "runpy")
    for name in (*names, "sitecustomize"):
        note = f"open({str(ran)!r}, 'a').write(__name__)\n"
        (tmp_path / f"{name}.py").write_text(note)
    (tmp_path / "asrbuild").mkdir()
    (tmp_path / "asrbuild/__init__.py").write_text(f"open({str(ran)!r}, 'a').write('asrbuild')\n")
    done = place.run(
        *RECIPE, "version=1.0.1", "coreml.frontend=tensorflow", "coreml.lstm=loop", cwd=tmp_path
    )
    assert done.code == 0, done.err
    assert not ran.exists(), ran.read_text()


NOBODY = 65534


@pytest.fixture
def planted(place: Place, tmp_path: Path) -> Place:
    """A copy of the build, its cache and its store."""
    for name in ("cache", "artifacts"):
        shutil.copytree(place.folder / name, tmp_path / name)
    return Place(tmp_path, tmp_path / place.artifact.relative_to(place.folder))


@pytest.mark.parametrize("what", ["cache", "cache/convert", "cache/.digests", "entry", "artifacts"])
@pytest.mark.parametrize("how", ["owner", "everybody", "group"])
def test_paths_that_other_users_can_write_to_are_refused(
    place: Place, planted: Place, what: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if how != "everybody" and os.geteuid() != 0:
        pytest.skip("only root can give files away")
    path = planted.folder / what
    if what == "entry":
        receipts = (planted.folder / "cache/artifact").glob("*/receipt.json")
        (path,) = (one for one in receipts if place.artifact.name in one.read_text())
    if how == "everybody":
        path.chmod(path.stat().st_mode | 0o002)
    else:
        os.chown(path, *((NOBODY, 0) if how == "owner" else (0, NOBODY)))
        path.chmod(path.stat().st_mode | (0o020 if how == "group" else 0))
    monkeypatch.setattr(os, "umask", lambda mask: mask)  # this process continues
    paths = [f"paths.{name}={planted.folder / name}" for name in ("cache", "artifacts")]
    error = refusal("build", *RECIPE, *paths)
    assert (error.key, error.file) == ("paths.trust_shared", str(path))
    monkeypatch.setenv("ASRBUILD_TRUST_SHARED", "0")  # the key sets it
    assert dispatch(["build", *RECIPE, *paths, "paths.trust_shared=true"]) == 0


def test_other_users_cannot_write_to_new_files(place: Place, tmp_path: Path) -> None:
    done = subprocess.run(
        ["sh", "-c", f"umask 000; exec {PROGRAM} key new"],
        env=os.environ | {"ASRBUILD_CONFIG": str(tmp_path / "config")},
        check=True,
        capture_output=True,
    )
    assert done.returncode == 0
    for path in (tmp_path / "config", *(tmp_path / "config").rglob("*")):
        assert not path.stat().st_mode & 0o022, path


def test_a_foreign_artifact_is_proven_before_it_is_bundled(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("ASRBUILD_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("ASRBUILD_CONFIG", str(tmp_path / "config"))
    dispatch(["key", "new"])
    good = copy_artifact(place.artifact, tmp_path / "good")
    bad = copy_artifact(place.artifact, tmp_path / "bad")
    spoil_weights(bad)
    agree(bad)
    capsys.readouterr()
    error = refusal("bundle", str(bad), str(tmp_path / "bad.asrb"))
    assert "does not pass its proof here" in error.message
    assert "proving it again" in capsys.readouterr().err
    assert not (tmp_path / "bad.asrb").exists()
    dispatch(["bundle", str(good), str(tmp_path / "good.asrb")])
    assert "proving it again" in capsys.readouterr().err
    (tmp_path / "good.asrb").unlink()
    dispatch(["bundle", str(good), str(tmp_path / "good.asrb")])
    assert "proving it again" not in capsys.readouterr().err


def test_a_clean_up_keeps_entries_of_a_running_build(tmp_path: Path) -> None:
    root = tmp_path / "cache"
    one, two = (cache.StageKey(name, 1, {}, {}, {}) for name in ("one", "two"))
    with cache.in_use(root) as marks:
        made = cache.run_stage(root, one, _write_file, notify=print, marks=marks)
        other = cache.run_stage(root, two, _write_file, notify=print)
        found = {entry.stage: entry for entry in cache_cleanup.list_entries(root)}
        assert not cache_cleanup.remove_unused(root, found["one"], since=time.time() + 10**6)
        cache_cleanup.clear(root)
        assert (made.path.exists(), other.path.exists()) == (True, False)
    cache_cleanup.clear(root)
    assert not made.path.exists()
    assert not list((root / ".building").iterdir())


def _write_file(at: Path) -> None:
    (at / "file").write_text("content")


def test_a_result_that_vanishes_during_a_build_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [f"paths.cache={tmp_path}/cache", f"paths.artifacts={tmp_path}/artifacts"]
    read_cases, removed = prove.all_cases, []

    def cases(view: View) -> Any:
        if not removed:
            removed.append(1)
            shutil.rmtree(tmp_path / "cache")
        return read_cases(view)

    monkeypatch.setattr(prove, "all_cases", cases)
    assert dispatch(["build", *RECIPE, *paths]) == 0
    assert removed


ODD: dict[str, bytes] = {
    "nesting": b"[" * 100_000,
    "text": b"no JSON",
    "bytes": b"\xff\xfe",
    "list": b"[]",
    "created": b'{"key": {}, "files": [], "created": 7, "host": "", "seconds": 1}',
    "huge": b'{"created": "9999-12-31T23:59:59+00:00", "files": [{"bytes": 1e400}]}',
}


@pytest.mark.parametrize("odd", [*ODD, "fifo", "folder", "absent", "date", "size", "keys"])
def test_one_damaged_record_blocks_no_command(tmp_path: Path, odd: str) -> None:
    root, artifacts = tmp_path / "cache", tmp_path / "artifacts"
    key = cache.StageKey("one", 1, {}, {}, {})
    good = cache.run_stage(root, key, _write_file, notify=print)
    path = root / "one" / ("0" * 64)
    shutil.copytree(good.path, path)
    record = json.loads((path / "stage.json").read_text())
    changes = {
        "date": {"created": "0001-01-01T00:00:00"},
        "size": {"files": [{"bytes": -(10**400)}]},
        "keys": {"key": dict(record["key"], keys=5)},
    }
    artifact = artifacts / "odd" / "1.0.0+000000000000"
    artifact.mkdir(parents=True)
    for file in (path / "stage.json", artifact / "manifest.json"):
        file.unlink(missing_ok=True)
        if odd == "fifo":
            os.mkfifo(file)
        elif odd == "folder":
            file.mkdir()
        elif odd in changes:
            file.write_text(json.dumps(record | changes[odd]))
        elif odd != "absent":
            file.write_bytes(ODD[odd])
    places = ("--artifacts", str(artifacts))
    assert dispatch(["ls", *places]) == 0
    assert dispatch(["ls", *places, "--json"]) == 0
    assert dispatch(["cache", "ls", "--cache", str(root)]) == 0
    assert dispatch(["gc", *places, "--cache", str(root), "--offline"]) == 0
    assert dispatch(["cache", "clear", "--cache", str(root)]) == 0
    assert not good.path.exists()


@pytest.mark.parametrize(
    "author",
    [
        "${oc.env:SECRET}",
        "${paths.artifacts}/${oc.env:SECRET}",
        "${oc.decode:${oc.env:SECRET}}",
        "${oc.${x}:SECRET}",
        "${paths.cache}",
        "${oc.env:OTHER,${oc.env:SECRET}}",
    ],
)
def test_the_environment_is_read_for_paths_only(
    author: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "open-sesame")
    given = ["model=static", f"source.author={author.replace('${x}', '${decoder.type}')}"]
    with pytest.raises(AsrbuildError) as refused:
        compose_recipe([*given, "paths.cache=${oc.env:SECRET}"])
    assert "open-sesame" not in str(refused.value)
    recipe = compose_recipe(
        ["source.author=${oc.env:SECRET}", "paths.env=[SECRET]", "paths.cache=${oc.env:SECRET}"]
    )
    assert (recipe.source.author, recipe.paths.cache) == ("open-sesame", "open-sesame")


def test_published_files_have_no_secrets(place: Place, tmp_path: Path) -> None:
    home = tmp_path / "home" / "alice"
    other = home / "artifacts" / "other" / "1.0"
    shutil.copytree(place.artifact, other)
    token = "ghp_" + "a1B2" * 9
    done = place.run(
        "-m",
        *RECIPE,
        "version=2.0.0,2.0.1",
        f"paths.cache={home}/cache",
        f"paths.artifacts={home}/published",
        f"verify.compared_with={other}",
        f"source.description='from https://bob:hunter2@example.org/x?token=letmein and {token}'",
        f"source.author='{home}/me'",
        f"source.sample.audio={_copied(home, 'sample.wav')}",
        f"source.license='{token}'",
        cwd=tmp_path,
        env={"HOME": str(home)},
    )
    assert done.code == 0, done.err
    (artifact,) = (home / "published").glob("*/2.0.1+*")
    env = {"HOME": str(home), "ASRBUILD_CONFIG": str(tmp_path / "config")}
    assert place.run("key", "new", env=env).code == 0
    bundle = place.run("bundle", str(artifact), str(tmp_path / "b.asrb"), env=env)
    assert bundle.code == 0, bundle.err
    published = [path for path in artifact.rglob("*") if path.is_file()]
    pages = [*(tmp_path / ".asrbuild/sweeps").rglob("*.html"), tmp_path / "b.asrb"]
    receipts = [*(home / "cache/artifact").rglob("*.json")]
    assert len(pages) == 2
    for path in (*published, *pages, *receipts):
        content = path.read_bytes()
        for secret in ("hunter2", "letmein", token, "bob:"):
            assert secret.encode() not in content, (path, secret)
        if path not in pages:
            assert str(home).encode() not in content, path
    manifest = read_manifest(artifact)
    assert manifest.provenance.recipe["verify"]["compared_with"] == "other/1.0"
    assert manifest.verification.evaluation is not None
    assert manifest.verification.evaluation.reference == "other/1.0"
    assert "source.sample.audio=sample.wav" in manifest.provenance.overrides


def _copied(folder: Path, name: str) -> Path:
    return Path(shutil.copy(resolve_file(f"demo:{name}"), folder / name))


def test_commands_do_not_wait_for_pipes_in_an_artifact(place: Place, tmp_path: Path) -> None:
    for name in ("SHA256SUMS", "model.mlpackage/Data/com.apple.CoreML/weights/weight.bin"):
        damaged = copy_artifact(place.artifact, tmp_path / name.split("/")[0])
        (damaged / name).unlink()
        os.mkfifo(damaged / name)
        assert integrity.verify_files(damaged)
        done = place.run("run", str(damaged / "model.mlpackage"), cwd=tmp_path)
        assert done.code == (1 if "weight" in name else 0), done.err
