"""``asrbuild bundle``: writes an artifact, or several variants, as one signed file."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from asrbuild.base import terminal
from asrbuild.base.errors import AsrbuildError
from asrbuild.cli.options import ArtifactsOption, JsonOption, KeyOption, SigstoreOption


def bundle(
    names: Annotated[
        list[str],
        typer.Argument(metavar="ARTIFACT", help="One artifact, or several: variants of one."),
    ],
    target: Annotated[
        Path, typer.Argument(metavar="FILE.asrb", help="The file to write, NAME.asrb.")
    ],
    key: KeyOption = None,
    sigstore: SigstoreOption = False,
    artifacts: ArtifactsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write an artifact as one signed file, to hand over in any way; or several, to choose from.

    Of several, name the preferred one first: a device takes the first that its system can load,
    and the bundle states what each requires. Contents that they share are stored once. The same
    artifacts and key give the same bytes; with --sigstore no two signatures are the same.
    `asrbuild pull FILE.asrb` unpacks it.

    Examples:
        asrbuild bundle demo-static-mlprogram one.asrb
        asrbuild bundle demo-dynamic-mlprogram demo-static-mlprogram demo.asrb
    """
    from asrbuild.artifact.lookup import resolve
    from asrbuild.base.places import artifacts_root
    from asrbuild.cli.variants import print_variants
    from asrbuild.handover.ship.formats.bundle import write_bundle
    from asrbuild.handover.ship.formats.frame import SUFFIX
    from asrbuild.handover.ship.formats.variants import write_variants
    from asrbuild.handover.ship.gates import require_passed
    from asrbuild.handover.ship.signing.keys import config_root
    from asrbuild.handover.ship.signing.signer import choose_signer

    if target.suffix != SUFFIX:
        raise AsrbuildError(
            f"a bundle's name ends in {SUFFIX}", file=target, fix=f"write {target}{SUFFIX}"
        )
    paths = [resolve(artifacts or artifacts_root(), name) for name in names]
    for path in paths:
        require_passed(path)
    signer = choose_signer(key, sigstore, config_root(), partial(terminal.say, err=True))
    if len(paths) > 1:
        written = write_variants(paths, target, signer)
        print_variants(target, written.variants, signer.name, as_json)
        return
    header = write_bundle(paths[0], target, signer)
    size = target.stat().st_size
    if as_json:
        row = {"name": header.name, "version": header.version, "file": str(target), "bytes": size}
        terminal.say_json(row | {"header": header.digest, "keyid": signer.keyid})
        return
    terminal.say(
        f"{target}: {header.name} {header.version}, {size:,} bytes, signed by {signer.name}"
    )
