"""A limit for the rounds of a loop: Core ML has none, and a damaged loop may never end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from asrbuild.base import interrupts
from asrbuild.base.errors import AsrbuildError

#: Limit of rounds in one run of a loop: over five hours of speech at 20 ms a round. An endless loop
#: is refused after a minute or two.
MOST_ROUNDS = 1_000_000


@contextmanager
def rounds(place: str) -> Iterator[Callable[[], None]]:
    """Yields the function that a loop calls before each of its rounds.

    ``place`` names the loop in errors and after Ctrl-C.

    Raises:
        AsrbuildError: the loop runs for more than ``MOST_ROUNDS`` rounds.
    """
    done = 0

    def check() -> None:
        nonlocal done
        interrupts.check()
        if done > MOST_ROUNDS:
            raise AsrbuildError(
                f"{place} has not ended after {MOST_ROUNDS} rounds",
                fix="the package is damaged, or its model is wrong: build it again, or copy it "
                "again from a good copy",
            )
        done += 1

    try:
        yield check
    except KeyboardInterrupt:
        interrupts.was_in(f"{place}, round {done}")
        raise
