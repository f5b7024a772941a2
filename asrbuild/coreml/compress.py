"""Compresses weights with ``coremltools.optimize``, with a choice for each layer.

It is one more graph pass at the end of either front end's pipeline, so a compressed program is
written like any other: with the same bytes every time, and with weights shared by functions.

    const ─► linear     becomes     constexpr_* ─► linear

with int8 and a scale for each output channel, indices into one palette for each weight, or a mask
and its nonzero values. The rest of the program is unchanged.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from asrbuild.base.array import Array
from asrbuild.base.errors import AsrbuildError
from asrbuild.coreml.compression import Layers
from asrbuild.coreml.request import ConversionRequest
from asrbuild.coreml.speedups.importing import import_coremltools

PASS = "asrbuild::compress_layers"
_PASSES = {
    "int8": "linear_quantize_weights",
    "palettize_6": "palettize_weights",
    "palettize_4": "palettize_weights",
    "prune": "prune_weights",
}
_OPTION = "choice"


def add_compression(pipeline: Any, request: ConversionRequest, layers: Layers) -> None:
    """Appends a request's compression, if any, to a ``ct.PassPipeline``."""
    if not request.compress:
        return
    _register()
    pipeline.append_pass(PASS)
    pipeline.set_options(PASS, {_OPTION: (request, layers)})


def _register() -> None:
    ct = import_coremltools()
    from coremltools.converters.mil.mil.passes.graph_pass import AbstractGraphPass
    from coremltools.converters.mil.mil.passes.pass_registry import PASS_REGISTRY

    if PASS in PASS_REGISTRY:
        return

    class CompressLayers(AbstractGraphPass):  # type: ignore[misc]  # coremltools has no types
        choice: tuple[ConversionRequest, Layers] = (ConversionRequest(), Layers())

        def apply(self, prog: Any) -> None:
            compress_program(ct, prog, *self.choice)

    namespace, name = PASS.split("::")
    PASS_REGISTRY.add(namespace, CompressLayers, override=False, name=name)


def compress_program(ct: Any, program: Any, request: ConversionRequest, layers: Layers) -> None:
    """Compresses the weights of the layers that ``request.compress`` names.

    Raises:
        AsrbuildError: the program lacks a layer, or coremltools left a weight uncompressed.
    """
    from coremltools.converters.mil.mil.passes.graph_pass import PassOption
    from coremltools.converters.mil.mil.passes.pass_registry import PASS_REGISTRY

    shared = {const.name: const.weight_id for _, const in _weights(program, layers)}
    found = {const.name: layer for layer, const in _weights(program, layers)}
    if missing := sorted(set(request.compress) - set(found.values())):
        raise AsrbuildError(
            f"the program has no weights of {', '.join(missing)} to compress",
            key="coreml.compress_layers",
            fix="use coreml.frontend=mil",
        )
    for method in sorted(set(request.compress.values())):
        settings = {
            const.name: _settings(ct, method, request, const)
            for layer, const in _weights(program, layers)
            if request.compress.get(layer) == method
        }
        config = ct.optimize.coreml.OptimizationConfig(op_name_configs=settings)
        compress = PASS_REGISTRY[f"compression::{_PASSES[method]}"]
        compress.set_options([PassOption("config", config)])
        compress.apply(program)
    # coremltools only logs a line if it cannot compress a weight.
    left = sorted({layer for layer, _ in _weights(program, layers) if layer in request.compress})
    if left:
        raise AsrbuildError(
            f"coremltools left the weights of {', '.join(left)} as they were",
            key=f"coreml.compress_layers.{left[0]}",
            fix=f"set coreml.compress_layers.{left[0]}=none",
        )
    _share(program, shared)


def _settings(ct: Any, method: str, request: ConversionRequest, const: Any) -> Any:
    """The settings of coremltools for one weight."""
    optimize = ct.optimize.coreml
    if method == "int8":
        return optimize.OpLinearQuantizerConfig(
            mode="linear_symmetric", dtype="int8", granularity="per_channel", weight_threshold=0
        )
    if method == "prune":
        return optimize.OpThresholdPrunerConfig(
            threshold=smallest(const.outputs[0].val, request.sparsity),
            minimum_sparsity_percentile=0.0,
            weight_threshold=0,
        )
    bits = int(method.removeprefix("palettize_"))
    return optimize.OpPalettizerConfig(
        mode="custom", lut_function=lambda weights: palette(weights, bits), weight_threshold=0
    )


def smallest(weights: Array, fraction: float) -> float:
    """The magnitude that this fraction of the weights does not exceed.

    coremltools 9.0's own ``OpMagnitudePrunerConfig`` uses ``np.percentile``, which counts in the
    type of the weights: for more than 65,504 fp16 weights the result is NaN, and nothing is pruned.
    """
    count = int(weights.size * fraction)
    if count == 0:
        return 0.0
    return float(np.partition(np.abs(weights).reshape(-1), count - 1)[count - 1])


def palette(weights: Array, bits: int) -> tuple[Array, Array]:
    """The ``2 ** bits`` values with the least squared error for all weights, and their indices.

    It is exact k-means in one dimension, by coremltools' own copy of kmeans1d, without a random
    start, so the same weights give the same palette. coremltools' mode ``kmeans`` does the same for
    fp16 weights, but requires scikit-learn for fewer than 10,000 weights and for fp32. Here fp32
    weights are clustered by their fp16 values. There are at most 64k different values, so they are
    counted.

    Returns:
        The palette (2 ** bits,) of the weights' type, ascending and padded with zeros, and uint8
        indices (weights.size,).
    """
    from coremltools._deps import kmeans1d

    codes = weights.astype(np.float16).view(np.uint16).reshape(-1)
    counts = np.bincount(codes, minlength=1 << 16)
    present = np.flatnonzero(counts)
    values = present.astype(np.uint16).view(np.float16).astype(np.float64)
    clusters = min(len(values), 2**bits)
    made = kmeans1d.cluster(values, clusters, weights=counts[present])
    table = np.zeros(2**bits, weights.dtype)
    table[:clusters] = made.centroids
    cluster_of = np.zeros(1 << 16, np.uint8)
    cluster_of[present] = made.clusters
    return table, cluster_of[codes]


def _weights(program: Any, layers: Layers) -> Iterator[tuple[str, Any]]:
    """Yields (layer, const op) of each uncompressed weight matrix.

    The front ends give different names but the same order: a chain of dense layers, with the
    recurrent layer as one op or as the body of a loop.
    """
    for function in program.functions.values():
        names = iter(layers.dense)
        for operation in function.operations:
            if operation.op_type == "linear":
                layer = next(names, None)
                if layer is None:
                    raise AsrbuildError(
                        f"the program has more dense layers than {', '.join(layers.dense)}",
                        key="coreml.compress",
                        fix="set coreml.compress=none",
                    )
                yield from _consts(layer, operation)
            elif operation.op_type == "lstm" and layers.recurrent:
                yield from _consts(layers.recurrent, operation)
            for inner in operation.blocks:
                for step in inner.operations:
                    if step.op_type == "linear" and layers.recurrent:
                        yield from _consts(layers.recurrent, step)


def _consts(layer: str, operation: Any) -> Iterator[tuple[str, Any]]:
    for name in ("weight", "weight_ih", "weight_hh"):
        weight = operation.inputs.get(name)
        if weight is not None and weight.op is not None and weight.op.op_type == "const":
            yield layer, weight.op


def _share(program: Any, shared: Mapping[str, str | None]) -> None:
    """Makes functions that share a weight share its compressed parts."""
    for function in program.functions.values():
        for operation in function.operations:
            if not operation.op_type.startswith("constexpr_"):
                continue
            origin = operation.name.rpartition("_")[0]
            if shared.get(origin) is None:
                continue
            for name, part in operation.inputs.items():
                part.op.weight_id = f"{shared[origin]}/{name}"
