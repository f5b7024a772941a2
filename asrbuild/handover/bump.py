"""Suggests the version of the second of two artifacts, by the changes for an app."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from asrbuild.artifact.interface import Relation

Bump = Literal["major", "minor", "patch", "none"]
_SEMVER = re.compile(r"(\d+)\.(\d+)\.(\d+)(?:[-+].*)?")


@dataclass(frozen=True)
class Suggestion:
    """The version that the second artifact should have.

    ``version`` is None if the first version is not three numbers; ``given`` is the second's own
    version, ``enough`` whether it is at least as high.
    """

    bump: Bump
    version: str | None
    given: str
    enough: bool
    reason: str


def suggest(
    before: str,
    now: str,
    relation: Relation,
    *,
    other_words: bool,
    must_know: bool,
    identical: bool,
) -> Suggestion:
    """Suggests a version by Semantic Versioning 2.0.0, for an app's view: https://semver.org.

    Args:
        before: version of the first artifact, with its digest.
        now: version of the second.
        relation: the relation of the second's interface to the first's.
        other_words: whether the same code gets other transcripts.
        must_know: whether an app must know of a change, although its code need not change.
        identical: whether the content is the same.
    """
    bump: Bump
    if relation.breaks:
        bump, reason = "major", "an app must change its code"
    elif relation is Relation.WIDER:
        bump, reason = "minor", "it takes every input that it took, and more"
    elif other_words:
        bump, reason = "minor", "the same code gets other transcripts"
    elif must_know:
        bump, reason = (
            "minor",
            "an app feeds the package differently, or its users may wait longer or shorter",
        )
    elif not identical:
        bump, reason = "patch", "the same code gets the same transcripts"
    else:
        bump, reason = "none", "the content is the same"
    first, second = (version.partition("+")[0] for version in (before, now))
    parts = _SEMVER.fullmatch(first)
    own = _SEMVER.fullmatch(second)
    if parts is None:
        return Suggestion(bump, None, second, False, reason)
    numbers = tuple(int(part) for part in parts.groups())
    if bump == "major" and numbers[0] == 0:
        reason += "; below 1.0.0 the second number stands for that"
    raised = _raised(numbers, bump)
    enough = own is not None and tuple(map(int, own.groups())) >= raised
    return Suggestion(bump, ".".join(map(str, raised)), second, enough, reason)


def _raised(numbers: tuple[int, ...], bump: Bump) -> tuple[int, ...]:
    major, minor, patch = numbers
    if bump == "major" and major == 0:
        return (0, minor + 1, 0)
    return {
        "major": (major + 1, 0, 0),
        "minor": (major, minor + 1, 0),
        "patch": (major, minor, patch + 1),
        "none": numbers,
    }[bump]
