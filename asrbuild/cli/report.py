"""``asrbuild report``: the HTML page of one artifact, or a comparison of several."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asrbuild.base import terminal
from asrbuild.base.errors import AsrbuildError
from asrbuild.cli.devices import measured_rows, planned_of
from asrbuild.cli.options import ArtifactsOption
from asrbuild.coreml.choices import ASSET

if TYPE_CHECKING:
    from asrbuild.artifact.manifest import Manifest
    from asrbuild.proof.verdict import Proof


def report(
    artifact: Annotated[
        list[str], typer.Argument(help="Names, name/version, name/start-of-version, or paths.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to write the page.")] = Path(
        "report.html"
    ),
    artifacts: ArtifactsOption = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Also print the content of the page as JSON.")
    ] = False,
) -> None:
    """Prove an artifact again and write its page; or write a page that compares several.

    An artifact contains its page already, as report.html: what it is, how to use it, transcripts,
    probabilities, and the distance to TensorFlow. This command runs the package again on this
    machine and shows its results. For several artifacts it writes one table and plot, from their
    manifests; with --json sizes are in MB, latencies in ms, error rates in per cent.

    Examples:
        asrbuild report demo-dynamic-mlprogram -o proof.html
        asrbuild report demo-dynamic-mlprogram demo-static-mlprogram
    """
    from asrbuild.artifact.integrity import require_whole
    from asrbuild.artifact.lookup import resolve
    from asrbuild.base.places import artifacts_root, memo_root

    paths = [resolve(artifacts or artifacts_root(), name) for name in artifact]
    if len(paths) > 1:
        from asrbuild.handover.report.comparison import artifact_rows, write_page

        rows = artifact_rows(paths)
        write_page(output, "Artifacts side by side", rows)
        listed = [
            {
                "artifact": row.name,
                "overrides": row.overrides,
                "error": row.error or None,
                **row.facts,
            }
            for row in rows
        ]
        _print({"page": str(output), "artifacts": listed}, as_json)
        if damaged := [row.name for row in rows if row.error]:
            raise AsrbuildError(
                f"{len(damaged)} of {len(rows)} cannot be read: {', '.join(damaged)}",
                file=output,
                fix="the page names the reasons; pull or build them again",
            )
        return
    require_whole(paths[0], memo_root())
    proof, shown = _prove_and_write(paths[0], output)
    content: dict[str, object] = {
        "page": str(output),
        "artifact": shown.artifact_id,
        "passed": proof.verification.passed,
        "failures": list(proof.failures),
        "verification": shown.verification.model_dump(mode="json"),
    }
    _print(content, as_json)
    if not proof.verification.passed:
        raise AsrbuildError(
            f"the artifact fails its proof here: {proof.failures[0]}",
            file=paths[0],
            fix="the page shows where; `asrbuild verify` checks its files",
        )


def _print(content: dict[str, object], as_json: bool) -> None:
    if as_json:
        terminal.say_json(content)
    else:
        terminal.say(f"wrote {content['page']}")


def _prove_and_write(path: Path, output: Path) -> tuple[Proof, Manifest]:
    """Writes the page of one artifact; returns its proof, and its manifest with that proof."""
    from asrbuild.artifact.layout import PARITY, REFERENCE_AUDIO
    from asrbuild.artifact.manifest2 import context_frames
    from asrbuild.artifact.named_files import package_path
    from asrbuild.artifact.reading import read_manifest
    from asrbuild.base.disk import read_plain
    from asrbuild.handover.fit.page import report_rows
    from asrbuild.handover.fit.verdict import fit_of_artifact
    from asrbuild.handover.report.anatomy import anatomy
    from asrbuild.handover.report.artifact import comparisons, write_page
    from asrbuild.proof.cases import load_reference
    from asrbuild.proof.execution import probabilities_of
    from asrbuild.proof.verdict import prove_again
    from asrbuild.proof.witness import witness_again

    manifest = read_manifest(path)
    proof = witness_again(path, manifest, prove_again(path, manifest))
    cases, reference = load_reference(path / PARITY, context_frames(manifest))
    given = proof.probabilities_of_recordings()
    shown = manifest.model_copy(update={"verification": proof.verification})
    inside = anatomy(package_path(path, manifest))
    name = probabilities_of(manifest)
    planned = planned_of(package_path(path, manifest), path.absolute().parent.parent)
    fit = []
    if manifest.model.format != ASSET:
        fit = report_rows(fit_of_artifact(path, manifest, proof.reaches, planned), proof.reaches)
    recordings = comparisons(cases, reference, given, name)
    sounds = {"sample": read_plain(path / REFERENCE_AUDIO)}
    write_page(output, shown, inside, recordings, fit, measured_rows(path), sounds)
    return proof, shown
