"""Records of a channel are bound to their remote."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from asrbuild.base.errors import AsrbuildError
from asrbuild.handover.ship.channels.chain import history
from asrbuild.handover.ship.push import ship
from asrbuild.handover.ship.refusal import Refused
from asrbuild.handover.ship.remotes.address import open_remote
from asrbuild.handover.ship.signing.keys import Signer
from asrbuild.handover.ship.signing.trust import (
    Trust,
)
from tests.handover.ship.channels.records import NAME, STABLE, aged, copied


@pytest.mark.parametrize("era", ["new", "old"])
@pytest.mark.parametrize("seen", [0, 1, 2])
def test_records_of_another_remote_are_refused(
    versions: list[Path],
    move: Any,
    reader: Any,
    tmp_path: Path,
    signer: Signer,
    era: str,
    seen: int,
):
    """The staging remote has more records, and ends with a build that is not for users."""
    prod, staging = tmp_path / "prod", tmp_path / "staging"
    for version in (versions[3], versions[0], versions[3]):
        move(version, staging)
    for number, version in enumerate(versions[:2], 1):
        move(version, prod)
        if era == "old":
            aged(prod, signer)
        if number <= seen:
            assert reader(prod).version == version.name
    if era == "old":
        aged(staging, signer)
    copied(staging, prod)
    if era == "old" and not seen:
        # Old records name no remote, and a new reader has nothing to compare.
        assert reader(prod).version == versions[3].name
        return
    with pytest.raises(Refused, match=r"IDENTITY_MISMATCH|FORKED"):
        reader(prod)


def test_a_copied_number_of_the_remote_is_refused(
    versions: list[Path], move: Any, reader: Any, tmp_path: Path
):
    """A reader that has seen any channel of the remote knows its number."""
    prod, staging = tmp_path / "prod", tmp_path / "staging"
    move(versions[0], prod)
    reader(prod)
    for version in (versions[0], versions[3]):
        move(version, staging)
    copied(staging, prod)
    shutil.rmtree(prod / STABLE)
    shutil.copytree(staging / STABLE, prod / STABLE.parent / "stable")
    for name in ("remote.json", "index.json"):
        shutil.copy(staging / name, prod / name)
    with pytest.raises(Refused, match=r"FORKED|IDENTITY_MISMATCH"):
        reader(prod)
    (tmp_path / "reader" / "seen.json").write_text(
        (tmp_path / "reader" / "seen.json").read_text().replace("@stable", "@beta")
    )
    with pytest.raises(Refused, match="IDENTITY_MISMATCH"):
        reader(prod)


def test_a_mirror_requires_the_number_of_its_remote(
    versions: list[Path], move: Any, reader: Any, tmp_path: Path, web: tuple[Path, str]
):
    """A web server shows the number of its folder; for a copy without it the option gives it."""
    folder, address = web
    move(versions[0], folder)
    assert reader(address).version == versions[0].name
    mirror = tmp_path / "mirror"
    copied(folder, mirror)
    with pytest.raises(Refused, match=r"IDENTITY_MISMATCH(?s:.*)--remote-id (urn:uuid:\S+)") as no:
        reader(mirror)
    told = str(no.value).split("--remote-id ")[1].split()[0]
    assert reader(mirror, identity=told).version == versions[0].name
    assert reader(mirror, identity=told).already
    with pytest.raises(Refused, match="IDENTITY_MISMATCH"):
        reader(folder, "somebody", identity="s3://models/asr")
    with pytest.raises(AsrbuildError, match="cannot be the identity"):
        reader(folder, identity="two words")


def test_the_address_of_a_bucket_or_registry_is_its_identity(
    bucket: str, versions: list[Path], signer: Signer, trust: Trust, reader: Any
):
    ship(versions[0], open_remote(bucket), signer=signer, trust=trust, channel="stable")
    (record,) = history(open_remote(bucket), NAME, "stable", trust)
    assert record.remote == bucket
    assert reader(bucket).version == versions[0].name
    assert open_remote("oci://Example.com/a").identity() == "oci://example.com/a"


def test_records_have_no_path_of_the_machine_that_wrote_them(
    versions: list[Path], move: Any, tmp_path: Path
):
    move(versions[0], tmp_path / "alice-secret")
    for path in (tmp_path / "alice-secret").rglob("*.json"):
        assert b"alice" not in path.read_bytes()
        assert b"alice" not in base64.b64decode(json.loads(path.read_text()).get("payload", ""))
