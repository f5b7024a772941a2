"""The gates on phonemes; a build with nothing to do imports them with its recipe."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class PhonemeGates:
    """The largest phoneme error rates of a recording; see conf/verify/default.yaml.

    Args:
        max_per: against its expected phonemes, where they are known; None: any.
        max_per_increase: its rise above the original's; None: any.
        max_per_from_original: against the phonemes that the original writes.
    """

    max_per: float | None = None
    max_per_increase: float | None = None
    max_per_from_original: float = 0.02


#: The keys of ``verify`` that gate phonemes.
PHONEME_KEYS = tuple(key.name for key in fields(PhonemeGates))
