"""Opens the Core ML package of a command: a file, or the package of an artifact."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from asrbuild.base import terminal
from asrbuild.base.kinds.places import ARTIFACT
from asrbuild.base.kinds.recognition import recognise

PackageArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A .mlpackage, a .mlmodel, or the artifact that holds one: a name, name/version, a "
        "path, a .asrb, or REMOTE#NAME@VERSION.",
    ),
]


@contextmanager
def opened_package(spec: str, artifacts: Path | None) -> Iterator[Path]:
    """Yields the package's path, valid inside the block.

    Args:
        spec: a package's path, or what :func:`asrbuild.handover.ship.opening.opened` takes.
        artifacts: the artifact store; None: the default one.

    Raises:
        AsrbuildError: it does not exist, or no trusted key signed the bundle or remote's artifact.
    """
    path = Path(spec).expanduser()
    if _is_package(path):
        yield path
        return
    from asrbuild.artifact.named_files import package_path
    from asrbuild.artifact.reading import read_manifest
    from asrbuild.base.places import artifacts_root
    from asrbuild.handover.ship.opening import opened

    with opened(spec, artifacts or artifacts_root(), partial(terminal.say, err=True)) as artifact:
        yield package_path(artifact, read_manifest(artifact))


def _is_package(path: Path) -> bool:
    """Whether this path means a package, which may be damaged or missing."""
    if not path.exists():
        return path.suffix in (".mlpackage", ".mlmodel")
    return (
        recognise(path).key not in ARTIFACT.takes | {"asrb", "folder"}
        or path.suffix == ".mlpackage"
    )
