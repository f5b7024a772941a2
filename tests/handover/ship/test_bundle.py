"""Bundles and keys: a bundle is unpacked unchanged, by readers that trust the key only."""

from __future__ import annotations

import json
import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from asrbuild.artifact import integrity, lookup
from asrbuild.base.digest import tree_digests
from asrbuild.base.errors import AsrbuildError
from asrbuild.handover.ship.formats.bundle import check_bundle, unpack_bundle, write_bundle
from asrbuild.handover.ship.formats.header import PREDICATE_TYPE, STATEMENT_TYPE
from asrbuild.handover.ship.pull import pull_bundle
from asrbuild.handover.ship.signing.keys import Signer, find_signer, new_key
from asrbuild.handover.ship.signing.trust import (
    Trust,
    distrust,
    read_key_file,
    read_trust,
    trust_key,
)
from tests.handover.ship.making import CONTENT, make_artifact


def test_a_bundle_is_unpacked_unchanged(
    artifact: Path, tmp_path: Path, signer: Signer, trust: Trust
):
    bundle = tmp_path / "demo.asrb"
    write_bundle(artifact, bundle, signer)
    pulled = pull_bundle(bundle, tmp_path / "elsewhere", trust=trust)
    assert tree_digests(pulled.path) == tree_digests(artifact)
    assert pulled.path.relative_to(tmp_path / "elsewhere") == artifact.relative_to(
        tmp_path / "artifacts"
    )
    assert integrity.verify_files(pulled.path) == []
    assert lookup.read_latest(tmp_path / "elsewhere", pulled.name) == pulled.version


def test_unpacking_twice_changes_nothing(
    artifact: Path, tmp_path: Path, signer: Signer, trust: Trust
):
    write_bundle(artifact, tmp_path / "demo.asrb", signer)
    first = pull_bundle(tmp_path / "demo.asrb", tmp_path / "elsewhere", trust=trust)
    before = first.path.stat()
    again = pull_bundle(tmp_path / "demo.asrb", tmp_path / "elsewhere", trust=trust)
    assert again == replace(first, already=True, bytes=0)
    assert first.path.stat().st_ino == before.st_ino


def test_same_content_and_key_give_the_same_bytes(artifact: Path, tmp_path: Path, signer: Signer):
    write_bundle(artifact, tmp_path / "one.asrb", signer)
    os.utime(artifact / "alphabet.txt", (1, 1))
    os.chmod(artifact / "alphabet.txt", 0o777)
    write_bundle(artifact, tmp_path / "two.asrb", signer)
    assert (tmp_path / "one.asrb").read_bytes() == (tmp_path / "two.asrb").read_bytes()
    # Writing the same bundle again does nothing; another file in its place is an error.
    write_bundle(artifact, tmp_path / "two.asrb", signer)
    (tmp_path / "two.asrb").write_bytes(b"a letter to somebody")
    with pytest.raises(AsrbuildError, match="never overwritten"):
        write_bundle(artifact, tmp_path / "two.asrb", signer)
    assert (tmp_path / "two.asrb").read_bytes() == b"a letter to somebody"
    assert not list(tmp_path.glob(".incoming-*"))


def test_the_statement_is_in_toto_with_slsa_provenance(
    artifact: Path, tmp_path: Path, signer: Signer, trust: Trust
):
    write_bundle(artifact, tmp_path / "demo.asrb", signer)
    statement = json.loads(json.dumps(check_bundle(tmp_path / "demo.asrb", trust).header.statement))
    assert statement["_type"] == STATEMENT_TYPE
    assert statement["predicateType"] == PREDICATE_TYPE
    digests = {s["name"]: s["digest"]["sha256"] for s in statement["subject"]}
    assert digests == tree_digests(artifact)
    definition = statement["predicate"]["buildDefinition"]
    assert definition["externalParameters"]["recipe"] == {"n_steps": 16, "model": {}}
    assert {d["name"]: d["digest"] for d in definition["resolvedDependencies"]} == {
        "best_dev-1": {"sha256": "34" * 32},
        "repository": {"gitCommit": "deadbeef"},
    }
    assert statement["predicate"]["runDetails"]["builder"]["version"] == {"coremltools": "9.0"}


def test_the_signature_is_standard_dsse(artifact: Path, tmp_path: Path, signer: Signer):
    """The test checks it as any DSSE reader would, from the header's bytes alone."""
    import base64
    import hashlib

    raw = write_bundle(artifact, tmp_path / "demo.asrb", signer).raw
    envelope = json.loads(raw)["envelope"]
    payload = base64.b64decode(envelope["payload"])
    kind = envelope["payloadType"]
    signed = f"DSSEv1 {len(kind)} {kind} {len(payload)} ".encode() + payload
    (one,) = envelope["signatures"]
    public = signer.private.public_key()
    public.verify(base64.b64decode(one["sig"]), signed)
    assert one["keyid"] == hashlib.sha256(public.public_bytes_raw()).hexdigest()


def test_empty_files_and_deep_folders_are_bundled(tmp_path: Path, signer: Signer, trust: Trust):
    content = {**CONTENT, "a/b/c/d/e/f.bin": b"", "Weights (v2), final.bin": b"x"}
    artifact = make_artifact(tmp_path / "artifacts", content=content)
    write_bundle(artifact, tmp_path / "demo.asrb", signer)
    (tmp_path / "out").mkdir()
    unpack_bundle(tmp_path / "demo.asrb", tmp_path / "out", trust)
    assert tree_digests(tmp_path / "out") == tree_digests(artifact)


@pytest.mark.parametrize("path", ["wörter.scorer", "a:b", "con.txt", "x ", ".hidden"])
def test_a_bundle_that_could_not_be_pulled_is_not_written(
    tmp_path: Path, signer: Signer, path: str
):
    artifact = make_artifact(tmp_path / "artifacts", content={**CONTENT, path: b"x"})
    with pytest.raises(AsrbuildError, match="UNSAFE_PATH"):
        write_bundle(artifact, tmp_path / "demo.asrb", signer)
    assert not (tmp_path / "demo.asrb").exists()


def test_a_private_key_is_readable_by_its_owner_only(config: Path):
    new_key("release", config)
    path = config / "keys" / "release.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o640)
    with pytest.raises(AsrbuildError, match="can be read by others"):
        find_signer(None, config)
    with pytest.raises(AsrbuildError, match="the key 'release' exists already"):
        new_key("release", config)
    with pytest.raises(AsrbuildError, match="cannot be a key's name"):
        new_key("../release", config)


def test_keys_are_found_by_name(config: Path):
    with pytest.raises(AsrbuildError, match="asrbuild key new"):
        find_signer(None, config)
    one = new_key("one", config)
    assert find_signer(None, config).keyid == one.keyid
    two = new_key("two", config)
    assert find_signer("two", config).keyid == two.keyid
    with pytest.raises(AsrbuildError, match="choose one with --key"):
        find_signer(None, config)
    with pytest.raises(AsrbuildError, match="choose one of one, two"):
        find_signer("three", config)


def test_a_key_is_trusted_and_distrusted(config: Path, tmp_path: Path):
    theirs = new_key("theirs", tmp_path / "their-config")
    public = tmp_path / "their-config" / "keys" / "theirs.pub"
    key = trust_key(read_key_file(public), None, config)
    assert (key.keyid, key.label) == (theirs.keyid, "theirs")
    assert list(read_trust(config)) == [theirs.keyid]
    with pytest.raises(AsrbuildError, match="no trusted signer matches"):
        distrust("ffff", config)
    distrust(theirs.keyid[:8], config)
    assert read_trust(config) == {}


def test_only_public_ed25519_keys_are_trusted(config: Path, tmp_path: Path):
    new_key("mine", tmp_path / "other")
    with pytest.raises(AsrbuildError, match="this is a private key, not a public key"):
        trust_key(read_key_file(tmp_path / "other" / "keys" / "mine.key"), None, config)
    with pytest.raises(AsrbuildError, match="not a public key"):
        trust_key("hello", None, config)
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    pem = (
        ec.generate_private_key(ec.SECP256R1())
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    with pytest.raises(AsrbuildError, match="not an Ed25519 key"):
        trust_key(pem.decode(), None, config)


def test_a_trusted_key_in_a_file_of_another_name_is_refused(
    config: Path, signer: Signer, tmp_path: Path
):
    new_key("evil", tmp_path / "evil")
    own = config / "trusted" / f"{signer.keyid}.pub"
    own.write_text((tmp_path / "evil" / "keys" / "evil.pub").read_text())
    with pytest.raises(AsrbuildError, match="does not match the file's name"):
        read_trust(config)
