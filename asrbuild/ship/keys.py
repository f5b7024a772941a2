"""Ed25519 keys in the user's configuration folder: those that sign, and those that are believed.

    <config>/keys/<name>.key        private, PKCS 8 PEM, readable by its owner alone
    <config>/keys/<name>.pub        public, PEM, to hand to those who pull
    <config>/trusted/<key id>.pub   keys whose signatures are believed; own keys are

``<config>`` is ``$ASRBUILD_CONFIG``, ``$XDG_CONFIG_HOME/asrbuild`` or ``~/.config/asrbuild``. A key
id is the SHA-256 of the raw public key.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from asrbuild.disk import disk_errors, write_atomically
from asrbuild.errors import AsrbuildError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

_MAX_KEY_FILE = 4096
_KEY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_COMMENT = "# "


@dataclass(frozen=True)
class Signer:
    """A private key that is at hand."""

    name: str
    keyid: str
    private: Ed25519PrivateKey


@dataclass(frozen=True)
class Trusted:
    """A public key that is believed; ``label`` is what the user calls it."""

    keyid: str
    label: str
    public: Ed25519PublicKey


Trust = Mapping[str, Trusted]


def config_root() -> Path:
    """Where keys and what channels were seen to say are kept."""
    if own := os.environ.get("ASRBUILD_CONFIG"):
        return Path(own)
    base = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(base).expanduser() / "asrbuild"


def new_key(name: str, config: Path) -> Signer:
    """Makes a key pair and trusts it; a key that is there is never replaced."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    if not _KEY_NAME.fullmatch(name):
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
    with disk_errors("making a key", folder):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = folder / f"{name}.key"
        try:
            # Born unreadable to others: no moment between writing it and closing it to them.
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            raise AsrbuildError(
                f"there is a key {name!r} already", file=path, fix="choose another name"
            ) from None
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(secret)
            stream.flush()
            os.fsync(stream.fileno())
        public = _public_pem(private.public_key(), name)
        write_atomically(folder / f"{name}.pub", public)
    trust_key(public, name, config)
    return Signer(name, keyid_of(private.public_key()), private)


def find_signer(name: str | None, config: Path) -> Signer:
    """The named private key, or the only one there is."""
    folder = config / "keys"
    names = sorted(path.stem for path in folder.glob("*.key"))
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


def keyid_of(public: Ed25519PublicKey) -> str:
    """SHA-256 of the 32 raw bytes, as hex."""
    return hashlib.sha256(public.public_bytes_raw()).hexdigest()


def _public_pem(public: Ed25519PublicKey, label: str) -> str:
    from cryptography.hazmat.primitives import serialization

    pem = public.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return f"{_COMMENT}{label}\n{pem.decode()}"


def trust_key(text: str, label: str | None, config: Path) -> Trusted:
    """Believes a public key from now on; ``label`` None takes the file's own comment."""
    key = _read_public(text, label)
    folder = config / "trusted"
    with disk_errors("trusting a key", folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / f"{key.keyid}.pub", _public_pem(key.public, key.label))
    return key


def read_key_file(path: Path) -> str:
    """The text of a public key file."""
    if not path.exists():
        raise AsrbuildError(
            "there is no such file", file=path, fix="give a .pub file of `asrbuild key new`"
        )
    with disk_errors("reading a key", path), open(path, "rb") as stream:
        return stream.read(_MAX_KEY_FILE).decode("utf-8", "replace")


def _read_public(text: str, label: str | None) -> Trusted:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    if "PRIVATE KEY" in text:
        raise AsrbuildError(
            "this is a private key, which nobody but its owner may have",
            fix="give the .pub file beside it",
        )
    first = text.splitlines()[0] if text else ""
    own = first.removeprefix(_COMMENT) if first.startswith(_COMMENT) else ""
    name = label or (own if _KEY_NAME.fullmatch(own) else "unnamed")
    try:
        public = serialization.load_pem_public_key(text.encode())
    except ValueError:
        raise AsrbuildError(
            "this is not a public key in PEM form", fix="give a .pub file of `asrbuild key new`"
        ) from None
    if not isinstance(public, Ed25519PublicKey):
        raise AsrbuildError("the public key is not an Ed25519 key")
    return Trusted(keyid_of(public), name, public)


def trusted_keys(config: Path) -> dict[str, Trusted]:
    """Every key that is believed, by its id.

    Raises:
        AsrbuildError: a file there is no key, or another one than its name says.
    """
    keys: dict[str, Trusted] = {}
    for path in sorted((config / "trusted").glob("*.pub")):
        key = _read_public(read_key_file(path), None)
        if path.stem != key.keyid:
            raise AsrbuildError("this trusted key is not the one that its name says", file=path)
        keys[key.keyid] = key
    return keys


def distrust_key(start: str, config: Path) -> Trusted:
    """Stops believing the one key whose label it is or whose id starts so."""
    keys = trusted_keys(config).values()
    fitting = [key for key in keys if key.label == start or key.keyid.startswith(start)]
    if len(fitting) != 1 or not start:
        known = ", ".join(f"{key.label} {key.keyid[:12]}" for key in keys) or "none"
        raise AsrbuildError(
            f"{start!r} fits {len(fitting)} trusted keys", fix=f"choose one of these: {known}"
        )
    path = config / "trusted" / f"{fitting[0].keyid}.pub"
    with disk_errors("distrusting a key", path):
        path.unlink()
    return fitting[0]
