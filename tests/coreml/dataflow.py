"""Compares two Core ML models up to names, by digests of the computation of every value.

The digest of a constant covers its type and content, that of an operation its type, its blocks and
the digests of its named inputs. Two models are the same when their outputs, and all their
operations, have the same digests. Unused operations count too.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np

from asrbuild.coreml import protobufs as coremlproto


def read_spec(path: Path):
    """The ``Model`` message of an ``.mlpackage`` or ``.mlmodel``."""
    file = path / "Data/com.apple.CoreML/model.mlmodel" if path.is_dir() else path
    spec = coremlproto.model().Model()
    spec.ParseFromString(file.read_bytes())
    return spec


def op_counts(path: Path, function: str | None = None) -> Counter[str]:
    """Operation (or layer) type -> count, blocks and loop bodies included, constants left out."""
    counts: Counter[str] = Counter()

    def block(operations) -> None:
        for op in operations:
            counts[op.type] += op.type != "const"
            for inner in op.blocks:
                block(inner.operations)

    def network(layers) -> None:
        for layer in layers:
            kind = layer.WhichOneof("layer")
            counts[kind] += 1
            if kind == "loop":
                network(layer.loop.conditionNetwork.layers)
                network(layer.loop.bodyNetwork.layers)

    spec = read_spec(path)
    if spec.WhichOneof("Type") == "mlProgram":
        name = function or next(iter(spec.mlProgram.functions))
        chosen = spec.mlProgram.functions[name]
        block(chosen.block_specializations[chosen.opset].operations)
    else:
        network(spec.neuralNetwork.layers)
    return +counts


def program_dataflow(path: Path) -> tuple[dict[str, str], Counter[str]]:
    """Output name -> digest, and how often each operation digest occurs, of an ``.mlpackage``."""
    spec = read_spec(path)
    (function,) = spec.mlProgram.functions.values()
    weights = path / "Data/com.apple.CoreML/weights/weight.bin"
    blob = weights.read_bytes() if weights.exists() else b""
    seen: Counter[str] = Counter()
    values = {item.name: _digest("input", item.name) for item in function.inputs}
    body = function.block_specializations[function.opset]
    _block(body, values, blob, seen)
    return {name: values[name] for name in body.outputs}, seen


def _block(block, values: dict[str, str], blob: bytes, seen: Counter[str]) -> None:
    for op in block.operations:
        if op.type == "const":
            values[op.outputs[0].name] = _constant(op.attributes["val"], blob)
            continue
        inputs = sorted(
            (name, *(_binding(argument, values, blob) for argument in item.arguments))
            for name, item in op.inputs.items()
        )
        carried = [_binding(a, values, blob) for a in op.inputs["loop_vars"].arguments] * (
            op.type == "while_loop"
        )
        blocks = []
        for inner in op.blocks:
            scope = dict(values)
            for place, item in enumerate(inner.inputs):
                scope[item.name] = _digest("carried", place, carried[place])
            _block(inner, scope, blob, seen)
            blocks.append([scope[name] for name in inner.outputs])
        digest = _digest(op.type, inputs, blocks)
        seen[f"{op.type} {digest}"] += 1
        for place, item in enumerate(op.outputs):
            values[item.name] = _digest(digest, place)


def _binding(argument, values: dict[str, str], blob: bytes) -> str:
    if argument.WhichOneof("binding") == "name":
        return values[argument.name]
    return _constant(argument.value, blob)


def _constant(value, blob: bytes) -> str:
    kind = value.type.tensorType.SerializeToString(deterministic=True)
    if value.WhichOneof("value") == "blobFileValue":
        offset = value.blobFileValue.offset
        magic, _, size, start = np.frombuffer(blob, "<u4,<u4,<u8,<u8", 1, offset)[0]
        assert magic == 0xDEADBEEF
        return _digest("const", kind, blob[start : start + size])
    return _digest("const", kind, value.immediateValue.SerializeToString(deterministic=True))


def network_dataflow(path: Path) -> tuple[dict[str, str], Counter[str]]:
    """Output name -> digest, and the count of each layer digest, of an ``.mlmodel``."""
    spec = read_spec(path)
    seen: Counter[str] = Counter()
    values = {item.name: _digest("input", item.name) for item in spec.description.input}
    _layers(spec.neuralNetwork.layers, values, seen)
    return {item.name: values[item.name] for item in spec.description.output}, seen


def _layers(layers, values: dict[str, str], seen: Counter[str]) -> None:
    for layer in layers:
        kind = layer.WhichOneof("layer")
        if kind == "loop":
            _loop(layer.loop, values, seen)
            continue
        parameters = getattr(layer, kind).SerializeToString(deterministic=True)
        digest = _digest(kind, parameters, [values[name] for name in layer.input])
        seen[f"{kind} {digest}"] += 1
        for place, name in enumerate(layer.output):
            values[name] = _digest(digest, place)


def _loop(loop, values: dict[str, str], seen: Counter[str]) -> None:
    # A blob that the body overwrites is carried from step to step: its start names it.
    written = [name for layer in loop.bodyNetwork.layers for name in layer.output]
    carried = [name for name in dict.fromkeys(written) if name in values]
    for name in carried:
        values[name] = _digest("carried", values[name])
    condition = dict(values)
    _layers(loop.conditionNetwork.layers, condition, seen)
    _layers(loop.bodyNetwork.layers, values, seen)
    parts = [loop.maxLoopIterations, condition[loop.conditionVar]]
    parts += sorted(values[name] for name in carried)
    digest = _digest("loop", parts)
    seen[f"loop {digest}"] += 1
    for name in carried:
        values[name] = _digest(digest, values[name])


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
