"""Loops that can never end: Core ML sets no limit, and a damaged package may have such a one.

Whether any loop ends cannot be known, so there is no count at which one is given up. But an op is a
function of its inputs: once all that a loop's condition depends on has values that it had in an
earlier round, everything that decides will repeat, and so does the answer to go on::

    deciding = what the condition reads
             + what the body reads to make those values for the next round, and so on

That is a counter and its limit as a rule, whatever else a loop carries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from asrbuild.base import interrupts
from asrbuild.base.errors import AsrbuildError

Env = list[Any]


@dataclass(frozen=True)
class Watch:
    """What is known of a loop: where it is, and the slots that decide whether it goes on.

    ``deciding`` is None where more decides than slots can tell, like a state inside the model, or
    where the loop has a limit of its own.
    """

    place: str
    deciding: tuple[int, ...] | None

    @contextmanager
    def rounds(self, env: Env) -> Iterator[Callable[[], None]]:
        """What to call before each round of one run of the loop.

        It raises where nobody waits for the result any more, and where the loop cannot end: values
        are compared with those of the last round whose number was a power of two, which finds a
        repetition of any length within three times its rounds (R. P. Brent, "An improved Monte
        Carlo factorization algorithm", BIT 20, 1980).

        Raises:
            AsrbuildError: the loop never ends.
        """
        done = kept_at = 0
        kept: list[Any] | None = None

        def check() -> None:
            nonlocal done, kept, kept_at
            interrupts.check()
            if self.deciding is not None:
                values = [_content(env[slot]) for slot in self.deciding]
                if kept == values and None not in values:
                    raise AsrbuildError(
                        f"{self.place} never ends: in round {done + 1} its condition depends on "
                        f"the same values as in round {kept_at + 1}",
                        fix="the package is damaged, or its model is wrong: build it again, or "
                        "copy it again from a good copy",
                    )
                if done & (done - 1) == 0:
                    kept, kept_at = values, done
            done += 1

        try:
            yield check
        except KeyboardInterrupt:
            interrupts.was_in(f"{self.place}, round {done}")
            raise


def _content(value: Any) -> tuple[Any, ...] | None:
    """What a value is, to its last bit; None for what is no array."""
    if not isinstance(value, np.ndarray | np.generic):
        return None
    return value.dtype, value.shape, value.tobytes()


def closure(
    start: Iterable[int] | None, needs: Sequence[Iterable[int] | None]
) -> tuple[int, ...] | None:
    """Those of ``start``, those that each of them needs, and so on; None if any of that is."""
    found: set[int] = set()
    waiting = [start]
    while waiting:
        more = waiting.pop()
        if more is None:
            return None
        fresh = set(more) - found
        found |= fresh
        waiting += [needs[one] for one in fresh]
    return tuple(sorted(found))
