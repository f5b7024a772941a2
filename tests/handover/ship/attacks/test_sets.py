"""Hostile sets on a remote. Each is refused for its exact reason, before anything is kept."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from asrbuild.base.digest import canonical_json
from asrbuild.handover.ship.formats import sets
from asrbuild.handover.ship.formats.sets import (
    FORMAT,
    PAYLOAD_TYPE,
    check_published,
    parse_published,
)
from asrbuild.handover.ship.formats.variants import MAX_VARIANTS, Variant
from asrbuild.handover.ship.pull import pull
from asrbuild.handover.ship.push import ship, ship_set
from asrbuild.handover.ship.refusal import Refusal, Refused
from asrbuild.handover.ship.remotes.address import open_remote
from asrbuild.handover.ship.signing.envelope import sign
from asrbuild.handover.ship.signing.keys import Signer
from asrbuild.handover.ship.signing.trust import Trust
from tests.handover.ship.attacks.variants import LIES, MALFORMED
from tests.handover.ship.making import Forgery

R = Refusal
Refuse = Callable[..., Refused]


@pytest.fixture
def remote(tmp_path: Path, artifacts: list[Path], signer: Signer, trust: Trust) -> Path:
    folder = tmp_path / "remote"
    to = open_remote(str(folder))
    ship_set(artifacts, to, "demo", signer=signer, trust=trust, channel="beta")
    return folder


def _at(remote: Path, name: str) -> Path:
    (path,) = (remote / "artifacts" / name / "versions").iterdir()
    return path


@pytest.fixture
def forged(remote: Path) -> dict[str, Any]:
    """What is signed, to be changed and signed again without any check."""
    return json.loads(parse_published(_at(remote, "demo").read_bytes()).payload)


@pytest.fixture
def plant(remote: Path, signer: Signer) -> Callable[..., str]:
    """Puts a set at its version's place; returns the name and version to pull."""

    def put(fields: Any, by: Signer = signer, *, fit: bool = True, kind: str = PAYLOAD_TYPE) -> str:
        if fit:
            variants = [Variant(**one) for one in fields["variants"]]
            fields["version"] = f"1.0.0+{sets._which(variants)}"
        version = fields["version"] if isinstance(fields, dict) else "1.0.0"
        envelope = sign(kind, canonical_json(fields).encode(), by)
        raw = canonical_json({"envelope": envelope, "format": FORMAT})
        (remote / f"artifacts/demo/versions/{version}.json").write_text(raw)
        return f"demo@{version}"

    return put


@pytest.fixture
def attack(tmp_path: Path, remote: Path, trust: Trust, config: Path, refused: Refuse) -> Callable:
    """Pulls into ``victim/store``."""
    store = tmp_path / "victim" / "store"
    store.mkdir(parents=True)

    def run(reason: R, spec: str = "demo@beta", system: str | None = "iOS18") -> Refused:
        to = open_remote(str(remote))
        return refused(
            reason, lambda: pull(spec, to, store, trust=trust, config=config, system=system)
        )

    return run


def test_the_forger_can_plant_a_good_one(
    forged: Any, plant: Callable, remote: Path, tmp_path: Path, trust: Trust, config: Path
):
    """Else the tests below would refuse its mistakes instead of its attacks."""
    before = _at(remote, "demo").read_bytes()
    spec = plant(forged)
    assert _at(remote, "demo").read_bytes() == before
    assert (
        len(pull(spec, open_remote(str(remote)), tmp_path / "s", trust=trust, config=config)) == 2
    )


def test_a_strangers_choice_of_honest_artifacts(
    forged: Any, plant: Callable, stranger: Signer, attack: Callable
):
    attack(R.UNTRUSTED_SIGNER, plant(forged, stranger))


def test_a_strangers_artifact_in_our_set(
    forged: Any,
    plant: Callable,
    attack: Callable,
    remote: Path,
    artifacts: list[Path],
    signer: Signer,
    stranger: Signer,
):
    header = canonical_json(Forgery.of(artifacts[0], stranger).header(stranger)).encode()
    _at(remote, "new").write_bytes(header)
    attack(R.UNTRUSTED_SIGNER)
    # Even where the key's holder has let it into the set.
    forged["variants"][0]["header"] = parse_published(header).digest
    attack(R.UNTRUSTED_SIGNER, plant(forged))


def test_one_set_in_anothers_place(
    remote: Path, artifacts: list[Path], signer: Signer, trust: Trust, attack: Callable
):
    """By name, where nothing but the set itself says which it is; then by version."""
    to = open_remote(str(remote))
    other = ship_set(artifacts[1:], to, "other", signer=signer, trust=trust)
    mine = _at(remote, "demo")
    (mine.parent / f"{other.version}.json").write_bytes(_at(remote, "other").read_bytes())
    attack(R.IDENTITY_MISMATCH, f"demo@{other.version}")
    older = ship_set(artifacts[::-1], to, "demo", signer=signer, trust=trust)
    shutil.copy(mine.parent / f"{older.version}.json", mine)
    attack(R.IDENTITY_MISMATCH, f"demo@{mine.stem}")
    attack(R.IDENTITY_MISMATCH, "demo@beta")


def test_headers_of_its_variants_swapped(remote: Path, attack: Callable):
    new, old = _at(remote, "new"), _at(remote, "old")
    raw = new.read_bytes()
    new.write_bytes(old.read_bytes())
    old.write_bytes(raw)
    attack(R.IDENTITY_MISMATCH)


def test_an_honest_build_of_the_same_version_that_is_not_the_one_in_the_set(
    remote: Path, tmp_path: Path, artifacts: list[Path], signer: Signer, attack: Callable
):
    """Validly signed under the same name and version; the set says which one was meant."""
    forgery = Forgery.of(artifacts[0], signer)
    forgery.statement["predicate"]["runDetails"]["metadata"]["finishedOn"] = "then"
    _at(remote, "new").write_text(canonical_json(forgery.header(signer)))
    error = attack(R.IDENTITY_MISMATCH)
    assert "is not the one that is in the set" in str(error)


def test_a_set_in_a_set(forged: Any, plant: Callable, remote: Path, attack: Callable):
    inner = parse_published(_at(remote, "demo").read_bytes())
    forged["variants"][0] |= {"name": "demo", "version": inner.version, "header": inner.digest}
    attack(R.UNKNOWN_FORMAT, plant(forged))


def test_what_is_missing(remote: Path, attack: Callable):
    """The set, a header, a file; of all and of the one that a device takes."""
    blob = json.loads(_at(remote, "new").read_bytes())["files"][2]["sha256"]
    (remote / "blobs" / blob).unlink()
    attack(R.FILE_MISSING)
    _at(remote, "new").unlink()
    attack(R.FILE_MISSING)
    attack(R.FILE_MISSING, system=None)
    _at(remote, "demo").unlink()
    attack(R.FILE_MISSING)


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_a_variant_that_is_not_its_manifest(
    forged: Any, plant: Callable, attack: Callable, lie: dict[str, Any]
):
    """A false record of a variant is reported before any file but the manifest is fetched."""
    forged["variants"][0] |= lie
    attack(R.MANIFEST_MISMATCH, plant(forged))
    # Of all of them, none is kept because of the last.
    forged["variants"].reverse()
    attack(R.MANIFEST_MISMATCH, plant(forged), system=None)


@pytest.mark.parametrize("fault", MALFORMED.values(), ids=MALFORMED)
def test_malformed_variants(forged: Any, plant: Callable, attack: Callable, fault: dict[str, Any]):
    forged["variants"][0] |= fault
    attack(R.HEADER_MALFORMED, plant(forged, fit=False))


@pytest.mark.parametrize("fields", [None, 7, "x", [], {}, {"name": "demo"}], ids=repr)
def test_what_is_no_set(plant: Callable, attack: Callable, fields: Any):
    spec = plant(
        {"version": "1.0.0", "fields": fields} if isinstance(fields, dict) else fields, fit=False
    )
    attack(R.HEADER_MALFORMED, spec)


@pytest.mark.parametrize(
    ("where", "text"),
    [("name", "../up"), ("name", "a\x1b[2J"), ("name", "con"), ("version", "1/../../../x")],
)
def test_hostile_names(forged: Any, plant: Callable, attack: Callable, where: str, text: str):
    spec = plant(forged)
    place = spec.partition("@")[2]
    of_variant = json.loads(json.dumps(forged))
    of_variant["variants"][0][where] = text if where == "version" else ".."
    for hostile, reason in (
        (forged | {where: text}, R.UNSAFE_NAME),
        (of_variant, R.UNSAFE_NAME if where == "name" else R.HEADER_MALFORMED),
    ):
        raw = canonical_json(hostile).encode()
        with pytest.raises(Refused) as caught:
            sets.parse_set(_unsigned(raw))
        assert caught.value.reason is reason
    assert place


def _unsigned(payload: bytes) -> bytes:
    import base64

    envelope = {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [],
    }
    return canonical_json({"envelope": envelope, "format": FORMAT}).encode()


def test_a_version_that_is_not_of_its_variants(forged: Any, plant: Callable, attack: Callable):
    forged["variants"].reverse()
    attack(R.IDENTITY_MISMATCH, plant(forged, fit=False))


def test_none_twice_and_too_many(forged: Any, plant: Callable, attack: Callable):
    one = forged["variants"][0]
    many = [one | {"version": f"1.0.{n}"} for n in range(MAX_VARIANTS + 1)]
    attack(R.DUPLICATE_PATH, plant(forged | {"variants": [one, one]}))
    attack(R.TOO_MANY_FILES, plant(forged | {"variants": many}))
    attack(R.TOO_MANY_FILES, plant(forged | {"variants": []}))


def test_a_signature_of_another_type(forged: Any, plant: Callable, attack: Callable, remote: Path):
    """What the key signed as a channel's record or a bundle's variants is not a set."""
    spec = plant(forged, kind="application/vnd.asrbuild.variants+json")
    attack(R.HEADER_MALFORMED, spec)
    path = _at(remote, "demo")
    value = json.loads(path.read_bytes())
    value["envelope"]["payloadType"] = PAYLOAD_TYPE
    path.write_text(canonical_json(value))
    attack(R.BAD_SIGNATURE, spec)
    value["envelope"]["signatures"] = []
    path.write_text(canonical_json(value))
    attack(R.NOT_SIGNED, spec)


def test_an_old_set_through_a_channel_put_back(
    remote: Path,
    artifacts: list[Path],
    tmp_path: Path,
    signer: Signer,
    trust: Trust,
    config: Path,
    attack: Callable,
):
    to = open_remote(str(remote))
    ship_set(artifacts[::-1], to, "demo", signer=signer, trust=trust, channel="beta")
    pull("demo@beta", to, tmp_path / "seen", trust=trust, config=config, system="iOS18")
    beta = remote / "artifacts/demo/channels/beta"
    (beta / "2.json").unlink()
    attack(R.REPLAYED)


def test_a_set_where_an_artifact_is_shipped(
    remote: Path, artifacts: list[Path], signer: Signer, trust: Trust
):
    _at(remote, "new").write_bytes(_at(remote, "demo").read_bytes())
    with pytest.raises(Refused, match="UNKNOWN_FORMAT"):
        ship(artifacts[0], open_remote(str(remote)), signer=signer, trust=trust)


@settings(
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
@given(data=st.data())
def test_every_flipped_bit_and_every_cut_is_refused(
    remote: Path, trust: Trust, data: st.DataObject
):
    good = _at(remote, "demo").read_bytes()
    at, bit = data.draw(st.integers(0, len(good) - 1)), data.draw(st.integers(0, 7))
    bad = bytearray(good)
    bad[at] ^= 1 << bit
    for hostile in (bytes(bad), good[:at]):
        with pytest.raises(Refused):
            check_published(parse_published(hostile), trust)
