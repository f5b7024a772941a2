"""Ships an artifact repeatedly and kills each run at another line of asrbuild.

    python -m tests.handover.ship.killer ARTIFACT SET REMOTE... < points

``SET``: the name of the set that it is shipped as; empty: none.

For every remote a child process ships; after as many lines of ``handover/ship`` as its point says,
it kills itself with SIGKILL, so that no ``finally`` runs. Point 0 counts: its child lives,
and the number of its lines is printed. Prints one line for each: the signal that ended it, or its
count.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

# Imported here for the children, each of which would otherwise import it.
import asrbuild.artifact.manifest  # noqa: F401
from asrbuild.handover.ship.push import ship, ship_set
from asrbuild.handover.ship.remotes import oci
from asrbuild.handover.ship.remotes.address import open_remote
from asrbuild.handover.ship.signing.keys import config_root, find_signer
from asrbuild.handover.ship.signing.trust import read_trust
from tests.killing import PACKAGE, run_until


def run(artifact: Path, name: str, address: str, point: int) -> int:
    """Ships, to the end or to the point; returns the number of lines."""
    config = config_root()
    signer, trust, remote = find_signer(None, config), read_trust(config), open_remote(address)

    def work() -> object:
        if name:
            return ship_set([artifact], remote, name, signer=signer, trust=trust, channel="beta")
        return ship(artifact, remote, signer=signer, trust=trust, channel="beta")

    return run_until(point, work, PACKAGE / "handover" / "ship")


def main() -> None:
    artifact, name, *addresses = sys.argv[1:]
    oci.SETTLE_SECONDS = 0.05  # no other writer is there
    for address, point in zip(addresses, map(int, sys.stdin.read().split()), strict=True):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(writing, str(run(Path(artifact), name, address, point)).encode())
            os._exit(0)
        os.close(writing)
        _, status = os.waitpid(child, 0)
        with os.fdopen(reading) as answer:
            count = answer.read()
        print(f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"lines {count}")


if __name__ == "__main__":
    main()
