"""The layers of a network, how a recipe stores their weights, and the gates that follow from it."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Layers:
    """The layers of a network whose weights can be compressed.

    ``names``: in the order in which the program runs them. ``recurrent``: the one that is an
    ``lstm`` op or the body of a loop; the others are dense. ``kept``: those that stay as they are
    unless their own key says otherwise.
    """

    names: tuple[str, ...] = ()
    recurrent: str | None = None
    kept: tuple[str, ...] = ()

    @property
    def dense(self) -> tuple[str, ...]:
        return tuple(name for name in self.names if name != self.recurrent)

    @property
    def defaults(self) -> dict[str, str | None]:
        """Layer -> how its weights are stored; None: as ``coreml.compress`` says."""
        return {name: "none" if name in self.kept else None for name in self.names}


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


#: The gates of a package whose original computes in half precision: see conf/verify/half.yaml.
HALF_ORIGINAL = "half"


def gate_names(coreml: Mapping[str, Any], thresholds: Container[str] = ()) -> tuple[str, ...]:
    """The gates of ``verify.thresholds`` that a build has: its precision's, those of the ways its
    layers are compressed, and those of an original in half precision where the recipe has them.

    The loosest of them count.
    """
    half = (HALF_ORIGINAL,) if HALF_ORIGINAL in thresholds else ()
    return (coreml["precision"], *half, *sorted(set(compression(coreml).values())))
