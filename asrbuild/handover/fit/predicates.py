"""The conditions of the rules on an operation or a package: types, shapes, kernels, kinds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from asrbuild.handover.fit.operations import (
    UNDECLARED,
    Operation,
    OperationValue,
    PackagePart,
    stored_bytes,
)


@dataclass(frozen=True)
class PackageFacts:
    """The facts of a package for the rules.

    Args:
        functions: all functions.
        specification_version: Core ML's spec version; 8 is iOS 17.
        compression: compression (``palette of 4 bits``) -> number of weights.
        compute_units: those that the manifest recommends; None without a manifest.
        large: (node, magnitude) of operands and sums in the proof that reach 32,768.
    """

    functions: tuple[PackagePart, ...]
    specification_version: int
    compression: dict[str, int] = field(default_factory=dict)
    compute_units: str | None = None
    large: tuple[tuple[str, float], ...] = ()


def kind(*kinds: str) -> Callable[[Operation], bool]:
    return lambda operation: operation.kind in kinds


def _moving(operation: Operation) -> list[OperationValue]:
    """The operands that are not constant."""
    values = (v for values in operation.operands.values() for v in values)
    return [value for value in values if not value.constant]


_INTEGERS = ("int32", "uint32", "int64", "uint64")
_HALF = ("float16", "bool", "int8", "uint8", "int16", "uint16")


def computes_integers(operation: Operation) -> bool:
    # A second result, such as the indices of a topk, may have no reader.
    seen = [*_moving(operation), *operation.results[:1]]
    return any(value.dtype in _INTEGERS for value in seen)


def computes_single(operation: Operation) -> bool:
    seen = [*_moving(operation), *operation.results[:1]]
    return operation.kind not in ("cast", "while_loop", "cond") and any(
        value.dtype in ("float32", "float64") for value in seen
    )


def in_control_flow(operation: Operation) -> bool:
    controls = ("while_loop", "cond", "loop", "branch")
    return operation.kind in controls or " > " in operation.path


#: Arguments of a slice with its start and end.
_BOUNDS = ("begin", "end", "size")


def bounded_at_run_time(operation: Operation) -> bool:
    if operation.kind in ("range_1d", "rangeDynamic"):
        return operation.kind == "rangeDynamic" or bool(_moving(operation))
    bounds = (v for name in _BOUNDS for v in operation.operands.get(name, ()))
    slices = operation.kind in ("slice_by_index", "slice_by_size")
    return operation.kind in _DYNAMIC_LAYERS or (slices and any(not v.constant for v in bounds))


_DYNAMIC_LAYERS = ("sliceDynamic", "fillDynamic", "reshapeLike", "broadcastToDynamic")


def gathers_at_run_time(operation: Operation) -> bool:
    indices = operation.operand("indices")
    return operation.kind == "gather" and indices is not None and not indices.constant


def _shapes(operation: Operation) -> Iterator[tuple[int, ...]]:
    for value in operation.values:
        if value.shape is not None and value.dtype not in (UNDECLARED, "string"):
            yield tuple(size or 0 for size in value.shape)


def axis_above(limit: int) -> Callable[[Operation], bool]:
    def longer(operation: Operation) -> bool:
        moving = [*_moving(operation), *operation.results]
        return any(size and size > limit for v in moving for size in v.shape or ())

    return longer


def rank_above_5(operation: Operation) -> bool:
    return any(len(shape) > 5 for shape in _shapes(operation))


def inner_above_32768(operation: Operation) -> bool:
    x = operation.operand("x")
    if operation.kind not in ("matmul", "linear") or x is None or not x.shape:
        return False
    turned = operation.operand("transpose_x")
    return (x.shape[-2 if is_true(turned) and len(x.shape) > 1 else -1] or 0) > 32768


def is_true(value: OperationValue | None) -> bool:
    """Whether a value is a constant scalar that is true."""
    return bool(scalars(value)[:1] == [True])


def scalars(value: OperationValue | None) -> list[Any]:
    """The numbers, truth values or texts of a small constant; empty for any other value."""
    if value is None or value.literal is None:
        return []
    tensor = value.literal.immediateValue.tensor
    which = tensor.WhichOneof("value")
    if which is None or which == "bytes":
        return []
    return list(getattr(tensor, which).values)


def _kernel(operation: Operation) -> tuple[int, int] | None:
    """Height and width of the kernel of a convolution or pooling with one or two spatial axes."""
    if operation.kind == "max_pool":
        sizes = scalars(operation.operand("kernel_sizes"))
    elif operation.kind == "conv":
        weight = operation.operand("weight")
        sizes = list(weight.shape[2:]) if weight is not None and weight.shape else []
    else:
        return None
    if not 1 <= len(sizes) <= 2 or not all(isinstance(size, int) for size in sizes):
        return None
    height, width = (1, *sizes)[-2:]
    return height, width


def wide_convolution(operation: Operation) -> bool:
    kernel = _kernel(operation) if operation.kind == "conv" else None
    if kernel is None:
        return False
    height, width = kernel
    return width > (16 if height == width else 15) or height > 31


def wide_pooling(operation: Operation) -> bool:
    kernel = _kernel(operation) if operation.kind == "max_pool" else None
    return kernel is not None and kernel[1] > 8


def ranges(package: PackageFacts) -> list[str]:
    return _inputs(package, lambda of: any(low != high for low, high in of.axes or ()))


def enumerated(package: PackageFacts) -> list[str]:
    return _inputs(package, lambda of: of.shapes is not None and len(of.shapes) > 1)


def _inputs(package: PackageFacts, fits: Callable[[Any], bool]) -> list[str]:
    return [
        f"{function.name}: {feature.name} {feature.shape_text}"
        for function in package.functions
        for feature in function.inputs
        if fits(feature)
    ]


def odd_states(package: PackageFacts) -> list[str]:
    return [
        f"{function.name}: {state.name} has a width of {state.default[-1]}"
        for function in package.functions
        for state in function.states
        if state.default and state.default[-1] % 32
    ]


def fragile_compression(package: PackageFacts) -> list[str]:
    sound = ("palette of 6 bits", "palette of 8 bits")
    return [f"{n} x {how}" for how, n in package.compression.items() if how not in sound]


def above_a_gigabyte(package: PackageFacts) -> list[str]:
    total = stored_bytes(package.functions)
    return [f"{total:,} bytes of weights"] if total > 1 << 30 else []


def all_units(package: PackageFacts) -> list[str]:
    return ["compute_units=ALL"] if package.compute_units == "ALL" else []


def before_ios_18(package: PackageFacts) -> list[str]:
    version = package.specification_version
    return [f"specification version {version}"] if version < 9 else []


def large_values(package: PackageFacts) -> list[str]:
    return [f"{node} reaches {math.floor(value):,}" for node, value in package.large]


MATHS = ("asin", "acos", "tan", "sinh", "cosh", "atanh", "mod", "reduce_prod")
STRUCTURE = tuple(
    """
    scatter scatter_along_axis cumsum one_hot non_zero band_part sliding_windows crop_resize
    argsort random_normal
    """.split()
)
#: Kinds of operations that devices were seen to support, on float16 and bool.
ELIGIBLE = frozenset(
    """
    linear matmul conv conv_transpose scaled_dot_product_attention relu relu6 leaky_relu prelu
    elu sigmoid sigmoid_hard tanh scaled_tanh silu softplus softsign gelu erf exp exp2 log
    sqrt rsqrt inverse abs sign sin cos atan floor ceil round square clip thresholded_relu
    linear_activation add sub mul real_div floor_div pow maximum minimum equal not_equal less
    less_equal greater greater_equal logical_and select cast avg_pool max_pool l2_pool softmax
    layer_norm instance_norm batch_norm l2_norm local_response_norm reduce_sum reduce_mean
    reduce_max reduce_min reduce_l1_norm reduce_l2_norm reduce_sum_square reduce_log_sum
    reduce_log_sum_exp reshape transpose concat split stack slice_by_index slice_by_size
    reverse tile pad squeeze expand_dims space_to_depth depth_to_space space_to_batch
    batch_to_space pixel_shuffle pixel_unshuffle upsample_nearest_neighbor upsample_bilinear
    resize resize_bilinear resize_nearest_neighbor affine resample gather gather_along_axis
    gather_nd topk quantize dequantize fill_like identity
    """.split()
)


def eligible(operation: Operation) -> bool:
    seen = [*_moving(operation), *operation.results[:1]]
    # Casts to and from float32 are at the ends of a package.
    allowed = (*_HALF, "float32") if operation.kind == "cast" else _HALF
    return operation.kind in ELIGIBLE and all(value.dtype in allowed for value in seen)
