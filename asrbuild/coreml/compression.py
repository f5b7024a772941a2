"""The compression of each layer in a recipe, and the gates of a build."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Layers:
    """The layers of a network whose weights can be compressed.

    ``names``: in the order in which the program runs them. ``recurrent``: the layer that is an
    ``lstm`` op or the body of a loop; the others are dense. ``kept``: layers that stay uncompressed
    unless their own key is set.
    """

    names: tuple[str, ...] = ()
    recurrent: str | None = None
    kept: tuple[str, ...] = ()

    @property
    def dense(self) -> tuple[str, ...]:
        """The layers that are not recurrent."""
        return tuple(name for name in self.names if name != self.recurrent)

    @property
    def defaults(self) -> dict[str, str | None]:
        """Layer -> its default compression; None: that of ``coreml.compress``."""
        return {name: "none" if name in self.kept else None for name in self.names}


def compression(coreml: Mapping[str, Any]) -> dict[str, str]:
    """Layer -> its compression, without uncompressed layers.

    Args:
        coreml: the recorded section of the recipe; a section of an old recipe has no compression.
    """
    chosen = {
        layer: method or coreml["compress"]
        for layer, method in coreml.get("compress_layers", {}).items()
    }
    return {layer: method for layer, method in chosen.items() if method != "none"}


#: The gates of a package whose original computes in half precision: see conf/verify/half.yaml.
HALF_ORIGINAL = "half"


def gate_names(coreml: Mapping[str, Any], thresholds: Container[str] = ()) -> tuple[str, ...]:
    """The names of a build's gates in ``verify.thresholds``; the loosest of them count.

    They are those of its precision, of the compressions of its layers, and, if the recipe has them,
    those of an original in half precision.

    """
    half = (HALF_ORIGINAL,) if HALF_ORIGINAL in thresholds else ()
    return (coreml["precision"], *half, *sorted(set(compression(coreml).values())))
