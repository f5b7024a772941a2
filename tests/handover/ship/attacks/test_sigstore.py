"""The genuine client refuses each hostile Sigstore signature for its exact reason."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from asrbuild.base.digest import canonical_json
from asrbuild.handover.ship.formats.header import PAYLOAD_TYPE
from asrbuild.handover.ship.pull import pull_bundle
from asrbuild.handover.ship.refusal import Refusal, Refused
from asrbuild.handover.ship.signing.envelope import check_signatures, open_envelope, pae, sign
from asrbuild.handover.ship.signing.keys import Signer
from asrbuild.handover.ship.signing.sigstore import MAX_SIGSTORE, sign_in
from asrbuild.handover.ship.signing.trust import Trust, TrustedIdentity, identity_of
from tests.handover.ship.making import Forgery, assemble, make_artifact

R = Refusal
WHO, ISSUER = "ci@example.com", "https://issuer.example.com"
Attack = Callable[[R, bytes], Refused]


@pytest.fixture
def identity(instance: Any) -> TrustedIdentity:
    import sigstore.verify  # noqa: F401 - an attack is not charged for loading it

    return identity_of(WHO, ISSUER)


@pytest.fixture
def trust(identity: TrustedIdentity) -> Trust:
    """Trust in the identity only."""
    return {identity.keyid: identity}


@pytest.fixture
def good(instance: Any, forgery: Forgery) -> dict[str, Any]:
    """A header that the trusted identity signed alone."""
    return forgery.header(sign_in(None, print))


def whole(header: dict[str, Any], forgery: Forgery) -> bytes:
    return assemble(canonical_json(header).encode(), b"".join(forgery.contents))


def message_of(forgery: Forgery) -> bytes:
    """The signed message of a header."""
    return pae(PAYLOAD_TYPE, canonical_json(forgery.statement).encode())


def signed_anew(
    header: dict[str, Any], forgery: Forgery, by: Any, who: str = WHO, issuer: str = ISSUER
) -> bytes:
    """The bundle with a new signature of the instance as its only one."""
    from tests.handover.ship.instance import signed

    header["envelope"]["sigstore"] = signed(by, message_of(forgery), who, issuer)
    return whole(header, forgery)


def flipped(text: str) -> str:
    """Base64 of other bytes of the same length."""
    raw = bytearray(base64.b64decode(text))
    raw[len(raw) // 2] ^= 1
    return base64.b64encode(raw).decode()


def test_a_signature_without_a_fault_is_accepted(
    good: dict[str, Any], forgery: Forgery, tmp_path: Path, trust: Trust
):
    """Otherwise the tests below could fail for a mistake of the forgery instead of the attack."""
    (tmp_path / "good.asrb").write_bytes(whole(good, forgery))
    assert pull_bundle(tmp_path / "good.asrb", tmp_path / "store", trust=trust).signer == WHO


@pytest.mark.parametrize(
    ("who", "issuer"),
    [
        ("eve@example.com", ISSUER),
        (WHO, "https://evil.example.com"),
        (WHO, f"{ISSUER}/"),
        ("CI@example.com", ISSUER),
        ("https://ci@example.com", ISSUER),
    ],
    ids=["another identity", "another issuer", "longer issuer", "other case", "an address"],
)
def test_another_identity_or_issuer_is_refused(
    instance: Any, forgery: Forgery, attack: Attack, good: dict[str, Any], who: str, issuer: str
):
    error = attack(R.UNTRUSTED_SIGNER, signed_anew(good, forgery, instance, who, issuer))
    assert f"{who!r} of {issuer!r}" in error.message


def test_another_authority_for_the_trusted_identity_is_refused(
    tmp_path_factory: pytest.TempPathFactory, forgery: Forgery, attack: Attack, good: dict[str, Any]
):
    """Any attacker can run an instance that certifies any identity."""
    from tests.handover.ship.instance import running

    with running(tmp_path_factory.mktemp("evil")) as evil:
        bundle = signed_anew(good, forgery, evil)
    error = attack(R.BAD_SIGNATURE, bundle)
    assert "certificate chain" in error.message


def test_a_private_authority_is_refused_by_default(
    tmp_path_factory: pytest.TempPathFactory,
    forgery: Forgery,
    attack: Attack,
    good: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
):
    """By default the keys of the public instance count, which the library has without a server."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.delenv("ASRBUILD_SIGSTORE_TRUST")
    for name in ("XDG_DATA_HOME", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.setenv(name, str(home))

    def no_network(*_: object) -> None:
        raise AssertionError("a server is asked")

    monkeypatch.setattr("socket.socket.connect", no_network)
    assert "certificate chain" in attack(R.BAD_SIGNATURE, whole(good, forgery)).message
    assert list(home.rglob("trusted_root.json"))


@pytest.mark.parametrize("which", ["transparency", "log"])
def test_an_untrusted_log_is_refused(
    instance: Any,
    forgery: Forgery,
    attack: Attack,
    good: dict[str, Any],
    which: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    """The certificate is valid, but no trusted log has its issue or its use."""
    from tests.handover.ship.instance import new_key

    before = instance.trust_config()
    monkeypatch.setattr(instance, which, new_key())
    bundle = signed_anew(good, forgery, instance)
    (tmp_path / "instance.json").write_text(json.dumps(before))
    error = attack(R.BAD_SIGNATURE, bundle)
    assert ("SCT" if which == "transparency" else "invalid log entry") in error.message


@pytest.mark.parametrize("ahead", [3600, -3600], ids=["after", "before"])
def test_a_signature_outside_of_the_certificates_validity_is_refused(
    instance: Any,
    forgery: Forgery,
    attack: Attack,
    good: dict[str, Any],
    ahead: int,
    monkeypatch: pytest.MonkeyPatch,
):
    """A key that is stolen after its ten minutes is useless."""
    monkeypatch.setattr(instance, "ahead", ahead)
    error = attack(R.BAD_SIGNATURE, signed_anew(good, forgery, instance))
    assert "certificate chain" in error.message


def test_a_flipped_signature_is_refused(good: dict[str, Any], forgery: Forgery, attack: Attack):
    part = good["envelope"]["sigstore"]["messageSignature"]
    part["signature"] = flipped(part["signature"])
    assert "Signature is invalid" in attack(R.BAD_SIGNATURE, whole(good, forgery)).message


def test_a_changed_statement_is_refused(good: dict[str, Any], forgery: Forgery, attack: Attack):
    """Files, name and the signed statement are changed, but not the signature."""
    forgery.add("zz/extra.txt")
    forgery.subjects()
    payload = canonical_json(forgery.statement).encode()
    good["envelope"]["payload"] = base64.b64encode(payload).decode()
    good["files"] = forgery.files
    error = attack(R.BAD_SIGNATURE, whole(good, forgery))
    assert "digest mismatch" in error.message
    # It is also refused with the digest of the changed content.
    digest = hashlib.sha256(message_of(forgery)).digest()
    part = good["envelope"]["sigstore"]["messageSignature"]
    part["messageDigest"]["digest"] = base64.b64encode(digest).decode()
    assert "Signature is invalid" in attack(R.BAD_SIGNATURE, whole(good, forgery)).message


def test_the_signature_of_another_artifact_is_refused(
    good: dict[str, Any], forgery: Forgery, attack: Attack, tmp_path: Path, signer: Signer
):
    other = Forgery.of(make_artifact(tmp_path / "artifacts", "another"), signer)
    header = other.header(sign_in(None, print))
    good["envelope"]["sigstore"] = header["envelope"]["sigstore"]
    assert "digest mismatch" in attack(R.BAD_SIGNATURE, whole(good, forgery)).message


def test_a_signature_of_another_type_is_refused(
    good: dict[str, Any], forgery: Forgery, attack: Attack
):
    """A signature on a channel's record is not one on a statement, even with equal bytes."""
    payload = canonical_json(forgery.statement).encode()
    record = sign("application/vnd.asrbuild.channel+json", payload, sign_in(None, print))
    good["envelope"]["sigstore"] = record["sigstore"]
    assert "digest mismatch" in attack(R.BAD_SIGNATURE, whole(good, forgery)).message


def _no_entry(entries: list[Any]) -> None:
    entries.clear()


def _two_entries(entries: list[Any]) -> None:
    entries.append(entries[0])


def _no_time(entries: list[Any]) -> None:
    del entries[0]["inclusionPromise"]


def _another_time(entries: list[Any]) -> None:
    entries[0]["integratedTime"] = str(int(entries[0]["integratedTime"]) + 1)


def _no_proof(entries: list[Any]) -> None:
    del entries[0]["inclusionProof"]


def _another_place(entries: list[Any]) -> None:
    entries[0]["inclusionProof"]["logIndex"] = "0"


def _another_path(entries: list[Any]) -> None:
    hashes = entries[0]["inclusionProof"]["hashes"]
    hashes[0] = flipped(hashes[0])


def _unsigned_checkpoint(entries: list[Any]) -> None:
    checkpoint = entries[0]["inclusionProof"]["checkpoint"]
    checkpoint["envelope"] = checkpoint["envelope"].replace("- 1\n", "- 2\n")


def _another_kind(entries: list[Any]) -> None:
    entries[0]["kindVersion"] = {"kind": "dsse", "version": "0.0.1"}


TAMPERED = [
    _no_entry,
    _two_entries,
    _no_time,
    _another_time,
    _no_proof,
    _another_place,
    _another_path,
    _unsigned_checkpoint,
    _another_kind,
]


@pytest.mark.parametrize("tamper", TAMPERED, ids=lambda tamper: tamper.__name__.strip("_"))
def test_a_changed_log_entry_is_refused(
    good: dict[str, Any], forgery: Forgery, attack: Attack, tamper: Callable[[list[Any]], None]
):
    tamper(good["envelope"]["sigstore"]["verificationMaterial"]["tlogEntries"])
    assert "is not proven" in attack(R.BAD_SIGNATURE, whole(good, forgery)).message


def test_a_log_entry_of_another_content_is_refused(
    instance: Any, good: dict[str, Any], forgery: Forgery, attack: Attack
):
    from tests.handover.ship.instance import signed

    other = signed(instance, b"another content", WHO)
    material = good["envelope"]["sigstore"]["verificationMaterial"]
    material["tlogEntries"] = other["verificationMaterial"]["tlogEntries"]
    assert "inconsistent" in attack(R.BAD_SIGNATURE, whole(good, forgery)).message
    # It is also refused with the certificate of that entry.
    material["certificate"] = other["verificationMaterial"]["certificate"]
    assert "Signature is invalid" in attack(R.BAD_SIGNATURE, whole(good, forgery)).message


def _deep(depth: int) -> Any:
    value: Any = "x"
    for _ in range(depth):
        value = [value]
    return value


MALFORMED = {
    "null": (R.HEADER_MALFORMED, lambda _: None),
    "text": (R.HEADER_MALFORMED, lambda good: json.dumps(good)),
    "list": (R.HEADER_MALFORMED, lambda good: [good]),
    "empty": (R.BAD_SIGNATURE, lambda _: {}),
    "other version": (
        R.BAD_SIGNATURE,
        lambda good: {**good, "mediaType": "application/vnd.dev.sigstore.bundle+json;version=0.1"},
    ),
    "one more key": (R.BAD_SIGNATURE, lambda good: {**good, "more": "x"}),
    "two contents": (R.BAD_SIGNATURE, lambda good: {**good, "dsseEnvelope": {}}),
    "no material": (R.BAD_SIGNATURE, lambda good: {**good, "verificationMaterial": []}),
    "no certificate": (
        R.BAD_SIGNATURE,
        lambda good: {**good, "verificationMaterial": {"certificate": {"rawBytes": "AAAA"}}},
    ),
    "no base64": (
        R.BAD_SIGNATURE,
        lambda good: {**good, "verificationMaterial": {"certificate": {"rawBytes": "\x1b[2J"}}},
    ),
    "no signature": (R.BAD_SIGNATURE, lambda good: {**good, "messageSignature": {}}),
    "numbers": (R.BAD_SIGNATURE, lambda good: {**good, "messageSignature": 7}),
    "deep": (R.BAD_SIGNATURE, lambda good: {**good, "messageSignature": _deep(300)}),
    "large": (R.HEADER_TOO_LARGE, lambda good: {**good, "messageSignature": "x" * MAX_SIGSTORE}),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_values_that_are_not_sigstore_bundles_are_refused(
    good: dict[str, Any], forgery: Forgery, attack: Attack, name: str
):
    reason, change = MALFORMED[name]
    good["envelope"]["sigstore"] = change(good["envelope"]["sigstore"])
    attack(reason, whole(good, forgery))


def test_a_malformed_signature_is_refused_for_any_trust(
    good: dict[str, Any], forgery: Forgery, signer: Signer
):
    """A valid signature next to a malformed one does not help."""
    envelope = sign(PAYLOAD_TYPE, canonical_json(forgery.statement).encode(), signer)
    envelope["sigstore"] = {}
    payload, signatures = open_envelope(envelope, PAYLOAD_TYPE, R.HEADER_MALFORMED)
    with pytest.raises(Refused) as caught:
        check_signatures(PAYLOAD_TYPE, payload, signatures, signer.trust)
    assert caught.value.reason is R.BAD_SIGNATURE


@pytest.mark.parametrize("wrong", ["key", "identity"])
def test_a_wrong_signature_beside_a_right_one_is_refused(
    forgery: Forgery,
    signer: Signer,
    identity: TrustedIdentity,
    tmp_path: Path,
    refused: Callable[..., Refused],
    wrong: str,
):
    header = forgery.header(sign_in(signer, print))
    envelope = header["envelope"]
    if wrong == "key":
        envelope["signatures"][0]["sig"] = flipped(envelope["signatures"][0]["sig"])
    else:
        part = envelope["sigstore"]["messageSignature"]
        part["signature"] = flipped(part["signature"])
    bundle = tmp_path / "hostile.asrb"
    bundle.write_bytes(whole(header, forgery))
    (tmp_path / "victim" / "store").mkdir(parents=True)
    both = {**signer.trust, identity.keyid: identity}
    refused(R.BAD_SIGNATURE, lambda: pull_bundle(bundle, tmp_path / "victim" / "store", trust=both))


def test_the_id_of_an_identity_is_not_a_key(
    forgery: Forgery, stranger: Signer, identity: TrustedIdentity, attack: Attack
):
    header = forgery.header(stranger)
    header["envelope"]["signatures"][0]["keyid"] = identity.keyid
    attack(R.UNTRUSTED_SIGNER, whole(header, forgery))


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, dict | list):
        keys = value if isinstance(value, dict) else range(len(value))
        for key in keys:
            yield from _leaves(value[key], (*path, key))
    else:
        yield path


def test_every_value_of_a_signature_is_checked(good: dict[str, Any], trust: Trust):
    """A change of one character in any value is refused."""
    genuine = good["envelope"]
    places = list(_leaves(genuine["sigstore"]))
    assert len(places) > 12
    for place in places:
        envelope = copy.deepcopy(genuine)
        inner = envelope["sigstore"]
        for key in place[:-1]:
            inner = inner[key]
        text = inner[place[-1]]
        at = len(text) // 2
        inner[place[-1]] = f"{text[:at]}{'1' if text[at] != '1' else '2'}{text[at + 1 :]}"
        payload, signatures = open_envelope(envelope, PAYLOAD_TYPE, R.HEADER_MALFORMED)
        with pytest.raises(Refused):
            print(place, check_signatures(PAYLOAD_TYPE, payload, signatures, trust))


def test_keys_alone_never_load_the_library(tmp_path: Path, artifact: Path, signer: Signer):
    """Signatures of untrusted kinds are not examined."""
    from asrbuild.handover.ship.formats.bundle import write_bundle

    write_bundle(artifact, tmp_path / "demo.asrb", signer)
    program = (
        "import sys, pathlib\n"
        "from asrbuild.handover.ship.formats.bundle import check_bundle\n"
        "from asrbuild.handover.ship.signing.keys import config_root\n"
        "from asrbuild.handover.ship.signing.trust import read_trust\n"
        "check_bundle(pathlib.Path(sys.argv[1]), read_trust(config_root()))\n"
        "assert 'cryptography' in sys.modules\n"
        "assert not {'sigstore', 'tuf', 'requests', 'pydantic'} & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "demo.asrb"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
