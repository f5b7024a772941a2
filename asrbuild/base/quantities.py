"""Human-readable sizes and durations."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone


def size_text(count: int) -> str:
    """Bytes in powers of 1000: ``812 B``, ``4.1 MB``."""
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 99.95 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def age_text(created: str, now: datetime | None = None) -> str:
    """The age of an ISO 8601 time: ``3 min``; for a future time, ``just now``."""
    try:
        then = datetime.fromisoformat(created.replace("Z", "+00:00"))
    except ValueError:
        return "?"
    if then.tzinfo is None:
        then = then.replace(tzinfo=timezone.utc)
    return age_of_seconds(((now or datetime.now(timezone.utc)) - then).total_seconds())


def age_of_seconds(seconds: float) -> str:
    """An age in seconds for a person: ``3 min``, ``30 d``."""
    for limit, unit, name in ((60, 1, "s"), (3600, 60, "min"), (86400, 3600, "h")):
        if seconds < limit:
            return f"{seconds / unit:.0f} {name}" if seconds >= 1 else "just now"
    return f"{timedelta(seconds=seconds).days} d"


def duration_seconds(text: str) -> float:
    """``30s``, ``15m``, ``12h`` or ``7d`` in seconds; raises ``ValueError`` for anything else."""
    number, unit = text[:-1], text[-1:]
    factor = {"s": 1, "m": 60, "h": 3600, "d": 86400}.get(unit)
    if factor is None or not number.isdecimal():
        raise ValueError(f"{text!r} is not a duration")
    return float(number) * factor
