"""Why a stage runs again: what differs between its key and the nearest entry made before."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from asrbuild.base.cache import StageKey, entry_path, entry_problem, list_entries
from asrbuild.base.digest import canonical_json

_ABSENT = "(absent)"
_DIGEST = re.compile('"[0-9a-f]{64}"')
#: Characters of a value that are shown; a list of hot words can be long.
_LONG = 60


@dataclass(frozen=True)
class Change:
    """One difference: ``before`` in the nearest entry, ``now`` in the key asked about.

    ``kind`` ``input``: what another stage made, by its fingerprint.
    """

    kind: Literal["code", "key", "input", "file", "version"]
    name: str
    before: str
    now: str

    def __str__(self) -> str:
        what = {
            "code": "the stage's code",
            "key": f"key {self.name}",
            "input": f"input {self.name}",
            "file": f"content of {self.name}",
            "version": f"version of {self.name}",
        }[self.kind]
        return f"{what}: {_start(self.before)} -> {_start(self.now)}"


@dataclass(frozen=True)
class Explanation:
    """Whether a stage would run, and why.

    ``nearest`` is the earlier entry with the fewest ``changes``, None when the stage never ran.
    ``damage`` says what is wrong with an entry that is there but cannot be used.
    """

    stage: str
    fingerprint: str
    cached: bool
    damage: str | None
    nearest: str | None
    changes: tuple[Change, ...]

    def __str__(self) -> str:
        name = f"{self.stage} {self.fingerprint[:12]}"
        if self.cached:
            return f"{name}: cached, nothing to do"
        if self.damage is not None or self.nearest is None:
            return f"{name}: runs, {self.reasons()[0]}"
        lines = [f"{name}: runs, compared with the nearest entry {self.nearest[:12]}:"]
        return "\n".join([*lines, *(f"  {reason}" for reason in self.reasons())])

    def reasons(self) -> list[str]:
        """What makes the stage run, a line each; nothing for a cached one."""
        if self.damage is not None:
            return [f"its entry is damaged ({self.damage})"]
        if not self.cached and self.nearest is None:
            return ["this stage has no earlier entry"]
        return [str(change) for change in self.changes]


def why(cache_root: Path, key: StageKey) -> Explanation:
    """Explains what running the stage would do; of equally near entries the newest is named."""
    path = entry_path(cache_root, key)
    damage = entry_problem(cache_root, path) if path.exists() else None
    if path.exists():
        return Explanation(key.stage, path.name, damage is None, damage, None, ())
    earlier = [(differences(e.key, key), e) for e in list_entries(cache_root, key.stage)]
    if not earlier:
        return Explanation(key.stage, path.name, False, None, None, ())
    changes, nearest = min(earlier, key=lambda pair: len(pair[0]))
    return Explanation(key.stage, path.name, False, None, nearest.fingerprint, changes)


def differences(before: StageKey, now: StageKey) -> tuple[Change, ...]:
    """Every key, file and version that differs; nested keys are named with dots."""
    changes: list[Change] = []
    if before.code_version != now.code_version:
        changes.append(Change("code", "", _version(before), _version(now)))
    changes += _compare_keys(before.keys, now.keys)
    changes += _compare("file", _short(before.files), _short(now.files))
    changes += _compare("version", dict(before.versions), dict(now.versions))
    return tuple(changes)


def _version(key: StageKey) -> str:
    # A number, or a digest of the stage's source, of which the start is enough to see.
    return f"version {str(key.code_version)[:12]}"


def _compare(
    kind: Literal["key", "file", "version"], before: Mapping[str, str], now: Mapping[str, str]
) -> list[Change]:
    return [
        Change(kind, name, before.get(name, _ABSENT), now.get(name, _ABSENT))
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    ]


def _compare_keys(
    before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = ""
) -> list[Change]:
    """Key by key, nested ones with dots; a section that only one side has is one change."""
    changes: list[Change] = []
    for name in sorted({*before, *now}):
        old, new = before.get(name, _ABSENT), now.get(name, _ABSENT)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            changes += _compare_keys(old, new, f"{prefix}{name}.")
            continue
        texts = [_text(value) for value in (old, new)]
        if texts[0] != texts[1]:
            digests = all(_DIGEST.fullmatch(text) for text in texts)
            short = [text.strip('"')[:12] for text in texts] if digests else texts
            changes.append(Change("input" if digests else "key", f"{prefix}{name}", *short))
    return changes


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{…}"
    return _ABSENT if value is _ABSENT else canonical_json(value)


def _start(text: str) -> str:
    return text if len(text) <= _LONG else f"{text[: _LONG - 2]} …"


def _short(files: Mapping[str, str]) -> dict[str, str]:
    # Whole digests are compared by name and printed by their start; a clash in 16 is no worry.
    return {name: digest[:16] for name, digest in files.items()}
