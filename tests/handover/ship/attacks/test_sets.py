"""Each hostile set on a remote is refused for its exact reason, before a file is kept."""

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
    """The signed fields of a set, which tests change and sign again without checks."""
    return json.loads(parse_published(_at(remote, "demo").read_bytes()).payload)


@pytest.fixture
def plant(remote: Path, signer: Signer) -> Callable[..., str]:
    """Puts a set at the place of its version; returns the name and version to pull."""

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


def test_a_set_without_a_fault_is_accepted(
    forged: Any, plant: Callable, remote: Path, tmp_path: Path, trust: Trust, config: Path
):
    """Otherwise the tests below could fail for a mistake of the forgery instead of the attack."""
    before = _at(remote, "demo").read_bytes()
    spec = plant(forged)
    assert _at(remote, "demo").read_bytes() == before
    assert (
        len(pull(spec, open_remote(str(remote)), tmp_path / "s", trust=trust, config=config)) == 2
    )


def test_an_untrusted_set_of_trusted_artifacts_is_refused(
    forged: Any, plant: Callable, stranger: Signer, attack: Callable
):
    attack(R.UNTRUSTED_SIGNER, plant(forged, stranger))


def test_an_untrusted_artifact_in_a_trusted_set_is_refused(
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
    # It is refused even if the key's holder has signed the set with it.
    forged["variants"][0]["header"] = parse_published(header).digest
    attack(R.UNTRUSTED_SIGNER, plant(forged))


def test_a_set_in_the_place_of_another_is_refused(
    remote: Path, artifacts: list[Path], signer: Signer, trust: Trust, attack: Callable
):
    """First the name differs, then the version."""
    to = open_remote(str(remote))
    other = ship_set(artifacts[1:], to, "other", signer=signer, trust=trust)
    mine = _at(remote, "demo")
    (mine.parent / f"{other.version}.json").write_bytes(_at(remote, "other").read_bytes())
    attack(R.IDENTITY_MISMATCH, f"demo@{other.version}")
    older = ship_set(artifacts[::-1], to, "demo", signer=signer, trust=trust)
    shutil.copy(mine.parent / f"{older.version}.json", mine)
    attack(R.IDENTITY_MISMATCH, f"demo@{mine.stem}")
    attack(R.IDENTITY_MISMATCH, "demo@beta")


def test_swapped_headers_of_variants_are_refused(remote: Path, attack: Callable):
    new, old = _at(remote, "new"), _at(remote, "old")
    raw = new.read_bytes()
    new.write_bytes(old.read_bytes())
    old.write_bytes(raw)
    attack(R.IDENTITY_MISMATCH)


def test_another_signed_build_of_a_variant_is_refused(
    remote: Path, tmp_path: Path, artifacts: list[Path], signer: Signer, attack: Callable
):
    """It is validly signed under the same name and version, but the set names the other build."""
    forgery = Forgery.of(artifacts[0], signer)
    forgery.statement["predicate"]["runDetails"]["metadata"]["finishedOn"] = "then"
    _at(remote, "new").write_text(canonical_json(forgery.header(signer)))
    error = attack(R.IDENTITY_MISMATCH)
    assert "is not the one that is in the set" in str(error)


def test_a_set_in_a_set_is_refused(forged: Any, plant: Callable, remote: Path, attack: Callable):
    inner = parse_published(_at(remote, "demo").read_bytes())
    forged["variants"][0] |= {"name": "demo", "version": inner.version, "header": inner.digest}
    attack(R.UNKNOWN_FORMAT, plant(forged))


def test_missing_sets_headers_and_files_are_refused(remote: Path, attack: Callable):
    """They are missing for all variants, or for the one that a device takes."""
    blob = json.loads(_at(remote, "new").read_bytes())["files"][2]["sha256"]
    (remote / "blobs" / blob).unlink()
    attack(R.FILE_MISSING)
    _at(remote, "new").unlink()
    attack(R.FILE_MISSING)
    attack(R.FILE_MISSING, system=None)
    _at(remote, "demo").unlink()
    attack(R.FILE_MISSING)


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_a_variant_that_contradicts_its_manifest_is_refused(
    forged: Any, plant: Callable, attack: Callable, lie: dict[str, Any]
):
    """A false record of a variant is reported before any file except the manifest is fetched."""
    forged["variants"][0] |= lie
    attack(R.MANIFEST_MISMATCH, plant(forged))
    # A fault of the last variant refuses all of them.
    forged["variants"].reverse()
    attack(R.MANIFEST_MISMATCH, plant(forged), system=None)


@pytest.mark.parametrize("fault", MALFORMED.values(), ids=MALFORMED)
def test_malformed_variants_are_refused(
    forged: Any, plant: Callable, attack: Callable, fault: dict[str, Any]
):
    forged["variants"][0] |= fault
    attack(R.HEADER_MALFORMED, plant(forged, fit=False))


@pytest.mark.parametrize("fields", [None, 7, "x", [], {}, {"name": "demo"}], ids=repr)
def test_values_that_are_not_sets_are_refused(plant: Callable, attack: Callable, fields: Any):
    spec = plant(
        {"version": "1.0.0", "fields": fields} if isinstance(fields, dict) else fields, fit=False
    )
    attack(R.HEADER_MALFORMED, spec)


@pytest.mark.parametrize(
    ("where", "text"),
    [("name", "../up"), ("name", "a\x1b[2J"), ("name", "con"), ("version", "1/../../../x")],
)
def test_hostile_names_are_refused(
    forged: Any, plant: Callable, attack: Callable, where: str, text: str
):
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


def test_a_version_that_contradicts_the_variants_is_refused(
    forged: Any, plant: Callable, attack: Callable
):
    forged["variants"].reverse()
    attack(R.IDENTITY_MISMATCH, plant(forged, fit=False))


def test_no_duplicate_and_too_many_variants_are_refused(
    forged: Any, plant: Callable, attack: Callable
):
    one = forged["variants"][0]
    many = [one | {"version": f"1.0.{n}"} for n in range(MAX_VARIANTS + 1)]
    attack(R.DUPLICATE_PATH, plant(forged | {"variants": [one, one]}))
    attack(R.TOO_MANY_FILES, plant(forged | {"variants": many}))
    attack(R.TOO_MANY_FILES, plant(forged | {"variants": []}))


def test_a_signature_of_another_type_is_refused(
    forged: Any, plant: Callable, attack: Callable, remote: Path
):
    """A signature of the key on a channel's record or a bundle's variants is not a set."""
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


def test_an_old_set_through_a_restored_channel_is_refused(
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


def test_a_set_in_the_place_of_a_shipped_artifact_is_refused(
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
