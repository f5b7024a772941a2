"""How a recipe stores the weights of each layer, and the gates that follow from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

#: How the weights of a layer are stored; ``none``: as they are.
Compression = Literal["none", "int8", "palettize_6", "palettize_4", "prune"]


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
