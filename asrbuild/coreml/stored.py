"""The stored weights of a Core ML package: element types, bytes, and compression."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from asrbuild.coreml import protobufs as coremlproto


def weight_bytes(spec: Any, kind: str) -> dict[str, int]:
    """Element type -> bytes of the stored weights; weights shared by functions count once."""
    found: Counter[str] = Counter()
    if kind == "mlProgram":
        seen: set[tuple[str, int]] = set()
        for function in spec.mlProgram.functions.values():
            for block in function.block_specializations.values():
                _program_weights(block.operations, seen, found)
    elif kind.startswith("neuralNetwork"):
        _network_weights(getattr(spec, kind), found)
    return {name: count for name, count in found.most_common() if count}


def _program_weights(
    operations: Iterable[Any], seen: set[tuple[str, int]], found: Counter[str]
) -> None:
    for operation in operations:
        for place, dtype, nbytes in stored_weights(operation):
            found[dtype] += 0 if place in seen else nbytes
            seen.add(place)
        for block in operation.blocks:
            _program_weights(block.operations, seen, found)


def stored_weights(operation: Any) -> Iterator[tuple[tuple[str, int], str, int]]:
    """The weights in a file that one operation of a program has, without those in its blocks.

    Yields:
        Place (file, offset), element type, and number of bytes.
    """
    names = {number: name.lower() for name, number in coremlproto.mil().DataType.items()}
    for value in _values(operation):
        if value.WhichOneof("value") != "blobFileValue":
            continue
        elements = 1
        for dimension in value.type.tensorType.dimensions:
            elements *= dimension.constant.size
        name = names.get(value.type.tensorType.dataType, "unknown")
        bits = int("".join(filter(str.isdigit, name)) or 8)
        place = (value.blobFileValue.fileName, value.blobFileValue.offset)
        yield place, name, elements * bits // 8


#: Operations that store compressed weights -> the arguments with the stored values.
_STORED = {
    "constexpr_affine_dequantize": "quantized_data",
    "constexpr_blockwise_shift_scale": "data",
    "constexpr_sparse_blockwise_shift_scale": "nonzero_data",
}


def compression(spec: Any, kind: str) -> dict[str, int]:
    """``palette of 4 bits``, ``linear of 8 bits`` or ``sparse`` -> number of weights."""
    found: Counter[str] = Counter()
    if kind == "mlProgram":
        for function in spec.mlProgram.functions.values():
            for block in function.block_specializations.values():
                _program_compression(block.operations, found)
    elif kind.startswith("neuralNetwork"):
        for params in _weight_params(getattr(spec, kind)):
            stored = params.quantization
            if stored.numberOfBits:
                table = stored.WhichOneof("QuantizationType") == "lookupTableQuantization"
                found[f"{'palette' if table else 'linear'} of {stored.numberOfBits} bits"] += 1
    return {name: count for name, count in found.most_common() if count}


def _program_compression(operations: Any, found: Counter[str]) -> None:
    for operation in operations:
        if operation.type in ("constexpr_lut_to_dense", "constexpr_lut_to_sparse"):
            for value in constant_arguments(operation, "lut", operations):
                sizes = [item.constant.size for item in value.type.tensorType.dimensions]
                # Up to iOS 17 a palette is a vector; from iOS 18 on, its last axes are (entries,
                # size of an entry).
                entries = sizes[0] if len(sizes) == 1 else sizes[-2]
                found[f"palette of {(entries - 1).bit_length()} bits"] += 1
        elif operation.type in _STORED:
            for value in constant_arguments(operation, _STORED[operation.type], operations):
                found[f"linear of {_bits(value)} bits"] += 1
        if "sparse" in operation.type:
            found["sparse"] += 1
        for block in operation.blocks:
            _program_compression(block.operations, found)


def constant_arguments(operation: Any, name: str, operations: Iterable[Any]) -> list[Any]:
    """The constant values of an operation's argument: inline, or from constants that it reads."""
    if name in operation.attributes:
        return [operation.attributes[name]]
    values = []
    for argument in operation.inputs[name].arguments if name in operation.inputs else ():
        if argument.WhichOneof("binding") == "value":
            values.append(argument.value)
            continue
        for other in operations:
            if other.type == "const" and other.outputs[0].name == argument.name:
                values.append(other.attributes["val"])
    return values


def _bits(value: Any) -> int:
    names = {number: name for name, number in coremlproto.mil().DataType.items()}
    name = names.get(value.type.tensorType.dataType, "")
    return int("".join(filter(str.isdigit, name)) or 8)


def _values(operation: Any) -> Iterable[Any]:
    """Constants inside an operation: a const's value, or inline arguments."""
    yield from operation.attributes.values()
    for item in operation.inputs.values():
        for argument in item.arguments:
            if argument.WhichOneof("binding") == "value":
                yield argument.value


def _network_weights(message: Any, found: Counter[str]) -> None:
    for item in _weight_params(message):
        found["float32"] += 4 * len(item.floatValue)
        found["float16"] += len(item.float16Value)
        found["quantized"] += len(item.rawValue) + len(item.int8RawValue)


def _weight_params(message: Any) -> Iterator[Any]:
    """Yields every ``WeightParams`` in the set fields of a message."""
    for field, value in message.ListFields():
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            continue
        items = value if not hasattr(value, "ListFields") else (value,)
        for item in items:
            if field.message_type.name == "WeightParams":
                yield item
            else:
                yield from _weight_params(item)
