"""Records of a channel on a remote folder, read and forged."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path
from typing import Any

from asrbuild.base.digest import canonical_json
from asrbuild.handover.ship.channels.record import PAYLOAD_TYPE
from asrbuild.handover.ship.signing.envelope import sign
from asrbuild.handover.ship.signing.keys import Signer

NAME = "demo-dynamic"
STABLE = Path("artifacts", NAME, "channels", "stable")


def copied(source: Path, to: Path) -> None:
    """Copies records to a remote, as an attacker without a key can."""
    for part in ("artifacts", "blobs"):
        shutil.copytree(source / part, to / part, dirs_exist_ok=True)


def aged(folder: Path, signer: Signer) -> None:
    """Gives all records their older form, which is not bound to a remote."""
    previous = None
    for counter in range(1, 1 + len([p for p in (folder / STABLE).iterdir() if p.stem.isdigit()])):
        path = folder / STABLE / f"{counter}.json"
        fields = json.loads(base64.b64decode(json.loads(path.read_text())["payload"]))
        fields = {k: v for k, v in fields.items() if k not in ("expires", "remote")}
        previous = put(folder, signer, **(fields | {"previous": previous}))
    for left in folder.glob("remote.json"):
        left.unlink()


def put(folder: Path, signer: Signer, **fields: Any) -> str:
    """Writes a signed record of any fields; returns its digest."""
    import hashlib

    raw = canonical_json(sign(PAYLOAD_TYPE, canonical_json(fields).encode(), signer)).encode()
    (folder / STABLE / f"{fields['counter']}.json").write_bytes(raw)
    return hashlib.sha256(raw).hexdigest()


def fields_of(folder: Path, counter: int) -> dict[str, Any]:
    raw = (folder / STABLE / f"{counter}.json").read_text()
    return json.loads(base64.b64decode(json.loads(raw)["payload"]))


def digest_of(remote: Path, counter: int) -> str:
    import hashlib

    return hashlib.sha256((remote / STABLE / f"{counter}.json").read_bytes()).hexdigest()
