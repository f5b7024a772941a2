"""An artifact as a directory to read: from the store, a bundle or a remote."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from asrbuild.artifact import integrity, lookup, signatures
from asrbuild.artifact.layout import MANIFEST
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.kinds.recognition import recognise
from asrbuild.base.places import memo_root
from asrbuild.handover.ship.evidence import bring_evidence
from asrbuild.handover.ship.formats.bundle import unpack_bundle
from asrbuild.handover.ship.formats.variants import holds_variants
from asrbuild.handover.ship.lookup import find, require_artifact, split_spec
from asrbuild.handover.ship.pull import fetch_files
from asrbuild.handover.ship.remotes.address import open_remote
from asrbuild.handover.ship.signing.keys import config_root
from asrbuild.handover.ship.signing.trust import read_trust

_TEMPORARY = "asrbuild-opened-"


def opened_as(spec: str, path: Path) -> str:
    """The name of an opened artifact in output: its directory, or ``spec`` if it is temporary."""
    return spec if _TEMPORARY in str(path) else str(path)


def is_remote(spec: str) -> bool:
    """Whether ``spec`` is a whole remote: an address, or a folder that was shipped to."""
    folder = Path(spec).expanduser()
    return ("://" in spec and "#" not in spec) or all(
        os.path.isdir(folder / name) for name in ("blobs", "artifacts")
    )


@contextmanager
def opened(
    spec: str,
    root: Path,
    notify: Callable[[str], None],
    *,
    description_only: bool = False,
    evidence: bool = False,
    checked: bool = True,
) -> Iterator[Path]:
    """The directory of an artifact, for as long as the block lasts.

    Content of a bundle or remote is proven, as by ``asrbuild pull``, and put into a temporary
    folder. An artifact in the store is compared with its digests, see
    :func:`asrbuild.artifact.integrity.require_whole`.

    Args:
        spec: what :func:`asrbuild.artifact.lookup.resolve` takes; ``name@version``; a bundle file;
            or a remote's address, ``#`` and ``name@version`` or ``name@channel``.
        root: the artifact store.
        notify: takes a line that names the signer.
        description_only: of a remote's artifact, fetch the manifest and the model's description,
            without weights and recordings.
        evidence: of a remote's artifact, fetch its evidence too, beside the directory.
        checked: False for a caller that checks for damage itself.

    Raises:
        Refused: the content of a bundle or remote is not as a trusted key signed it.
        AsrbuildError: there is no such artifact, or it is damaged.
    """
    path = Path(spec).expanduser()
    bundle = path.is_file() and recognise(path).key == "asrb"
    if not bundle and (path.exists() or "#" not in spec):
        name, at, version = spec.partition("@")
        path = lookup.resolve(root, f"{name}/{version}" if at and not path.exists() else spec)
        if checked:
            integrity.require_whole(path, memo_root())
        yield path
        return
    config = config_root()
    trust = read_trust(config)
    with TemporaryDirectory(prefix=_TEMPORARY) as folder:
        directory = Path(folder) / "artifacts" / "opened"
        if bundle and holds_variants(path):
            raise AsrbuildError(
                "the bundle holds several artifacts",
                file=path,
                fix=f"take one out first: `asrbuild pull {spec} --os iOS17`",
            )
        if bundle:
            unpacked = unpack_bundle(path, directory, trust)
            header, key = unpacked.header, unpacked.key
        else:
            address, _, version = spec.rpartition("#")
            remote = open_remote(address)
            published, key = find(remote, *split_spec(version), trust, config)
            header = require_artifact(published)
            chosen = _describes if description_only else lambda _: True
            fetch_files(header, remote, directory, wanted=chosen)
            if evidence:
                bring_evidence(remote, header.name, header.version, directory, trust, notify)
        signatures.keep_signature(directory, header.raw)
        notify(f"{spec}: signed by {key.label} ({key.keyid[:12]})")
        yield directory


def _describes(path: str) -> bool:
    # A package's own Manifest.json names its .mlmodel; its weights are other files.
    return path == MANIFEST or path.endswith(("/Manifest.json", ".mlmodel"))
