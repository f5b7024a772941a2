"""Sets of variants on real remotes: each device gets its variant, by name and channel."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from asrbuild.artifact import lookup
from asrbuild.artifact.retention import Rules
from asrbuild.base.digest import tree_digests
from asrbuild.base.errors import AsrbuildError
from asrbuild.handover.ship import cleanup
from asrbuild.handover.ship.channels.move import rollback
from asrbuild.handover.ship.channels.seen import seen_versions
from asrbuild.handover.ship.lookup import pointed_versions
from asrbuild.handover.ship.pointing import set_channel
from asrbuild.handover.ship.pull import Pulled, pull
from asrbuild.handover.ship.push import Shipped, ship, ship_set
from asrbuild.handover.ship.remotes.address import open_remote
from asrbuild.handover.ship.remotes.objects import ObjectRemote
from asrbuild.handover.ship.remotes.remote import Remote
from asrbuild.handover.ship.signing.keys import Signer
from asrbuild.handover.ship.signing.trust import Trust
from tests.handover.ship.making import CONTENT, make_artifact, next_second, variant_of

#: Name -> (minimum iOS, minimum macOS, the package's content), the preferred first.
MADE = {
    "demo-18": ("18", "15", b"int8" * 2000),
    "demo-17": ("17", "14", b"half" * 9000),
    "demo-13": ("13", "10.15", b"floats" * 9000),
}
LATER = 3 * 86400.0


@pytest.fixture
def artifacts(tmp_path: Path) -> list[Path]:
    return [variant_of(tmp_path / "artifacts", name, *of) for name, of in MADE.items()]


@pytest.fixture
def send(signer: Signer, trust: Trust) -> Callable[..., Shipped]:
    return lambda paths, remote, **more: ship_set(
        paths, remote, "demo", signer=signer, trust=trust, **more
    )


@pytest.fixture
def fetch(tmp_path: Path, trust: Trust, config: Path) -> Callable[..., list[Pulled]]:
    def run(spec: str, remote: Remote, system: str | None = None, **more: Any) -> list[Pulled]:
        root = tmp_path / "device" / f"{system}"
        return pull(spec, remote, root, trust=trust, config=config, system=system, **more)

    return run


def test_a_device_gets_the_first_that_its_system_loads(
    artifacts: list[Path], remote: Remote, send: Any, fetch: Any, tmp_path: Path
):
    shipped = send(artifacts, remote, channel="stable")
    assert shipped.version.startswith("1.0.0+")
    assert (shipped.already, shipped.counter) == (False, 1)
    assert remote.versions("demo") == [shipped.version]
    for system, name in (("iOS26", "demo-18"), ("iOS17.4", "demo-17"), ("macOS11", "demo-13")):
        for spec in ("demo", f"demo@{shipped.version}", "demo@1.0.0"):
            (pulled,) = fetch(spec, remote, system)
            (origin,) = [path for path in artifacts if path.parent.name == name]
            assert tree_digests(pulled.path) == tree_digests(origin)
            assert (pulled.name, pulled.of_set) == (name, f"demo@{shipped.version}")
        assert [one.name for one in lookup.list_artifacts(tmp_path / "device" / system)] == [name]
    (small,) = fetch("demo", remote, "iOS18", max_bytes=10_000)
    assert small.name == "demo-18"
    every = fetch("demo@stable", remote)
    assert [one.name for one in every] == list(MADE)
    for system, said in (("iOS12", "no variant runs on iOS12"), ("tvOS1", "tvOS1 is not a system")):
        with pytest.raises(AsrbuildError, match=f"^{said}"):
            fetch("demo", remote, system)
        assert not list((tmp_path / "device").glob(f"{system}/[!.]*"))
    # Each variant can be pulled by its own name as well.
    (alone,) = fetch("demo-17@1.0.0", remote)
    assert (alone.of_set, alone.already) == (None, True)


def test_shipping_a_set_again_changes_nothing_and_another_order_is_another_set(
    artifacts: list[Path], remote: Remote, send: Any, fetch: Any, signer: Signer, trust: Trust
):
    first = send(artifacts, remote, channel="beta")
    again = send(artifacts, remote, channel="beta")
    assert (again.already, again.uploaded, again.counter) == (True, 0, 1)
    assert (again.version, again.header) == (first.version, first.header)
    other = send(artifacts[::-1], remote, channel="beta")
    assert (other.already, other.uploaded, other.counter) == (False, 0, 2)
    assert fetch("demo@beta", remote, "iOS18")[0].name == "demo-13"
    record = rollback(remote, "demo", "beta", signer=signer, trust=trust)
    assert record.version == first.version
    assert fetch("demo@beta", remote, "iOS18")[0].name == "demo-18"
    set_channel(remote, "demo", "stable", other.version, signer=signer, trust=trust)
    assert fetch("demo", remote, "iOS18")[0].name == "demo-13"


def test_a_set_of_another_build_takes_the_existing_headers(
    remote: Remote, send: Any, fetch: Any, tmp_path: Path, signer: Signer, trust: Trust
):
    """The set names the headers that are on the remote."""
    monday = make_artifact(tmp_path / "monday")
    tuesday = make_artifact(
        tmp_path / "tuesday",
        change=lambda m: m["provenance"].update(created="2025-06-02T09:00:00+00:00"),
    )
    there = ship(monday, remote, signer=signer, trust=trust)
    send([tuesday], remote, channel="stable")
    (pulled,) = fetch("demo", remote, "iOS26")
    assert pulled.header == there.header
    assert tree_digests(pulled.path) == tree_digests(monday)


def test_a_set_is_pulled_from_a_web_server(
    artifacts: list[Path], web: tuple[Path, str], send: Any, fetch: Any
):
    folder, address = web
    shipped = send(artifacts, open_remote(str(folder)), channel="stable")
    outside = open_remote(address)
    assert outside.versions("demo") == [shipped.version]
    assert fetch("demo", outside, "iOS17")[0].name == "demo-17"
    assert fetch("demo@1.0.0", outside, "macOS11")[0].name == "demo-13"


def test_a_set_may_have_the_name_of_a_variant(
    remote: Remote, tmp_path: Path, send: Any, fetch: Any
):
    artifact = make_artifact(tmp_path / "artifacts", name="demo")
    shipped = send([artifact], remote, channel="stable")
    assert remote.versions("demo") == sorted([artifact.name, shipped.version])
    assert fetch("demo", remote, "iOS26")[0].version == artifact.name
    with pytest.raises(AsrbuildError, match=r"1\.0\.0 is the start of 2 versions of demo"):
        fetch("demo@1.0.0", remote)


def test_a_push_interrupted_before_the_set_resumes(
    artifacts: list[Path], remote: Remote, send: Any, fetch: Any
):
    real = remote.publish
    left = [2]

    def publish(*arguments: Any) -> bool:
        if not left[0]:
            raise AsrbuildError("the network is gone")
        left[0] -= 1
        return real(*arguments)

    remote.publish = publish  # type: ignore[method-assign]
    with pytest.raises(AsrbuildError, match="the network is gone"):
        send(artifacts, remote, channel="stable")
    assert (remote.versions("demo"), remote.channels("demo")) == ([], [])
    remote.publish = real  # type: ignore[method-assign]
    send(artifacts, remote, channel="stable")
    assert [one.name for one in fetch("demo", remote)] == list(MADE)


# Clean-ups -------------------------------------------------------------------------------------


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectRemote:
    here = str(tmp_path / "remote")
    remote = open_remote(here if request.param == "folder" else request.getfixturevalue("bucket"))
    assert isinstance(remote, ObjectRemote)
    return remote


def gone(remote: ObjectRemote) -> set[str]:
    items = cleanup.survey(remote, Rules(1, 0.0), time.time() + LATER)
    return {item.name for item in cleanup.remove(remote, items) if item.kind == "version"}


def newer(artifacts: list[Path], place: ObjectRemote, signer: Signer, trust: Trust) -> None:
    """Ships a newer version of each, so that the old ones are not the last of their names."""
    next_second(place.address)
    for path in artifacts:
        name, root = path.parent.name, path.parents[1]
        content = {**CONTENT, "model.mlmodel": name.encode()}
        later = make_artifact(root, name, content, recipe_version="2.0.0")
        ship(later, place, signer=signer, trust=trust)


def test_the_variants_of_a_set_stay_as_long_as_the_set(
    artifacts: list[Path], place: ObjectRemote, send: Any, fetch: Any, signer: Signer, trust: Trust
):
    old = send(artifacts[1:], place)
    next_second(place.address)
    pointed = send(artifacts, place, channel="stable")
    newer(artifacts, place, signer, trust)
    items = cleanup.survey(place, Rules(1, 0.0), time.time() + LATER)
    why = {item.name: item.why for item in items if item.kind == "version"}
    assert why[f"demo-17/{artifacts[1].name}"] == f"the set demo@{pointed.version} needs it"
    assert why[f"demo/{pointed.version}"] == "in the history of demo@stable"
    assert gone(place) <= {f"demo/{old.version}"}
    assert [one.name for one in fetch("demo", place)] == list(MADE)
    # Without the channel the set is a version like any other, and its variants go with it.
    for stored in place.objects.entries("artifacts/demo/channels/stable"):
        place.objects.remove(f"artifacts/demo/channels/stable/{stored.name}")
    send(artifacts[:1], place)
    assert gone(place) == {
        f"demo/{pointed.version}",
        *(f"{path.parent.name}/{path.name}" for path in artifacts[1:]),
    }
    assert fetch("demo@1.0.0", place, "iOS18")[0].name == "demo-18"


def test_variants_of_a_set_shipped_during_a_clean_up_are_restored_or_reported(
    artifacts: list[Path], tmp_path: Path, send: Any, fetch: Any, signer: Signer, trust: Trust
):
    """A variant removed before the check is restored; after the check, shipping fails."""
    place, other = (open_remote(str(tmp_path / "remote")) for _ in range(2))
    assert isinstance(place, ObjectRemote)
    for path in artifacts:
        ship(path, place, signer=signer, trust=trust)
    newer(artifacts, place, signer, trust)
    real = place.objects.remove
    shipped: list[Any] = []

    def remove(path: str) -> None:
        if not shipped and "versions" in path:
            shipped.append(send(artifacts, other))
        real(path)

    place.objects.remove = remove  # type: ignore[method-assign]
    assert gone(place) == set()
    assert [one.name for one in fetch("demo@1.0.0", other)] == list(MADE)

    def publish(name: str, *arguments: Any) -> bool:
        real(f"artifacts/demo-13/versions/{artifacts[2].name}.json")
        return ObjectRemote.publish(other, name, *arguments)

    other.publish = publish  # type: ignore[method-assign]
    with pytest.raises(AsrbuildError, match=r"has removed demo-13 .* meanwhile"):
        send(artifacts[1:], other)


def test_the_store_keeps_variants_of_a_set_that_a_channel_points_at(
    artifacts: list[Path], tmp_path: Path, send: Any, fetch: Any, config: Path
):
    address = str(tmp_path / "remote")
    send(artifacts, open_remote(address), channel="stable")
    fetch("demo", open_remote(address), "iOS17")
    members = {(path.parent.name, path.name) for path in artifacts}
    assert members <= seen_versions(config)
    notes: list[str] = []
    for offline in (False, True):
        assert members <= set(pointed_versions(config, notes.append, offline=offline))
    assert not notes


# Commands --------------------------------------------------------------------------------------


def test_the_commands_ship_list_and_pull_sets(
    command: Callable, artifacts: list[Path], tmp_path: Path
):
    remote, device = tmp_path / "remote", tmp_path / "device"
    code, _, err = command("ship", *artifacts, remote)
    assert (code, err.splitlines()[0]) == (
        2,
        "error: 3 artifacts are shipped as a set, which requires a name",
    )
    code, out, err = command("ship", *artifacts, remote, "--set", "demo", "--channel", "stable")
    assert code == 0, err
    assert out.splitlines()[-1] == f"asrbuild pull demo@stable --remote {remote} --os iOS17"
    code, out, _ = command(
        "pull", "demo", "--remote", remote, "--os", "iOS17", "--artifacts", device
    )
    assert code == 0
    assert out.startswith("demo-17 1.0.0+")
    assert ", of demo@1.0.0+" in out
    code, out, _ = command("pull", "demo", "--remote", remote, "--json", "--artifacts", device)
    assert [row["name"] for row in json.loads(out)] == list(MADE)
    code, out, _ = command("ls", "--remote", remote)
    assert code == 0
    assert "3 variants" in out
    assert "from iOS 17, macOS 14" in out
    code, out, _ = command("ls", "--remote", remote, "--json")
    (row,) = [row for row in json.loads(out) if row["name"] == "demo"]
    assert [one["name"] for one in row["variants"]] == list(MADE)
    assert (row["channels"], row["signer"], row["refused"]) == (["stable"], "default", None)
    code, _, err = command("verify", f"{remote}#demo@stable")
    assert code == 1
    assert "is a set of artifacts" in err
    assert f"fix: name one: demo-18@{artifacts[0].name}, " in err
    code, _, err = command("ship", *artifacts, tmp_path / "x.asrb", "--set", "demo")
    assert (code, err.splitlines()[0]) == (1, "error: a bundle file has no set")
    code, _, err = command("ship", artifacts[0], artifacts[0], remote, "--set", "twice")
    assert (code, err.splitlines()[0]) == (
        1,
        "error: refused (DUPLICATE_PATH): it has an artifact twice",
    )
    code, _, err = command("ship", artifacts[0], remote, "--set", "../up")
    assert code == 1
    assert "UNSAFE_NAME" in err
    assert not os.path.lexists(tmp_path / "up")
