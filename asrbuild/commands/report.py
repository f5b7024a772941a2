"""``asrbuild report``: the proof of an artifact as one page with pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from asrbuild.commands.ls import ArtifactsOption
from asrbuild.errors import AsrbuildError


def report(
    artifact: Annotated[
        str, typer.Argument(help="A name, name/version, name/start-of-version, or a path.")
    ],
    output: Annotated[Path, typer.Option(help="Where to write the page.")] = Path("report.html"),
    artifacts: ArtifactsOption = None,
) -> None:
    """Prove an artifact again and write the result as one HTML page, with its probabilities.

    Example: asrbuild report demo-static-mlprogram --output proof.html
    """
    from asrbuild.cases import load_reference
    from asrbuild.manifest import read_manifest
    from asrbuild.proof import PARITY_FILE, prove_again
    from asrbuild.recipe import artifacts_root
    from asrbuild.report.html import html_report
    from asrbuild.store import resolve

    path = resolve(artifacts or artifacts_root(), artifact)
    manifest = read_manifest(path)
    proof = prove_again(path, manifest)
    _, reference = load_reference(path / PARITY_FILE, manifest.features.context_frames)
    shown = manifest.model_copy(update={"verification": proof.verification})
    try:
        output.write_text(html_report(shown, reference, proof.outputs), encoding="utf-8")
    except OSError as error:
        raise AsrbuildError(f"the page cannot be written: {error.strerror}", file=output) from error
    typer.echo(f"wrote {output}")
    if not proof.verification.passed:
        raise typer.Exit(1)
