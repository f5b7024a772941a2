"""Keys of other kinds, and labels of keys."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from asrbuild.base.errors import AsrbuildError
from asrbuild.handover.ship.signing.keys import Signer
from asrbuild.handover.ship.signing.trust import raw_key


def test_keys_with_forgeable_signatures_are_refused():
    """Their points have an order that divides eight (RFC 8032, section 5.1)."""
    p = 2**255 - 19
    d = -121665 * pow(121666, -1, p) % p

    def add(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
        (a, b), (u, v) = one, other
        k = d * a * u * b * v
        return ((a * v + b * u) * pow(1 + k, -1, p) % p, (b * v + a * u) * pow(1 - k, -1, p) % p)

    def x_of(y: int) -> int | None:
        square = (y * y - 1) * pow(d * y * y + 1, -1, p) % p
        x = pow(square, (p + 3) // 8, p)
        if (x * x - square) % p:
            x = x * pow(2, (p - 1) // 4, p) % p
        return None if (x * x - square) % p else x

    def is_small(y: int) -> bool:
        x = x_of(y)
        if x is None:
            return False
        point = (x, y)
        for _ in range(3):
            point = add(point, point)
        return point == (0, 1)

    # The points of order eight: those whose double is of order four, (sqrt(-1), 0).
    from asrbuild.handover.ship.signing.trust import _SMALL_ORDER

    for text in _SMALL_ORDER:
        y = int.from_bytes(bytes.fromhex(text), "little")
        assert is_small(y % p), text
        for sign_bit in (0, 0x80):
            raw = bytearray(bytes.fromhex(text))
            raw[31] |= sign_bit
            with pytest.raises(AsrbuildError, match="that a private key belongs to"):
                raw_key(bytes(raw))
    # There are eight such points with five y; two of these can also be written beyond p.
    assert len({int.from_bytes(bytes.fromhex(t), "little") % p for t in _SMALL_ORDER}) == 5
    with pytest.raises(AsrbuildError):
        raw_key(bytes(31))
    good = (2).to_bytes(32, "little")
    assert isinstance(raw_key(good), Ed25519PublicKey)


def test_labels_of_keys_are_checked(
    command: Callable[..., tuple[int, str, str]], tmp_path: Path, stranger: Signer
):
    public = tmp_path / "strange" / "keys" / "stranger.pub"
    code, out, err = command("key", "trust", public, "--label", "Ana Bo")
    assert (code, out.startswith("trusted: Ana Bo ")) == (0, True), err
    code, out, _ = command("key", "ls", "--json")
    assert "Ana Bo" in {row["label"] for row in json.loads(out)["trusted"]}
    assert command("key", "distrust", "Ana Bo")[0] == 0
    for label in ("", "a\x1b[2J", "x\ny", " x", "x" * 101):
        code, _, err = command("key", "trust", public, "--label", label)
        assert (code, "cannot be a label" in err) == (1, True)


def test_keys_of_other_kinds_are_refused(
    command: Callable[..., tuple[int, str, str]], tmp_path: Path
):
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    ed = bytes.fromhex("302a300506032b6570032100")
    pem = "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n"
    other = ec.generate_private_key(ec.SECP256R1()).public_key()
    files = {
        "an elliptic curve": other.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        ).decode(),
        "unknown": pem.format(base64.b64encode(ed[:8] + b"\x99" + ed[9:] + bytes(32)).decode()),
        "of small order": pem.format(base64.b64encode(ed + bytes(32)).decode()),
    }
    for name, text in files.items():
        (tmp_path / "x.pub").write_text(text)
        code, _, err = command("key", "trust", tmp_path / "x.pub")
        assert (code, err.startswith("error: ")) == (1, True), name
        assert "bug" not in err
