"""Programs with the kit: the README's own, of two artifacts, and the sample app."""

from __future__ import annotations

import json
import os
import plistlib
import re
import subprocess
import sys
from pathlib import Path

from asrbuild.artifact.layout import CONFORMANCE_KIT
from asrbuild.artifact.reading import read_manifest
from asrbuild.handover.app.checking import check_syntax
from tests.acceptance.conftest import run_asrbuild
from tests.handover.app.package import Built, needs_swift
from tests.handover.app.stand_in import serving
from tests.paths import ROOT

pytestmark = needs_swift


def test_the_sample_app_is_made_from_an_artifact(
    artifacts: dict[str, Path], tmp_path: Path
) -> None:
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
    assert "NSMicrophoneUsageDescription" in plistlib.loads((example / "Info.plist").read_bytes())


def test_a_package_written_from_the_readme_transcribes_with_two_artifacts(
    built: Built, artifacts: dict[str, Path], tmp_path: Path
) -> None:
    """The README's commands and code, and the data and program of a second artifact."""
    listen = tmp_path / "Listen"
    for kind in ("explicit", "stateful"):
        readme = (artifacts[kind] / "README.md").read_text()
        (commands,) = re.findall(r"```sh\n(mkdir .*?)```", readme, re.DOTALL)
        # The kit is shared: the second program finds it there.
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
    # The compiled kit takes its place.
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
