"""Options and arguments of several commands, and the parsing of their values."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from asrbuild.base.errors import AsrbuildError, MisuseError

#: The ways to name an artifact, see :func:`asrbuild.handover.ship.opening.opened`.
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
ConfigDirOption = Annotated[
    str | None,
    typer.Option("--config-dir", metavar="FOLDER", help="A folder with your own config groups."),
]
DataOption = Annotated[
    Path | None,
    typer.Option(
        metavar="DATA",
        help="Recordings and their words: DeepSpeech's CSV, or a folder of WAV and TXT files.",
    ),
]
#: The folder that a command writes.
FolderOption = Annotated[
    Path,
    typer.Option(
        "--output", "-o", metavar="FOLDER", help="The folder to write; it must not exist yet."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]

# Shipping ----------------------------------------------------------------------------------------

REMOTE_HELP = "A folder, s3://bucket/prefix, gs://, oci://host/prefix, https:// (read)."
RemoteOption = Annotated[str, typer.Option("--remote", help=REMOTE_HELP)]
OptionalRemoteOption = Annotated[str | None, typer.Option("--remote", help=REMOTE_HELP)]
SystemOption = Annotated[
    str | None,
    typer.Option(
        "--os", metavar="SYSTEM", help="The device's system, iOS17, macOS14.2: what runs on it."
    ),
]
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
        "--other-signer", help="Accept an existing version that only another signer signed."
    ),
]
UnprovenOption = Annotated[
    bool,
    typer.Option(
        "--allow-unproven",
        help="Point the channel also at a version that verify=quick or less proved.",
    ),
]
ExpiresOption = Annotated[
    str | None,
    typer.Option(metavar="AGE", help="How long the channel's record is valid: 12h, 30d."),
]
MaxSizeOption = Annotated[
    str | None,
    typer.Option(metavar="SIZE", help="With --os: the largest Core ML package: 20MB."),
]

_LONGEST_SECONDS = 3650 * 86400.0
_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


def largest_package(system: str | None, max_size: str | None) -> int | None:
    """Bytes of ``--max-size``, which requires a system; None if it is absent."""
    if max_size is not None and system is None:
        raise MisuseError("--max-size requires --os", fix="name the system: --os iOS17")
    return size_bytes("--max-size", max_size)


def new_folder(path: Path) -> Path:
    """The folder that ``--output`` names.

    Raises:
        AsrbuildError: its suffix is that of a file.
    """
    from asrbuild.base.file_names import names_file

    if names_file(path):
        raise AsrbuildError(
            f"{path} is a file's name, and a folder is written",
            key="--output",
            fix=f"write --output {path.with_suffix('')}",
        )
    return path


def expiry_seconds(expires: str | None) -> float | None:
    """Seconds of ``--expires``; None if it is absent."""
    from asrbuild.base.quantities import duration_seconds

    try:
        seconds = None if expires is None else duration_seconds(expires)
    except ValueError:
        seconds = 0.0
    if seconds is not None and not 0 < seconds <= _LONGEST_SECONDS:
        raise AsrbuildError(
            f"{expires!r} is not a time for which a record can be valid",
            key="--expires",
            fix="write a number and s, m, h or d, at most 3650d: 12h, 30d",
        )
    return seconds


def age_seconds(option: str, text: str) -> float:
    """Seconds of an age such as ``12h``.

    Raises:
        AsrbuildError: the text has another form; it names ``option``.
    """
    from asrbuild.base.quantities import duration_seconds

    try:
        return duration_seconds(text)
    except ValueError:
        raise AsrbuildError(
            f"{text!r} is not an age", key=option, fix="write a number and s, m, h or d: 12h, 30d"
        ) from None


def size_bytes(option: str, text: str | None) -> int | None:
    """Bytes of a size such as ``20GB``; None if it is absent.

    Raises:
        AsrbuildError: the text has another form; it names ``option``.
    """
    if text is None:
        return None
    match = re.fullmatch(r"(\d+) ?([kMGT]?)B?", text)
    if match is None:
        raise AsrbuildError(
            f"{text!r} is not a size", key=option, fix="write a number and kB, MB, GB or TB: 20GB"
        )
    return int(match[1]) * _UNITS[match[2]]
