"""Trusted signers: Ed25519 keys, and identities that sign through Sigstore.

    <config>/trusted/<key id>.pub   a public key, PEM; your own keys are among them
    <config>/trusted/<id>.json      {"identity", "issuer", "label"}

A key id is the SHA-256 of the raw public key, an identity's id that of its canonical JSON
``{"identity", "issuer"}``. Each is trusted exactly as it is written: there are no patterns.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from asrbuild.base.digest import canonical_json
from asrbuild.base.disk import disk_errors, write_atomically
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.kinds.places import PUBLIC_KEY
from asrbuild.base.kinds.recognition import require

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

KEY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_MAX_FILE = 4096
_COMMENT = "# "
#: y coordinates of points of small order, little-endian, without the sign bit.
_SMALL_ORDER = {
    "00" * 32,
    "01" + "00" * 31,
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "ec" + "ff" * 30 + "7f",
    "ed" + "ff" * 30 + "7f",
    "ee" + "ff" * 30 + "7f",
}
#: An e-mail or an address. A star would look like a pattern, so neither may have one.
_IDENTITY = re.compile(r"[!-)+-~]{1,500}")


@dataclass(frozen=True)
class Trusted:
    """A trusted signer; ``label`` is the user's name for it."""

    keyid: str
    label: str


@dataclass(frozen=True)
class TrustedKey(Trusted):
    """A trusted key; its holder signs."""

    public: Ed25519PublicKey


@dataclass(frozen=True)
class TrustedIdentity(Trusted):
    """An identity that ``issuer``, an OpenID Connect address, certifies as ``identity``."""

    identity: str
    issuer: str


Trust = Mapping[str, Trusted]


def keyid_of(public: Ed25519PublicKey) -> str:
    """SHA-256 of the 32 raw bytes, as hex."""
    return hashlib.sha256(public.public_bytes_raw()).hexdigest()


def identity_of(identity: str, issuer: str, label: str | None = None) -> TrustedIdentity:
    """An identity with its id; ``label`` None is the identity itself."""
    text = canonical_json({"identity": identity, "issuer": issuer})
    keyid = hashlib.sha256(text.encode()).hexdigest()
    return TrustedIdentity(keyid, label or identity, identity, issuer)


def public_pem(public: Ed25519PublicKey, label: str) -> str:
    """A public key as a file to hand out."""
    from cryptography.hazmat.primitives import serialization

    pem = public.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return f"{_COMMENT}{label}\n{pem.decode()}"


def is_label(text: str) -> bool:
    """Whether this can be a label: one short printable line without spaces around it."""
    return 0 < len(text) <= 100 and text.isprintable() and text == text.strip()


def _require_label(label: str | None) -> None:
    if label is not None and not is_label(label):
        raise AsrbuildError(
            f"{ascii(label)[:120]} cannot be a label",
            key="--label",
            fix="use at most 100 printable characters, without spaces around them",
        )


def trust_key(text: str, label: str | None, config: Path) -> TrustedKey:
    """Trusts a public key from now on; ``label`` None takes the file's own comment."""
    _require_label(label)
    key = _read_public(text, label)
    _write(key, public_pem(key.public, key.label), config)
    return key


def trust_identity(identity: str, issuer: str, label: str | None, config: Path) -> TrustedIdentity:
    """Trusts, from now on, what this identity signs through Sigstore.

    Args:
        identity: the e-mail or address in its certificates.
        issuer: the ``https`` address of the issuer that certifies it.
    """
    for key, text in (("--identity", identity), ("--issuer", issuer)):
        if not _IDENTITY.fullmatch(text):
            raise AsrbuildError(
                f"{text!r} is not one identity"
                if key == "--identity"
                else f"{text!r} is not an issuer",
                key=key,
                fix="write it in full, as in the certificate: there are no patterns",
            )
    if not issuer.startswith("https://"):
        raise AsrbuildError(
            f"{issuer!r} is not an issuer",
            key="--issuer",
            fix="give its address, for example https://token.actions.githubusercontent.com",
        )
    _require_label(label)
    trusted = identity_of(identity, issuer, label)
    fields = {"identity": identity, "issuer": issuer, "label": trusted.label}
    _write(trusted, canonical_json(fields) + "\n", config)
    return trusted


def _path(trusted: Trusted, config: Path) -> Path:
    suffix = ".pub" if isinstance(trusted, TrustedKey) else ".json"
    return config / "trusted" / f"{trusted.keyid}{suffix}"


def _write(trusted: Trusted, text: str, config: Path) -> None:
    path = _path(trusted, config)
    with disk_errors("saving a trusted signer", path.parent):
        private_folder(path.parent)
        write_atomically(path, text)
        os.chmod(path, 0o644)


def private_folder(folder: Path) -> None:
    """Makes a folder in the configuration folder, and that one, accessible to this user alone."""
    folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.mkdir(exist_ok=True, mode=0o700)


def require_own_file(path: Path) -> None:
    """Refuses a file or folder of the configuration that another user may write to.

    Raises:
        AsrbuildError: it is another user's, or is writable by its group or by all users.
    """
    if os.name != "posix" or not path.exists():
        return
    with disk_errors("reading the trusted signers", path):
        status = path.stat()
    user = os.geteuid()
    if user and status.st_uid not in (user, 0):
        raise AsrbuildError(
            "it belongs to another user, who may change which signers you trust and your keys",
            file=path,
            fix="make it yours, or set ASRBUILD_CONFIG to a folder that is",
        )
    if (mode := stat.S_IMODE(status.st_mode)) & 0o022:
        raise AsrbuildError(
            f"others may write to it (mode {mode:04o}), and change which signers you trust and "
            "your keys",
            file=path,
            fix=f"chmod go-w {shlex.quote(str(path))}, and look at `asrbuild key ls`",
        )


def forget(keyid: str, config: Path) -> None:
    """Removes the trust in a key whose making failed."""
    (config / "trusted" / f"{keyid}.pub").unlink(missing_ok=True)


def read_key_file(path: Path) -> str:
    """The text of a public key file."""
    require(path, PUBLIC_KEY)
    return _read(path)


def _read(path: Path) -> str:
    with disk_errors("reading the trusted signers", path):
        # A pipe or a device must not be waited for.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(descriptor, "rb") as stream:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise AsrbuildError("it is not a plain file", file=path, fix="give a .pub file")
            return stream.read(_MAX_FILE).decode("utf-8", "replace")


def raw_key(raw: bytes) -> Ed25519PublicKey:
    """The Ed25519 public key of these 32 bytes.

    Raises:
        AsrbuildError: they are not one, or encode a point of small order, for which anyone can
            forge signatures (https://github.com/jedisct1/libsodium, ``ge25519_has_small_order``).
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    if len(raw) != 32 or (raw[:31] + bytes([raw[31] & 0x7F])).hex() in _SMALL_ORDER:
        raise AsrbuildError("this is not an Ed25519 public key that a private key belongs to")
    return Ed25519PublicKey.from_public_bytes(raw)


def _read_public(text: str, label: str | None) -> TrustedKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    if "PRIVATE KEY" in text:
        raise AsrbuildError(
            "this is a private key, which only its owner may have",
            fix="give the .pub file next to it",
        )
    first = text.splitlines()[0] if text else ""
    own = first.removeprefix(_COMMENT) if first.startswith(_COMMENT) else ""
    name = label or (own if is_label(own) else "unnamed")
    try:
        public = serialization.load_pem_public_key(text.encode())
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise AsrbuildError(
            "this is not a public key in PEM form", fix="give a .pub file of `asrbuild key new`"
        ) from None
    if not isinstance(public, Ed25519PublicKey):
        raise AsrbuildError("the public key is not an Ed25519 key")
    return TrustedKey(keyid_of(public), name, raw_key(public.public_bytes_raw()))


def _read_identity(path: Path) -> TrustedIdentity:
    try:
        fields = json.loads(_read(path))
        return identity_of(fields["identity"], fields["issuer"], fields["label"])
    except (ValueError, KeyError, TypeError):
        raise AsrbuildError(
            "this is not a trusted identity",
            file=path,
            fix="remove it, and trust the identity again",
        ) from None


def read_trust(config: Path) -> dict[str, Trusted]:
    """Every trusted key and identity, by its id.

    Raises:
        AsrbuildError: a file there is neither, or does not match its name.
    """
    trust: dict[str, Trusted] = {}
    for folder in (config, config / "trusted"):
        require_own_file(folder)
    for path in sorted((config / "trusted").iterdir()) if (config / "trusted").is_dir() else ():
        if path.suffix in (".pub", ".json"):
            require_own_file(path)
        if path.suffix == ".pub":
            one: Trusted = _read_public(_read(path), None)
        elif path.suffix == ".json":
            one = _read_identity(path)
        else:
            continue
        if path.stem != one.keyid:
            raise AsrbuildError(
                "the key or identity in this file does not match the file's name", file=path
            )
        trust[one.keyid] = one
    return trust


def distrust(start: str, config: Path) -> Trusted:
    """Removes the trusted signer with this label, identity or start of an id."""
    signers = read_trust(config).values()
    matching = [
        one
        for one in signers
        if start in (one.label, getattr(one, "identity", None)) or one.keyid.startswith(start)
    ]
    if len(matching) != 1 or not start:
        known = ", ".join(f"{one.label} {one.keyid[:12]}" for one in signers) or "none"
        raise AsrbuildError(
            f"{start!r} matches {len(matching)} trusted signers"
            if matching
            else f"no trusted signer matches {start!r}",
            fix=f"choose one of these: {known}",
        )
    path = _path(matching[0], config)
    with disk_errors("removing a trusted signer", path):
        path.unlink()
    return matching[0]
