"""``asrbuild evidence``: what devices measured of an artifact."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from asrbuild.base import terminal
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.tables import folding, show as show_table
from asrbuild.cli.options import (
    ArtifactsOption,
    FolderOption,
    JsonOption,
    KeyOption,
    OpenedArgument,
    SigstoreOption,
    new_folder,
)

if TYPE_CHECKING:
    from asrbuild.handover.evidence.kept import Kept, Unusable


def kit(
    artifact: OpenedArgument,
    output: FolderOption,
    function: Annotated[
        str | None, typer.Option(help="Of a package of several functions: the one to measure.")
    ] = None,
    artifacts: ArtifactsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a folder that measures an artifact on a Mac (Python) or an iPhone (Swift).

    It writes one file there: plan of each operation, loads, times, memory and outputs. `asrbuild
    evidence add` checks that file.

    Examples:
        asrbuild evidence kit demo-static-mlprogram -o to-measure
    """
    from asrbuild.artifact.reading import read_manifest
    from asrbuild.base.places import artifacts_root
    from asrbuild.handover.evidence.kit import write_evidence_kit
    from asrbuild.handover.ship.opening import opened

    out = new_folder(output)
    with opened(artifact, artifacts or artifacts_root(), _note) as path:
        manifest = read_manifest(path)
        write_evidence_kit(out, path, manifest, function)
    if as_json:
        terminal.say_json({"artifact": manifest.artifact_id, "folder": str(out)})
    else:
        terminal.say(f"{out}: measures {manifest.artifact_id}; begin with {out / 'README.md'}")


def add(
    file: Annotated[Path, typer.Argument(help="What the kit wrote, or a signed evidence file.")],
    artifact: Annotated[
        str, typer.Argument(help="A name, name/version or path; or REMOTE#NAME@VERSION.")
    ],
    key: KeyOption = None,
    sigstore: SigstoreOption = False,
    artifacts: ArtifactsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check evidence against its artifact, sign it, and keep it beside the artifact.

    Nothing is taken on trust: the package's digest, the operations, the statistics, the times and
    every output are computed again, and the words must be equal. The artifact does not change. A
    file that a trusted key signed keeps that signature.

    Examples:
        asrbuild evidence add evidence.json demo-static-mlprogram
    """
    from asrbuild.base.places import artifacts_root
    from asrbuild.handover.evidence.kept import check_file, keep, known_documents, send
    from asrbuild.handover.ship.remotes.address import open_remote
    from asrbuild.handover.ship.signing.keys import config_root
    from asrbuild.handover.ship.signing.signer import choose_signer
    from asrbuild.handover.ship.signing.trust import read_trust

    root, config = artifacts or artifacts_root(), config_root()
    trust = read_trust(config)
    remote = open_remote(artifact.rpartition("#")[0]) if _is_remote(artifact) else None
    with _artifact(artifact, root) as path, terminal.status("running the recordings …"):
        # For a remote's artifact, the remote's evidence is next to the copy.
        known = known_documents(root if remote is None else path.absolute().parent.parent)
        checked = check_file(file, path, trust, known)
        note = partial(terminal.say, err=True)
        signer = None if checked.signed is not None else choose_signer(key, sigstore, config, note)
        kept = keep(checked, path, signer) if remote is None else send(checked, remote, signer)
    if as_json:
        terminal.say_json(_row(kept))
        return
    device = kept.document.device
    terminal.say(
        f"kept, signed by {kept.signer}: {device.identifier}, {device.os} {device.os_version} "
        f"({device.os_build}), {', '.join(kept.document.units)}"
    )
    terminal.say(kept.where if remote is None else f"{kept.where}: {kept.digest}")


def ls(
    artifact: Annotated[
        str | None, typer.Argument(help="As of `asrbuild evidence add`; none: every artifact.")
    ] = None,
    artifacts: ArtifactsOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the evidence of an artifact, or of all, with the files that do not count and why.

    Examples:
        asrbuild evidence ls demo-static-mlprogram
    """
    from asrbuild.base.places import artifacts_root

    root = artifacts or artifacts_root()
    kept: list[Kept] = []
    unusable: list[Unusable] = []
    for spec in [artifact] if artifact is not None else _with_evidence(root):
        found = _evidence(spec, root)
        kept += found[0]
        unusable += found[1]
    if as_json:
        from dataclasses import asdict

        rows = [_row(one) for one in kept]
        terminal.say_json({"evidence": rows, "unusable": [asdict(one) for one in unusable]})
        return
    if not kept and not unusable:
        none = "no artifact has evidence" if artifact is None else f"{artifact} has no evidence"
        kit = f"asrbuild evidence kit {artifact or 'ARTIFACT'} -o FOLDER"
        terminal.say(f"{none}; measure it with `{kit}`")
        return
    headings = ("evidence", "artifact", "device", "system", "units", "p95 ms/s", "measured", "by")
    table = folding("", *headings, right=("p95 ms/s",))
    for one in kept:
        of, device = one.document.artifact, one.document.device
        for row in one.document.statistics:
            table.add_row(
                one.digest[:12],
                f"{of.name}/{of.version}",
                device.identifier,
                f"{device.os} {device.os_version}",
                row.units,
                f"{row.p95_ms:.3g}",
                one.document.measured[:10],
                one.signer,
            )
    console = terminal.console()
    if kept:
        show_table(table)
    for bad in unusable:
        console.print(f"does not count: {bad.digest[:12]}: {bad.why}", style="yellow")


def show(
    artifact: Annotated[str, typer.Argument(help="As of `asrbuild evidence add`.")],
    evidence: Annotated[
        str | None,
        typer.Argument(help="A digest of `evidence ls`, or its start; none: the newest."),
    ] = None,
    artifacts: ArtifactsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one run: its plan, loads, times, memory and outputs.

    Examples:
        asrbuild evidence show demo-static-mlprogram
    """
    from asrbuild.base.places import artifacts_root
    from asrbuild.handover.evidence.text import lines

    one = _chosen(artifact, evidence, artifacts or artifacts_root())
    if as_json:
        terminal.say_json(_row(one) | {"document": one.document.model_dump(mode="json")})
        return
    for line in lines(one):
        terminal.say(line)


def compare(
    artifact: Annotated[str, typer.Argument(help="As of `asrbuild evidence add`.")],
    other: Annotated[str, typer.Argument(help="Another artifact, or the same.")],
    first: Annotated[str | None, typer.Option(help="The run of the first; none: newest.")] = None,
    second: Annotated[str | None, typer.Option(help="The run of the other; none: newest.")] = None,
    artifacts: ArtifactsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare two runs on the same device and system; runs on others are refused.

    Examples:
        asrbuild evidence compare demo-static-mlprogram \\
          demo-dynamic-mlprogram
    """
    from asrbuild.base.places import artifacts_root
    from asrbuild.handover.evidence.comparison import compare_runs

    root = artifacts or artifacts_root()
    runs = _chosen(artifact, first, root), _chosen(other, second, root)
    rows = compare_runs(runs[0].document, runs[1].document)
    if as_json:
        from dataclasses import asdict

        terminal.say_json([asdict(row) for row in rows])
        return
    table = folding("", "units", "what", "first", "second", right=("first", "second"))
    for row in rows:
        table.add_row(row.units, row.what, row.first, row.second)
    show_table(table)


def _note(line: str) -> None:
    terminal.say(line, err=True)


def _is_remote(spec: str) -> bool:
    return "#" in spec and not Path(spec).exists()


@contextmanager
def _artifact(spec: str, root: Path) -> Iterator[Path]:
    """Yields the directory of an artifact in the store, or of a copy of a remote's artifact."""
    from asrbuild.base.kinds.recognition import recognise
    from asrbuild.handover.ship.opening import opened

    path = Path(spec).expanduser()
    if path.is_file() and recognise(path).key == "asrb":
        raise AsrbuildError(
            "a bundle file holds no evidence: its bytes are those of the artifact alone",
            file=path,
            fix=f"`asrbuild pull {spec}`, and name the artifact in the store",
        )
    with opened(spec, root, _note, evidence=True) as found:
        yield found


def _evidence(spec: str, root: Path) -> tuple[list[Kept], list[Unusable]]:
    """The evidence of an artifact, newest first, and the files that do not count."""
    from asrbuild.handover.evidence.kept import evidence_of
    from asrbuild.handover.ship.opening import opened
    from asrbuild.handover.ship.signing.keys import config_root
    from asrbuild.handover.ship.signing.trust import read_trust

    with opened(spec, root, _note, description_only=True, evidence=True, checked=False) as path:
        return evidence_of(path, read_trust(config_root()))


def _with_evidence(root: Path) -> list[str]:
    """The artifacts of a store that have evidence."""
    from asrbuild.artifact.evidence import all_evidence

    return [str(path) for path in sorted({a for a, _ in all_evidence(root)}) if path.is_dir()]


def _chosen(spec: str, start: str | None, root: Path) -> Kept:
    """The evidence whose digest begins with ``start``; None: the newest run."""
    kept, unusable = _evidence(spec, root)
    fitting = [one for one in kept if start is None or one.digest.startswith(start)]
    if start is None and kept:
        return kept[0]
    if len(fitting) == 1:
        return fitting[0]
    bad = [one for one in unusable if start is not None and one.digest.startswith(start)]
    if len(bad) == 1:
        raise AsrbuildError(f"this evidence does not count: {bad[0].why}", file=bad[0].where)
    known = ", ".join(one.digest[:12] for one in kept) or "none"
    raise AsrbuildError(
        f"{len(fitting)} runs of {spec} are {start!r}" if start else f"{spec} has no evidence",
        fix=f"there are: {known}"
        if kept
        else f"measure it with `asrbuild evidence kit {spec} -o FOLDER`",
    )


def _row(one: Kept) -> dict[str, Any]:
    document = one.document
    of = document.artifact
    return {
        "digest": one.digest,
        "where": one.where,
        "signer": one.signer,
        "artifact": f"{of.name}/{of.version}",
        "package_sha256": of.package_sha256,
        "function": of.function,
        "device": document.device.model_dump(),
        "measured": document.measured,
        "statistics": [row.model_dump() for row in document.statistics],
    }
