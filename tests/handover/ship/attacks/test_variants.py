"""Each hostile bundle of variants is refused for its exact reason, before a file is written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from asrbuild.base.digest import canonical_json
from asrbuild.handover.ship.formats.bundle import write_bundle
from asrbuild.handover.ship.formats.variants import (
    FORMAT,
    MAX_VARIANTS,
    PAYLOAD_TYPE,
    check_variants,
    unpack_variant,
    write_variants,
)
from asrbuild.handover.ship.pull import pull_bundle, pull_variants
from asrbuild.handover.ship.refusal import Refusal, Refused
from asrbuild.handover.ship.signing.envelope import sign
from asrbuild.handover.ship.signing.keys import Signer
from asrbuild.handover.ship.signing.trust import Trust
from tests.handover.ship.attacks.variants import LIES, MALFORMED
from tests.handover.ship.making import Forgery, assemble, variant_of

Refuse = Callable[..., Refused]
R = Refusal


@dataclass
class Set:
    """The parts of a bundle of variants, which tests change and join again without checks."""

    headers: list[dict[str, Any]]
    variants: list[dict[str, Any]]
    contents: list[bytes]
    format: str = FORMAT

    @classmethod
    def of(cls, artifacts: list[Path], folder: Path, signer: Signer) -> Set:
        written = write_variants(artifacts, folder / "honest.asrb", signer)
        fields = json.loads(written.raw)
        by_digest = {
            hashlib.sha256(path.read_bytes()).hexdigest(): path.read_bytes()
            for artifact in artifacts
            for path in artifact.rglob("*")
            if path.is_file()
        }
        contents = [by_digest[file.sha256] for file in written.contents]
        return cls(fields["headers"], json.loads(written.payload), contents)

    def header(self, signer: Signer) -> dict[str, Any]:
        payload = canonical_json(self.variants).encode()
        return {
            "envelope": sign(PAYLOAD_TYPE, payload, signer),
            "format": self.format,
            "headers": self.headers,
        }

    def bytes(self, signer: Signer) -> bytes:
        return assemble(canonical_json(self.header(signer)).encode(), b"".join(self.contents))

    def point(self, at: int) -> None:
        """Makes the variant name its header, as the key's holder could."""
        raw = canonical_json(self.headers[at]).encode()
        self.variants[at] |= {
            "header": hashlib.sha256(raw).hexdigest(),
            "name": self.headers[at]["name"],
            "version": self.headers[at]["version"],
        }


@pytest.fixture
def forged(artifacts: list[Path], tmp_path: Path, signer: Signer) -> Set:
    return Set.of(artifacts, tmp_path, signer)


@pytest.fixture
def attack(tmp_path: Path, trust: Trust, refused: Refuse) -> Callable[..., Refused]:
    """Pulls a hostile bundle into ``victim/store``; all of it, or for one system."""

    def run(reason: R, bundle: bytes, system: str | None = None) -> Refused:
        path = tmp_path / "hostile.asrb"
        path.write_bytes(bundle)
        store = tmp_path / "victim" / "store"
        store.mkdir(parents=True, exist_ok=True)
        return refused(reason, lambda: pull_variants(path, store, trust=trust, system=system))

    return run


def test_a_bundle_of_variants_without_a_fault_is_accepted(
    forged: Set, signer: Signer, tmp_path: Path, trust: Trust
):
    """Otherwise the tests below could fail for a mistake of the forgery instead of the attack."""
    (tmp_path / "good.asrb").write_bytes(forged.bytes(signer))
    assert (tmp_path / "good.asrb").read_bytes() == (tmp_path / "honest.asrb").read_bytes()
    assert len(pull_variants(tmp_path / "good.asrb", tmp_path / "store", trust=trust)) == 2


def test_an_untrusted_list_of_trusted_artifacts_is_refused(
    forged: Set, stranger: Signer, attack: Callable
):
    """Each artifact is signed by the key; the list and its order must be too."""
    forged.headers.reverse()
    forged.variants.reverse()
    attack(R.UNTRUSTED_SIGNER, forged.bytes(stranger))


def test_an_untrusted_artifact_among_trusted_ones_is_refused(
    forged: Set, artifacts: list[Path], signer: Signer, stranger: Signer, attack: Callable
):
    forged.headers[1] = Forgery.of(artifacts[1], stranger).header(stranger)
    forged.point(1)
    # Even a device that would take the other one refuses the file.
    attack(R.UNTRUSTED_SIGNER, forged.bytes(signer), "iOS18")


def test_a_signed_artifact_that_is_not_listed_is_refused(
    forged: Set, tmp_path: Path, signer: Signer, attack: Callable
):
    """An older, validly signed one replaces the listed artifact, then comes in addition."""
    replayed = variant_of(tmp_path / "older", "old", "15", "12", b"old with a hole" * 10)
    header = Forgery.of(replayed, signer).header(signer)
    honest = forged.headers[1]
    envelope = forged.header(signer)["envelope"]

    def bundle(headers: list[Any]) -> bytes:
        fields = {"envelope": envelope, "format": FORMAT, "headers": headers}
        return assemble(canonical_json(fields).encode(), b"")

    attack(R.STATEMENT_MISMATCH, bundle([forged.headers[0], header]))
    attack(R.STATEMENT_MISMATCH, bundle([*forged.headers, header]))
    attack(R.STATEMENT_MISMATCH, bundle([honest]))
    attack(R.STATEMENT_MISMATCH, bundle([honest, forged.headers[0]]))


def test_a_duplicate_artifact_is_refused(forged: Set, signer: Signer, attack: Callable):
    forged.headers.append(forged.headers[0])
    forged.variants.append(forged.variants[0])
    attack(R.DUPLICATE_PATH, forged.bytes(signer))


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_a_variant_that_contradicts_its_manifest_is_refused(
    forged: Set, signer: Signer, attack: Callable, lie: dict[str, Any]
):
    """A signed mistake of the publisher is refused before a device gets it."""
    honest = dict(forged.variants[1])
    forged.variants[0] |= lie
    attack(R.MANIFEST_MISMATCH, forged.bytes(signer), "iOS18")
    # A fault of the last variant refuses all of them.
    forged.headers.reverse()
    forged.variants[:] = [honest, forged.variants[0]]
    forged.contents[:] = _contents_of(forged)
    attack(R.MANIFEST_MISMATCH, forged.bytes(signer))


def _contents_of(forged: Set) -> list[bytes]:
    by_digest = {hashlib.sha256(content).hexdigest(): content for content in forged.contents}
    digests = [file["sha256"] for header in forged.headers for file in header["files"]]
    return [by_digest[digest] for digest in dict.fromkeys(digests)]


@pytest.mark.parametrize("fault", MALFORMED.values(), ids=MALFORMED)
def test_malformed_variants_are_refused(
    forged: Set, signer: Signer, attack: Callable, fault: dict[str, Any]
):
    forged.variants[0] |= fault
    attack(R.HEADER_MALFORMED, forged.bytes(signer))


@pytest.mark.parametrize("variants", [None, 7, "x", {}, [None], [[]]], ids=repr)
def test_values_that_are_not_lists_of_variants_are_refused(
    forged: Set, signer: Signer, attack: Callable, variants: Any
):
    forged.variants = variants
    attack(R.HEADER_MALFORMED, forged.bytes(signer))


@pytest.mark.parametrize(
    "change",
    [
        {"headers": None},
        {"headers": {}},
        {"more": 1},
        {"envelope": None},
        {"format": None},
        {"headers": [None, None]},
        {"headers": ["x"]},
        {"headers": [{}]},
    ],
    ids=str,
)
def test_malformed_headers_are_refused(
    forged: Set, signer: Signer, attack: Callable, change: dict[str, Any]
):
    raw = canonical_json({**forged.header(signer), **change}).encode()
    attack(R.HEADER_MALFORMED, assemble(raw, b"".join(forged.contents)))


def test_no_and_too_many_variants_are_refused(forged: Set, signer: Signer, attack: Callable):
    forged.headers *= MAX_VARIANTS
    attack(R.TOO_MANY_FILES, forged.bytes(signer))
    forged.headers.clear()
    attack(R.TOO_MANY_FILES, forged.bytes(signer))


def test_a_signature_of_another_type_is_refused(forged: Set, signer: Signer, attack: Callable):
    """A signature of the key on a channel's record or a statement is not one on variants."""
    header = forged.header(signer)
    payload = canonical_json(forged.variants).encode()
    header["envelope"] = sign("application/vnd.in-toto+json", payload, signer)
    attack(R.HEADER_MALFORMED, assemble(canonical_json(header).encode(), b""))
    header["envelope"]["payloadType"] = PAYLOAD_TYPE
    body = b"".join(forged.contents)
    attack(R.BAD_SIGNATURE, assemble(canonical_json(header).encode(), body))
    header["envelope"]["signatures"] = []
    attack(R.NOT_SIGNED, assemble(canonical_json(header).encode(), body))


@pytest.mark.parametrize("path", ["../precious", "/etc/passwd", "a\\b", "nul", ".bashrc"])
def test_hostile_paths_in_a_variant_are_refused(
    forged: Set, artifacts: list[Path], signer: Signer, attack: Callable, path: str
):
    forgery = Forgery.of(artifacts[1], signer)
    forgery.add(path)
    forgery.sort()
    forgery.subjects()
    forged.headers[1] = forgery.header(signer)
    forged.point(1)
    attack(R.UNSAFE_PATH, forged.bytes(signer), "iOS18")


def test_one_digest_with_two_sizes_is_refused(
    forged: Set, artifacts: list[Path], signer: Signer, attack: Callable
):
    """Otherwise the second artifact would be read from the wrong place of the file."""
    forgery = Forgery.of(artifacts[1], signer)
    (shared,) = [file for file in forgery.files if file["path"] == "reference.wav"]
    shared["bytes"] -= 1
    forged.headers[1] = forgery.header(signer)
    forged.point(1)
    attack(R.HEADER_MALFORMED, forged.bytes(signer))


def test_contents_in_another_order_are_refused(forged: Set, signer: Signer, attack: Callable):
    forged.contents.reverse()
    attack(R.DIGEST_MISMATCH, forged.bytes(signer))


def test_a_fault_in_a_variant_that_the_device_does_not_take_is_refused(
    forged: Set, signer: Signer, attack: Callable
):
    """All variants are verified, whichever the device takes."""
    at = next(n for n, content in enumerate(forged.contents) if content.startswith(b"oldold"))
    forged.contents[at] = b"!" + forged.contents[at][1:]
    attack(R.DIGEST_MISMATCH, forged.bytes(signer), "iOS18")


def test_truncated_and_extended_bundles_are_refused(forged: Set, signer: Signer, attack: Callable):
    whole = forged.bytes(signer)
    attack(R.TRAILING_BYTES, whole + b"!")
    attack(R.TRUNCATED, whole[:-1])
    attack(R.TRUNCATED, whole[:200])


def test_the_other_kind_of_bundle_is_refused(
    forged: Set,
    artifacts: list[Path],
    tmp_path: Path,
    signer: Signer,
    trust: Trust,
    attack: Callable,
    refused: Refuse,
):
    write_bundle(artifacts[0], tmp_path / "one.asrb", signer)
    attack(R.UNKNOWN_FORMAT, (tmp_path / "one.asrb").read_bytes())
    several = tmp_path / "honest.asrb"
    refused(
        R.UNKNOWN_FORMAT, lambda: pull_bundle(several, tmp_path / "victim" / "store", trust=trust)
    )
    forged.format = "asrbuild-bundle-of-variants/2"
    attack(R.UNKNOWN_FORMAT, forged.bytes(signer))


def test_a_bundle_that_changes_after_the_choice_is_refused(
    artifacts: list[Path], tmp_path: Path, signer: Signer, trust: Trust, refused: Refuse
):
    """The chosen variant is looked up by its digest in the changed file."""
    write_variants(artifacts, tmp_path / "now.asrb", signer)
    write_variants(artifacts[1:], tmp_path / "then.asrb", signer)
    found, _ = check_variants(tmp_path / "now.asrb", trust)
    (tmp_path / "then.asrb").replace(tmp_path / "now.asrb")
    (tmp_path / "victim").mkdir()
    refused(
        R.FILE_MISSING,
        lambda: unpack_variant(
            tmp_path / "now.asrb", found.variants[0], tmp_path / "victim", trust
        ),
    )


@settings(
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
@given(data=st.data())
def test_every_flipped_bit_and_every_cut_is_refused(
    forged: Set, tmp_path: Path, trust: Trust, data: st.DataObject
):
    good = (tmp_path / "honest.asrb").read_bytes()
    at, bit = data.draw(st.integers(0, len(good) - 1)), data.draw(st.integers(0, 7))
    bad = bytearray(good)
    bad[at] ^= 1 << bit
    for hostile in (bytes(bad), good[:at]):
        (tmp_path / "bad.asrb").write_bytes(hostile)
        with pytest.raises(Refused):
            check_variants(tmp_path / "bad.asrb", trust)
