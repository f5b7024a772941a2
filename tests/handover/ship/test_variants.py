"""Bundles of several artifacts: each device gets its variant, byte for byte."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from asrbuild.artifact import integrity, lookup
from asrbuild.base.digest import tree_digests
from asrbuild.base.errors import AsrbuildError
from asrbuild.handover.ship.formats.variants import (
    Variant,
    check_variants,
    choose,
    holds_variants,
    write_variants,
)
from asrbuild.handover.ship.pull import pull_variants
from asrbuild.handover.ship.signing.keys import Signer
from asrbuild.handover.ship.signing.trust import Trust
from tests.handover.ship.making import CONTENT, make_artifact, variant_of

#: Name -> (minimum iOS, minimum macOS, the package's content), the preferred first.
MADE = {
    "demo-18": ("18", "15", b"int8" * 2000),
    "demo-17": ("17", "14", b"half" * 9000),
    "demo-small": ("17", "14", b"tiny"),
    "demo-13": ("13", "10.15", b"floats" * 9000),
}


@pytest.fixture
def artifacts(tmp_path: Path) -> list[Path]:
    return [variant_of(tmp_path / "artifacts", name, *of) for name, of in MADE.items()]


@pytest.fixture
def bundle(artifacts: list[Path], tmp_path: Path, signer: Signer) -> Path:
    write_variants(artifacts, tmp_path / "demo.asrb", signer)
    return tmp_path / "demo.asrb"


@pytest.mark.parametrize(
    ("system", "name"),
    [
        ("iOS26", "demo-18"),
        ("iOS18", "demo-18"),
        ("iOS 18.0", "demo-18"),
        ("iOS17.6.1", "demo-17"),
        ("iOS17", "demo-17"),
        ("iOS16.9", "demo-13"),
        ("iOS13", "demo-13"),
        ("macOS15.1", "demo-18"),
        ("macOS14", "demo-17"),
        ("macOS10.15", "demo-13"),
        ("macOS11", "demo-13"),
    ],
)
def test_a_device_gets_the_first_that_its_system_loads(
    bundle: Path, artifacts: list[Path], tmp_path: Path, trust: Trust, system: str, name: str
):
    (pulled,) = pull_variants(bundle, tmp_path / "device", trust=trust, system=system)
    assert pulled.name == name
    (origin,) = [path for path in artifacts if path.parent.name == name]
    assert tree_digests(pulled.path) == tree_digests(origin)
    assert integrity.verify_files(pulled.path) == []
    assert [a.name for a in lookup.list_artifacts(tmp_path / "device")] == [name]


def test_a_limit_on_the_size_skips_larger_variants(bundle: Path, tmp_path: Path, trust: Trust):
    (pulled,) = pull_variants(
        bundle, tmp_path / "device", trust=trust, system="iOS17", max_bytes=100
    )
    assert pulled.name == "demo-small"
    with pytest.raises(AsrbuildError, match="no variant with at most 3 bytes runs on iOS17"):
        pull_variants(bundle, tmp_path / "none", trust=trust, system="iOS17", max_bytes=3)


@pytest.mark.parametrize(
    ("system", "message"),
    [
        ("iOS12.5", "no variant runs on iOS12.5"),
        ("macOS10.14", "no variant runs on macOS10.14"),
        ("watchOS11", "watchOS11 is not a system"),
        ("iOS", "iOS is not a system"),
        ("17", "17 is not a system"),
        ("iOS17.x", "iOS17.x is not a system"),
    ],
)
def test_systems_without_a_variant_are_refused(
    bundle: Path, tmp_path: Path, trust: Trust, system: str, message: str
):
    with pytest.raises(AsrbuildError, match="^" + message) as caught:
        pull_variants(bundle, tmp_path / "device", trust=trust, system=system)
    assert caught.value.key == "--os"
    assert lookup.list_artifacts(tmp_path / "device") == []


def test_without_a_system_all_are_unpacked(
    bundle: Path, artifacts: list[Path], tmp_path: Path, trust: Trust
):
    pulled = pull_variants(bundle, tmp_path / "all", trust=trust)
    assert [one.name for one in pulled] == list(MADE)
    for one, origin in zip(pulled, artifacts, strict=True):
        assert tree_digests(one.path) == tree_digests(origin)


def test_files_that_variants_share_are_stored_once(
    bundle: Path, trust: Trust, artifacts: list[Path]
):
    found, _ = check_variants(bundle, trust)
    sizes = [file.bytes for file in found.contents]
    assert bundle.stat().st_size == 12 + len(found.raw) + sum(sizes)
    digests = {digest for path in artifacts for digest in tree_digests(path).values()}
    assert len(found.contents) == len(digests)
    # The recording and the alphabet are in all four.
    assert len(CONTENT["reference.wav"]) in sizes
    whole = sum(f.stat().st_size for path in artifacts for f in path.rglob("*") if f.is_file())
    assert sum(sizes) <= whole - 3 * (len(CONTENT["reference.wav"]) + len(CONTENT["alphabet.txt"]))


def test_the_same_artifacts_order_and_key_give_the_same_bytes(
    bundle: Path, artifacts: list[Path], tmp_path: Path, signer: Signer
):
    write_variants(artifacts, tmp_path / "again.asrb", signer)
    assert (tmp_path / "again.asrb").read_bytes() == bundle.read_bytes()
    write_variants(artifacts[::-1], tmp_path / "reversed.asrb", signer)
    assert (tmp_path / "reversed.asrb").read_bytes() != bundle.read_bytes()
    with pytest.raises(AsrbuildError, match="never overwritten"):
        write_variants(artifacts[::-1], bundle, signer)


def test_an_artifact_given_twice_is_refused(artifacts: list[Path], tmp_path: Path, signer: Signer):
    with pytest.raises(AsrbuildError, match="twice"):
        write_variants([*artifacts, artifacts[0]], tmp_path / "twice.asrb", signer)
    assert not (tmp_path / "twice.asrb").exists()


def test_the_commands_bundle_list_and_pull_variants(
    command: Callable, artifacts: list[Path], tmp_path: Path
):
    bundle, device = tmp_path / "demo.asrb", tmp_path / "device"
    code, out, err = command("bundle", *artifacts, bundle, "--json")
    assert code == 0, err
    assert [row["name"] for row in json.loads(out)["variants"]] == list(MADE)
    assert holds_variants(bundle)
    code, out, _ = command("variants", bundle, "--os", "iOS17", "--json")
    chosen = {row["name"]: row["chosen"] for row in json.loads(out)["variants"]}
    assert (code, chosen) == (0, dict.fromkeys(MADE, False) | {"demo-17": True})
    code, out, _ = command("variants", bundle)
    assert code == 0
    assert "iOS 13, macOS 10.15" in out
    code, out, _ = command(
        "pull", bundle, "--os", "iOS17", "--max-size", 9, "--artifacts", device, "--json"
    )
    assert (code, json.loads(out)["name"]) == (0, "demo-small")
    code, out, _ = command("pull", bundle, "--artifacts", device)
    assert code == 0
    assert len(out.splitlines()) == 2 * len(MADE)
    code, _, err = command("pull", bundle, "--os", "tvOS1", "--artifacts", device)
    assert (code, err.splitlines()[0]) == (1, "error: tvOS1 is not a system")
    code, _, err = command("verify", bundle)
    assert (code, err.splitlines()[0]) == (1, "error: the bundle holds several artifacts")
    single = tmp_path / "single.asrb"
    assert command("bundle", artifacts[0], single)[0] == 0
    code, out, _ = command("variants", single, "--json")
    assert (code, [row["name"] for row in json.loads(out)["variants"]]) == (0, ["demo-18"])
    one_by_one = tmp_path / "one-by-one"
    code, _, err = command("pull", single, "--os", "iOS17", "--artifacts", one_by_one)
    assert (code, err.splitlines()[0]) == (1, "error: no variant runs on iOS17")
    assert not list(one_by_one.glob("[!.]*"))
    for told in ("bytes, signed by default", "was here already, whole"):
        code, out, _ = command("pull", single, "--os", "iOS18", "--artifacts", one_by_one)
        assert code == 0
        assert told in out
    code, _, err = command("pull", single, "--max-size", 9, "--artifacts", device)
    assert (code, err.splitlines()[0]) == (2, "error: --max-size requires --os")
    code, _, err = command("bundle", artifacts[0], tmp_path / "single.zip")
    assert (code, err.splitlines()[0]) == (1, "error: a bundle's name ends in .asrb")


systems = st.lists(st.integers(1, 30), min_size=1, max_size=3)


@given(st.lists(st.tuples(systems, st.integers(0, 9)), max_size=5), systems, st.integers(0, 9))
def test_the_choice_is_the_first_that_fits(offered, system, largest):
    """The rule is compared with another implementation, in which a version is one number."""

    def number(version: list[int]) -> int:
        first, second, third = (*version, 0, 0)[:3]
        return first * 10**6 + second * 10**3 + third

    variants = [
        Variant(
            "0" * 64,
            f"v{at}",
            "1",
            "mlprogram",
            "fp16",
            "none",
            "ALL",
            {"iOS": ".".join(map(str, least))},
            size,
        )
        for at, (least, size) in enumerate(offered)
    ]
    fitting = [
        f"v{at}"
        for at, (least, size) in enumerate(offered)
        if number(least) <= number(system) and size <= largest
    ]
    asked = "iOS" + ".".join(map(str, system))
    if fitting and largest:
        assert choose(variants, asked, largest).name == fitting[0]
    elif not fitting and largest:
        with pytest.raises(AsrbuildError, match="no variant"):
            choose(variants, asked, largest)


def test_a_package_without_macos_is_not_chosen_there(tmp_path: Path, signer: Signer):
    def for_ios_only(fields: dict[str, Any]) -> None:
        fields["model"]["minimum_os"] = {"iOS": "17"}

    phone = make_artifact(tmp_path / "artifacts", "phone", change=for_ios_only)
    written = write_variants([phone], tmp_path / "phone.asrb", signer)
    assert choose(written.variants, "iOS17").name == "phone"
    with pytest.raises(AsrbuildError, match="no variant runs on macOS15"):
        choose(written.variants, "macOS15")
