"""Programs with the kit: the README's own, of two artifacts, and the sample app."""

from __future__ import annotations

import functools
import json
import os
import plistlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from asrbuild.artifact.layout import CONFORMANCE_KIT
from asrbuild.artifact.reading import read_manifest
from asrbuild.base.digest import tree_digests
from asrbuild.base.errors import AsrbuildError
from asrbuild.handover.app.checking import check_syntax
from asrbuild.handover.evidence.kept import check_file
from asrbuild.handover.ship.evidence import unseal
from asrbuild.handover.ship.push import ship
from asrbuild.handover.ship.remotes.address import open_remote
from asrbuild.handover.ship.signing.keys import new_key
from asrbuild.handover.ship.signing.trust import read_trust
from tests.acceptance.conftest import run_asrbuild
from tests.handover.app import documents
from tests.handover.app.package import Built, needs_swift, run_program
from tests.handover.app.stand_in import serving
from tests.handover.ship.conftest import Quiet, serving as remote_server
from tests.handover.ship.making import CONTENT, make_artifact
from tests.paths import ROOT

pytestmark = needs_swift


def test_the_sample_app_is_made_from_an_artifact(
    artifacts: dict[str, Path], tmp_path: Path
) -> None:
    example = ROOT / "examples" / "dictation"
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    new_key("publisher", tmp_path / "config")
    key = tmp_path / "config" / "keys" / "publisher.pub"
    delivery = ["https://models.example.com/asr", key, "beta"]
    done = subprocess.run(
        ["bash", example / "run.sh", artifacts["whole"], "app", *delivery],
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
    assert (resources / "publisher.pub").read_bytes() == key.read_bytes()
    settings = json.loads((resources / "delivery.json").read_text())
    name = read_manifest(artifacts["whole"]).name
    assert settings == {"name": name, "channel": "beta", "address": delivery[0]}
    syntax = check_syntax(app)
    assert syntax.passed, syntax.detail
    privacy = plistlib.loads((app / "Sources/Dictation/PrivacyInfo.xcprivacy").read_bytes())
    assert privacy["NSPrivacyTracking"] is False
    used = {entry["NSPrivacyAccessedAPIType"] for entry in privacy["NSPrivacyAccessedAPITypes"]}
    code = "".join(file.read_text() for file in (tmp_path / "app" / "ASRKit").rglob("*.swift"))
    # Interfaces that the kit calls and for which Apple requires a reason.
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
    assert rights["com.apple.security.network.client"] is True
    assert "NSMicrophoneUsageDescription" in plistlib.loads((example / "Info.plist").read_bytes())


#: No server has this address.
CLOSED = "http://127.0.0.1:9"
#: Programs with the code of the README and of the page about apps, and their libraries.
FETCH = """@main
struct Fetch {
    static func main() async throws {
        let (address, file) = (URL(string: CommandLine.arguments[2])!, CommandLine.arguments[3])
        let publisher = try String(contentsOfFile: file, encoding: .utf8)
        let recognizer = ASRRecognizer {
            try await fetchedTranscriber(from: address, publisher: publisher)
        }
        let recording = try ASRWaveFile(contentsOf: URL(fileURLWithPath: CommandLine.arguments[1]))
        for try await event in recognizer.events(of: recording.pieces(at: 16_000, seconds: 0.1)) {
            switch event {
            case .partial(let text): print("so far:", text)
            case .final(let transcript): print("text:", transcript.text)
            }
        }
    }
}
"""
#: What the sample app's model does at the start of the app.
SAMPLE = """import ASRKit
import Foundation

@main
struct Sample {
    static func main() async throws {
        let paths = CommandLine.arguments.map { URL(fileURLWithPath: $0) }
        for first in stride(from: 1, to: paths.count, by: 2) {
            let source = try SpeechModel(resources: paths[first], folder: paths[first + 1])
            print("local:", try await source.local()?.manifest.version ?? "none")
            do {
                let newest = try await source.newest { share in print("share:", share) }
                print("newest:", newest?.manifest.version ?? "none")
                try await source.cleanUp()
            } catch {
                print("failed:", error)
            }
        }
        let given = ProcessInfo.processInfo.environment
        let publisher = try String(contentsOfFile: given["PUBLISHER"]!, encoding: .utf8)
        let address = URL(string: given["ADDRESS"]!)!
        print("pulled:", try await pulledArtifact(from: address, publisher: publisher).folder.path)
    }
}
"""
PROVE = """import ASRConformance
import Foundation

@main
struct Prove {
    static func main() async throws {
        let data = URL(fileURLWithPath: CommandLine.arguments[1])
        print("replayed:", try await replayed("speech", in: data) ?? "nothing")
        print(try await proveOnThisDevice().path)
    }
}

#if !canImport(CryptoKit)
/// The device's key, which CryptoKit has on Apple systems: the program that answers signs.
struct ASRDeviceKey: ASRSigner {
    let keyID = ProcessInfo.processInfo.environment["ASRKIT_KEY_ID"]!
    let pipes = ProcessInfo.processInfo.environment["ASRKIT_EXECUTOR"]!

    init() throws {}

    func signature(of bytes: Data) throws -> Data {
        let question = ["ask": "sign", "bytes": bytes.base64EncodedString()]
        let requests = FileHandle(forWritingAtPath: pipes + "/requests")!
        let answers = FileHandle(forReadingAtPath: pipes + "/answers")!
        try requests.write(contentsOf: JSONEncoder().encode(question) + Data([10]))
        var answer = Data()
        while answer.last != 10 { answer.append(answers.availableData) }
        let found = try JSONDecoder().decode([String: String].self, from: answer)
        return Data(base64Encoded: found["signature"]!)!
    }
}
#endif
"""


def test_every_swift_block_of_a_document_has_a_test() -> None:
    assert documents.counted() == {path: len(names) for path, names in documents.BLOCKS.items()}


def with_hot_words(readme: str, code: str) -> str:
    """The code with the README's example of another decoder."""
    (choice,) = re.findall(r"`(decoder: \.beam\(hotWords: .*?\))`", readme)
    assert "(artifact, model: model)" in code
    return code.replace("(artifact, model: model)", f"(artifact, model: model, {choice})")


@pytest.fixture(scope="module")
def programs(
    built: Built, artifacts: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A package with the programs of two artifacts' READMEs, compiled in the kit's build folder."""
    listen = tmp_path_factory.mktemp("listen") / "Listen"
    for kind, name in (("explicit", "Listen"), ("stateful", "Dictate")):
        readme = (artifacts[kind] / "README.md").read_text()
        (commands,) = re.findall(r"```sh\n(mkdir .*?)```", readme, re.DOTALL)
        # The kit is shared: the second program finds it there.
        commands = commands.replace("cp -R ASRKit Listen/ASRKit\n", "")
        place = commands.replace(" Listen/", f" {listen}/")
        subprocess.run(["sh", "-euc", place], cwd=artifacts[kind], check=True)
        code = documents.readme_code(readme)
        if kind == "stateful":
            code["listen"] = with_hot_words(readme, code["listen"])
        assert len([line for line in code["listen"].splitlines() if line.strip()]) < 40
        program = listen / "Sources" / name
        program.mkdir(exist_ok=True)
        (program / f"{name}.swift").write_text(code["listen"].replace("Listen", name))
    # The same data for the second program.
    (listen / "Sources" / "Dictate" / "Model").symlink_to(listen / "Sources" / "Listen" / "Model")
    readme = (artifacts["explicit"] / "README.md").read_text()
    code = documents.readme_code(readme)
    readme_of_scored = (artifacts["stateful"] / "README.md").read_text()
    scored = {
        name: with_hot_words(readme_of_scored, block) if name in ("fetch", "replay") else block
        for name, block in documents.readme_code(readme_of_scored).items()
    }
    fetch = scored["fetch"] + FETCH
    assert len([line for line in fetch.splitlines() if line.strip()]) < 40
    # A pass with each set of units, for a short test.
    proof = code["prove"].replace("let test =", "var test =")
    proof = proof.replace("    let file =", "    test.passes = 1\n    let file =")
    assert "passes" in proof
    sources = {
        # One file: from what was shipped to words with a scorer and hot words.
        "Fetch": {"Fetch": fetch},
        "Prove": {"Prove": PROVE, "Proven": proof, "Replayed": scored["replay"]},
    }
    sample = ROOT / "examples" / "dictation" / "Dictation.swiftpm" / "Sources" / "Dictation"
    model = (sample / "SpeechModel.swift").read_text()
    page = documents.page_code("demo-dynamic")
    sources["Sample"] = {"Sample": SAMPLE, "SpeechModel": model, "Page": page}
    for name, files in sources.items():
        (listen / "Sources" / name).mkdir()
        for file, text in files.items():
            (listen / "Sources" / name / f"{file}.swift").write_text(text)
    (target,) = re.findall(r"\.executableTarget\(.*\)\n", code["package"])
    # The libraries as the README adds them.
    libraries = re.findall(r"`(\.product\(name: \"ASR\w+\", package: \"ASRKit\"\))`", readme)
    targets = [target.rstrip(), target.rstrip().replace("Listen", "Dictate")]
    targets += [
        f'.executableTarget(name: "{name}", dependencies: ["ASRKit", {library}])'
        for name, library in zip(sources, [*libraries, libraries[0]], strict=True)
    ]
    # The compiled kit takes its place.
    settings = code["package"].replace('"ASRKit")', f'"{built.package}")', 1)
    (listen / "Package.swift").write_text(settings.replace(target, ",\n        ".join(targets)))
    done = built.swift("build", package=str(listen))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning:" not in done.stdout + done.stderr
    return listen


@pytest.fixture(scope="module")
def spoken(artifacts: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> str:
    """The genuine decoder's text of ``speech``, with the README's hot words."""
    artifact = artifacts["stateful"]
    audio = artifact / CONFORMANCE_KIT / "speech" / "audio.wav"
    done = run_asrbuild(
        *("transcribe", str(artifact), str(audio), "--hot-word=asterisk=5", "--json"),
        cwd=tmp_path_factory.mktemp("spoken"),
    )
    assert done.code == 0, done.err
    (found,) = json.loads(done.out)["recordings"]
    return str(found["text"])


def test_a_package_written_from_the_readme_transcribes_with_two_artifacts(
    built: Built, artifacts: dict[str, Path], programs: Path, tmp_path: Path
) -> None:
    """The README's commands and code, and the data and program of a second artifact."""
    for kind, name in (("explicit", "Listen"), ("stateful", "Dictate")):
        artifact, manifest = artifacts[kind], read_manifest(artifacts[kind])
        recording = "reference" if kind == "explicit" else "speech"
        audio = artifact / CONFORMANCE_KIT / recording / "audio.wav"
        pipes, data = tmp_path / f"pipes-{kind}", str(tmp_path / "data")
        with serving(artifact, manifest, pipes):
            ran = run_program(
                built, programs, name, audio, ASRKIT_EXECUTOR=str(pipes), XDG_DATA_HOME=data
            )
        assert ran.returncode == 0, ran.stderr
        # The second program has a scorer and hot words; its words are those of the genuine decoder.
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


def test_the_readme_fetches_what_a_publisher_ships_and_transcribes_with_it(
    built: Built,
    artifacts: dict[str, Path],
    published: dict[str, Path],
    programs: Path,
    spoken: str,
    tmp_path: Path,
) -> None:
    """With partial texts, the scorer and hot words; then without a network, and never unsigned."""
    signer = new_key("publisher", tmp_path / "config")
    remote, trust = tmp_path / "remote", read_trust(tmp_path / "config")
    artifact = published["stateful"]
    ship(artifact, open_remote(str(remote)), signer=signer, trust=trust, channel="stable")
    new_key("stranger", tmp_path / "other")
    key = tmp_path / "config" / "keys" / "publisher.pub"
    other = tmp_path / "other" / "keys" / "stranger.pub"
    audio = artifacts["stateful"] / CONFORMANCE_KIT / "speech" / "audio.wav"
    pipes = tmp_path / "pipes"
    env = {"ASRKIT_EXECUTOR": str(pipes), "XDG_DATA_HOME": str(tmp_path / "data")}
    with serving(artifact, read_manifest(artifact), pipes):
        with remote_server(functools.partial(Quiet, directory=str(remote))) as address:
            quiet = env | {"SWIFT_BACKTRACE": "enable=no"}
            refused = run_program(built, programs, "Fetch", audio, address, other, **quiet)
            fetched = run_program(built, programs, "Fetch", audio, address, key, **env)
        offline = run_program(built, programs, "Fetch", audio, CLOSED, key, **env)
    assert refused.returncode != 0
    assert "untrustedSigner" in refused.stderr
    assert (fetched.returncode, offline.returncode) == (0, 0), fetched.stderr + offline.stderr
    lines = fetched.stdout.splitlines()
    progress = [found for line in lines if (found := re.fullmatch(r"(\d+) of (\d+) bytes", line))]
    assert progress[-1][1] == progress[-1][2]
    words = lines[len(progress) :]
    assert len(words) > 3
    assert all(line.startswith("so far: ") for line in words[:-1])
    assert words[-1] == f"text: {spoken}"
    assert offline.stdout.splitlines() == words


def test_the_readme_proves_a_model_where_it_runs(
    built: Built, artifacts: dict[str, Path], programs: Path, spoken: str, tmp_path: Path
) -> None:
    """Every step passes and the key signs; asrbuild refuses what is not of a device."""
    artifact, signer = artifacts["explicit"], new_key("phone", tmp_path / "config")
    name = read_manifest(artifact).name
    # An app's bundle has these files; a program's bundle is the folder that it lies in.
    bundle = built.build / "debug"
    shutil.copy(artifact / "manifest.json", bundle / f"{name}.manifest.json")
    for part, kept in (("conformance", "conformance"), ("mlpackage", "model.mlpackage")):
        shutil.copytree(artifact / kept, bundle / f"{name}.{part}", dirs_exist_ok=True)
    pipes = tmp_path / "pipes"
    data = programs / "Sources" / "Listen" / "Model"
    with serving(artifact, read_manifest(artifact), pipes, signer):
        env = {"ASRKIT_EXECUTOR": str(pipes), "ASRKIT_KEY_ID": signer.keyid}
        ran = run_program(built, programs, "Prove", data, TMPDIR=str(tmp_path), **env)
    assert ran.returncode == 0, ran.stderr
    *partial, said, proven = ran.stdout.splitlines()
    assert len(partial) > 3
    assert said == f"replayed: {spoken}"
    file = Path(proven)
    payload, by = unseal(file.read_bytes(), signer.trust)
    assert by.label == "phone"
    document = json.loads(payload)
    assert document["errors"] == []
    assert {step["passed"] for step in document["conformance"]} == {True}
    with pytest.raises(AsrbuildError, match="evidence"):
        check_file(file, artifact, signer.trust)


def test_the_sample_app_takes_the_newest_model_that_its_publisher_ships(
    built: Built, programs: Path, tmp_path: Path
) -> None:
    """The app's own model, then the publisher's; a stranger's is refused."""
    signer = new_key("publisher", tmp_path / "config")
    old, new = (
        make_artifact(tmp_path / "artifacts", content=CONTENT | {"alphabet.txt": letters})
        for letters in (b"a\nb\n", b"a\nc\n")
    )
    remote, trust = tmp_path / "remote", read_trust(tmp_path / "config")
    ship(new, open_remote(str(remote)), signer=signer, trust=trust, channel="stable")
    new_key("stranger", tmp_path / "other")

    def resources(name: str, address: str | None, config: str, bundled: bool = True) -> Path:
        """The resources of an app."""
        folder = tmp_path / name
        folder.mkdir()
        if bundled:
            shutil.copy(old / "manifest.json", folder / "speech.manifest.json")
        if address is not None:
            settings = {"name": "demo-dynamic", "channel": "stable", "address": address}
            (folder / "delivery.json").write_text(json.dumps(settings))
            (public,) = (tmp_path / config / "keys").glob("*.pub")
            shutil.copy(public, folder / "publisher.pub")
        return folder

    with remote_server(functools.partial(Quiet, directory=str(remote))) as address:
        starts = [
            (resources("empty", None, "", bundled=False), "kept"),
            (resources("alone", None, ""), "kept"),
            (resources("strange", address, "other"), "strange"),
            (resources("shipped", address, "config"), "kept"),
            (resources("offline", CLOSED, "config"), "kept"),
        ]
        words = [word for app, store in starts for word in (app, tmp_path / "stores" / store)]
        env = {"ADDRESS": address, "PUBLISHER": str(tmp_path / "config" / "keys" / "publisher.pub")}
        env["XDG_DATA_HOME"] = str(tmp_path / "data")
        ran = run_program(built, programs, "Sample", *words, **env)
    assert ran.returncode == 0, ran.stderr
    lines = [line for line in ran.stdout.splitlines() if not line.startswith("share: ")]
    assert "share: 1.0" in ran.stdout
    assert lines[:5] == [
        *("local: none", "newest: none"),
        *(f"local: {old.name}", "newest: none"),
        f"local: {old.name}",
    ]
    assert "untrustedSigner" in lines[5]
    assert lines[6:9] == [f"local: {old.name}", f"newest: {new.name}", f"local: {new.name}"]
    assert lines[9].startswith("failed: server(")
    # The files for an app, byte for byte.
    folder, whole = tree_digests(Path(lines[10].removeprefix("pulled: "))), tree_digests(new)
    assert "manifest.json" in folder
    assert folder.items() <= whole.items()
