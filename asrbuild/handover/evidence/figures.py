"""Figures of an evidence document, always computed from its passes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from asrbuild.handover.evidence.document import Document, Statistics


def quantile(values: Sequence[float], share: float) -> float:
    """The nearest-rank quantile: the smallest value that ``share`` of all do not exceed."""
    return sorted(values)[max(1, math.ceil(share * len(values))) - 1]


def statistics(document: Document, sample_rate: int) -> list[Statistics]:
    """The statistics of each unit set, in the document's order.

    Args:
        sample_rate: the rate of the recordings, in Hz.
    """
    samples = [one.samples for one in document.outputs if one.recording == document.timed_recording]
    audio_s = max(samples, default=0) / sample_rate
    if not audio_s:
        return []
    found = []
    for units in document.units:
        values = [sum(one.calls_ms) / audio_s for one in document.passes if one.units == units]
        if values:
            found.append(
                Statistics(
                    units=units,  # type: ignore[arg-type]
                    passes=len(values),
                    mean_ms=math.fsum(values) / len(values),
                    p50_ms=quantile(values, 0.5),
                    p95_ms=quantile(values, 0.95),
                    max_ms=max(values),
                )
            )
    return found


def planned_counts(document: Document, units: str) -> dict[str, int] | None:
    """Preferred device, or ``unanswered`` -> number of operations; None without a plan."""
    for plan in document.plans:
        if plan.units == units and plan.ops:
            counts = {"NE": 0, "GPU": 0, "CPU": 0, "unanswered": 0}
            for op in plan.ops:
                counts[op.preferred or "unanswered"] += 1
            return {name: count for name, count in counts.items() if count}
    return None
