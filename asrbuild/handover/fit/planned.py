"""A device's measurements of a package: its compute plan and its times, as fit needs them.

They come from evidence that was checked where it was added; nothing here reads a file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ComputeUnit = Literal["NE", "GPU", "CPU"]


@dataclass(frozen=True)
class PlannedOp:
    """One row of a compute plan.

    Args:
        output: name of the operation's first result.
        preferred: where the plan would have it; None where the system did not answer.
        supported: where it could be.
    """

    output: str
    kind: str
    preferred: ComputeUnit | None
    supported: tuple[ComputeUnit, ...]


@dataclass(frozen=True)
class Planned:
    """One choice of compute units on one device.

    Args:
        device: ``iPhone16,2``.
        system: ``iOS 26.1 (23B85)``.
        units: ``CPU_AND_NE``.
        answered: whether the system gave a plan.
        p50_ms: of the time for a second of audio, in milliseconds; None where nothing was timed.
        p95_ms: likewise.
        passes: how many were timed.
        first_load_ms: with an empty cache; None where that is not known.
    """

    device: str
    system: str
    units: str
    answered: bool
    ops: tuple[PlannedOp, ...]
    p50_ms: float | None
    p95_ms: float | None
    passes: int
    first_load_ms: float | None
