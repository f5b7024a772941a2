"""Hostile remotes: the attacker can write to one, or answer in its place, but has no key."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from asrbuild.base.digest import canonical_json, tree_digests
from asrbuild.base.errors import AsrbuildError
from asrbuild.handover.ship.channels.chain import history
from asrbuild.handover.ship.channels.record import FORMAT, PAYLOAD_TYPE, parse_record
from asrbuild.handover.ship.pull import pull
from asrbuild.handover.ship.push import ship
from asrbuild.handover.ship.refusal import Refusal, Refused
from asrbuild.handover.ship.remotes.address import open_remote
from asrbuild.handover.ship.remotes.remote import MAX_RECORD
from asrbuild.handover.ship.signing.envelope import sign
from asrbuild.handover.ship.signing.keys import Signer
from asrbuild.handover.ship.signing.trust import Trust, read_trust
from tests.handover.ship.making import CONTENT, make_artifact

R = Refusal
Refuse = Callable[..., Refused]
NAME = "demo-dynamic"
BETA = Path("artifacts", NAME, "channels", "beta")


# Channels --------------------------------------------------------------------------------------


@pytest.fixture
def have_seen(fetch: Any, remote: Path, tmp_path: Path) -> None:
    """A reader has pulled once and emptied its store."""
    fetch(f"{NAME}@beta", remote)
    shutil.rmtree(tmp_path / "victim" / "store")
    (tmp_path / "victim" / "store").mkdir()


def test_an_untrusted_signer_is_refused_with_the_remotes_address(
    remote: Path, versions: list[Path], stranger: Signer, config: Path, tmp_path: Path
):
    trust = read_trust(tmp_path / "strange")
    there = open_remote(str(remote))
    version = versions[0].name
    for attempt in (
        lambda: pull(f"{NAME}@beta", there, tmp_path / "s", trust=trust, config=config),
        lambda: pull(f"{NAME}@{version}", there, tmp_path / "s", trust=trust, config=config),
        lambda: ship(versions[0], there, signer=stranger, trust=trust),
        lambda: history(there, NAME, "beta", trust),
    ):
        with pytest.raises(Refused, match="UNTRUSTED_SIGNER") as refused:
            attempt()
        assert refused.value.file == str(remote)


@pytest.mark.usefixtures("have_seen")
@pytest.mark.parametrize("how", ["newest deleted", "all deleted", "old one in its place"])
def test_a_restored_old_state_is_refused(remote: Path, fetch: Any, refused: Refuse, how: str):
    if how == "all deleted":
        shutil.rmtree(remote / BETA)
        reason = R.REPLAYED
    elif how == "newest deleted":
        (remote / BETA / "2.json").unlink()
        (remote / BETA / "current.json").write_text('{"counter": 1}')
        reason = R.REPLAYED
    else:
        shutil.copy(remote / BETA / "1.json", remote / BETA / "2.json")
        reason = R.IDENTITY_MISMATCH
    refused(reason, lambda: fetch(f"{NAME}@beta", remote))


@pytest.mark.usefixtures("have_seen")
def test_a_forged_rollback_of_a_channel_is_refused(
    remote: Path, versions: list[Path], fetch: Any, refused: Refuse, stranger: Signer, trust: Trust
):
    """Only the key could sign a new record for the old version."""
    old = json.loads((remote / BETA / "1.json").read_text())
    payload = parse_record(
        canonical_json(old).encode(), NAME, "beta", 1, trust
    )  # genuine, and of counter 1
    fields = {
        "channel": "beta",
        "counter": 3,
        "format": FORMAT,
        "header": payload.header,
        "name": NAME,
        "previous": "0" * 64,
        "time": "",
        "version": versions[0].name,
        "why": "rollback",
    }
    forged = sign(PAYLOAD_TYPE, canonical_json(fields).encode(), stranger)
    (remote / BETA / "3.json").write_text(canonical_json(forged))
    refused(R.UNTRUSTED_SIGNER, lambda: fetch(f"{NAME}@beta", remote))
    forged["signatures"][0]["keyid"] = old["signatures"][0]["keyid"]
    (remote / BETA / "3.json").write_text(canonical_json(forged))
    refused(R.BAD_SIGNATURE, lambda: fetch(f"{NAME}@beta", remote))
    forged["signatures"] = old["signatures"]
    (remote / BETA / "3.json").write_text(canonical_json(forged))
    refused(R.BAD_SIGNATURE, lambda: fetch(f"{NAME}@beta", remote))


@pytest.mark.usefixtures("have_seen")
def test_the_record_of_another_channel_is_refused(remote: Path, fetch: Any, refused: Refuse):
    shutil.copytree(remote / BETA, remote / BETA.parent / "stable")
    refused(R.IDENTITY_MISMATCH, lambda: fetch(f"{NAME}@stable", remote))


@pytest.mark.usefixtures("have_seen")
def test_two_records_with_one_number_are_refused(
    remote: Path, versions: list[Path], fetch: Any, refused: Refuse, signer: Signer, trust: Trust
):
    """Even the key's holder cannot replace a record."""
    for name in ("2.json", "current.json"):
        (remote / BETA / name).unlink()
    ship(versions[2], open_remote(str(remote)), signer=signer, trust=trust, channel="beta")
    refused(R.FORKED, lambda: fetch(f"{NAME}@beta", remote))


def test_a_history_with_a_gap_or_a_broken_link_is_refused(
    remote: Path, versions: list[Path], refused: Refuse, signer: Signer, trust: Trust
):
    place = open_remote(str(remote))
    ship(versions[2], place, signer=signer, trust=trust, channel="beta")
    (remote / BETA / "2.json").unlink()
    refused(R.FORKED, lambda: history(place, NAME, "beta", trust))
    (remote / BETA / "current.json").unlink()
    fields = {
        "channel": "beta",
        "counter": 2,
        "format": FORMAT,
        "header": "1" * 64,
        "name": NAME,
        "previous": "0" * 64,
        "time": "",
        "version": "1.0.0",
        "why": "set",
    }
    broken = sign(PAYLOAD_TYPE, canonical_json(fields).encode(), signer)
    (remote / BETA / "2.json").write_text(canonical_json(broken))
    refused(R.FORKED, lambda: history(place, NAME, "beta", trust))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", R.RECORD_MALFORMED),
        (b"{}", R.RECORD_MALFORMED),
        (b"[" * 9999, R.RECORD_MALFORMED),
        (b'{"payload": "", "payloadType": "x", "signatures": []}', R.RECORD_MALFORMED),
        (b"x" * (MAX_RECORD + 1), R.TOO_LARGE),
    ],
    ids=["empty", "no envelope", "deep", "spaces", "huge"],
)
def test_malformed_records_are_refused(
    remote: Path, fetch: Any, refused: Refuse, content: bytes, reason: Refusal
):
    (remote / BETA / "3.json").write_bytes(content)
    refused(reason, lambda: fetch(f"{NAME}@beta", remote))


def test_signed_records_without_content_are_refused(
    remote: Path, fetch: Any, refused: Refuse, signer: Signer
):
    for fields in ({}, [], {"counter": True}, "x"):
        raw = canonical_json(sign(PAYLOAD_TYPE, canonical_json(fields).encode(), signer))
        (remote / BETA / "3.json").write_text(raw)
        refused(R.RECORD_MALFORMED, lambda: fetch(f"{NAME}@beta", remote))


@pytest.mark.parametrize(
    "hint",
    [b"", b"null", b"[]", b'{"counter": -5}', b'{"counter": 1e99}', b"[" * 9999, b'{"counter": 7}'],
)
def test_hints_are_not_trusted(remote: Path, versions: list[Path], fetch: Any, hint: bytes):
    (remote / BETA / "current.json").write_bytes(hint)
    assert fetch(f"{NAME}@beta", remote).version == versions[1].name


def test_a_damaged_file_of_channels_seen_is_reported(remote: Path, fetch: Any, config: Path):
    fetch(f"{NAME}@beta", remote)
    (config / "seen.json").write_text("{")
    with pytest.raises(AsrbuildError, match="old states are not noticed"):
        fetch(f"{NAME}@beta", remote)


def test_a_file_of_channels_seen_without_channels_is_reported(
    remote: Path, fetch: Any, config: Path
):
    fetch(f"{NAME}@beta", remote)
    (config / "seen.json").write_text("[]")
    with pytest.raises(AsrbuildError, match="old states are not noticed"):
        fetch(f"{NAME}@beta", remote)


def test_an_old_version_cannot_replace_a_hidden_channel(
    remote: Path, versions: list[Path], fetch: Any, refused: Refuse, signer: Signer, trust: Trust
):
    """The channel's name begins an old version's digest; a reader that has seen it refuses."""
    old = versions[0].name.partition("+")[2]
    while not old[0].isalpha():
        old = old[1:]
    channel = next(old[:n] for n in range(1, 12) if any(c.isdigit() for c in old[:n]))
    place = open_remote(str(remote))
    ship(versions[2], place, signer=signer, trust=trust, channel=channel)
    start = versions[0].name[: versions[0].name.index(channel)]
    assert fetch(f"{NAME}@{channel}", remote).version == versions[2].name
    shutil.rmtree(remote / BETA.parent / channel)
    refused(R.REPLAYED, lambda: fetch(f"{NAME}@{channel}", remote))
    assert start


# Versions and blobs ----------------------------------------------------------------------------


def _header(remote: Path, version: Path) -> Path:
    return remote / "artifacts" / NAME / "versions" / f"{version.name}.json"


def test_a_version_in_the_place_of_another_is_refused(
    remote: Path, versions: list[Path], fetch: Any, refused: Refuse
):
    shutil.copy(_header(remote, versions[0]), _header(remote, versions[1]))
    refused(R.IDENTITY_MISMATCH, lambda: fetch(f"{NAME}@{versions[1].name}", remote))
    refused(R.IDENTITY_MISMATCH, lambda: fetch(f"{NAME}@beta", remote))


def test_another_signed_build_of_the_version_is_refused(
    remote: Path, tmp_path: Path, versions: list[Path], fetch: Any, refused: Refuse, signer: Signer
):
    """It has the same name, version and signer, but the channel points at the other build."""
    from asrbuild.artifact.reading import read_manifest
    from asrbuild.handover.ship.formats.header import make_header

    other = make_artifact(
        tmp_path / "others",
        content={**CONTENT, "alphabet.txt": b"1"},
        change=lambda m: m["provenance"].update(created="1999-01-01T00:00:00+00:00"),
    )
    assert other.name == versions[1].name
    raw = make_header(other, read_manifest(other), signer).raw
    _header(remote, versions[1]).write_bytes(raw)
    refused(R.IDENTITY_MISMATCH, lambda: fetch(f"{NAME}@beta", remote))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda data: data[:-1], R.TRUNCATED),
        (lambda data: b"", R.TRUNCATED),
        (lambda data: b"!" + data[1:], R.DIGEST_MISMATCH),
    ],
    ids=["short", "empty", "flipped"],
)
def test_damaged_blobs_are_refused(
    remote: Path, versions: list[Path], fetch: Any, refused: Refuse, change: Any, reason: Refusal
):
    blob = remote / "blobs" / tree_digests(versions[1])["model.mlmodel"]
    blob.write_bytes(change(blob.read_bytes()))
    refused(reason, lambda: fetch(f"{NAME}@beta", remote))


def test_a_blob_is_read_up_to_its_signed_size_only(
    remote: Path, versions: list[Path], fetch: Any, tmp_path: Path
):
    """The reader stops at the signed size."""
    blob = remote / "blobs" / tree_digests(versions[1])["model.mlmodel"]
    os.truncate(blob, 1 << 40)
    pulled = fetch(f"{NAME}@beta", remote)
    assert tree_digests(pulled.path) == tree_digests(versions[1])


def test_a_missing_header_is_refused(
    remote: Path, versions: list[Path], fetch: Any, refused: Refuse
):
    _header(remote, versions[1]).unlink()
    refused(R.FILE_MISSING, lambda: fetch(f"{NAME}@beta", remote))


@pytest.mark.parametrize("spec", ["../x@beta", f"{NAME}@../1", "a/b", f"{NAME}@BETA/..", "\x1b[2J"])
def test_hostile_names_of_a_user_are_refused(remote: Path, fetch: Any, refused: Refuse, spec: str):
    refused(R.UNSAFE_NAME, lambda: fetch(spec, remote))


def test_planted_names_are_not_listed(remote: Path):
    for name in ("..evil", "a\x1b[2Jb", "-rf", "con"):
        (remote / "artifacts" / name / "versions").mkdir(parents=True)
    (_header(remote, Path("x")).parent / "$(id).json").write_text("{}")
    (remote / BETA.parent / "EVIL").mkdir()
    place = open_remote(str(remote))
    assert place.names() == [NAME]
    assert len(place.versions(NAME)) == 2
    assert place.channels(NAME) == ["beta"]


def test_a_planted_header_is_not_accepted_when_shipping(
    remote: Path, versions: list[Path], signer: Signer, stranger: Signer, trust: Trust
):
    """An attacker puts a header of the same name there before the owner ships the version."""
    from asrbuild.artifact.reading import read_manifest
    from asrbuild.handover.ship.formats.header import make_header

    raw = make_header(versions[2], read_manifest(versions[2]), stranger).raw
    _header(remote, versions[2]).write_bytes(raw)
    with pytest.raises(Refused, match="UNTRUSTED_SIGNER"):
        ship(versions[2], open_remote(str(remote)), signer=signer, trust=trust, channel="beta")


def test_shipping_again_repairs_a_blob_of_another_size(
    remote: Path, versions: list[Path], signer: Signer, trust: Trust, fetch: Any
):
    digests = tree_digests(versions[2])
    (remote / "blobs" / digests["alphabet.txt"]).write_bytes(b"short or long")
    ship(versions[2], open_remote(str(remote)), signer=signer, trust=trust, channel="beta")
    assert tree_digests(fetch(f"{NAME}@beta", remote).path) == digests


# Web servers -----------------------------------------------------------------------------------
