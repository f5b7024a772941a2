"""Facts about Apple's devices for checking evidence, each with its source and date."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from asrbuild.coreml.choices import ComputeUnits

#: A model identifier of a real device. A virtual machine has ``VirtualMac2,1``, a simulator the
#: architecture of its host, ``arm64``.
_IDENTIFIER = re.compile(
    r"(?:iPhone|iPad|iPod|Mac|MacBook|MacBookAir|MacBookPro|Macmini|iMac)"
    r"\d{1,3},\d{1,2}"
)
#: Major version of a system -> the number at the start of its builds, ``23`` of ``23B85``. Read
#: from https://support.apple.com/100100 (26 Nov 2026). Versions jumped from 18 and 15 to 26.
_BUILDS = {
    "iOS": {15: 19, 16: 20, 17: 21, 18: 22, 26: 23},
    "macOS": {12: 21, 13: 22, 14: 23, 15: 24, 26: 25},
}


def is_identifier(text: str) -> bool:
    """Whether this is the model identifier of a real device."""
    return _IDENTIFIER.fullmatch(text) is not None


def newest_major(when: datetime) -> int:
    """The largest major version that a system could have on a day.

    Since 26, Apple numbers systems by the year after their release: in September, with public test
    versions from June on. https://www.apple.com/newsroom/2025/06/ (9 June 2025).
    """
    year = when.year - 2000
    return year + 1 if when.month >= 6 else year


def contradicts(system: str, version: str, build: str) -> bool:
    """Whether a build number contradicts the version of the system."""
    major, number = int(version.split(".")[0]), int(re.match(r"\d+", build)[0])  # type: ignore[index]
    known = _BUILDS[system]
    if major in known:
        return known[major] != number
    return number <= max(known.values()) if major > max(known) else number >= min(known.values())


@dataclass(frozen=True)
class Peak:
    """The highest known rate of any chip: operations a second, two a multiply-add."""

    operations: float
    source: str


#: There is no source for rates of A-series chips, so the fastest known chip counts for all.
PEAKS = {
    "CPU": Peak(
        8.0e12,
        "2.0 TFLOPS fp32 of one SME unit of an M4, four units: github tzakharko/m4-sme-exploration "
        "and arXiv 2409.18779 (2024)",
    ),
    "NE": Peak(
        38.0e12,
        "M4, 38 trillion operations: apple.com/newsroom, 7 May 2024; 19 TFLOPS fp16 measured: "
        "maderix, Inside the M4 Apple Neural Engine, part 2 (2026)",
    ),
    "GPU": Peak(
        130.0e12,
        "M5 Max, int8, estimated from an A19 that was measured: "
        "tzakharko.github.io/apple-neural-accelerators-benchmark (Oct 2025)",
    ),
}
#: Newer chips may be so many times as fast as these before honest evidence is refused.
HEADROOM = 4.0
_MEMBERS: dict[str, tuple[str, ...]] = {
    "CPU_ONLY": ("CPU",),
    "CPU_AND_GPU": ("CPU", "GPU"),
    "CPU_AND_NE": ("CPU", "NE"),
    "ALL": ("CPU", "GPU", "NE"),
}


def members(units: str) -> tuple[str, ...]:
    """The processors that a set of units may use: CPU, GPU, NE."""
    return _MEMBERS[units]


def least_ms(multiply_adds: int, units: ComputeUnits) -> float:
    """The least time in milliseconds for multiply-adds on any device, with headroom."""
    rate = HEADROOM * sum(PEAKS[one].operations for one in members(units))
    return 2000.0 * multiply_adds / rate
