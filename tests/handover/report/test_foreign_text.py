"""The text of a hostile artifact has no effect in any command that shows it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from asrbuild.artifact import integrity
from asrbuild.artifact.agreement import content_digest_of
from asrbuild.artifact.manifest import Manifest, to_json
from asrbuild.base.digest import file_digest
from asrbuild.cli.main import main
from asrbuild.coreml.executor.package import read_spec
from asrbuild.handover.report.environment import code, markdown
from tests.paths import DEMO

TITLE, COLOUR, CLEAR, REVERSED = "\x1b]0;PWNED", "\x1b[31mX", "\x9b2J", "\u202e"
HOSTILE = (
    f"{TITLE}\x07{COLOUR}{CLEAR}{REVERSED}[/red] <img src=x onerror=alert(1)> [go](http://x) "
    "| cell | `tick` \n# Proven"
)
WAV = DEMO / "second.wav"


@pytest.fixture(scope="module")
def hostile(published: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy whose manifest and package have hostile texts, with digests that agree."""
    folder = tmp_path_factory.mktemp("hostile") / "artifact"
    shutil.copytree(published, folder, copy_function=shutil.copyfile)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    spec_file = folder / "model.mlpackage/Data/com.apple.CoreML/model.mlmodel"
    spec = read_spec(folder / "model.mlpackage")
    spec.description.metadata.shortDescription = HOSTILE
    spec.description.metadata.userDefined["x"] = HOSTILE
    spec_file.write_bytes(spec.SerializeToString())
    raw = json.loads((folder / "manifest.json").read_text())
    for key in ("description", "author", "license"):
        raw[key] = HOSTILE
    raw["languages"] = [HOSTILE]
    raw["provenance"] |= {"overrides": [HOSTILE], "platform": HOSTILE}
    for transcript in raw["verification"]["transcripts"]:
        transcript |= {"expected": HOSTILE, "package": HOSTILE, "reference": HOSTILE}
    manifest = Manifest.model_validate_json(json.dumps(raw))
    files = [
        entry.model_copy(
            update={
                "sha256": file_digest(folder / entry.path),
                "bytes": (folder / entry.path).stat().st_size,
            }
        )
        for entry in manifest.files
    ]
    manifest = manifest.model_copy(update={"files": files})
    digest = content_digest_of(manifest)
    version = f"{manifest.version.partition('+')[0]}+{digest[:12]}"
    update = {"version": version, "artifact_id": f"{manifest.name}/{version}"}
    (folder / "manifest.json").write_text(to_json(manifest.model_copy(update=update)))
    integrity.write_sums(folder)
    return folder


COMMANDS = {
    "show": ("show", "HOSTILE"),
    "show json": ("show", "HOSTILE", "--json"),
    "diff": ("diff", "GOOD", "HOSTILE"),
    "diff json": ("diff", "GOOD", "HOSTILE", "--json"),
    "verify": ("verify", "HOSTILE"),
    "inspect model": ("inspect", "model", "HOSTILE"),
    "run": ("run", "HOSTILE"),
    "transcribe": ("transcribe", "HOSTILE", str(WAV)),
    "transcribe json": ("transcribe", "HOSTILE", str(WAV), "--json"),
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_hostile_artifact_does_not_steer_a_terminal(
    command: tuple[str, ...],
    hostile: Path,
    published: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "400")
    paths = {"HOSTILE": str(hostile), "GOOD": str(published)}
    monkeypatch.setattr("sys.argv", ["asrbuild", *(paths.get(word, word) for word in command)])
    with pytest.raises(SystemExit):
        main()
    out, err = capsys.readouterr()
    assert "unexpected" not in err
    assert out
    for evil in (TITLE, COLOUR, CLEAR, REVERSED):
        assert evil not in out + err


def test_the_reports_markdown_shows_hostile_text_as_text(hostile: Path) -> None:
    from asrbuild.artifact.reading import read_manifest
    from asrbuild.handover.report.anatomy import anatomy
    from asrbuild.handover.report.page import report

    manifest = read_manifest(hostile)
    text = report(manifest, anatomy(hostile / manifest.model.package).operations)
    outside = re.sub(r"`[^`\n]*`", "", text)
    assert not re.search(r"(?<!\\)<img|(?<!\\)\[go\]|^# Proven", outside, re.MULTILINE)
    assert text.count("\n# ") == 0
    rows = [line for line in text.splitlines() if line.startswith("| licence")]
    assert len(re.findall(r"(?<!\\)\|", rows[0])) == 3
    for evil in (TITLE, COLOUR, CLEAR, REVERSED):
        assert evil not in text


def test_markdown_does_not_change_plain_words() -> None:
    assert markdown("new_state_c has 12 rows, ≤ 0.02; x-y.z") == (
        "new_state_c has 12 rows, ≤ 0.02; x-y.z"
    )
    assert code("a|b`c\nd") == "`a\\|b'c d`"
