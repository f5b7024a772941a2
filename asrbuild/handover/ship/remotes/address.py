"""Opening the remote at an address, whatever its kind."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import SplitResult, urlsplit
from urllib.request import url2pathname

from asrbuild.base.errors import AsrbuildError
from asrbuild.base.file_names import names_file
from asrbuild.handover.ship.formats.frame import SUFFIX
from asrbuild.handover.ship.remotes.folder import Folder, reading
from asrbuild.handover.ship.remotes.objects import ObjectRemote
from asrbuild.handover.ship.remotes.remote import Remote, is_identity

#: The schemes of addresses.
SCHEMES = ("s3", "gs", "gcs", "oci", "http", "https", "file")
_MISTYPED = re.compile(rf"({'|'.join(SCHEMES)})(?::/{{0,2}}|//)(?=[^/])", re.IGNORECASE)


def open_remote(address: str, required_identity: str | None = None) -> Remote:
    """The remote at an address.

    Args:
        address: a folder, ``s3://bucket/prefix`` (or ``gs://``), ``http(s)://...`` (read only) or
            ``oci://registry/prefix``.
        required_identity: the identity that it must have, see :meth:`Remote.identity`; None: its
            own.

    Raises:
        AsrbuildError: it is not an address, or of an unknown kind.
    """
    if not address.strip():
        raise AsrbuildError("the address of a remote is empty", fix="name a folder or an address")
    if required_identity is not None and not is_identity(required_identity):
        raise AsrbuildError(
            "this cannot be the identity of a remote",
            key="--remote-id",
            fix="give the value of `remote` in `asrbuild channel history --json`",
        )
    parts = split_address(address) if "://" in address else SplitResult("", "", address, "", "")
    scheme = parts.scheme.lower()
    if scheme in ("", "file"):
        path = Path(url2pathname(parts.path) if scheme else address).expanduser()
        if not scheme:
            _require_folder_name(address, path)
        return ObjectRemote(Folder(path), required_identity)
    if scheme in ("http", "https"):
        from asrbuild.handover.ship.remotes.web import Web

        return ObjectRemote(Web(address), required_identity)
    if scheme == "oci":
        from asrbuild.handover.ship.remotes.oci import OciRemote

        return OciRemote(address, required_identity)
    if scheme == "s3":
        from asrbuild.handover.ship.remotes.s3 import S3

        return ObjectRemote(S3(address), required_identity)
    if scheme in ("gs", "gcs"):
        from asrbuild.handover.ship.remotes.gcs import Bucket

        return ObjectRemote(Bucket(address), required_identity)
    raise AsrbuildError(
        f"asrbuild cannot ship to or pull from {scheme}://",
        fix="give a folder, s3://, gs://, http(s):// (to pull) or oci://",
    )


def _require_folder_name(address: str, path: Path) -> None:
    """Refuses what is no folder's name but an address or a file's name with a slip in it."""
    with reading(path):
        if path.is_dir():
            return
    mistyped = _MISTYPED.match(address)
    if mistyped is not None:
        scheme, rest = mistyped[1].lower(), address[mistyped.end() :]
        raise AsrbuildError(
            f"{address} is not an address, and no such folder exists",
            fix=f"write {scheme}://{rest}; for a folder of this name write ./{address}",
        )
    if names_file(path) and not address.startswith(("./", "/")):
        raise AsrbuildError(
            f"{address} is a file's name, and a remote is a folder or an address",
            fix=f"write {path.with_suffix(SUFFIX)} for a bundle; for a folder of this name write "
            f"./{address}",
        )


def split_address(address: str) -> SplitResult:
    """Splits an address into its parts.

    Raises:
        AsrbuildError: it is not an address, or has a password, a query or a fragment.
    """
    try:
        parts = urlsplit(address)
        _ = parts.port
    except ValueError as error:
        raise AsrbuildError(
            f"this is not an address: {error}", file=address, fix="check its host and port"
        ) from None
    if parts.scheme.lower() in ("http", "https", "oci"):
        if not parts.hostname:
            raise AsrbuildError("the address names no host", file=address)
        if "@" in parts.netloc:
            raise AsrbuildError(
                "an address must not contain a user and a password",
                file=parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl(),
                fix="leave them out; see docs/bundle-format.md, Remotes, for how to log in",
            )
        if parts.query or parts.fragment:
            raise AsrbuildError(
                "the address of a remote must end with its path",
                file=address,
                fix="leave out what follows ? or #",
            )
    return parts
