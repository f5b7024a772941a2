"""``asrbuild report``: an artifact as one page with pictures, or several side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from asrbuild.commands.ls import ArtifactsOption


def report(
    artifact: Annotated[
        list[str], typer.Argument(help="Names, name/version, name/start-of-version, or paths.")
    ],
    output: Annotated[Path, typer.Option(help="Where to write the page.")] = Path("report.html"),
    artifacts: ArtifactsOption = None,
) -> None:
    """Write an artifact's page anew, proving it again; or a page that compares several.

    An artifact's page is in it already, as report.html: what it is, how to use it, its words, its
    probabilities, and how near it is to TensorFlow. This command runs the package again, here, and
    shows what that gave. Of several artifacts it writes one table and plot, from their manifests.

    Examples: asrbuild report demo-static-mlprogram --output proof.html |
    asrbuild report demo-static-mlprogram demo-static-neuralnetwork
    """
    from asrbuild.recipe import artifacts_root
    from asrbuild.store import resolve

    paths = [resolve(artifacts or artifacts_root(), name) for name in artifact]
    if len(paths) > 1:
        from asrbuild.report.comparison import artifact_rows, write_page

        write_page(output, "Artifacts side by side", artifact_rows(paths))
        typer.echo(f"wrote {output}")
        return
    passed = _prove_and_write(paths[0], output)
    typer.echo(f"wrote {output}")
    if not passed:
        raise typer.Exit(1)


def _prove_and_write(path: Path, output: Path) -> bool:
    from asrbuild.cases import RECORDINGS, load_reference
    from asrbuild.manifest import read_manifest
    from asrbuild.parity import PROBABILITIES
    from asrbuild.proof import PARITY_FILE, prove_again
    from asrbuild.report.anatomy import anatomy
    from asrbuild.report.artifact import heard, write_page

    manifest = read_manifest(path)
    proof = prove_again(path, manifest)
    cases, reference = load_reference(path / PARITY_FILE, manifest.features.context_frames)
    given = {n: proof.outputs[n][PROBABILITIES] for n in RECORDINGS if n in proof.outputs}
    shown = manifest.model_copy(update={"verification": proof.verification})
    inside = anatomy(path / manifest.model.package)
    write_page(output, shown, inside, heard(cases, reference, given))
    return proof.verification.passed
