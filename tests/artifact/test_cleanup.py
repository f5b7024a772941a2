"""``asrbuild gc``: its rules, races with builds and kills, and the command, on a real store."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from asrbuild.artifact import cleanup as collect, integrity, layout, lookup, store
from asrbuild.artifact.cleanup import CacheRules, Item
from asrbuild.artifact.retention import YOUNG_SECONDS, Candidate, Rules, Version, decide
from asrbuild.base import cache, cache_cleanup
from asrbuild.base.cache import RECORD
from asrbuild.base.digest import tree_digests
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.links import NamedFiles
from asrbuild.handover.ship.pointing import set_channel
from asrbuild.handover.ship.push import ship
from asrbuild.handover.ship.remotes.address import open_remote
from asrbuild.handover.ship.signing.keys import new_key
from asrbuild.handover.ship.signing.trust import read_trust
from tests import command
from tests.artifact import cleanup_worker
from tests.handover.ship.making import make_versions
from tests.killing import seeded

DAY = 86400.0
PINS = {
    "a": lambda name, _: name == "a",
    "b/*": lambda name, _: name == "b",
    "a/1": lambda name, version: (name, version) == ("a", "1"),
    "b@2": lambda name, version: (name, version) == ("b", "2"),
}
names, numbers = st.sampled_from(["a", "b"]), st.integers(0, 9).map(str)


@given(
    st.lists(
        st.builds(Candidate, names, numbers, st.floats(0, 100 * DAY)),
        max_size=12,
        unique_by=lambda c: (c.name, c.version),
    ),
    st.builds(
        Rules,
        st.integers(1, 4),
        st.floats(0, 60 * DAY),
        st.lists(st.sampled_from(sorted(PINS)), max_size=2).map(tuple),
    ),
    st.sets(st.tuples(names, numbers)),
)
def test_artifacts_that_a_rule_keeps_stay_and_others_go(
    found: list[Candidate], rules: Rules, pointed: set[Version]
):
    verdicts = decide(found, rules, dict.fromkeys(pointed, "a channel"))
    assert {v.candidate for v in verdicts} == set(found)
    for verdict in verdicts:
        one = verdict.candidate
        newer = [
            c for c in found if c.name == one.name and (c.age, c.version) < (one.age, one.version)
        ]
        assert verdict.keep == (
            (one.name, one.version) in pointed
            or any(PINS[pattern](one.name, one.version) for pattern in rules.pinned)
            or len(newer) < rules.last
            or one.age < max(rules.newer_than, YOUNG_SECONDS)
        )
        assert verdict.why


def make_old(path: Path, days: float) -> None:
    then = time.time() - days * DAY
    os.utime(path, (then, then))


def all_old(root: Path, days: float) -> None:
    """Sets the age of every artifact and cache entry below ``root``; the first is the oldest."""
    found = [*root.glob(f"artifacts/*/*/{layout.SUMS}"), *root.glob(f"cache/*/*/{RECORD}")]
    for place, path in enumerate(sorted(found, key=lambda p: p.stat().st_mtime_ns)):
        make_old(path, days + (len(found) - place) / 1000)


@pytest.fixture
def grown(tmp_path: Path) -> Path:
    """A store of six versions and a cache of eight entries, two days old."""
    for number in range(6):
        cleanup_worker.publish(tmp_path, "killed", number)
    for number in (6, 7):
        cleanup_worker.make(tmp_path, number)
    all_old(tmp_path, 2)
    return tmp_path


def survey(root: Path, rules: Rules, **more: Any) -> list[Item]:
    cache_rules = CacheRules(more.pop("older", 7 * DAY), more.pop("size", None))
    pointed = more.pop("pointed", {})
    return collect.survey(root / "artifacts", root / "cache", rules, cache_rules, pointed)


def told(items: list[Item], kind: str) -> dict[str, str | None]:
    """Name -> why it stays; None if it goes."""
    return {item.name: item.why if item.keep else None for item in items if item.kind == kind}


def test_artifacts_are_kept_by_age_count_and_pins(grown: Path):
    for number in range(6):
        make_old(grown / "artifacts/killed" / f"1+{number}" / layout.SUMS, 10 - number)
    store.point_latest(grown / "artifacts", "killed", "1+0")
    pointed = {("killed", "1+1"): "beta", ("other", "1+3"): "beta"}
    items = survey(grown, Rules(1, 6.5 * DAY, ("*/1+2",)), pointed=pointed)
    assert told(items, "artifact") == {
        "killed/1+0": "latest",
        "killed/1+1": "beta",
        "killed/1+2": "pinned by */1+2",
        "killed/1+3": None,
        "killed/1+4": "newer than 6 d",
        "killed/1+5": "among the last 1",
    }
    before = {n: tree_digests(grown / "artifacts/killed" / f"1+{n}") for n in (0, 1, 2, 4, 5)}
    gone = list(collect.remove(grown / "artifacts", grown / "cache", items))
    assert [item.name for item in gone] == ["killed/1+3"]
    assert sorted(a.version for a in lookup.list_artifacts(grown / "artifacts")) == [
        f"1+{n}" for n in before
    ]
    for number, digests in before.items():
        assert tree_digests(grown / "artifacts/killed" / f"1+{number}") == digests
    assert sorted(p.name for p in (grown / "artifacts").iterdir()) == ["killed"]


def test_cache_entries_are_kept_by_age_and_size(grown: Path):
    """No entry is known to belong to an artifact: these artifacts have no receipts."""
    prints = {n: f"convert/{cache.fingerprint(cleanup_worker.key(n))}" for n in range(8)}
    for number in range(8):
        make_old(grown / "cache" / prints[number] / RECORD, number)
    items = survey(grown, Rules(1, 0.0), older=4.5 * DAY)
    assert told(items, "cache") == {
        prints[0]: "used within a day",
        **dict.fromkeys((prints[n] for n in (1, 2, 3, 4)), "used within 4 d"),
        **dict.fromkeys((prints[n] for n in (5, 6, 7)), None),
    }
    # Beyond the size, the entries unused for longest go, but none that was used within a day.
    # Records of entries differ by a few bytes: they have the seconds of a build.
    for stays in (8, 7, 4, 1):
        exact = NamedFiles(grown / "cache" / prints[n] for n in range(stays)).bytes
        for size, left in ((exact, stays), (exact - 1, max(1, stays - 1))):
            items = survey(grown, Rules(1, 0.0), older=99 * DAY, size=size)
            assert [prints[n] for n in range(left)] == [
                name for name, why in reversed(told(items, "cache").items()) if why
            ]
    gone = list(collect.remove(grown / "artifacts", grown / "cache", items))
    assert {item.kind for item in gone} == {"artifact", "cache"}
    assert [e.fingerprint for e in cache_cleanup.list_entries(grown / "cache")] == [prints[0][8:]]
    assert (cleanup_worker.make(grown, 7) / "a.bin").read_bytes() == cleanup_worker.content(7)


def test_an_entry_that_a_build_took_meanwhile_stays(grown: Path):
    items = survey(grown, Rules(1, 0.0), older=DAY)
    taken = cleanup_worker.make(grown, 3)
    names = {item.name for item in collect.remove(grown / "artifacts", grown / "cache", items)}
    assert f"convert/{taken.name}" not in names
    assert [e.path for e in cache_cleanup.list_entries(grown / "cache")] == [taken]


def test_a_version_that_became_the_latest_meanwhile_stays(grown: Path):
    """The version that was the latest before goes."""
    root = grown / "artifacts"
    items = survey(grown, Rules(1, 0.0))
    before = tree_digests(root / "killed/1+2")
    mode = (root / "killed/1+2").stat().st_mode
    assert store.point_latest(root, "killed", "1+2")
    gone = [item.name for item in collect.remove(root, grown / "cache", items)]
    assert gone == ["killed/1+4", "killed/1+3", "killed/1+1", "killed/1+0"]
    assert lookup.read_latest(root, "killed") == "1+2"
    assert tree_digests(root / "killed/1+2") == before
    assert (root / "killed/1+2").stat().st_mode == mode


def test_a_version_published_again_since_the_survey_stays(grown: Path):
    root = grown / "artifacts"
    items = survey(grown, Rules(1, 0.0))
    assert store.remove(root, "killed", "1+2")
    cleanup_worker.publish(grown, "killed", 2)
    assert store.point_latest(root, "killed", "1+5")
    gone = [item.name for item in collect.remove(root, grown / "cache", items)]
    assert "killed/1+2" not in gone
    assert len(gone) == 4
    assert integrity.verify_files(root / "killed/1+2") == []


class Meanwhile(threading.Thread):
    """A step of another process that begins during ours and waits until ours is done."""

    def __init__(self, step: Callable[[], bool]) -> None:
        super().__init__()
        self.step = step
        self.result: bool | None = None

    def run(self) -> None:
        self.result = self.step()

    def begin(self) -> None:
        self.start()
        self.join(0.3)
        assert self.is_alive()


def test_latest_cannot_point_at_a_version_that_is_being_removed(
    grown: Path, monkeypatch: pytest.MonkeyPatch
):
    """It is an error, and ``latest`` is unchanged."""
    root = grown / "artifacts"
    pointing = Meanwhile(lambda: store.point_latest(root, "killed", "1+2"))
    real = os.rename

    def rename(source: Any, target: Any) -> None:
        monkeypatch.setattr(os, "rename", real)
        real(source, target)
        pointing.begin()

    monkeypatch.setattr(os, "rename", rename)
    assert store.remove(root, "killed", "1+2")
    pointing.join()
    assert pointing.result is False
    assert lookup.read_latest(root, "killed") == "1+5"
    assert sorted(path.name for path in root.iterdir()) == ["killed"]


@pytest.mark.parametrize("there", [True, False])
def test_a_clean_up_waits_for_a_publication(
    there: bool, grown: Path, monkeypatch: pytest.MonkeyPatch
):
    """A clean-up that begins before ``latest`` moves waits for that, and keeps the version."""
    root = grown / "artifacts"
    if not there:
        assert store.remove(root, "killed", "1+2")
    removing = Meanwhile(lambda: store.remove(root, "killed", "1+2"))
    real = store._write_latest

    def point(*arguments: Any) -> None:
        removing.begin()
        real(*arguments)

    monkeypatch.setattr(store, "_write_latest", point)
    path = cleanup_worker.publish(grown, "killed", 2)
    removing.join()
    assert removing.result is False
    assert integrity.verify_files(path) == []
    assert lookup.read_latest(root, "killed") == "1+2"
    assert sorted(p.name for p in root.iterdir()) == ["killed"]


def test_a_killed_clean_up_leaves_no_partial_artifact(grown: Path):
    """After a kill at a random line the artifact is whole or gone; the rest is removed later."""
    root = grown / "artifacts"
    whole = tree_digests(root / "killed/1+0")

    def run(point: int) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", cleanup_worker.__name__, "kill", str(grown), str(point)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    lines = int(run(0).stdout)
    assert lines > 60
    seen = set()
    for point in sorted(seeded(3).sample(range(1, lines), 20)):
        cleanup_worker.publish(grown, "killed", 0)
        store.point_latest(root, "killed", "1+5")
        assert run(point).returncode == -signal.SIGKILL
        there = [a.version for a in lookup.list_artifacts(root)]
        assert set(there) - {"1+0"} == {f"1+{n}" for n in range(1, 6)}
        seen.add("1+0" in there)
        if "1+0" in there:
            assert tree_digests(root / "killed/1+0") == whole
        store.sweep(root)
        assert sorted(path.name for path in root.iterdir()) == ["killed"]
    assert seen == {True, False}


def test_concurrent_builds_and_clean_ups_lose_no_results(tmp_path: Path):
    """Builders use old entries and publish old versions again while clean-ups remove them.

    A builder checks that every entry it was given can be read, and that what it published is
    whole and the latest. All is old, so everything goes that no builder claims.
    """
    names = ("first", "second")
    for number in range(cleanup_worker.COUNT):
        for name in names:
            cleanup_worker.publish(tmp_path, name, number)
    all_old(tmp_path, 2)

    def start(*arguments: str) -> subprocess.Popen[str]:
        what, *more = arguments
        command = [sys.executable, "-m", cleanup_worker.__name__, what, str(tmp_path), *more]
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    collectors = [start("collect") for _ in range(2)]
    builders = [start("build", name) for name in names]
    try:
        for builder in builders:
            output, _ = builder.communicate(timeout=120)
            assert builder.returncode == 0, output
    finally:
        (tmp_path / "stop").touch()
    gone = 0
    for collector in collectors:
        output, _ = collector.communicate(timeout=60)
        assert collector.returncode == 0, output
        gone += int(output.splitlines()[-1])
    assert gone > 0
    for artifact in lookup.list_artifacts(tmp_path / "artifacts"):
        assert integrity.verify_files(artifact.path) == []
    collect.sweep(tmp_path / "artifacts", tmp_path / "cache")
    assert sorted(p.name for p in (tmp_path / "artifacts").iterdir()) == sorted(names)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    for name in ("artifacts", "cache", "config"):
        monkeypatch.setenv(f"ASRBUILD_{name.upper()}", str(tmp_path / name))
    return partial(command.output, "gc")


def test_the_command_changes_nothing_without_remove(grown: Path, run: Any):
    before = tree_digests(grown)
    rules = ("--last", "2", "--newer-than", "1d", "--cache-older-than", "1d")
    text = run(*rules)
    assert tree_digests(grown) == before
    assert "4 artifacts, 8 cache entries would go" in text
    assert "nothing was changed; --remove removes them" in text
    dry = json.loads(run(*rules, "--json"))
    assert tree_digests(grown) == before
    size = NamedFiles([grown / "artifacts", grown / "cache" / "convert"]).bytes
    done = json.loads(run(*rules, "--json", "--remove"))
    assert (dry["removed"], done["removed"]) == (False, True)
    assert {i["name"] for i in done["gone"]} == {i["name"] for i in dry["gone"]}
    left = NamedFiles([grown / "artifacts", grown / "cache" / "convert"]).bytes
    # Each artifact shares the file of its entry, so only the second removal frees its space.
    assert dry["bytes"] == done["bytes"] == size - left
    assert "nothing to remove" in run(*rules)


def test_pinned_versions_stay(grown: Path, run: Any):
    (grown / "artifacts" / "pinned").write_text("# what the app of May has\nkilled@1+0\n\n")
    found = json.loads(run("--last", "1", "--newer-than", "0s", "--pin", "*/1+1", "--json"))
    kept = {item["name"]: item["why"] for item in found["kept"] if item["kind"] == "artifact"}
    assert kept["killed/1+0"] == "pinned by killed@1+0"
    assert kept["killed/1+1"] == "pinned by */1+1"
    assert set(kept) == {"killed/1+0", "killed/1+1", "killed/1+5"}
    (grown / "artifacts" / "pinned").write_bytes(b"\xff\xfe")
    with pytest.raises(AsrbuildError, match="not text"):
        run()


def test_versions_of_channels_stay(tmp_path: Path, run: Any):
    """The remote states them; if it does not answer, those last seen count."""
    config = tmp_path / "config"
    signer, root = new_key("default", config), tmp_path / "artifacts"
    trust = read_trust(config)
    made = make_versions(root, 4)
    address = str(tmp_path / "remote")
    remote = open_remote(address)
    for path in made[:2]:
        ship(path, remote, signer=signer, trust=trust)
    command.output("ship", made[0], address, "--channel", "beta")
    # Another machine moves it, and this one has not pulled since.
    set_channel(remote, "demo-dynamic", "beta", made[1].name, signer=signer, trust=trust)
    all_old(tmp_path, 2)

    def kept(*more: str) -> tuple[dict[str, str], list[str]]:
        found = json.loads(run("--last", "1", "--newer-than", "0s", "--json", *more))
        return {item["name"].partition("/")[2]: item["why"] for item in found["kept"]}, found[
            "notes"
        ]

    stays, notes = kept()
    assert stays[made[0].name] == "a channel pointed at it"
    assert stays[made[1].name] == f"demo-dynamic@beta of {address} points at it"
    assert stays[made[3].name] == "latest"
    assert (made[2].name in stays, notes) == (False, [])
    stays, notes = kept("--offline")
    assert (set(stays), notes) == ({made[0].name, made[3].name}, [])
    (tmp_path / "remote").rename(tmp_path / "away")
    stays, (note,) = kept()
    assert set(stays) == {made[0].name, made[3].name}
    assert note.startswith(f"demo-dynamic@beta of {address} is as last seen")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--newer-than", "soon"), "'soon' is not an age"),
        (("--cache-older-than", "5"), "'5' is not an age"),
        (("--cache-size", "much"), "'much' is not a size"),
        (("--remote", "https://models.example.com"), "is read-only"),
        (("--remote", "oci://127.0.0.1:1/models"), "cleaned up by its keeper"),
    ],
)
def test_bad_options_are_refused(arguments: tuple[str, ...], message: str, run: Any):
    with pytest.raises(AsrbuildError, match=message):
        run(*arguments)


def test_sizes_are_parsed(grown: Path, run: Any):
    for text in ("0", "0GB", "0 kB"):
        found = json.loads(run("--cache-size", text, "--json"))
        assert sum(item["kind"] == "cache" for item in found["gone"]) == 8
    assert json.loads(run("--cache-size", "1TB", "--json"))["gone"] == []


def test_probabilities_of_evaluations_are_cleaned_up(grown: Path):
    folder = grown / "cache/probabilities" / ("ab" * 32)
    folder.mkdir(parents=True)
    for name, days in (("old", 9.0), ("new", 3.0)):
        (folder / f"{name}.npz").write_bytes(b"kept")
        make_old(folder / f"{name}.npz", days)
    items = survey(grown, Rules(9, 0.0))
    list(collect.remove(grown / "artifacts", grown / "cache", items))
    assert [path.name for path in folder.iterdir()] == ["new.npz"]
