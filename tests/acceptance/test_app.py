"""The app kit: one in every artifact, a checker that finds faults, and working Swift code."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asrbuild.architectures.deepspeech.checkpoint import find_checkpoint, read_weights
from asrbuild.architectures.deepspeech.network import AcousticWeights
from asrbuild.artifact.manifest import Manifest
from asrbuild.artifact.reading import read_manifest
from asrbuild.artifact.runtime import load_package, open_artifact
from asrbuild.base.digest import tree_digests
from asrbuild.handover.app.conformance import write_conformance
from asrbuild.handover.app.vectors import run_package
from asrbuild.handover.ship.names import check_paths
from tests.acceptance.conftest import Workshop, run_asrbuild
from tests.handover.app.foreign import Foreign
from tests.paths import DEMO
from tests.scripts import write_script

Checked = tuple[int, dict[str, Any]]


@pytest.fixture(scope="module")
def weights() -> AcousticWeights:
    return read_weights(find_checkpoint(DEMO / "checkpoint"))


@pytest.fixture(scope="module")
def artifact(workshop: Workshop) -> Path:
    """An artifact with chunks, half precision and explicit states."""
    return workshop.artifact("static", "mlprogram")


def run_checker(artifact: Path, results: Path) -> Checked:
    checker = artifact / "conformance" / "check.py"
    # Isolated mode, in which neither this folder nor asrbuild can be imported by accident.
    done = subprocess.run(
        [sys.executable, "-I", str(checker), str(results), "--json"],
        capture_output=True,
        text=True,
        check=False,
        cwd=results,
    )
    assert not done.stderr, done.stderr
    return done.returncode, json.loads(done.stdout)


def recordings(kit: Path) -> list[dict[str, Any]]:
    return json.loads((kit / "steps.json").read_text())["recordings"]


@pytest.fixture
def foreign(artifact: Path, weights: AcousticWeights, tmp_path: Path) -> Callable[..., Checked]:
    """Runs a foreign runtime with one fault and checks it; ``keep`` limits its results."""

    def check(fault: str, keep: tuple[str, ...] = ()) -> Checked:
        results = tmp_path / "results"
        manifest = json.loads((artifact / "manifest.json").read_text())
        Foreign(manifest, weights, fault).write(artifact / "conformance", results)
        for file in list(results.rglob("*.*")):
            if keep and file.name not in keep:
                file.unlink()
        return run_checker(artifact, results)

    return check


def test_a_runtime_in_single_precision_passes_every_step(foreign: Callable[..., Checked]) -> None:
    code, answer = foreign("")
    assert (code, answer["passed"], answer["first_off"]) == (0, True, None)
    assert {finding["verdict"] for finding in answer["findings"]} == {"ok"}
    assert len(answer["findings"]) == 6 * 11


@pytest.mark.parametrize(
    ("fault", "recording", "step", "detail"),
    [
        ("scale", "reference", "mfcc", "step 0"),
        ("hamming", "reference", "mfcc", "step 0"),
        ("mel", "reference", "mfcc", "step 0"),
        ("edges", "reference", "windows", "step 0"),
        ("tail", "reference", "calls", "6 calls, expected 7"),
        ("state", "reference", "previous_state_c", "given to call 1"),
        ("softmax", "reference", "probabilities", "in call 0"),
        ("alphabet", "reference", "text", "expected 'hello"),
        ("blank", "reference", "text", "expected 'hello"),
        ("repeats", "reference", "text", "expected 'hello"),
        ("times", "reference", "words", "'hello': end_s"),
    ],
)
def test_a_fault_is_found_at_its_step(
    foreign: Callable[..., Checked], fault: str, recording: str, step: str, detail: str
) -> None:
    code, answer = foreign(fault)
    first = answer["first_off"]
    assert code == 1
    assert (first["recording"], first["step"]) == (recording, step)
    assert detail in first["detail"]


@pytest.mark.parametrize(
    ("fault", "detail"),
    [("state", "in call 1"), ("tail", "shape (96, 29), expected (99, 29)"), ("mel", "in call")],
)
def test_a_runtime_may_hand_in_its_answers_alone(
    foreign: Callable[..., Checked], fault: str, detail: str
) -> None:
    code, answer = foreign(fault, keep=("probabilities.npy", "text.json"))
    assert code == 1
    assert answer["first_off"]["step"] == "probabilities"
    assert detail in answer["first_off"]["detail"]


@pytest.mark.parametrize(
    ("file", "content", "step", "detail"),
    [
        ("probabilities.npy", None, "probabilities", "reference/probabilities.npy is missing"),
        ("probabilities.npy", b"no array", "probabilities", "not a .npy file"),
        ("mfcc.npy", np.full((99, 26), np.nan, np.float32), "mfcc", "not finite"),
        ("mfcc.npy", np.zeros((99, 13), np.float32), "mfcc", "shape (99, 13), expected (99, 26)"),
        ("samples.npy", np.zeros(32000, np.float32), "samples", "as int16"),
        ("samples.npy", np.zeros(31999, np.int16), "samples", "expected (32000,)"),
        ("calls.json", b'[{"first": "a"}]', "calls", "not a list of calls"),
        ("calls.json", b'[{"first": 1e999}]', "calls", "not a list of calls"),
        ("text.json", b"hello", "text", "not JSON"),
        ("text.json", b'["hello"]', "text", "not a JSON object"),
    ],
)
def test_bad_results_are_refused_by_name(
    artifact: Path, tmp_path: Path, file: str, content: object, step: str, detail: str
) -> None:
    shutil.copytree(artifact / "conformance", tmp_path / "r", copy_function=shutil.copyfile)
    for recording in recordings(tmp_path / "r"):
        text = {key: recording[key] for key in ("text", "words")}
        (tmp_path / "r" / recording["name"] / "text.json").write_text(json.dumps(text))
    assert run_checker(artifact, tmp_path / "r")[0] == 0
    target = tmp_path / "r" / "reference" / file
    if isinstance(content, np.ndarray):
        np.save(target, content)
    elif content is None:
        target.unlink()
    else:
        target.write_bytes(content)  # type: ignore[arg-type]
    code, answer = run_checker(artifact, tmp_path / "r")
    assert code == 1
    assert answer["first_off"]["step"] == step
    assert detail in answer["first_off"]["detail"]


@pytest.mark.parametrize("model", ["static", "dynamic", "enumerated"])
@pytest.mark.parametrize("coreml", ["mlprogram", "neuralnetwork"])
def test_the_kits_vectors_are_those_of_the_artifact(
    workshop: Workshop, model: str, coreml: str
) -> None:
    artifact = workshop.artifact(model, coreml)
    kit = artifact / "conformance"
    book = json.loads((kit / "steps.json").read_text())
    with open_artifact(artifact) as transcriber:
        for recording in book["recordings"]:
            from asrbuild.speech.audio import read_audio

            samples = read_audio(kit / recording["audio"], transcriber.sample_rate)
            found = transcriber.probabilities(samples).probabilities
            expected = np.load(kit / recording["name"] / "probabilities.npy")
            np.testing.assert_array_equal(found, expected)
            assert transcriber.transcribe(samples).text == recording["text"]
            calls = recording["calls"]
            assert sum(call["steps"] for call in calls) == recording["steps"] == len(expected)
    lengths = {recording["name"]: recording["steps"] for recording in book["recordings"]}
    assert lengths == {
        "reference": 99,
        "one_chunk": 16,
        "one_step": 1,
        "too_short": 0,
        "silence": 16,
        "full_scale": 32,
    }
    assert book["recordings"][0]["text"].startswith("hello world")


def test_words_may_have_no_times(artifact: Path, tmp_path: Path) -> None:
    for recording in json.loads((artifact / "conformance" / "steps.json").read_text())[
        "recordings"
    ]:
        (tmp_path / recording["name"]).mkdir()
        (tmp_path / recording["name"] / "text.json").write_text(
            json.dumps({"text": recording["text"]})
        )
        shutil.copy(
            artifact / "conformance" / recording["name"] / "probabilities.npy",
            tmp_path / recording["name"],
        )
    code, answer = run_checker(artifact, tmp_path)
    assert code == 0
    verdicts = {finding["step"]: finding["verdict"] for finding in answer["findings"]}
    assert (verdicts["text"], verdicts["words"], verdicts["calls"]) == (
        "ok",
        "not given",
        "not given",
    )


def test_the_checker_needs_only_numpy(artifact: Path) -> None:
    tree = ast.parse((artifact / "conformance" / "check.py").read_text())
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert imported - set(sys.stdlib_module_names) == {"numpy"}


def test_the_checker_prints_its_usage(artifact: Path, tmp_path: Path) -> None:
    checker = str(artifact / "conformance" / "check.py")
    for arguments in ([], ["a", "b"], [str(tmp_path / "nowhere")]):
        done = subprocess.run(
            [sys.executable, checker, *arguments], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout) == (2, "")
        assert "RESULTS" in done.stderr or "does not exist" in done.stderr


def test_words_must_be_objects(artifact: Path, tmp_path: Path) -> None:
    shutil.copytree(artifact / "conformance", tmp_path / "r", copy_function=shutil.copyfile)
    for recording in recordings(tmp_path / "r"):
        words = [word["text"] for word in recording["words"]]
        text = {"text": recording["text"], "words": words}
        (tmp_path / "r" / recording["name"] / "text.json").write_text(json.dumps(text))
    code, answer = run_checker(artifact, tmp_path / "r")
    assert (code, answer["first_off"]["step"]) == (1, "words")
    assert "not objects" in answer["first_off"]["detail"]


@pytest.mark.parametrize(
    ("model", "coreml"),
    [("static", "mlprogram"), ("dynamic", "neuralnetwork"), ("enumerated", "mlprogram")],
)
def test_the_command_writes_the_same_kit_as_the_build(
    workshop: Workshop, tmp_path: Path, model: str, coreml: str
) -> None:
    """The build reuses products of its proof; the command alone writes the same bytes."""
    artifact = workshop.artifact(model, coreml)
    done = run_asrbuild("app", str(artifact), "--out", "kit", "--no-check", cwd=tmp_path)
    assert done.code == 0, done.err
    assert tree_digests(tmp_path / "kit") == tree_digests(artifact)


def test_the_kit_can_be_shipped(artifact: Path) -> None:
    check_paths(
        sorted(p.relative_to(artifact).as_posix() for p in artifact.rglob("*") if p.is_file())
    )


def test_the_command_writes_a_folder_of_its_own(
    workshop: Workshop, artifact: Path, tmp_path: Path
) -> None:
    second = DEMO / "second.wav"
    out = tmp_path / "for-the-app"
    arguments = ("app", str(artifact), "--out", str(out), "--audio", str(second))
    done = run_asrbuild(*arguments, "--no-check", "--json", cwd=tmp_path)
    assert done.code == 0, done.err
    answer = json.loads(done.out)
    assert answer["checks"] == []
    book = json.loads((out / "conformance" / "steps.json").read_text())
    assert [r["text"] for r in book["recordings"]] == ["you have five new messages"]
    for name in ("README.md", "ASRKit/Package.swift", "model.mlpackage", "manifest.json"):
        assert (out / name).exists(), name
    readme = (out / "README.md").read_text()
    assert "asrbuild pull demo-static-mlprogram" in readme
    assert "Add Package Dependencies" in readme
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=out, check=True)
    again = run_asrbuild(*arguments, cwd=tmp_path)
    assert again.code == 1
    assert "this folder exists already" in again.err


def test_the_command_reports_its_checks(artifact: Path, tmp_path: Path) -> None:
    # This path has no toolchain, so the command does not compile.
    done = run_asrbuild(
        "app", str(artifact), "--out", "out", "--json", cwd=tmp_path, env={"PATH": "/nowhere"}
    )
    assert done.code == 0, done.err
    checks = {check["what"]: check for check in json.loads(done.out)["checks"]}
    assert checks["syntax"]["passed"] is True
    assert checks["compiled"] == {
        "what": "compiled",
        "passed": None,
        "detail": "not checked: Swift is not installed",
    }


def test_the_command_reports_what_the_compiler_rejects(artifact: Path, tmp_path: Path) -> None:
    """The toolchain is a script: tests/handover/app compiles and tests the Swift itself."""
    swift = write_script(
        tmp_path / "bin" / "swift",
        'case "$1" in\n'
        "--version) echo 'Swift version 9.9' ;;\n"
        "build) echo compiled ;;\n"
        "test) echo '/x/Tests/A.swift:3:1: error: wrong value'; exit 1 ;;\n"
        "esac",
    )
    path = os.pathsep.join([str(swift.parent), os.environ["PATH"]])
    done = run_asrbuild("app", str(artifact), "--out", "out", cwd=tmp_path, env={"PATH": path})
    assert done.code == 1, done.err
    assert "swift build: this takes about a minute" in done.err
    rows = [line.split(maxsplit=2) for line in done.out.splitlines()]
    assert ["tested", "NO", "A.swift:3:1: error: wrong value"] in rows
    assert [row[:2] for row in rows if row[0] == "compiled"] == [["compiled", "yes"]]
    assert "Swift version 9.9" in done.out


@pytest.mark.parametrize(
    ("audio", "message"),
    [("nothing.wav", "no such recording"), ("a/x.wav", "two recordings are called x")],
)
def test_bad_recordings_are_refused(
    artifact: Path, tmp_path: Path, audio: str, message: str
) -> None:
    (tmp_path / "a").mkdir()
    for name in ("x.wav", "a/x.wav"):
        shutil.copyfile(DEMO / "second.wav", tmp_path / name)
    arguments = ("--audio", "x.wav", "--audio", audio)
    done = run_asrbuild("app", str(artifact), "--out", "out", *arguments, cwd=tmp_path)
    assert done.code == 1
    assert message in done.err
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out*"))


def test_a_damaged_artifact_is_refused(artifact: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(artifact, damaged, copy_function=shutil.copyfile)
    subprocess.run(["chmod", "-R", "u+w", str(damaged)], check=True)
    (damaged / "reference.wav").write_bytes(b"RIFF")
    done = run_asrbuild("app", str(damaged), "--out", "out", cwd=tmp_path)
    assert done.code == 1
    assert "reference.wav is not as it was published" in done.err
    assert not (tmp_path / "out").exists()


def test_the_name_of_a_state_is_not_used_as_a_path(artifact: Path, tmp_path: Path) -> None:
    manifest = read_manifest(artifact)
    first, second = manifest.state
    evil = {first.output: "../../../x", second.output: "MFCC"}
    text = artifact.joinpath("manifest.json").read_text()
    for name, other in evil.items():
        text = text.replace(json.dumps(name), json.dumps(other))
    hostile = Manifest.model_validate_json(text)

    class Renamed:
        package = load_package(artifact, manifest)

        def make_state(self) -> Any:
            return None

        def predict(self, data: Any, state: Any = None) -> Any:
            answer = self.package.predict(data)
            return {evil.get(name, name): value for name, value in answer.items()}

    kit = tmp_path / "a" / "b" / "conformance"
    recordings = {"one": np.zeros(8000, np.int16)}
    write_conformance(kit, hostile, run_package(artifact, hostile, recordings, Renamed()))
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]
    files = {
        step["name"]: step["file"] for step in json.loads((kit / "steps.json").read_text())["steps"]
    }
    assert files["../../../x"] == "%2E.%2F..%2F..%2Fx.npy"
    assert files["MFCC"] == "state%20MFCC.npy"
    for name in (*evil.values(), "mfcc"):
        assert (kit / "one" / files[name]).is_file()
    assert np.load(kit / "one" / "mfcc.npy").ndim == 2
