"""What devices measured of an artifact, for the commands that show it beside other facts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asrbuild.handover.evidence.text import DeviceRow


def measured_rows(artifact: Path) -> list[DeviceRow]:
    """The newest run of each device, system and set of units; evidence that counts alone."""
    from asrbuild.artifact.evidence import list_evidence

    if not list_evidence(artifact):
        return []
    from asrbuild.handover.evidence.kept import evidence_of
    from asrbuild.handover.evidence.text import device_rows
    from asrbuild.handover.ship.signing.keys import config_root
    from asrbuild.handover.ship.signing.trust import read_trust

    return device_rows(evidence_of(artifact, read_trust(config_root()))[0])
