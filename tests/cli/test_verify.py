"""``asrbuild verify`` on intact, damaged and forged artifacts."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from asrbuild.architectures.deepspeech.checkpoint import find_checkpoint, read_weights
from asrbuild.architectures.deepspeech.network import random_weights
from asrbuild.artifact.agreement import content_digest_of
from asrbuild.artifact.manifest import to_json
from asrbuild.artifact.reading import read_manifest
from asrbuild.base.digest import file_digest
from asrbuild.base.errors import AsrbuildError
from tests.command import run
from tests.imports import run_command
from tests.paths import DEMO
from tests.proof import building

WEIGHTS = random_weights(32, seed=3)


@pytest.fixture
def copy(published, tmp_path) -> Path:
    """A writable copy of the artifact."""
    target = tmp_path / "artifact"
    shutil.copytree(published, target, copy_function=shutil.copyfile)
    for path in [target, *target.rglob("*")]:
        os.chmod(path, 0o755 if path.is_dir() else 0o644)
    return target


verify = partial(run, "verify")


def flip(path: Path, position: float = 0.5, bit: int = 0x01) -> None:
    """Flips one bit of one byte."""
    data = bytearray(path.read_bytes())
    data[int(len(data) * position)] ^= bit
    path.write_bytes(bytes(data))


def weight_file(artifact: Path) -> Path:
    (found,) = artifact.rglob("weight.bin")
    return found


def rewrite_sums(artifact: Path) -> None:
    """Makes SHA256SUMS agree with the files, as a forger does first."""
    sums = artifact / "SHA256SUMS"
    files = [path for path in sorted(artifact.rglob("*")) if path.is_file() and path != sums]
    lines = [f"{file_digest(path)}  {path.relative_to(artifact).as_posix()}\n" for path in files]
    sums.write_text("".join(lines))


def rewrite_manifest(artifact: Path, version: bool = False) -> None:
    """Makes the manifest and the version agree with the files, as a forger does next."""
    manifest = read_manifest(artifact)
    files = [
        entry.model_copy(update={"sha256": file_digest(artifact / entry.path)})
        for entry in manifest.files
    ]
    manifest = manifest.model_copy(update={"files": files})
    if version:
        digest = content_digest_of(manifest)
        name = f"{manifest.version.partition('+')[0]}+{digest[:12]}"
        manifest = manifest.model_copy(update={"version": name})
    (artifact / "manifest.json").write_text(to_json(manifest))
    rewrite_sums(artifact)


def test_an_intact_artifact_is_proven_again(published, capsys):
    assert verify(published) == 0
    said = capsys.readouterr().out
    assert "files are as they were published" in said
    assert "Proven: the package was executed" in said
    assert "FAILED" not in said


def test_json_has_every_metric(published, capsys):
    assert verify(published, "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["passed"] is True
    assert answer["files"] == answer["failures"] == []
    recorded = read_manifest(published).verification
    assert [m["name"] for m in answer["verification"]["metrics"]] == [
        m.name for m in recorded.metrics
    ]


def test_verify_imports_neither_tensorflow_nor_coremltools(published):
    _, modules = run_command("verify", published)
    assert not modules & {"tensorflow", "coremltools", "hydra", "matplotlib"}


def test_a_flipped_bit_is_found_in_any_file(published, tmp_path, capsys):
    names = [p.relative_to(published) for p in published.rglob("*") if p.is_file()]
    assert len(names) >= 8
    for number, name in enumerate(names):
        target = tmp_path / str(number)
        shutil.copytree(published, target, copy_function=shutil.copyfile)
        os.chmod(target / name, 0o644)
        flip(target / name)
        assert verify(target) == 1, name
        said = capsys.readouterr().out
        assert name.as_posix() in said or name.name == "SHA256SUMS", (name, said)


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (lambda a: (a / "alphabet.txt").unlink(), "alphabet.txt: missing"),
        (lambda a: (a / "extra.txt").write_text("x"), "extra.txt: added"),
        (lambda a: weight_file(a).write_bytes(b""), "weight.bin: changed"),
    ],
)
def test_missing_added_and_empty_files_are_named(copy, capsys, change, names):
    change(copy)
    assert verify(copy, "--json") == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["passed"] is False
    assert any(problem.endswith(names) for problem in answer["files"])


def test_the_manifest_reveals_a_change_that_sha256sums_hides(copy, capsys):
    flip(weight_file(copy))
    rewrite_sums(copy)
    assert verify(copy) == 1
    assert "weight.bin: changed since the manifest was written" in capsys.readouterr().out


def test_the_version_reveals_a_change_that_the_manifest_hides(copy, capsys):
    flip(weight_file(copy))
    rewrite_manifest(copy)
    assert verify(copy) == 1
    assert "manifest.json: changed, its content digest is" in capsys.readouterr().out


def break_one_weight(artifact: Path) -> None:
    """Flips the top bit of one ordinary weight's exponent."""
    path = weight_file(artifact)
    data = bytearray(path.read_bytes())
    numbers = np.abs(np.frombuffer(bytes(data), np.float16))
    index = int(np.flatnonzero((numbers > 0.05) & (numbers < 0.5))[len(numbers) // 3])
    data[2 * index + 1] ^= 0x40
    path.write_bytes(bytes(data))


def test_a_consistent_forgery_fails_its_gates(copy, capsys):
    break_one_weight(copy)
    rewrite_manifest(copy, version=True)
    assert verify(copy) == 1
    said = capsys.readouterr().out
    assert "files are as they were published" in said
    assert "Not proven" in said
    assert "FAILED" in said
    assert "PSNR (dB)" in said


def edit_manifest(artifact: Path, change: Callable[[dict], None]) -> None:
    path = artifact / "manifest.json"
    raw = json.loads(path.read_text())
    change(raw)
    path.write_text(json.dumps(raw))
    rewrite_manifest(artifact, version=True)


def test_gates_that_would_pass_anything_are_refused(copy):
    def loosen(raw: dict) -> None:
        raw["provenance"]["recipe"]["verify"]["thresholds"]["fp16"]["kl_divergence"] = 50.0

    edit_manifest(copy, loosen)
    with pytest.raises(AsrbuildError, match=r"kl_divergence is 50\.0, outside"):
        verify(copy)


def test_a_reference_other_than_the_manifests_is_refused(copy):
    with np.load(copy / "parity.npz") as archive:
        arrays = dict(archive)
    arrays["sample/frames"] = arrays["sample/frames"] + 1.0
    with (copy / "parity.npz").open("wb") as file:
        np.savez(file, **arrays)
    rewrite_manifest(copy, version=True)
    with pytest.raises(AsrbuildError, match="not those that the manifest names"):
        verify(copy)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--graph", "g.pb"], "--graph and --checkpoint require --bisect"),
        (["--bisect", "--graph", "g.pb", "--checkpoint", "c"], "exclude each other"),
        (["--bisect", "--graph", "no-such.pb"], "no such frozen TensorFlow graph"),
    ],
)
def test_contradictory_options_are_refused(published, arguments, message):
    with pytest.raises(AsrbuildError, match=message):
        verify(published, *arguments)


def test_bisect_requires_the_graph_if_it_is_unknown(copy):
    def elsewhere(raw: dict) -> None:
        raw["provenance"]["recipe"]["source"]["kind"] = "checkpoint"

    edit_manifest(copy, elsewhere)
    with pytest.raises(AsrbuildError, match="does not contain the graph"):
        verify(copy, "--bisect")


def test_bisect_exports_the_graph_of_a_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = DEMO / "checkpoint"
    weights = read_weights(find_checkpoint(checkpoint))
    artifact = building.publish(tmp_path / "artifacts", tmp_path / "work", weights, "model=static")
    for given in ((), ("--checkpoint", checkpoint)):
        assert verify(artifact, "--bisect", *given) == 0
        assert "comparisons agree" in capsys.readouterr().out
