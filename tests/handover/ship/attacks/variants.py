"""False and malformed records of a variant."""

from __future__ import annotations

LIES = {
    "an older system": {"minimum_os": {"iOS": "15", "macOS": "12"}},
    "another system": {"minimum_os": {"iOS": "18", "macOS": "15", "tvOS": "1"}},
    "smaller": {"bytes": 1},
    "another format": {"format": "mlprogram"},
    "another precision": {"precision": "fp16"},
    "other units": {"compute_units": "CPU_ONLY"},
    "compressed": {"compress": "int8"},
}


MALFORMED = {
    "escape sequence": {"compress": "\x1b[2J"},
    "newline": {"format": "ml\nprogram"},
    "number for text": {"format": 1},
    "empty text": {"compute_units": ""},
    "text for number": {"bytes": "1"},
    "truth for number": {"bytes": True},
    "negative": {"bytes": -1},
    "version of words": {"minimum_os": {"iOS": "seventeen"}},
    "version without end": {"minimum_os": {"iOS": "9" * 10_000}},
    "version with a trap": {"minimum_os": {"iOS": "17; rm"}},
    "system with a trap": {"minimum_os": {"i\x1bOS": "17"}},
    "list of systems": {"minimum_os": ["iOS"]},
    "one key more": {"url": "https://example.com"},
}
