"""The reasons why a stage runs again: how its key differs from the nearest cache entry."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from asrbuild.base.cache import StageKey, entry_path, entry_problem
from asrbuild.base.cache_cleanup import list_entries
from asrbuild.base.mappings import changed_keys, is_digest, value_text

Kind: TypeAlias = Literal["code", "key", "input", "file", "version"]
#: The number of characters shown of a value; a list of hot words can be long.
_LONG = 60


@dataclass(frozen=True)
class KeyChange:
    """One difference between two keys: ``before`` in the nearest entry, ``now`` in the new key.

    ``kind`` ``input``: the result of another stage, by its fingerprint.
    """

    kind: Kind
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
    ``damage`` is what makes an existing entry unusable.
    """

    stage: str
    fingerprint: str
    cached: bool
    damage: str | None
    nearest: str | None
    changes: tuple[KeyChange, ...]

    def __str__(self) -> str:
        name = f"{self.stage} {self.fingerprint[:12]}"
        if self.cached:
            return f"{name}: cached, nothing to do"
        if self.damage is not None or self.nearest is None:
            return f"{name}: runs, {self.reasons()[0]}"
        lines = [f"{name}: runs, compared with the nearest entry {self.nearest[:12]}:"]
        return "\n".join([*lines, *(f"  {reason}" for reason in self.reasons())])

    def reasons(self) -> list[str]:
        """The reasons to run the stage, one line each; empty for a cached stage."""
        if self.damage is not None:
            return [f"its entry is damaged ({self.damage})"]
        if not self.cached and self.nearest is None:
            return ["this stage has no earlier entry"]
        return [str(change) for change in self.changes]


def why(cache_root: Path, key: StageKey) -> Explanation:
    """Explains whether the stage would run and why; of equally near entries, names the newest."""
    path = entry_path(cache_root, key)
    damage = entry_problem(cache_root, path) if path.exists() else None
    if path.exists():
        return Explanation(key.stage, path.name, damage is None, damage, None, ())
    earlier = [(differences(e.key, key), e) for e in list_entries(cache_root, key.stage)]
    if not earlier:
        return Explanation(key.stage, path.name, False, None, None, ())
    reasons, nearest = min(earlier, key=lambda pair: len(pair[0]))
    return Explanation(key.stage, path.name, False, None, nearest.fingerprint, reasons)


def differences(before: StageKey, now: StageKey) -> tuple[KeyChange, ...]:
    """Lists every recipe key, file and version that differs; nested keys are named with dots."""
    found: list[KeyChange] = []
    if before.code_version != now.code_version:
        found.append(KeyChange("code", "", _version(before), _version(now)))
    for name, old, new in changed_keys(before.keys, now.keys):
        kind: Kind = "input" if is_digest(old) and is_digest(new) else "key"
        found.append(KeyChange(kind, name, value_text(old), value_text(new)))
    found += [
        KeyChange("file", name, a[:16], b[:16])
        for name, a, b in changed_keys(before.files, now.files)
    ]
    found += [
        KeyChange("version", *change) for change in changed_keys(before.versions, now.versions)
    ]
    return tuple(found)


def _version(key: StageKey) -> str:
    # A number, or a digest of the stage's source, of which the first digits are enough.
    return f"version {str(key.code_version)[:12]}"


def _start(text: str) -> str:
    return text if len(text) <= _LONG else f"{text[: _LONG - 2]} …"
