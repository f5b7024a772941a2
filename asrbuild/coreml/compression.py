"""The layers of a network, how a recipe stores their weights, and the gates that follow from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Layers:
    """The layers of a network whose weights can be compressed.

    ``dense``: in the order in which the program runs them. ``recurrent``: the one that is an
    ``lstm`` op or the body of a loop.
    """

    dense: tuple[str, ...] = ()
    recurrent: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.dense, *((self.recurrent,) if self.recurrent else ()))


def compression(coreml: Mapping[str, Any]) -> dict[str, str]:
    """Layer -> how its weights are stored, without the layers that are stored as they are.

    Args:
        coreml: the recipe's section as :func:`record` has it; of an old one, nothing is compressed.
    """
    chosen = {
        layer: method or coreml["compress"]
        for layer, method in coreml.get("compress_layers", {}).items()
    }
    return {layer: method for layer, method in chosen.items() if method != "none"}


def gate_names(coreml: Mapping[str, Any]) -> tuple[str, ...]:
    """The gates of ``verify.thresholds`` that a build has: its precision's, and those of the ways
    its layers are compressed; the loosest of them count."""
    return (coreml["precision"], *sorted(set(compression(coreml).values())))
