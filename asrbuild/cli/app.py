"""``asrbuild app``: writes an artifact as a folder for an app team, with checked Swift code."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asrbuild.base import terminal
from asrbuild.base.errors import AsrbuildError
from asrbuild.cli.options import (
    ArtifactsOption,
    FolderOption,
    JsonOption,
    OpenedArgument,
    new_folder,
)

if TYPE_CHECKING:
    from asrbuild.artifact.manifest import Manifest
    from asrbuild.base.array import Array


def app(
    artifact: OpenedArgument,
    output: FolderOption,
    audio: Annotated[
        list[Path] | None,
        typer.Option(help="Recordings for the conformance kit, instead of the artifact's own."),
    ] = None,
    check: Annotated[bool, typer.Option(help="Check the Swift as far as this machine can.")] = True,
    artifacts: ArtifactsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write an artifact as a folder for an app team: Swift package, conformance kit, README.

    Every artifact and bundle contains these already. This command makes them again with the present
    asrbuild, in a writable folder, with your own recordings if given, and checks them.

    Examples:
        asrbuild app demo-dynamic-mlprogram -o for-the-app
    """
    from dataclasses import asdict

    from asrbuild.artifact.reading import read_manifest
    from asrbuild.base.places import artifacts_root
    from asrbuild.handover.app.checking import check_kit
    from asrbuild.handover.app.kit import write_folder
    from asrbuild.handover.ship.opening import opened

    out = new_folder(output)
    say = lambda line: terminal.say(f"  {line}", err=True)  # noqa: E731
    with opened(artifact, artifacts or artifacts_root(), say) as path:
        manifest = read_manifest(path)
        write_folder(out, path, manifest, _recordings(audio, manifest) if audio else None)
    checks = check_kit(out, say) if check else []
    if as_json:
        answer = {
            "artifact": manifest.artifact_id,
            "folder": str(out),
            "checks": [asdict(each) for each in checks],
        }
        terminal.say_json(answer)
    else:
        terminal.say(f"{out}: {manifest.artifact_id}; begin with {out / 'README.md'}")
        for each in checks:
            verdict = {True: "yes", False: "NO", None: "-"}[each.passed]
            terminal.say(f"  {each.what:<12} {verdict:<4} {each.detail}")
    if any(each.passed is False for each in checks):
        raise typer.Exit(1)


def _recordings(files: list[Path], manifest: Manifest) -> dict[str, Array]:
    """Name -> int16 samples (n,); a recording's name is its file's."""
    import re

    from asrbuild.speech.audio import read_audio, to_int16

    def note(text: str) -> None:
        terminal.say(f"note: {file}: {text}", err=True)

    recordings: dict[str, Array] = {}
    for file in files:
        name = re.sub(r"[^A-Za-z0-9_-]", "_", file.stem)
        if name in recordings:
            raise AsrbuildError(
                f"two recordings are called {name}", file=file, fix="rename one of them"
            )
        recordings[name] = to_int16(read_audio(file, manifest.audio.sample_rate, note))
    return recordings
