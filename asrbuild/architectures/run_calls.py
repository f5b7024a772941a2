"""Runs calls on an original and carries its states, for worker processes.

Cases are calls, ``<sequence>/<number>/<input>``, in the order of their numbers within a sequence.
Only the first call has the input of a state; later calls get the previous call's output.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Protocol

import numpy as np

from asrbuild.base.array import Array


class Session(Protocol):
    """A model loaded in its runtime."""

    def run(self, feeds: Mapping[str, Array], call: str) -> dict[str, Array]:
        """The outputs of one call by name; ``call`` names it in errors."""
        ...


def run_calls(
    session: Session, states: str | None, names: str | None, cases: Mapping[str, Array]
) -> dict[str, Array]:
    """Runs all calls; returns every output, ``<sequence>/<number>/<output>``, float32 or int32.

    Args:
        states: JSON, input -> the output that the next call takes.
        names: JSON, a tensor's name in the package -> its name in the model, if they differ.
    """
    renamed: Mapping[str, str] = json.loads(names or "{}")
    pairs: Mapping[str, str] = json.loads(states or "{}")
    port_of = {model: port for port, model in renamed.items()}
    results: dict[str, Array] = {}
    carried: dict[str, Array] = {}
    for call, given in _calls(cases).items():
        feeds = {renamed.get(port, port): array for port, array in given.items()}
        made = session.run(carried | feeds, call)
        carried = {state: made[output] for state, output in pairs.items()}
        for name, array in made.items():
            dtype = np.int32 if array.dtype.kind in "iub" else np.float32
            results[f"{call}/{port_of.get(name, name)}"] = array.astype(dtype)
    return results


def _calls(cases: Mapping[str, Array]) -> dict[str, dict[str, Array]]:
    """Call -> inputs, in the order of the calls."""
    calls: dict[str, dict[str, Array]] = {}
    for key in sorted(cases):
        call, _, port = key.rpartition("/")
        calls.setdefault(call, {})[port] = cases[key]
    return calls
