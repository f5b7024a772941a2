"""The inner networks of a layer, and the blobs that they read and write."""

from __future__ import annotations

from collections import Counter
from typing import Any


def count_reads(network: Any, counts: Counter[str]) -> None:
    """Counts the reads of each blob in a network and its inner networks."""
    for layer in network.layers:
        _count_layer(layer, counts)


def _count_layer(layer: Any, counts: Counter[str]) -> None:
    counts.update(layer.input)
    for inner in inner_networks(layer):
        count_reads(inner, counts)
    if layer.WhichOneof("layer") == "loop" and layer.loop.conditionVar:
        counts[layer.loop.conditionVar] += 1


def inner_networks(layer: Any) -> list[Any]:
    """The inner networks of a layer."""
    kind = layer.WhichOneof("layer")
    if kind == "loop":
        return [layer.loop.conditionNetwork, layer.loop.bodyNetwork]
    if kind == "branch":
        return [layer.branch.ifBranch, layer.branch.elseBranch]
    return []


def blobs_read(layer: Any) -> set[str]:
    """Every blob that a layer or its inner networks read."""
    counts = Counter[str]()
    _count_layer(layer, counts)
    return set(counts)


def blobs_written(layer: Any) -> set[str]:
    """Every blob that a layer or its inner networks write."""
    inside = (each for inner in inner_networks(layer) for each in inner.layers)
    return set(layer.output).union(*(blobs_written(each) for each in inside))
