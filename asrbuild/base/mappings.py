"""The difference of two nested mappings, key by key."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from asrbuild.base.digest import canonical_json

#: The value of a key that only the other mapping has.
ABSENT = "(absent)"
_DIGEST = re.compile("[0-9a-f]{64}")


def changed_keys(
    before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, Any, Any]]:
    """Yields (name, value before, value now) of each key that differs, by name.

    A nested key is named with dots. A section that only one side has is one change. Values are
    compared as canonical JSON, where 1 and 1.0 are equal.
    """
    for name in sorted({*before, *now}):
        old, new = before.get(name, ABSENT), now.get(name, ABSENT)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from changed_keys(old, new, f"{prefix}{name}.")
        elif old is ABSENT or new is ABSENT or canonical_json(old) != canonical_json(new):
            yield f"{prefix}{name}", old, new


def is_digest(value: object) -> bool:
    """Whether a value is a SHA-256 digest in hexadecimal."""
    return isinstance(value, str) and _DIGEST.fullmatch(value) is not None


def value_text(value: Any) -> str:
    """A value for a person to read: JSON, digests cut to 12 digits."""
    if isinstance(value, Mapping):
        return "{…}"
    if value is ABSENT:
        return str(value)
    if isinstance(value, list):
        return f"[{', '.join(map(value_text, value))}]"
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # 61 and 61.0 are one value of a recipe
    return str(value)[:12] if is_digest(value) else json.dumps(value, ensure_ascii=False)
