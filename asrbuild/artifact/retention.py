"""The rules that decide which versions a clean-up keeps, in the store and on remotes."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from asrbuild.artifact.layout import PINNED
from asrbuild.base.disk import disk_errors
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.quantities import age_of_seconds

#: A version younger than this always stays: its publisher may still be at work on it.
YOUNG_SECONDS = 3600.0
Version = tuple[str, str]


@dataclass(frozen=True)
class Rules:
    """Rules of retention: a version stays if any of them applies, or if something points to it.

    Args:
        last: so many of the newest versions of each name.
        newer_than: versions that came less than so many seconds ago.
        pinned: patterns of ``name`` or ``name/version``, with ``*`` and ``?``.
    """

    last: int
    newer_than: float
    pinned: tuple[str, ...] = ()


@dataclass(frozen=True)
class Candidate:
    """A version, with the seconds since it came to the store or remote."""

    name: str
    version: str
    age: float


@dataclass(frozen=True)
class Verdict:
    """Whether a version stays, and why."""

    candidate: Candidate
    keep: bool
    why: str


def decide(
    candidates: Iterable[Candidate], rules: Rules, pointed: Mapping[Version, str]
) -> list[Verdict]:
    """Decides for each version whether it stays; returns verdicts by name, newest first.

    Args:
        pointed: version -> what points to it; these versions stay.
    """
    verdicts = []
    ordered = sorted(candidates, key=lambda c: (c.name, c.age, c.version))
    for _, group in groupby(ordered, key=lambda c: c.name):
        for place, candidate in enumerate(group):
            why = _reason(candidate, place, rules, pointed)
            old = f", older than {age_of_seconds(rules.newer_than)}" if rules.newer_than else ""
            gone = f"not among the last {rules.last}{old}"
            verdicts.append(Verdict(candidate, why is not None, why or gone))
    return verdicts


def _reason(
    candidate: Candidate, place: int, rules: Rules, pointed: Mapping[Version, str]
) -> str | None:
    version = (candidate.name, candidate.version)
    if version in pointed:
        return pointed[version]
    for pattern in rules.pinned:
        name = pattern.replace("@", "/")
        if any(fnmatch.fnmatchcase(text, name) for text in (candidate.name, "/".join(version))):
            return f"pinned by {pattern}"
    if place < rules.last:
        return f"among the last {rules.last}"
    if candidate.age < rules.newer_than:
        return f"newer than {age_of_seconds(rules.newer_than)}"
    return "came within the hour" if candidate.age < YOUNG_SECONDS else None


def pinned_in(root: Path) -> tuple[str, ...]:
    """The patterns in the store's file ``pinned``, one a line; ``#`` begins a remark."""
    path = root / PINNED
    if not path.is_file():
        return ()
    with disk_errors("reading what is pinned", path):
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            # Without the list, a clean-up could remove a pinned version.
            raise AsrbuildError("the list of what is pinned is not text", file=path) from None
    return tuple(line for text in lines if (line := text.partition("#")[0].strip()))
