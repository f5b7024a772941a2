"""Options and arguments that several commands take, and reading their values."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    pass


RemoteHelp = "A folder, s3://bucket/prefix, gs://, oci://host/prefix, https:// (read)."


KeyOption = Annotated[
    str | None, typer.Option("--key", help="The key to sign with; `asrbuild key ls`.")
]


SigstoreOption = Annotated[
    bool,
    typer.Option(
        "--sigstore", help="Sign as an identity through Sigstore; with --key, with that key too."
    ),
]


OtherSignerOption = Annotated[
    bool,
    typer.Option(
        "--other-signer", help="Take a version that is there also where only another signed it."
    ),
]


UnprovenOption = Annotated[
    bool,
    typer.Option(
        "--allow-unproven", help="Point the channel also at what verify=quick or less proved."
    ),
]


ExpiresOption = Annotated[
    str | None,
    typer.Option(metavar="AGE", help="How long the channel's record is good for: 12h, 30d."),
]


MaxBytesOption = Annotated[
    int | None, typer.Option(min=1, help="With --os: the most its Core ML package may have.")
]


JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a sentence.")]


def check_choice(system: str | None, max_bytes: int | None) -> None:
    """Refuses a limit that nothing would be chosen by."""
    from asrbuild.base.errors import MisuseError

    if max_bytes is not None and system is None:
        raise MisuseError("--max-bytes is for --os", fix="say which system: --os iOS17")


#: What :func:`asrbuild.handover.ship.opening.opened` takes.
OpenedArgument = Annotated[
    str,
    typer.Argument(help="A name, name/version, a path, a .asrb, or REMOTE#NAME@VERSION."),
]


ArtifactsOption = Annotated[
    Path | None,
    typer.Option(
        "--artifacts",
        file_okay=False,
        help="The artifact store; $ASRBUILD_ARTIFACTS or artifacts.",
    ),
]


CacheOption = Annotated[
    Path | None,
    typer.Option(
        "--cache",
        file_okay=False,
        help="The cache folder; $ASRBUILD_CACHE or .asrbuild/cache.",
    ),
]


StageOption = Annotated[str | None, typer.Option("--stage", help="Only entries of this stage.")]
