"""A channel is handed over from key to key by both."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from asrbuild.base.digest import canonical_json
from asrbuild.base.errors import AsrbuildError
from asrbuild.handover.ship.channels.move import rotate
from asrbuild.handover.ship.channels.record import PAYLOAD_TYPE
from asrbuild.handover.ship.origin import prove_origin
from asrbuild.handover.ship.push import ship
from asrbuild.handover.ship.refusal import Refused
from asrbuild.handover.ship.remotes.address import open_remote
from asrbuild.handover.ship.signing.envelope import sign
from asrbuild.handover.ship.signing.keys import Signer, new_key
from asrbuild.handover.ship.signing.trust import (
    Trust,
    read_trust,
)
from tests.handover.ship.channels.records import NAME, STABLE, digest_of, fields_of, put


@pytest.fixture
def new(tmp_path: Path) -> Signer:
    return new_key("next", tmp_path / "theirs")


@pytest.mark.parametrize("seen", [True, False])
def test_readers_of_the_old_key_follow_a_rotated_channel(
    versions: list[Path],
    move: Any,
    reader: Any,
    tmp_path: Path,
    signer: Signer,
    trust: Trust,
    new: Signer,
    seen: bool,
):
    """They follow with or without an earlier pull; later records of the old key are refused."""
    folder = tmp_path / "remote"
    remote = open_remote(str(folder))
    move(versions[0], folder)
    if seen:
        reader(folder)
    record = rotate(remote, NAME, "stable", signer=signer, to=new, trust=trust)
    assert (record.why, record.version) == ("rotate", versions[0].name)
    both = {**trust, **new.trust}
    ship(versions[1], remote, signer=new, trust=both, channel="stable")
    pulled = reader(folder)
    assert pulled.version == versions[1].name
    assert reader(folder).already
    # The reader can verify the signatures of the new key.
    theirs = read_trust(tmp_path / "reader")
    assert set(theirs) == {signer.keyid, new.keyid}
    assert prove_origin(pulled.path, theirs).keyid == new.keyid  # type: ignore[union-attr]
    # The old key, which may have leaked since, cannot move the channel.
    with pytest.raises(AsrbuildError, match="has handed demo-dynamic@stable over"):
        ship(versions[2], remote, signer=signer, trust=both, channel="stable")
    put(folder, signer, **(fields_of(folder, 3) | {"counter": 4, "previous": digest_of(folder, 3)}))
    for who in ("reader", "somebody"):
        with pytest.raises(Refused, match="UNTRUSTED_SIGNER"):
            reader(folder, who)
    (folder / STABLE / "4.json").unlink()
    # The second key hands the channel over to a third.
    third = new_key("third", tmp_path / "thirds")
    rotate(remote, NAME, "stable", signer=new, to=third, trust=both)
    ship(versions[3], remote, signer=third, trust={**both, **third.trust}, channel="stable")
    for who in ("reader", "somebody"):
        assert reader(folder, who).version == versions[3].name


@pytest.mark.parametrize("how", ["by the old alone", "by the new alone", "by a stranger", "no key"])
def test_a_rotation_without_both_signatures_is_refused(
    versions: list[Path],
    move: Any,
    reader: Any,
    tmp_path: Path,
    signer: Signer,
    new: Signer,
    stranger: Signer,
    how: str,
):
    folder = tmp_path / "remote"
    move(versions[0], folder)
    key = base64.b64encode(new.private.public_key().public_bytes_raw()).decode()
    fields = fields_of(folder, 1) | {
        "counter": 2,
        "previous": digest_of(folder, 1),
        "why": "rotate",
        "key": key,
    }
    if how == "no key":
        for nonsense in ("", "AA==", base64.b64encode(bytes(32)).decode(), None):
            put(folder, signer, **(fields | {"key": nonsense}))
            with pytest.raises(Refused, match="RECORD_MALFORMED"):
                reader(folder)
        return
    by = {"by the old alone": [signer], "by the new alone": [new], "by a stranger": [stranger, new]}
    payload = canonical_json(fields).encode()
    envelope = sign(PAYLOAD_TYPE, payload, by[how][0])
    for one in by[how][1:]:
        envelope["signatures"] += sign(PAYLOAD_TYPE, payload, one)["signatures"]
    (folder / STABLE / "2.json").write_text(canonical_json(envelope))
    with pytest.raises(Refused, match=r"NOT_SIGNED|UNTRUSTED_SIGNER"):
        reader(folder)
    assert set(read_trust(tmp_path / "reader")) == {signer.keyid}
