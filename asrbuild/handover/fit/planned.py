"""A device's measurements of a package for ``fit``: its compute plan and its times.

They come from checked evidence; this module does not read files.
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
        preferred: the processor that the plan prefers; None if the system gave no answer.
        supported: the processors that support it.
    """

    output: str
    kind: str
    preferred: ComputeUnit | None
    supported: tuple[ComputeUnit, ...]


@dataclass(frozen=True)
class Planned:
    """The plan and times of one set of compute units on one device.

    Args:
        device: ``iPhone16,2``.
        system: ``iOS 26.1 (23B85)``.
        units: ``CPU_AND_NE``.
        answered: whether the system gave a plan.
        p50_ms: median time for a second of audio, in milliseconds; None if it was not timed.
        p95_ms: likewise.
        passes: number of timed passes.
        first_load_ms: first load with an empty cache; None if unknown.
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
