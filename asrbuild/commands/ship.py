"""``asrbuild ship``, ``bundle`` and ``pull``: from this store to an app team's, and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from asrbuild.commands.ls import ArtifactsOption

RemoteHelp = "A folder, s3://bucket/prefix, gs://, az://, oci://registry/prefix or https:// (read)."
KeyOption = Annotated[
    str | None, typer.Option("--key", help="The key to sign with; `asrbuild key ls`.")
]
ArtifactArgument = Annotated[
    str, typer.Argument(help="A name, name/version, name/start-of-version, or a path.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a sentence.")]


def ship(
    artifact: ArtifactArgument,
    dest: Annotated[str, typer.Argument(help=f"{RemoteHelp} Or a file name in .asrb: one bundle.")],
    channel: Annotated[
        str | None, typer.Option(help="Then point this channel at it: stable, beta, ...")
    ] = None,
    key: KeyOption = None,
    artifacts: ArtifactsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Sign an artifact and put it on a remote, where a version is never overwritten.

    Stopped at any moment, it leaves the remote readable, and run again it goes on.

    Example: asrbuild ship demo-static-mlprogram s3://models/asr --channel beta
    """
    from dataclasses import asdict

    from asrbuild.errors import AsrbuildError
    from asrbuild.recipe import artifacts_root
    from asrbuild.ship.bundle import SUFFIX
    from asrbuild.ship.channels import newest, remember
    from asrbuild.ship.keys import config_root, find_signer, trusted_keys
    from asrbuild.ship.remote import open_remote
    from asrbuild.ship.transfer import ship as ship_to
    from asrbuild.store import resolve

    if dest.endswith(SUFFIX) and "://" not in dest:
        if channel is not None:
            raise AsrbuildError(
                "a bundle file has no channels", key="--channel", fix="ship to a remote"
            )
        bundle(artifact, Path(dest), key, artifacts, as_json)
        return
    path = resolve(artifacts or artifacts_root(), artifact)
    config = config_root()
    signer, trust, remote = find_signer(key, config), trusted_keys(config), open_remote(dest)
    shipped = ship_to(
        path,
        remote,
        signer=signer,
        trust=trust,
        channel=channel,
        notify=lambda line: typer.echo(f"  {line}", err=True),
    )
    if shipped.channel and (record := newest(remote, shipped.name, shipped.channel, trust)):
        remember(remote, record, config)
    if as_json:
        typer.echo(json.dumps(asdict(shipped), indent=2))
        return
    how = (
        "was there already"
        if shipped.already
        else f"shipped, {shipped.uploaded} files with {shipped.bytes:,} bytes sent"
    )
    typer.echo(f"{shipped.name} {shipped.version}: {how}, signed by {signer.name}")
    if shipped.channel:
        typer.echo(f"{shipped.name}@{shipped.channel} points at it (record {shipped.counter})")
    typer.echo(f"asrbuild pull {shipped.name}@{shipped.channel or shipped.version} --from {dest}")


def bundle(
    artifact: ArtifactArgument,
    target: Annotated[Path, typer.Argument(help="The file to write, NAME.asrb.")],
    key: KeyOption = None,
    artifacts: ArtifactsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write an artifact as one signed file, to hand over in any way.

    The same artifact and key give the same bytes. `asrbuild pull FILE.asrb` unpacks it.

    Example: asrbuild bundle demo-static-mlprogram demo.asrb
    """
    from asrbuild.recipe import artifacts_root
    from asrbuild.ship.bundle import write_bundle
    from asrbuild.ship.keys import config_root, find_signer
    from asrbuild.store import resolve

    path = resolve(artifacts or artifacts_root(), artifact)
    signer = find_signer(key, config_root())
    header = write_bundle(path, target, signer)
    size = target.stat().st_size
    if as_json:
        answer = {
            "name": header.name, "version": header.version, "file": str(target),
            "bytes": size, "header": header.digest, "keyid": signer.keyid,
        }  # fmt: skip
        typer.echo(json.dumps(answer, indent=2))
        return
    typer.echo(f"{target}: {header.name} {header.version}, {size:,} bytes, signed by {signer.name}")


def pull(
    spec: Annotated[
        str, typer.Argument(help="NAME@VERSION, NAME@CHANNEL, NAME (its stable), or a .asrb file.")
    ],
    remote: Annotated[str | None, typer.Option("--from", "--remote", help=RemoteHelp)] = None,
    artifacts: ArtifactsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fetch an artifact into your store, if a key you trust signed it, byte for byte.

    What is not as it was signed is refused with its reason, and nothing of it is kept.

    Example: asrbuild pull demo-static-mlprogram@stable --from https://models.example.com/asr
    """
    from dataclasses import asdict

    from asrbuild.errors import AsrbuildError
    from asrbuild.recipe import artifacts_root
    from asrbuild.ship.bundle import SUFFIX
    from asrbuild.ship.keys import config_root, trusted_keys
    from asrbuild.ship.remote import open_remote
    from asrbuild.ship.transfer import pull as pull_from
    from asrbuild.ship.transfer import pull_bundle

    config = config_root()
    root = artifacts or artifacts_root()
    trust = trusted_keys(config)
    if remote is None:
        if not spec.endswith(SUFFIX):
            raise AsrbuildError(
                f"where from? {spec} is no {SUFFIX} file, and no remote is named",
                key="--from",
                fix="name the remote with --from",
            )
        pulled = pull_bundle(Path(spec), root, trust=trust)
    else:
        pulled = pull_from(
            spec,
            open_remote(remote),
            root,
            trust=trust,
            config=config,
            notify=lambda line: typer.echo(f"  {line}", err=True),
        )
    if as_json:
        typer.echo(json.dumps(asdict(pulled) | {"path": str(pulled.path)}, indent=2))
        return
    how = "was here already, whole" if pulled.already else f"{pulled.bytes:,} bytes"
    typer.echo(f"{pulled.name} {pulled.version}: {how}, signed by {pulled.signer}")
    typer.echo(str(pulled.path))
