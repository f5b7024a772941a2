"""The checks of every attack: the exact refusal, no written file, bounded memory and time."""

from __future__ import annotations

import os
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from asrbuild.handover.ship.pull import Pulled, pull, pull_bundle
from asrbuild.handover.ship.push import ship
from asrbuild.handover.ship.refusal import Refusal, Refused
from asrbuild.handover.ship.remotes.address import open_remote
from asrbuild.handover.ship.signing.keys import Signer
from asrbuild.handover.ship.signing.trust import Trust
from tests.handover.ship.making import Forgery, make_versions, variant_of

#: Processor time, so that a busy machine does not fail a test; sleeping is not measured.
MAX_SECONDS = 5.0
#: The largest use by an attack is a parsed header of the largest size.
MAX_BYTES = 48 << 20
Attack = Callable[[], object]


def everything(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file, link and device below a folder, with its inode and size.

    The file of channels seen is left out: a refused pull writes it too.
    """
    found = {}
    for base, folders, names in os.walk(folder):
        for name in [*folders, *names]:
            if name in ("seen.json", "seen.lock"):
                continue
            path = os.path.join(base, name)
            status = os.lstat(path)
            found[path] = (status.st_ino, 0 if name in folders else status.st_size)
    return found


@pytest.fixture
def artifacts(tmp_path: Path) -> list[Path]:
    """Two variants, the preferred first."""
    root = tmp_path / "artifacts"
    return [
        variant_of(root, "new", "18", "15", b"new" * 500),
        variant_of(root, "old", "15", "12", b"old" * 500),
    ]


@pytest.fixture
def refused(tmp_path: Path) -> Callable[[Refusal, Attack], Refused]:
    """Runs an attack, checks that it was cheap and left nothing behind, and returns the refusal.

    ``victim/`` is where the attack may write if it succeeds; all of ``tmp_path`` is watched.
    """

    def check(reason: Refusal, attack: Attack) -> Refused:
        (tmp_path / "victim").mkdir(exist_ok=True)
        (tmp_path / "precious").write_text("precious")
        before = everything(tmp_path)
        tracemalloc.start()
        begun = time.process_time()
        try:
            with pytest.raises(Refused) as caught:
                attack()
            seconds = time.process_time() - begun
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert caught.value.reason is reason, str(caught.value)
        assert everything(tmp_path) == before, "something was written"
        assert seconds < MAX_SECONDS
        assert peak < MAX_BYTES, f"{peak:,} bytes"
        text = str(caught.value)
        assert len(text) < 2000
        assert text.isprintable() or set(text) - {"\n"} <= set(map(chr, range(32, 127)))
        return caught.value

    return check


@pytest.fixture
def forgery(artifact: Path, signer: Signer) -> Forgery:
    return Forgery.of(artifact, signer)


@pytest.fixture
def attack(
    tmp_path: Path, trust: Trust, refused: Callable[[Refusal, Attack], Refused]
) -> Callable[[Refusal, bytes], Refused]:
    """Pulls a hostile bundle into ``victim/store``."""

    def run(reason: Refusal, bundle: bytes) -> Refused:
        path = tmp_path / "hostile.asrb"
        path.write_bytes(bundle)
        (tmp_path / "victim" / "store").mkdir(parents=True, exist_ok=True)
        return refused(
            reason, lambda: pull_bundle(path, tmp_path / "victim" / "store", trust=trust)
        )

    return run


@pytest.fixture
def versions(tmp_path: Path) -> list[Path]:
    return make_versions(tmp_path / "artifacts", 3)


@pytest.fixture
def remote(tmp_path: Path, versions: list[Path], signer: Signer, trust: Trust) -> Path:
    """A remote folder with two versions; beta has pointed at each."""
    folder = tmp_path / "remote"
    for version in versions[:2]:
        ship(version, open_remote(str(folder)), signer=signer, trust=trust, channel="beta")
    return folder


@pytest.fixture
def fetch(tmp_path: Path, trust: Trust, config: Path) -> Callable[..., Pulled]:
    """Pulls into ``victim/store``."""
    (tmp_path / "victim" / "store").mkdir(parents=True, exist_ok=True)

    def run(spec: str, address: object) -> Pulled:
        store = tmp_path / "victim" / "store"
        (pulled,) = pull(spec, open_remote(str(address)), store, trust=trust, config=config)
        return pulled

    return run
