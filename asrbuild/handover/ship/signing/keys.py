"""Ed25519 keys to sign with, in the user's configuration folder.

    <config>/keys/<name>.key   private, PKCS 8 PEM, readable by its owner alone
    <config>/keys/<name>.pub   public, PEM, to hand to the people who pull

``<config>`` is ``$ASRBUILD_CONFIG``, ``$XDG_CONFIG_HOME/asrbuild`` or ``~/.config/asrbuild``.
"""

from __future__ import annotations

import os
import secrets
import stat
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from asrbuild.base import locks
from asrbuild.base.disk import disk_errors, sync_path, write_atomically
from asrbuild.base.errors import AsrbuildError
from asrbuild.handover.ship.signing.trust import (
    KEY_NAME,
    Trust,
    TrustedKey,
    forget,
    keyid_of,
    private_folder,
    public_pem,
    require_own_file,
    trust_key,
)

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_MAX_KEY_FILE = 4096


@dataclass(frozen=True)
class Signer:
    """A private key to sign with."""

    name: str
    keyid: str
    private: Ed25519PrivateKey

    @property
    def trust(self) -> Trust:
        """The key itself, as a trusted signer."""
        return {self.keyid: TrustedKey(self.keyid, self.name, self.private.public_key())}


def config_root() -> Path:
    """The configuration folder: keys, trusted signers, and the last record seen of each channel."""
    if own := os.environ.get("ASRBUILD_CONFIG"):
        return Path(own)
    base = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(base).expanduser() / "asrbuild"


def new_key(name: str, config: Path) -> Signer:
    """Makes a key pair and trusts it; an existing key is never replaced."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    if not KEY_NAME.fullmatch(name):
        raise AsrbuildError(
            f"{name!r} cannot be a key's name", fix="use letters, digits, dots and dashes"
        )
    folder = config / "keys"
    private = Ed25519PrivateKey.generate()
    secret = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path, public_path = folder / f"{name}.key", folder / f"{name}.pub"
    public = public_pem(private.public_key(), name)
    with disk_errors("making a key", folder):
        private_folder(folder)
    with (
        locks.hold(folder / f".{name}.lock", waiting=lambda _: None, doing="making a key"),
        disk_errors("making a key", folder),
        ExitStack() as unless_made,
    ):
        if os.path.lexists(path):
            raise AsrbuildError(
                f"the key {name!r} exists already", file=path, fix="choose another name"
            )
        # The private half appears last, whole: without it there is no key of this name.
        for left in folder.glob(f".{name}.key-*"):
            left.unlink()
        temporary = folder / f".{name}.key-{secrets.token_hex(6)}"
        unless_made.callback(temporary.unlink, missing_ok=True)
        # Unreadable to others from the start: not written first and protected afterwards.
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(secret)
            stream.flush()
            os.fsync(stream.fileno())
        unless_made.callback(public_path.unlink, missing_ok=True)
        write_atomically(public_path, public)
        os.chmod(public_path, 0o644)
        unless_made.callback(forget, keyid_of(private.public_key()), config)
        trust_key(public, name, config)
        os.rename(temporary, path)
        unless_made.pop_all()
        sync_path(folder)
    return Signer(name, keyid_of(private.public_key()), private)


def key_names(config: Path) -> list[str]:
    """The names of the private keys."""
    return sorted(path.stem for path in (config / "keys").glob("*.key"))


def find_signer(name: str | None, config: Path) -> Signer:
    """The private key of this name; None: the only one, or the one named ``default``."""
    folder = config / "keys"
    names = key_names(config)
    if not names:
        raise AsrbuildError(
            "there is no key to sign with", file=folder, fix="make one with `asrbuild key new`"
        )
    if name is None and len(names) > 1:
        name = "default" if "default" in names else None
        if name is None:
            raise AsrbuildError(
                f"there are {len(names)} keys to sign with: {', '.join(names)}",
                file=folder,
                fix="choose one with --key",
            )
    chosen = name or names[0]
    if chosen not in names:
        raise AsrbuildError(
            f"there is no key {chosen!r}", file=folder, fix=f"choose one of {', '.join(names)}"
        )
    return _read_private(folder / f"{chosen}.key")


def _read_private(path: Path) -> Signer:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    require_own_file(path.parent)
    require_own_file(path)
    with disk_errors("reading a key", path):
        mode = stat.S_IMODE(path.stat().st_mode)
        secret = path.read_bytes()[:_MAX_KEY_FILE]
    if os.name == "posix" and mode & 0o077:
        raise AsrbuildError(
            f"the private key can be read by others (mode {mode:04o})",
            file=path,
            fix=f"chmod 600 {path}",
        )
    try:
        private = serialization.load_pem_private_key(secret, None)
    except (ValueError, TypeError) as error:
        raise AsrbuildError(f"the private key cannot be read: {error}", file=path) from None
    if not isinstance(private, Ed25519PrivateKey):
        raise AsrbuildError("the private key is not an Ed25519 key", file=path)
    return Signer(path.stem, keyid_of(private.public_key()), private)
