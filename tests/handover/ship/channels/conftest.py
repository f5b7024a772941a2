"""Versions, a team that moves a channel, and readers that follow it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from asrbuild.handover.ship.pull import Pulled, pull
from asrbuild.handover.ship.push import ship
from asrbuild.handover.ship.remotes.address import open_remote
from asrbuild.handover.ship.signing.keys import Signer
from asrbuild.handover.ship.signing.trust import (
    Trust,
    read_key_file,
    read_trust,
    trust_key,
)
from tests.handover.ship.channels.records import NAME
from tests.handover.ship.making import make_versions


@pytest.fixture
def versions(tmp_path: Path) -> list[Path]:
    return make_versions(tmp_path / "artifacts", 4)


@pytest.fixture
def move(signer: Signer, trust: Trust) -> Callable[..., Any]:
    """Ships a version to a folder, and points stable at it."""

    def run(version: Path, folder: Path, by: Signer = signer, **more: Any) -> Any:
        return ship(
            version,
            open_remote(str(folder)),
            signer=by,
            trust={**trust, **by.trust},
            channel="stable",
            other_signer=True,
            **more,
        )

    return run


@pytest.fixture
def reader(tmp_path: Path, config: Path, signer: Signer) -> Callable[..., Pulled]:
    """Pulls as a reader that trusts only the key and remembers the channels seen."""

    def run(
        address: object, who: str = "reader", identity: str | None = None, **more: Any
    ) -> Pulled:
        theirs = tmp_path / who
        if not theirs.exists():
            trust_key(read_key_file(config / "keys" / "default.pub"), None, theirs)
        (pulled,) = pull(
            f"{NAME}@stable",
            open_remote(str(address), identity),
            tmp_path / f"{who}s-store",
            trust=read_trust(theirs),
            config=theirs,
            **more,
        )
        return pulled

    return run
