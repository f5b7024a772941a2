"""The Swift package, compiled and run: its own tests, the README's code, and ``CoreMLModel``.

Core ML is Apple's alone. Elsewhere a stand-in with its interface passes every call on to
asrbuild's executor, so that the whole way from samples to words runs in Swift on the real package.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import plistlib
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from asrbuild.artifact.layout import CONFORMANCE_KIT, SWIFT_KIT
from asrbuild.artifact.manifest import Manifest
from asrbuild.artifact.reading import read_manifest
from asrbuild.artifact.runtime import transcribe
from asrbuild.base.errors import AsrbuildError
from asrbuild.coreml import executor
from asrbuild.coreml.inspect import inspect_model
from asrbuild.handover.app.checking import PLAYED_BACK, Check, check_kit, check_syntax
from asrbuild.handover.app.kit import TEMPLATES, write_folder
from asrbuild.handover.evidence.checks import check_conformance
from asrbuild.handover.evidence.document import read_document
from asrbuild.handover.evidence.kept import check_file
from asrbuild.handover.ship.signing.keys import Signer, new_key
from asrbuild.speech.audio import read_audio, to_int16
from tests.acceptance.conftest import run_asrbuild
from tests.handover.app import comparison, interface
from tests.paths import DEMO, ROOT

pytestmark = [
    pytest.mark.skipif(shutil.which("swift") is None, reason="there is no Swift toolchain here"),
]
STAND_IN = Path(__file__).parent / "coreml_stand_in"
#: Tests that are the same for every kind of package.
NO_PACKAGE = "ComparisonTests|SoundTests|SpeechTests"
#: Tests that are another for each; of the rest one kind of package is enough.
OF_KIND = "StreamingTests|TranscriberTests|FailureTests|RecognizerTests|ConformanceTests"
TESTS = {
    path.stem: path.read_text() for path in (TEMPLATES / SWIFT_KIT / "Tests").rglob("*Tests.swift")
}
KINDS = {
    "explicit": ("model=static",),
    # With the demo's scorer, which the genuine decoder follows.
    "stateful": (
        "model=static",
        "coreml.state=stateful",
        "decoder=ds_ctcdecoder",
        f"decoder.scorer_path={DEMO / 'prompts.scorer'}",
    ),
    "neuralnetwork": ("model=static", "coreml=neuralnetwork"),
    "whole": ("model=dynamic", "coreml.precision=fp32"),
    "multifunction": ("model=multifunction",),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("swift")


@pytest.fixture(scope="module")
def artifacts(folder: Path) -> dict[str, Path]:
    """A folder for the app, of each kind of package."""
    found = {}
    for kind, overrides in KINDS.items():
        # The kit is under test here, not the proof.
        done = run_asrbuild(*overrides, f"name={kind}", "verify=quick", cwd=folder)
        assert done.code == 0, done.err
        (artifact,) = (p for p in (folder / "artifacts" / kind).iterdir() if p.is_dir())
        found[kind] = folder / f"app-{kind}"
        recordings = other_recordings() if kind == "stateful" else None
        write_folder(found[kind], artifact, read_manifest(artifact), recordings)
    return found


def other_recordings() -> dict[str, np.ndarray]:
    """Speech, silence, noise, and samples at the ends of their range: int16 (n,)."""
    speech = to_int16(read_audio(DEMO / "second.wav", 16_000))
    noise = np.random.default_rng(5).integers(-300, 300, 20_011).astype(np.int16)
    square = np.where(np.arange(9_000) // 37 % 2, 32767, -32768).astype(np.int16)
    return {
        "speech": speech,
        "silence": np.zeros(8_000, np.int16),
        "noise": noise,
        "square": square,
    }


@dataclass(frozen=True)
class Built:
    """The Swift package with the stand-in and the comparison's tests in it, compiled.

    ``checks``: what ``asrbuild app`` says of the same package before, compiled in the same folder,
    so that most of it is compiled once.
    """

    package: Path
    build: Path
    checks: list[Check]

    def swift(self, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
        package, then = env.pop("package", str(self.package)), env.pop("then", "")
        folders = ["--package-path", package, "--scratch-path", str(self.build)]
        verb, *rest = command
        return subprocess.run(
            ["swift", verb, *folders, *rest, *([then] if then else [])],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | env,
        )


@pytest.fixture(scope="module")
def built(artifacts: dict[str, Path], folder: Path) -> Built:
    artifact, build = artifacts["explicit"], folder / "build"
    checks = check_kit(artifact, build=build)
    sums = subprocess.run(
        ["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=artifact, check=False
    )
    assert sums.returncode == 0, "building must leave the folder as it was"
    package = artifact / SWIFT_KIT
    if sys.platform != "darwin":
        shutil.copytree(STAND_IN, package / "Sources" / "CoreML")
        settings = (package / "Package.swift").read_text()
        place = '.target(name: "ASRCoreML", dependencies: ["ASRCore"'
        core_ml = f'.target(name: "CoreML"),\n        {place}, "CoreML"'
        assert place in settings
        (package / "Package.swift").write_text(settings.replace(place, core_ml))
        # The compiler does not see that a module can be imported now.
        for module in ("Sources/ASRCoreML", "Sources/ASRConformance", "Tests/ASRKitTests"):
            for source in (package / module).iterdir():
                source.touch()
    shutil.copy(comparison.SWIFT, package / "Tests" / "ASRKitTests")
    made = Built(package, build, checks)
    done = made.swift("build", "--build-tests")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning:" not in done.stdout + done.stderr
    return made


def described(package: Path, function: str | None) -> dict[str, Any]:
    """What Core ML would say of a function: its arrays, its states, the package's own notes."""
    summary = inspect_model(package)
    (found,) = (f for f in summary.functions if f.name == (function or summary.default_function))
    arrays = {
        kind: {
            feature.name: {"kind": feature.dtype, "shape": list(feature.default or ())}
            for feature in getattr(found, kind)
        }
        for kind in ("inputs", "outputs", "states")
    }
    return arrays | {"metadata": summary.user_metadata}


@contextlib.contextmanager
def serving(
    artifact: Path, manifest: Manifest, pipes: Path, signer: Signer | None = None
) -> Iterator[list[dict[str, Any]]]:
    """Answers the stand-in's questions with the executor; the questions, without their arrays.

    ``signer``: what signs for a device.
    """
    pipes.mkdir()
    for name in ("requests", "answers"):
        os.mkfifo(pipes / name)
    asked: list[dict[str, Any]] = []
    states: list[Any] = []
    models: dict[str | None, Any] = {}

    def answer(question: dict[str, Any]) -> dict[str, Any]:
        if question["ask"] == "sign" and signer is not None:
            signature = signer.private.sign(base64.b64decode(question["bytes"]))
            return {"signature": base64.b64encode(signature).decode()}
        function = question["function"]
        path = artifact / manifest.model.package
        if question["ask"] == "describe":
            return described(path, function)
        model = models.setdefault(function, executor.load(path, function=function))
        asked.append({key: question.get(key) for key in ("ask", "function", "state")})
        if question["ask"] == "state":
            states.append(model.make_state())
            return {"state": len(states) - 1}
        arrays = {
            name: np.array(given["numbers"], given["kind"]).reshape(given["sizes"])
            for name, given in question["inputs"].items()
        }
        held = [] if question["state"] is None else [states[question["state"]]]
        outputs = model.predict(arrays, *held)
        return {
            "outputs": {
                name: {"sizes": list(array.shape), "numbers": array.ravel().tolist()}
                for name, array in outputs.items()
            }
        }

    def serve() -> None:
        # Opened for both, so that a reader or writer who leaves ends nothing.
        with open(os.open(pipes / "requests", os.O_RDWR), "rb", buffering=0) as requests:
            buffered = bytearray()
            answers = os.open(pipes / "answers", os.O_RDWR)
            while True:
                buffered += requests.read(1 << 16)
                while b"\n" in buffered:
                    line, _, rest = bytes(buffered).partition(b"\n")
                    buffered = bytearray(rest)
                    if line == b"end":
                        return
                    try:
                        found = answer(json.loads(line))
                    except Exception as error:
                        found = {"error": f"{type(error).__name__}: {error}"}
                    sent = json.dumps(found).encode() + b"\n"
                    while sent:
                        sent = sent[os.write(answers, sent) :]

    server = threading.Thread(target=serve, daemon=True)
    server.start()
    try:
        yield asked
    finally:
        with open(pipes / "requests", "wb") as requests:
            requests.write(b"end\n")
        server.join(10)


@pytest.mark.parametrize("kind", KINDS)
def test_swift_says_the_words_of_every_kind_of_package(
    built: Built, artifacts: dict[str, Path], kind: str, tmp_path: Path
) -> None:
    artifact, manifest = artifacts[kind], read_manifest(artifacts[kind])
    results = tmp_path / "results"
    signer, whole = new_key("iphone", tmp_path / "config"), kind == "explicit"
    with serving(artifact, manifest, tmp_path / "pipes", signer) as asked:
        done = built.swift(
            "test",
            "--skip-build",
            *(("--skip", NO_PACKAGE) if whole else ("--filter", OF_KIND)),
            ASRKIT_ARTIFACT=str(artifact),
            ASRKIT_RESULTS=str(results),
            ASRKIT_EXECUTOR=str(tmp_path / "pipes"),
            ASRKIT_KEY_ID=signer.keyid,
        )
    output = done.stdout + done.stderr
    assert done.returncode == 0, output[-4000:]
    counts = [int(n) for n in re.findall(r"Executed (\d+) tests?, with 0 failures", output)]
    suites = [
        s for s in TESTS if s not in NO_PACKAGE.split("|") and (whole or s in OF_KIND.split("|"))
    ]
    written = sum(TESTS[suite].count("func test") for suite in suites)
    assert max(counts, default=0) == written, output[-2000:]
    assert "skipped" not in output
    checker = artifact / "conformance" / "check.py"
    if kind == "explicit" and sys.platform != "darwin":
        check_evidence(results / "evidence.json", artifact, signer)
    checked = subprocess.run(
        [sys.executable, checker, results], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout
    if sys.platform == "darwin":
        return
    names = {function.name for function in manifest.model.functions}
    assert {question["function"] for question in asked} == (names if len(names) > 1 else {None})
    states = [question["state"] for question in asked if question["ask"] == "predict"]
    assert all((state is not None) == (kind == "stateful") for state in states)
    # Four recordings, four times: a new state for each, or none at all.
    assert len(set(states)) > 4 if kind == "stateful" else set(states) == {None}


def test_sound_is_that_of_python(built: Built, artifacts: dict[str, Path], tmp_path: Path) -> None:
    comparison.write_expected(tmp_path)
    done = built.swift(
        "test",
        "--skip-build",
        "--filter",
        NO_PACKAGE,
        ASRKIT_ARTIFACT=str(artifacts["explicit"]),
        ASRKIT_EXPECTED=str(tmp_path),
    )
    output = done.stdout + done.stderr
    assert done.returncode == 0, output[-4000:]
    for suite in NO_PACKAGE.split("|"):
        assert f"Test Suite '{suite}' passed" in output


def asrkit(built: Built, *words: object, **env: str) -> subprocess.CompletedProcess[str]:
    """The command line of the kit."""
    # Words after the program's name are the program's.
    folders = ["--package-path", built.package, "--scratch-path", built.build]
    command = ["swift", "run", *folders, "--skip-build", "asrkit", *words]
    return subprocess.run(
        list(map(str, command)), capture_output=True, text=True, check=False, env=os.environ | env
    )


def test_the_command_line_says_the_words(
    built: Built, artifacts: dict[str, Path], tmp_path: Path
) -> None:
    artifact = artifacts["explicit"]
    manifest = read_manifest(artifact)
    # Another rate, two channels, 24 bits: all of it is converted on the way.
    sound = read_audio(DEMO / "second.wav", 44_100)
    wave = tmp_path / "second.wav"
    soundfile.write(wave, np.stack([sound, sound * 0.5], axis=1), 44_100, "PCM_24")
    expected = transcribe(artifact, read_audio(wave, 16_000)).hypotheses[0]
    with serving(artifact, manifest, tmp_path / "pipes") as asked:
        done = asrkit(
            built,
            "transcribe",
            wave,
            "--artifact",
            artifact,
            "--format",
            "json",
            "--partial",
            ASRKIT_EXECUTOR=str(tmp_path / "pipes"),
        )
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout)["recordings"]
    assert found["text"] == expected.text
    assert [word["text"] for word in found["words"]] == expected.text.split()
    assert found["audio_s"] == pytest.approx(len(sound) / 44_100, abs=1e-3)
    assert found["calls"]["calls"] == len([x for x in asked if x["ask"] == "predict"])
    partial = done.stderr.splitlines()
    assert len(partial) > 3
    assert all(expected.text.startswith(text.strip()) for text in partial[:3])


def test_the_command_line_replays_and_refuses(
    built: Built, artifacts: dict[str, Path], tmp_path: Path
) -> None:
    artifact = artifacts["explicit"]
    replayed = artifact / "conformance" / "reference" / "audio.wav"
    where = ("--artifact", artifact, "--replay", "reference")
    captions = asrkit(built, "transcribe", replayed, "--format", "vtt", *where)
    assert captions.returncode == 0, captions.stderr
    head, times, text = captions.stdout.strip().replace("\n\n", "\n").splitlines()
    assert (head, text) == ("WEBVTT", "hello world y")
    assert re.fullmatch(r"00:00:0\d\.\d{3} --> 00:00:0\d\.\d{3}", times)
    measured = asrkit(built, "bench", replayed, "--seconds", "1", *where)
    assert re.search(r"mfcc_tf: [\d.]+ ms for 1 s", measured.stdout), measured.stderr
    assert "hello world y" in measured.stdout
    damaged = tmp_path / "damaged.wav"
    damaged.write_bytes(replayed.read_bytes()[:30])
    refused = asrkit(built, "transcribe", damaged, *where)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("asrkit: the recording cannot be read")


def test_the_sample_app_is_made_of_an_artifact(artifacts: dict[str, Path], tmp_path: Path) -> None:
    example = ROOT / "examples" / "dictation"
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", example / "run.sh", artifacts["whole"], "app"],
        cwd=tmp_path,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    app = tmp_path / "app" / "Dictation.swiftpm"
    resources = app / "Sources" / "Dictation" / "Resources"
    copied = (resources / "speech.manifest.json").read_bytes()
    assert copied == (artifacts["whole"] / "manifest.json").read_bytes()
    assert (resources / "speech.mlpackage" / "Manifest.json").is_file()
    assert (tmp_path / "app" / "ASRKit" / "Package.swift").is_file()
    syntax = check_syntax(app)
    assert syntax.passed, syntax.detail
    privacy = plistlib.loads((app / "Sources/Dictation/PrivacyInfo.xcprivacy").read_bytes())
    assert privacy["NSPrivacyTracking"] is False
    used = {entry["NSPrivacyAccessedAPIType"] for entry in privacy["NSPrivacyAccessedAPITypes"]}
    code = "".join(file.read_text() for file in (tmp_path / "app" / "ASRKit").rglob("*.swift"))
    # What of Apple's list of interfaces with a reason the kit's code calls.
    calls = {
        "SystemBootTime": "systemUptime",
        "FileTimestamp": "modificationDate",
        "UserDefaults": "UserDefaults",
        "DiskSpace": "volumeAvailableCapacity",
    }
    assert used == {
        f"NSPrivacyAccessedAPICategory{name}" for name, call in calls.items() if call in code
    }
    rights = plistlib.loads((example / "Dictation.entitlements").read_bytes())
    assert rights["com.apple.security.device.audio-input"] is True
    assert "NSMicrophoneUsageDescription" in plistlib.loads((example / "Info.plist").read_bytes())


def check_evidence(file: Path, artifact: Path, signer: Signer) -> None:
    """What the device test signed is accepted; another hand, or a changed step, is refused."""
    found = check_file(file, artifact, signer.trust)
    document = found.document
    assert (found.signer, document.runner.name) == ("iphone", "ASRConformance")
    assert document.conformance is not None
    assert {one.step for one in document.conformance} >= {"mfcc", "calls", "probabilities", "text"}
    with pytest.raises(AsrbuildError, match="no signer that is trusted here"):
        check_file(file, artifact, {})
    with pytest.raises(AsrbuildError, match="it was added before"):
        check_file(file, artifact, signer.trust, [document])
    whole = json.loads(document.payload)
    rows = whole["conformance"]
    (at,) = [
        i
        for i, one in enumerate(rows)
        if one["units"] == "ALL"
        and (one["recording"], one["step"], one["measure"])
        == ("reference", "probabilities", "max_abs_error")
    ]
    for change, message in (
        ({"value": rows[at]["value"] + 1e-3}, "states an error of"),
        ({"value": 0.5, "passed": False}, "probabilities of reference with ALL fails"),
        ({"limit": 1.0}, "judged by another limit"),
        ({"passed": False}, "judged by another limit"),
        ({"measure": "luck"}, "its steps are not those of the kit"),
    ):
        changed = [row | change if i == at else row for i, row in enumerate(rows)]
        with pytest.raises(AsrbuildError, match=message):
            check_conformance(
                read_document(json.dumps(whole | {"conformance": changed}).encode(), file),
                artifact / CONFORMANCE_KIT,
                json.loads((artifact / CONFORMANCE_KIT / "steps.json").read_text()),
            )


def test_the_command_compiles_and_tests_what_it_wrote(built: Built) -> None:
    checks = built.checks
    assert [(check.what, check.passed) for check in checks] == [
        ("syntax", True),
        ("compiled", True),
        ("tested", True),
        ("conformance", True),
    ]
    assert "Swift version" in checks[1].detail
    # Nothing here shows what Core ML computes, and the check does not claim it.
    assert checks[3].detail.endswith(f"({PLAYED_BACK})") == (sys.platform != "darwin")


RACE = """
import Foundation
import XCTest

final class RaceTests: XCTestCase {
    private final class Shared: @unchecked Sendable { var count = 0 }

    func testTwoThreadsWriteOneNumber() {
        let shared = Shared(), done = DispatchSemaphore(value: 0)
        for _ in 0..<2 {
            Thread.detachNewThread {
                for _ in 0..<10_000 { shared.count += 1 }
                done.signal()
            }
        }
        for _ in 0..<2 { done.wait() }
        XCTAssertGreaterThan(shared.count, 0)
    }
}
"""
SANITIZED = """// swift-tools-version:6.0
import PackageDescription

let package = Package(
    name: "ASRKit", platforms: [.iOS("15.0"), .macOS("12.0")],
    targets: [
        .target(name: "ASRCore"),
        .target(name: "ASRSession", dependencies: ["ASRCore"]),
        .target(name: "ASRConformance", dependencies: ["ASRCore", "ASRSession"]),
        .testTarget(name: "SessionTests", dependencies: ["ASRConformance"]),
    ]
)
"""


def test_sessions_have_no_data_race(artifacts: dict[str, Path], tmp_path: Path) -> None:
    """The tests of sessions under the thread sanitizer, which finds a seeded race."""
    kit, tests = artifacts["stateful"] / SWIFT_KIT, tmp_path / "Tests" / "SessionTests"
    for module in ("ASRCore", "ASRSession", "ASRConformance"):
        shutil.copytree(kit / "Sources" / module, tmp_path / "Sources" / module)
    tests.mkdir(parents=True)
    for name in ("Artifact", "Scripted", "RecognizerTests"):
        code = (kit / "Tests" / "ASRKitTests" / f"{name}.swift").read_text()
        (tests / f"{name}.swift").write_text(code.replace("@testable import ASRCoreML\n", ""))
    # What RecognizerTests takes from a file of other tests.
    words = (kit / "Tests" / "ASRKitTests" / "DecoderTests.swift").read_text()
    shared = "import XCTest\n@testable import ASRCore\n\n" + words[words.index("func expect(") :]
    (tests / "Expect.swift").write_text(shared)
    (tests / "RaceTests.swift").write_text(RACE)
    (tmp_path / "Package.swift").write_text(SANITIZED)

    def run(suite: str) -> tuple[int, str]:
        done = subprocess.run(
            [
                "swift",
                "test",
                "--sanitize=thread",
                "--package-path",
                str(tmp_path),
                "--filter",
                suite,
            ],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"ASRKIT_ARTIFACT": str(artifacts["explicit"])},
        )
        return done.returncode, done.stdout + done.stderr

    code, output = run("RecognizerTests")
    assert code == 0, output[-4000:]
    assert "Test Suite 'RecognizerTests' passed" in output
    assert "ThreadSanitizer" not in output
    code, output = run("RaceTests")
    assert code != 0
    # Its two words for the same: of two writes, and of Swift's own exclusive access.
    assert re.search(r"WARNING: ThreadSanitizer: (data|Swift access) race", output), output


def test_every_public_symbol_is_described_and_none_is_gone(built: Built) -> None:
    found = interface.symbols(built.build)
    assert len(found) > 300
    assert [symbol for symbol, described in found.items() if not described] == []
    recorded = json.loads(interface.RECORDED.read_text())
    gone = sorted({*recorded["symbols"]} - {*found})
    major, before = (int(text.split(".")[0]) for text in (interface.version(), recorded["version"]))
    assert not gone or major > before, "a symbol that goes requires a new major version"


def test_a_package_written_from_the_readme_says_the_words_of_two_artifacts(
    built: Built, artifacts: dict[str, Path], tmp_path: Path
) -> None:
    """The README's own commands and code, and a second artifact's data and program beside it."""
    listen = tmp_path / "Listen"
    for kind in ("explicit", "stateful"):
        readme = (artifacts[kind] / "README.md").read_text()
        (commands,) = re.findall(r"```sh\n(mkdir .*?)```", readme, re.DOTALL)
        # One kit for both: the second finds it there.
        commands = commands.replace("cp -R ASRKit Listen/ASRKit\n", "")
        place = commands.replace(" Listen/", f" {listen}/")
        subprocess.run(["sh", "-euc", place], cwd=artifacts[kind], check=True)
        settings, program, *_ = re.findall(r"```swift\n(.*?)```", readme, re.DOTALL)
        code = [line for line in program.splitlines() if line.strip()]
        assert len(code) < 40
        (listen / "Package.swift").write_text(settings)
        name = {"explicit": "Listen", "stateful": "Dictate"}[kind]
        (listen / "Sources" / name).mkdir(exist_ok=True)
        (listen / "Sources" / name / f"{name}.swift").write_text(program.replace("Listen", name))
    # The same data for the second program.
    (listen / "Sources" / "Dictate" / "Model").symlink_to(listen / "Sources" / "Listen" / "Model")
    settings = (listen / "Package.swift").read_text()
    (target,) = re.findall(r"\.executableTarget\(.*\)\n", settings)
    both = f"{target.rstrip()},\n        {target.replace('Listen', 'Dictate')}"
    # The kit that is compiled already, at its place.
    settings = settings.replace('"ASRKit")', f'"{built.package}")', 1)
    (listen / "Package.swift").write_text(settings.replace(target, both))
    done = built.swift("build", package=str(listen))
    assert done.returncode == 0, done.stdout + done.stderr
    for kind, name in (("explicit", "Listen"), ("stateful", "Dictate")):
        artifact, manifest = artifacts[kind], read_manifest(artifacts[kind])
        recording = "reference" if kind == "explicit" else "speech"
        audio = artifact / CONFORMANCE_KIT / recording / "audio.wav"
        with serving(artifact, manifest, tmp_path / f"pipes-{kind}"):
            ran = built.swift(
                "run",
                "--skip-build",
                name,
                package=str(listen),
                then=str(audio),
                ASRKIT_EXECUTOR=str(tmp_path / f"pipes-{kind}"),
                XDG_DATA_HOME=str(tmp_path / "data"),
            )
        assert ran.returncode == 0, ran.stderr
        # The second program has a scorer and hot words: the genuine decoder says its words.
        options = ["--hot-word", "asterisk=5"] if kind == "stateful" else []
        said = run_asrbuild(
            "transcribe", str(artifact), str(audio), *options, "--json", cwd=tmp_path
        )
        assert said.code == 0, said.err
        (expected,) = json.loads(said.out)["recordings"]
        lines = ran.stdout.splitlines()
        assert f"text: {expected['text']}" in lines
        partial = [line.removeprefix("so far: ") for line in lines if line.startswith("so far:")]
        assert len(partial) > 3
        if kind == "explicit":
            assert all(expected["text"].startswith(text) for text in partial)
        found = lines[lines.index(f"text: {expected['text']}") + 1 :]
        words = [line.split(" ", 3)[3] for line in found]
        assert words == [word["text"] for word in expected["words"]]


def test_code_that_does_not_compile_is_reported(tmp_path: Path) -> None:
    sources = tmp_path / "ASRKit" / "Sources" / "ASRKit"
    sources.mkdir(parents=True)
    (sources / "Rows.swift").write_text('let broken: Int = "text"\n')
    (tmp_path / "ASRKit" / "Package.swift").write_text(
        "// swift-tools-version:5.9\nimport PackageDescription\n"
        'let package = Package(name: "ASRKit", targets: [.target(name: "ASRKit")])\n'
    )
    syntax, compiled = check_kit(tmp_path)
    assert (syntax.passed, compiled.what, compiled.passed) == (True, "compiled", False)
    assert compiled.detail.startswith("Rows.swift:1:19: error: cannot convert value of type")
