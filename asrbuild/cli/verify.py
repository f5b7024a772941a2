"""``asrbuild verify``: proves a published artifact again, from its bytes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from asrbuild.base import terminal
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.kinds.places import CHECKPOINT, GRAPH_TO_RUN
from asrbuild.base.kinds.recognition import require
from asrbuild.base.tables import bare, show
from asrbuild.cli.options import ArtifactsOption, JsonOption, OpenedArgument

if TYPE_CHECKING:
    from asrbuild.artifact.manifest import Manifest
    from asrbuild.handover.ship.signing.trust import Trusted
    from asrbuild.proof.bisect import Bisection
    from asrbuild.proof.verdict import Proof


def verify(
    artifact: OpenedArgument,
    bisect: Annotated[
        bool,
        typer.Option("--bisect", help="Name the first node whose values differ from TensorFlow's."),
    ] = False,
    graph: Annotated[
        Path | None, typer.Option(help="The frozen graph, for --bisect: output_graph.pb.")
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Or the checkpoint folder it was exported from.")
    ] = None,
    artifacts: ArtifactsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Prove an artifact again: every file's digest, then every gate, by running its package.

    TensorFlow is not needed: the artifact records its outputs. --bisect does run TensorFlow, on the
    graph that the artifact was made from. If the artifact came with a signature (from a remote or a
    bundle), a trusted key's signature of every file is proven as well. For a whole remote, every
    signature and every byte is proven, and nothing is run.

    Examples:
        asrbuild verify demo-static-mlprogram
        asrbuild verify remote
    """
    if (graph or checkpoint) and not bisect:
        raise AsrbuildError("--graph and --checkpoint require --bisect", fix="add --bisect")
    if graph and checkpoint:
        raise AsrbuildError("--graph and --checkpoint exclude each other", fix="give one of them")
    if graph is not None:
        require(graph, GRAPH_TO_RUN, key="--graph")
    if checkpoint is not None:
        require(checkpoint, CHECKPOINT, key="--checkpoint")
    from asrbuild.base.places import artifacts_root
    from asrbuild.handover.ship.opening import is_remote, opened, opened_as

    if is_remote(artifact):
        from asrbuild.cli.verify_remote import verify_remote

        if bisect:
            raise AsrbuildError(
                "--bisect requires one artifact", fix="name it, REMOTE#NAME@VERSION"
            )
        if not verify_remote(artifact, as_json):
            raise typer.Exit(1)
        return

    note = partial(terminal.say, err=True)
    with opened(artifact, artifacts or artifacts_root(), note, checked=False) as path:
        shown = opened_as(artifact, path)
        passed = _verify(path, shown, bisect, graph, checkpoint, as_json)
    if not passed:
        raise typer.Exit(1)


def _verify(
    path: Path, shown: str, bisect: bool, graph: Path | None, checkpoint: Path | None, as_json: bool
) -> bool:
    from asrbuild.artifact.agreement import damaged_files
    from asrbuild.artifact.proven import remember_proven
    from asrbuild.artifact.reading import read_manifest
    from asrbuild.proof.verdict import prove_again
    from asrbuild.proof.witness import witness_again

    problems = damaged_files(path)
    if problems and not bisect:
        _report_damage(shown, problems, as_json)
        return False
    origin = None if problems else _origin(path)
    manifest = read_manifest(path)
    proof = witness_again(path, manifest, prove_again(path, manifest))
    divergence = None
    if bisect:
        divergence = _bisect(path, manifest, proof, graph, checkpoint)
    passed = proof.verification.passed and not problems
    if passed:
        remember_proven(path)
    if as_json:
        terminal.say_json(_as_json(shown, problems, origin, proof, divergence))
    else:
        _print(shown, manifest, problems, origin, proof, divergence)
    return passed and (divergence is None or divergence.first is None)


def _origin(path: Path) -> Trusted | None:
    from asrbuild.handover.ship.origin import prove_origin
    from asrbuild.handover.ship.signing.keys import config_root
    from asrbuild.handover.ship.signing.trust import read_trust

    return prove_origin(path, read_trust(config_root()))


def _report_damage(artifact: str, problems: list[str], as_json: bool) -> None:
    if as_json:
        terminal.say_json({"artifact": artifact, "passed": False, "files": problems})
        return
    terminal.say(f"{artifact} is not as it was published:")
    for problem in problems:
        terminal.say(f"  {problem}")
    terminal.say("  fix: build it again, or fetch it again from its origin")


def _bisect(
    path: Path, manifest: Manifest, proof: Proof, graph: Path | None, checkpoint: Path | None
) -> Bisection:
    import tempfile

    from asrbuild.architectures.architecture import of_recorded
    from asrbuild.artifact.layout import PARITY
    from asrbuild.artifact.manifest2 import context_frames, tokens_of
    from asrbuild.proof.bisect import bisect_failure
    from asrbuild.proof.cases import load_reference
    from asrbuild.proof.execution import longest_call

    recipe = manifest.provenance.recipe
    architecture, _ = of_recorded(recipe)
    alphabet = tokens_of(manifest.decoder)
    with tempfile.TemporaryDirectory(prefix="asrbuild-bisect-") as folder:
        original = architecture.recover(recipe, alphabet, graph, checkpoint, Path(folder))
        cases, _ = load_reference(path / PARITY, context_frames(manifest))
        max_steps = longest_call(manifest, recipe.get("verify", {}).get("max_steps"))
        metrics = proof.verification.metrics
        return bisect_failure(path, manifest, cases, metrics, original, max_steps)


def _as_json(
    artifact: str,
    problems: list[str],
    origin: Trusted | None,
    proof: Proof,
    divergence: Bisection | None,
) -> dict[str, Any]:
    from dataclasses import asdict

    answer: dict[str, Any] = {
        "artifact": artifact,
        "passed": proof.verification.passed and not problems,
        "files": problems,
        "origin": origin and {"signer": origin.label, "keyid": origin.keyid},
        "failures": list(proof.failures),
        "verification": proof.verification.model_dump(mode="json"),
    }
    if divergence is not None:
        first = divergence.first
        answer["bisect"] = {
            "first_divergence": None if first is None else asdict(first),
            "comparisons": [asdict(comparison) for comparison in divergence.comparisons],
        }
    return answer


def _print(
    artifact: str,
    manifest: Manifest,
    problems: list[str],
    origin: Trusted | None,
    proof: Proof,
    divergence: Bisection | None,
) -> None:
    from asrbuild.handover.report.measures import worst_rows
    from asrbuild.handover.report.page import verdict
    from asrbuild.handover.report.witness import witness_rows, witness_text

    console = terminal.console()
    for problem in problems:
        console.print(problem, style="red")
    if not problems:
        console.print(f"{len(manifest.files)} files are as they were published")
        console.print(_origin_line(origin), soft_wrap=True)
    table = bare("", "output", "measure", "worst", "on", "gate", "")
    for row in worst_rows(proof.verification.metrics):
        style = "bold red" if "FAILED" in row["verdict"] else ""
        keys = ("output", "name", "value", "input", "gate", "verdict")
        table.add_row(*(row[key] for key in keys), style=style)
    show(table)
    shown = manifest.model_copy(update={"verification": proof.verification})
    if witnesses := witness_rows(shown):
        keys = ("output", "name", "executor", "witness", "between", "gate")
        side = bare(
            "", "output", "measure", "executor", "Core AI", "one against the other", "its gate"
        )
        for row in witnesses:
            side.add_row(*(row[key] for key in keys))
        show(side)
    for transcript in proof.verification.transcripts:
        if "@" not in transcript.input:
            console.print(f"{transcript.input}: {transcript.package}", soft_wrap=True)
    console.print(verdict(shown).replace("**", ""), soft_wrap=True)
    console.print(witness_text(shown), soft_wrap=True)
    for failure in proof.failures[:12]:
        console.print(f"  {failure}", soft_wrap=True)
    if len(proof.failures) > 12:
        console.print(f"  and {len(proof.failures) - 12} more")
    if divergence is not None:
        for line in _divergence_lines(divergence):
            console.print(line, soft_wrap=True)
    console.print(artifact, soft_wrap=True)


def _origin_line(origin: Trusted | None) -> str:
    if origin is None:
        return (
            "consistency only: no signature came with it, so its files match one another, and "
            "nothing proves where they come from"
        )
    return f"every file is as {origin.label} ({origin.keyid[:12]}) signed it"


def _divergence_lines(divergence: Bisection) -> Iterator[str]:
    first, good = divergence.first, divergence.last_good
    if first is None:
        yield f"layer by layer: all {len(divergence.comparisons)} comparisons agree"
        return
    yield f"first divergence: {first}"
    if good is not None:
        yield f"before it, this agrees: {good}"
