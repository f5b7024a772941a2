"""Evidence on every kind of remote, behind a web server, and after a clean-up."""

from __future__ import annotations

from pathlib import Path

import pytest

from asrbuild.artifact import store
from asrbuild.artifact.evidence import all_evidence, keep_evidence, list_evidence
from asrbuild.artifact.integrity import verify_files
from asrbuild.artifact.reading import read_manifest
from asrbuild.handover.ship.evidence import bring_evidence, fetch_evidence, seal, unseal
from asrbuild.handover.ship.formats.bundle import write_bundle
from asrbuild.handover.ship.formats.header import make_header
from asrbuild.handover.ship.pull import pull, pull_file
from asrbuild.handover.ship.push import ship
from asrbuild.handover.ship.refusal import Refused
from asrbuild.handover.ship.remotes.address import open_remote
from asrbuild.handover.ship.remotes.remote import Remote
from asrbuild.handover.ship.signing.keys import Signer
from asrbuild.handover.ship.signing.trust import Trust

PAYLOAD = b'{"format":"asrbuild-evidence/1","n":1}'


def test_evidence_travels_through_every_remote(
    remote: Remote,
    artifact: Path,
    signer: Signer,
    stranger: Signer,
    trust: Trust,
    config: Path,
    tmp_path: Path,
) -> None:
    name, version = artifact.parent.name, artifact.name
    kept = keep_evidence(artifact, seal(PAYLOAD, signer))
    assert keep_evidence(artifact, seal(PAYLOAD, signer)) == kept, "the same file is kept once"
    assert verify_files(artifact) == [], "the artifact stays as it is"
    ship(artifact, remote, signer=signer, trust=trust)
    assert remote.evidence(name, version) == [kept.stem]
    assert not remote.add_evidence(name, version, kept.stem, b"other"), "it is never written again"
    # An attacker who can write to the remote adds evidence, and a file whose name is not a digest.
    foreign = seal(PAYLOAD.replace(b"1}", b"2}"), stranger)
    digest = keep_evidence(tmp_path / "a" / "b" / "c", foreign).stem
    assert remote.add_evidence(name, version, digest, foreign)
    assert remote.add_evidence(name, version, "0" * 64, seal(PAYLOAD, signer))
    assert [found for found, _, _ in fetch_evidence(remote, name, version, trust)] == [kept.stem]
    (pulled,) = pull(f"{name}@{version}", remote, tmp_path / "other", trust=trust, config=config)
    assert [path.stem for path in list_evidence(pulled.path)] == [kept.stem]
    assert remote.versions(name) == [version], "evidence is no version"
    assert remote.channels(name) == []
    assert remote.evidence(name, "2.0.0+123456789abc") == []


def test_a_web_server_lists_evidence_in_its_index(
    web: tuple[Path, str], artifact: Path, signer: Signer, trust: Trust, tmp_path: Path
) -> None:
    folder, address = web
    kept = keep_evidence(artifact, seal(PAYLOAD, signer))
    ship(artifact, open_remote(str(folder)), signer=signer, trust=trust)
    shown = open_remote(address)
    assert shown.evidence(artifact.parent.name, artifact.name) == [kept.stem]
    (folder / "index.json").unlink()
    notes: list[str] = []
    bring_evidence(
        shown, artifact.parent.name, artifact.name, tmp_path / "a" / "b", trust, notes.append
    )
    assert "was not fetched" in notes[0], "an artifact is whole without"


def test_clean_ups_keep_evidence_and_bundles_have_none(
    artifact: Path, signer: Signer, trust: Trust, tmp_path: Path
) -> None:
    root, name, version = artifact.parents[1], artifact.parent.name, artifact.name
    plain = make_header(artifact, read_manifest(artifact), signer).raw
    kept = keep_evidence(artifact, seal(PAYLOAD, signer))
    assert make_header(artifact, read_manifest(artifact), signer).raw == plain
    write_bundle(artifact, tmp_path / "a.asrb", signer)
    (pulled,), _ = pull_file(tmp_path / "a.asrb", tmp_path / "other", trust=trust)
    assert list_evidence(pulled.path) == []

    (root / name / "latest").write_text("9.9.9+999999999999\n")
    assert store.remove(root, name, version)
    assert not artifact.exists()
    assert all_evidence(root) == [(artifact, kept)]


def test_an_envelope_is_strict(signer: Signer, stranger: Signer, trust: Trust) -> None:
    raw = seal(PAYLOAD, signer)
    payload, by = unseal(raw, trust)
    assert (payload, by.label) == (PAYLOAD, "default")
    for bad, reason in (
        (raw + b" ", "RECORD_MALFORMED"),
        (raw.replace(b"evidence+json", b"channel+json"), "RECORD_MALFORMED"),
        (seal(PAYLOAD, stranger), "UNTRUSTED_SIGNER"),
        (raw[:-40] + b'"' + raw[-39:], "RECORD_MALFORMED"),
    ):
        with pytest.raises(Refused, match=reason):
            unseal(bad, trust)
