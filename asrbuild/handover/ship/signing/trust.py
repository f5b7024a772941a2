"""Who is believed: Ed25519 keys, and identities that sign through Sigstore.

    <config>/trusted/<key id>.pub   a public key, PEM; own keys are there
    <config>/trusted/<id>.json      {"identity", "issuer", "label"}

A key id is the SHA-256 of the raw public key, an identity's id that of its canonical JSON
``{"identity", "issuer"}``. Each is believed whole or not at all: there are no patterns.
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
from asrbuild.base.kinds import PUBLIC_KEY, require

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
#: An e-mail or an address. A star would look like a pattern, and is in neither.
_IDENTITY = re.compile(r"[!-)+-~]{1,500}")


@dataclass(frozen=True)
class Trusted:
    """One who is believed; ``label`` is what the user calls them."""

    keyid: str
    label: str


@dataclass(frozen=True)
class TrustedKey(Trusted):
    """The holder of a private key."""

    public: Ed25519PublicKey


@dataclass(frozen=True)
class TrustedIdentity(Trusted):
    """Whoever ``issuer`` (an OpenID Connect address) says is ``identity``."""

    identity: str
    issuer: str


Trust = Mapping[str, Trusted]


def keyid_of(public: Ed25519PublicKey) -> str:
    """SHA-256 of the 32 raw bytes, as hex."""
    return hashlib.sha256(public.public_bytes_raw()).hexdigest()


def identity_of(identity: str, issuer: str, label: str | None = None) -> TrustedIdentity:
    """An identity with its id; ``label`` None calls it what it is."""
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
    """Whether this can be what somebody is called: one short line that is shown as it is."""
    return 0 < len(text) <= 100 and text.isprintable() and text == text.strip()


def _require_label(label: str | None) -> None:
    if label is not None and not is_label(label):
        raise AsrbuildError(
            f"{ascii(label)[:120]} cannot be a label",
            key="--label",
            fix="use at most 100 printable characters, without spaces around them",
        )


def trust_key(text: str, label: str | None, config: Path) -> TrustedKey:
    """Believes a public key from now on; ``label`` None takes the file's own comment."""
    _require_label(label)
    key = _read_public(text, label)
    _write(key, public_pem(key.public, key.label), config)
    return key


def trust_identity(identity: str, issuer: str, label: str | None, config: Path) -> TrustedIdentity:
    """Believes, from now on, what this identity signs through Sigstore.

    Args:
        identity: the e-mail or address that is in its certificates.
        issuer: who vouched for it, an ``https`` address.
    """
    for key, text in (("--identity", identity), ("--issuer", issuer)):
        if not _IDENTITY.fullmatch(text):
            raise AsrbuildError(
                f"{text!r} is not one identity"
                if key == "--identity"
                else f"{text!r} is no issuer",
                key=key,
                fix="give it whole, as it is in the certificate: there are no patterns",
            )
    if not issuer.startswith("https://"):
        raise AsrbuildError(
            f"{issuer!r} is no issuer",
            key="--issuer",
            fix="give its address, for example https://token.actions.githubusercontent.com",
        )
    _require_label(label)
    believed = identity_of(identity, issuer, label)
    fields = {"identity": identity, "issuer": issuer, "label": believed.label}
    _write(believed, canonical_json(fields) + "\n", config)
    return believed


def _path(trusted: Trusted, config: Path) -> Path:
    suffix = ".pub" if isinstance(trusted, TrustedKey) else ".json"
    return config / "trusted" / f"{trusted.keyid}{suffix}"


def _write(trusted: Trusted, text: str, config: Path) -> None:
    path = _path(trusted, config)
    with disk_errors("trusting somebody", path.parent):
        private_folder(path.parent)
        write_atomically(path, text)
        os.chmod(path, 0o644)


def private_folder(folder: Path) -> None:
    """Makes a folder of the configuration, and the configuration, for this user alone."""
    folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.mkdir(exist_ok=True, mode=0o700)


def require_own_file(path: Path) -> None:
    """Refuses a file or folder of the configuration that somebody else may write to.

    Raises:
        AsrbuildError: it is another user's, or its group or everybody may write to it.
    """
    if os.name != "posix" or not path.exists():
        return
    with disk_errors("reading whom to trust", path):
        status = path.stat()
    user = os.geteuid()
    if user and status.st_uid not in (user, 0):
        raise AsrbuildError(
            "it belongs to another user, who may change whom you trust and what you sign with",
            file=path,
            fix="make it yours, or set ASRBUILD_CONFIG to a folder that is",
        )
    if (mode := stat.S_IMODE(status.st_mode)) & 0o022:
        raise AsrbuildError(
            f"others may write to it (mode {mode:04o}), and so change whom you trust and what you "
            "sign with",
            file=path,
            fix=f"chmod go-w {shlex.quote(str(path))}, and look at `asrbuild key ls`",
        )


def forget(keyid: str, config: Path) -> None:
    """Stops believing a key that was to be made and was not."""
    (config / "trusted" / f"{keyid}.pub").unlink(missing_ok=True)


def read_key_file(path: Path) -> str:
    """The text of a public key file."""
    require(path, PUBLIC_KEY)
    return _read(path)


def _read(path: Path) -> str:
    with disk_errors("reading whom to trust", path):
        # A pipe or a device must not be waited for.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(descriptor, "rb") as stream:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise AsrbuildError("it is no plain file", file=path, fix="give a .pub file")
            return stream.read(_MAX_FILE).decode("utf-8", "replace")


def raw_key(raw: bytes) -> Ed25519PublicKey:
    """An Ed25519 public key of its 32 bytes.

    Raises:
        AsrbuildError: they are none, or of a point of small order, in whose name anybody can sign
            (the points: https://github.com/jedisct1/libsodium, ``ge25519_has_small_order``).
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    if len(raw) != 32 or (raw[:31] + bytes([raw[31] & 0x7F])).hex() in _SMALL_ORDER:
        raise AsrbuildError("this is no Ed25519 public key that anybody has the private half of")
    return Ed25519PublicKey.from_public_bytes(raw)


def _read_public(text: str, label: str | None) -> TrustedKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    if "PRIVATE KEY" in text:
        raise AsrbuildError(
            "this is a private key, which nobody but its owner may have",
            fix="give the .pub file beside it",
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
            "this is no trusted identity", file=path, fix="remove it, and trust the identity again"
        ) from None


def read_trust(config: Path) -> dict[str, Trusted]:
    """Every key and identity that is believed, by its id.

    Raises:
        AsrbuildError: a file there is neither, or another one than its name says.
    """
    found: dict[str, Trusted] = {}
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
            raise AsrbuildError("whom this file trusts is not whom its name says", file=path)
        found[one.keyid] = one
    return found


def distrust(start: str, config: Path) -> Trusted:
    """Stops believing the one whose label or identity it is or whose id starts so."""
    everyone = read_trust(config).values()
    fitting = [
        one
        for one in everyone
        if start in (one.label, getattr(one, "identity", None)) or one.keyid.startswith(start)
    ]
    if len(fitting) != 1 or not start:
        known = ", ".join(f"{one.label} {one.keyid[:12]}" for one in everyone) or "none"
        raise AsrbuildError(
            f"{start!r} fits {len(fitting)} who are trusted", fix=f"choose one of these: {known}"
        )
    path = _path(fitting[0], config)
    with disk_errors("distrusting somebody", path):
        path.unlink()
    return fitting[0]
