"""Measurements of an artifact on devices, for commands that also show other facts of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asrbuild.handover.evidence.text import DeviceRow
    from asrbuild.handover.fit.planned import Planned


def measured_rows(artifact: Path) -> list[DeviceRow]:
    """The newest valid run of each device, system and set of compute units."""
    from asrbuild.artifact.evidence import list_evidence

    if not list_evidence(artifact):
        return []
    from asrbuild.handover.evidence.kept import evidence_of
    from asrbuild.handover.evidence.text import device_rows
    from asrbuild.handover.ship.signing.keys import config_root
    from asrbuild.handover.ship.signing.trust import read_trust

    return device_rows(evidence_of(artifact, read_trust(config_root()))[0])


def planned_of(package: Path, root: Path) -> tuple[Planned, ...]:
    """Plans and times of a package with these bytes, from the evidence in the store ``root``.

    For the package of an artifact, the artifact's own store counts too.
    """
    from asrbuild.artifact.evidence import all_evidence

    roots = {root.absolute(), *package.absolute().parents[2:3]}
    with_evidence = [one for one in sorted(roots) if all_evidence(one)]
    if not with_evidence:
        return ()
    from asrbuild.handover.evidence.document import package_digest
    from asrbuild.handover.evidence.kept import planned
    from asrbuild.handover.ship.signing.keys import config_root
    from asrbuild.handover.ship.signing.trust import read_trust

    digest, trust = package_digest(package), read_trust(config_root())
    return tuple(row for one in with_evidence for row in planned(one, digest, trust))
