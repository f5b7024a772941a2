"""Compares two runs on the same device and system."""

from __future__ import annotations

from dataclasses import dataclass

from asrbuild.base.errors import AsrbuildError
from asrbuild.handover.evidence.document import Document
from asrbuild.handover.evidence.text import plan_text, system_text


@dataclass(frozen=True)
class Compared:
    """One figure of two runs, as text."""

    units: str
    what: str
    first: str
    second: str


def require_comparable(first: Document, second: Document) -> None:
    """Raises if the figures of two runs cannot be compared.

    Raises:
        AsrbuildError: device, build of the system, program, clock or hints differ.
    """
    for what, one, other in (
        ("devices", system_text(first.device), system_text(second.device)),
        ("programs", first.runner.name, second.runner.name),
        ("clocks", first.runner.clock, second.runner.clock),
        ("hints", str(first.hints.model_dump()), str(second.hints.model_dump())),
    ):
        if one != other:
            raise AsrbuildError(
                f"the runs have different {what}: {one}; {other}",
                fix="compare runs of one device and system, measured in one way",
            )


def compare_runs(first: Document, second: Document) -> list[Compared]:
    """The figures of both runs, for each set of units that both timed.

    Raises:
        AsrbuildError: see :func:`require_comparable`; or no set of units is in both.
    """
    require_comparable(first, second)
    shared = [units for units in first.units if units in second.units]
    if not shared:
        raise AsrbuildError(
            f"no units were timed in both: {', '.join(first.units)}; {', '.join(second.units)}",
            fix="measure both with the same units",
        )
    rows = []
    for units in shared:
        stats = [next(s for s in d.statistics if s.units == units) for d in (first, second)]
        loads = [next(one for one in d.loads if one.units == units) for d in (first, second)]
        rows += [
            Compared(units, "planned", plan_text(first, units), plan_text(second, units)),
            *(
                Compared(units, f"{key}, ms per second of audio", *(f"{v:.4g}" for v in values))
                for key, values in (
                    ("p50", [s.p50_ms for s in stats]),
                    ("p95", [s.p95_ms for s in stats]),
                )
            ),
            Compared(
                units, "first load, ms", *(f"{one.first_ms:.4g} ({one.cache})" for one in loads)
            ),
        ]
    return rows
