"""Counts the operations of a package by kind, and the bytes of its weights by layer."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asrbuild.coreml.choices import ASSET

#: Operations that only unpack stored weights; the bytes count for the operation that reads them.
_UNPACKING = ("const", "cast")
#: Endings that name a layer's last operation, not the layer.
_ENDINGS = ("_BiasAdd", "_MatMul", "_to_fp16", "_0")


@dataclass(frozen=True)
class Anatomy:
    """The content of a package for its report.

    Args:
        operations: kind -> number, including those inside loops and branches, without constants.
        layers: layer -> stored bytes of its weights, in the order of the package. Weights shared by
            functions count once.
    """

    operations: Counter[str]
    layers: dict[str, int]


def anatomy(path: Path) -> Anatomy:
    """Reads a package's specification; weights stay on disk.

    Raises:
        AsrbuildError: the package does not exist or is damaged.
    """
    from asrbuild.coreml.executor.package import open_package

    if path.suffix == f".{ASSET}":
        from asrbuild.coreai.asset import inspect

        found = inspect(path)
        return Anatomy(Counter(found["ops"]), {path.name: sum(found["files"].values())})
    package = open_package(path)
    operations: Counter[str] = Counter()
    layers: Counter[str] = Counter()
    if package.spec.WhichOneof("Type") == "neuralNetwork":
        _add_layers(package.spec.neuralNetwork, package.weights, operations, layers)
    seen: set[tuple[str, int]] = set()
    for function in package.spec.mlProgram.functions.values():
        block = function.block_specializations[function.opset]
        waiting: dict[str, int] = {}
        _add_block(block, waiting, seen, operations, layers)
        for name, size in waiting.items():
            layers[_layer(name)] += size
    return Anatomy(operations, {name: size for name, size in layers.items() if size})


def _add_block(
    block: Any,
    waiting: dict[str, int],
    seen: set[tuple[str, int]],
    operations: Counter[str],
    layers: Counter[str],
) -> None:
    """``waiting``: name of a value -> bytes of stored weights that no operation has read yet."""
    from asrbuild.coreml.stored import stored_weights

    for operation in block.operations:
        size = 0
        for place, _, nbytes in stored_weights(operation):
            size += 0 if place in seen else nbytes
            seen.add(place)
        for item in operation.inputs.values():
            size += sum(waiting.pop(argument.name, 0) for argument in item.arguments)
        name = operation.outputs[0].name if operation.outputs else operation.type
        if operation.type in _UNPACKING or operation.type.startswith("constexpr_"):
            waiting[name] = size
        else:
            layers[_layer(name)] += size
        if operation.type != "const":
            operations[operation.type] += 1
        for inner in operation.blocks:
            _add_block(inner, waiting, seen, operations, layers)


def _add_layers(network: Any, weights: Any, operations: Counter[str], layers: Counter[str]) -> None:
    from asrbuild.coreml.executor.nn.inside import inner_networks

    for layer in network.layers:
        operations[layer.WhichOneof("layer")] += 1
        inside = inner_networks(layer)
        for inner in inside:
            _add_layers(inner, weights, operations, layers)
        # The weights of a loop are those of its inner networks.
        layers[_layer(layer.name)] += 0 if inside else weights.stored_bytes(layer)


def _layer(name: str) -> str:
    for ending in _ENDINGS:
        name = name.removesuffix(ending)
    return name
