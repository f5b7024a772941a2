"""Packages of one operation each, with placements that others have measured.

The labels are facts of github.com/751K/Apple-Neural-Engine-Microarchitecture-Study-M6 (MIT licence,
see NOTICE), commit 5cb462be: data/03_compile/opdispatch/plan_iso_cpune.tsv, which devices Core ML's
compute plan supports for each op on an M4 with macOS 27.0.1; and for the sizes at the limits, where
that plan ran out of memory, notes/coreml_dispatch.md, section 3.3. The packages are made here, of
the same ops, types and shapes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Builder = Callable[..., Any]
#: Batch, channels, height, width; and rows of a matrix.
IMAGE, ROWS = (1, 64, 32, 32), (1, 128, 256)


@dataclass(frozen=True)
class Case:
    """One package: ``build(mb, *inputs)`` writes its operation.

    ``blocked``: some operation of the plan was not supported on the Neural Engine.
    """

    name: str
    blocked: bool
    build: Builder
    shapes: tuple[tuple[int, ...], ...] = (IMAGE,)
    types: tuple[str, ...] = ("fp16",)


def save(case: Case, folder: Path) -> Path:
    """Writes the case's package for iOS 18, in fp16 as coremltools converts it."""
    import coremltools as ct
    from coremltools.converters.mil import Builder as mb  # noqa: N813
    from coremltools.converters.mil.mil import Function, Program, types

    kinds = {"fp16": types.fp16, "fp32": types.fp32, "int32": types.int32}
    names = case.types * (len(case.shapes) if len(case.types) == 1 else 1)
    given = {
        f"in_{number}": mb.placeholder(shape=shape, dtype=kinds[kind])
        for number, (shape, kind) in enumerate(zip(case.shapes, names, strict=True))
    }
    with Function(given, opset_version=ct.target.iOS18) as function:
        function.set_outputs([case.build(mb, *function.inputs.values())])
    program = Program()
    program.add_function("main", function)
    model = ct.convert(
        program,
        convert_to="mlprogram",
        minimum_deployment_target=ct.target.iOS18,
        compute_precision=ct.precision.FLOAT16,
        skip_model_load=True,
    )
    path = folder / f"{case.name}.mlpackage"
    model.save(str(path))
    return path


def half(*shape: int) -> Any:
    return np.full(shape, 0.01, np.float16)


def _of(op: str, **settings: Any) -> Builder:
    """An op of one input ``x``."""
    return lambda mb, x: getattr(mb, op)(x=x, **settings)


def _pair(op: str) -> Builder:
    return lambda mb, x, y: getattr(mb, op)(x=x, y=y)


def _compared(op: str) -> Builder:
    return lambda mb, x, y: mb.cast(x=getattr(mb, op)(x=x, y=y), dtype="fp16")


def _conv(*kernel: int, groups: int = 1, **settings: Any) -> Builder:
    settings.setdefault("pad_type", "same")
    weight = half(64, 64 // groups, *kernel)
    return lambda mb, x: mb.conv(x=x, weight=weight, groups=groups, **settings)


def _pool(op: str, *kernel: int, pad_type: str = "same") -> Builder:
    ones = [1] * len(kernel)
    return _of(op, kernel_sizes=list(kernel), strides=ones, pad_type=pad_type)


def _recurrent(op: str, gates: int) -> Builder:
    def build(mb: Any, x: Any) -> Any:
        state = {"initial_h": half(1, 64)} | ({"initial_c": half(1, 64)} if op == "lstm" else {})
        weights = {"weight_ih": half(gates * 64, 64), "weight_hh": half(gates * 64, 64)}
        return getattr(mb, op)(x=x, output_sequence=True, **state, **weights)[0]

    return build


def _cases() -> list[Case]:
    plain = (
        "relu sigmoid tanh silu softplus softsign erf exp exp2 sqrt sign sin cos atan abs floor "
        "ceil round square relu6"
    )
    found = [Case(op, False, _of(op)) for op in plain.split()]
    found += [Case(op, True, _of(op)) for op in ["tan", "asin", "acos", "sinh", "cosh", "atanh"]]
    small = {"epsilon": 1e-4}
    found += [Case(op, False, _of(op, **small)) for op in ("log", "rsqrt", "inverse")]
    modes = ("EXACT", "TANH_APPROXIMATION", "SIGMOID_APPROXIMATION")
    found += [Case(f"gelu {mode.lower()}", False, _of("gelu", mode=mode)) for mode in modes]
    found += [
        Case("leaky_relu", False, _of("leaky_relu", alpha=0.2)),
        Case("elu", False, _of("elu", alpha=1.0)),
        Case("prelu", False, _of("prelu", alpha=half(64))),
        Case("clip", False, _of("clip", alpha=np.float16(-1), beta=np.float16(1))),
        Case("thresholded_relu", False, _of("thresholded_relu", alpha=0.5)),
        Case("sigmoid_hard", False, _of("sigmoid_hard", alpha=0.2, beta=0.5)),
        Case("linear_activation", False, _of("linear_activation", alpha=2.0, beta=1.0)),
        Case("pow by a constant", False, lambda mb, x: mb.pow(x=x, y=np.float16(3))),
    ]
    pairs = ["add", "sub", "mul", "real_div", "maximum", "minimum", "pow", "floor_div"]
    two: Any = {"shapes": (IMAGE, IMAGE)}
    found += [Case(op, False, _pair(op), **two) for op in pairs]
    found += [Case("mod", True, _pair("mod"), **two)]
    found += [
        Case(op, False, _compared(op), **two)
        for op in ["equal", "not_equal", "less", "less_equal", "greater", "greater_equal"]
    ]
    found += [
        Case(f"add of {other}", False, _pair("add"), (IMAGE, other))
        for other in ((1, 64, 1, 1), (1, 1, 32, 32), (1, 1, 1, 32))
    ]
    found += [
        Case(
            "select",
            False,
            lambda mb, x, y: mb.select(cond=mb.greater(x=x, y=np.float16(0)), a=x, b=y),
            **two,
        ),
        Case(
            "logical_and",
            False,
            lambda mb, x, y: mb.cast(
                x=mb.logical_and(
                    x=mb.greater(x=x, y=np.float16(0)), y=mb.greater(x=y, y=np.float16(0))
                ),
                dtype="fp16",
            ),
            **two,
        ),
    ]
    return found + _types() + _sizes() + _products() + _shaping() + _indices()


def _types() -> list[Case]:
    rows: Any = {"shapes": (ROWS, (1, 256, 128))}
    two: Any = {"shapes": (IMAGE, IMAGE)}
    return [
        Case("relu of fp32", False, _of("relu"), types=("fp32",)),
        Case("add of fp32", False, _pair("add"), **two, types=("fp32",)),
        Case("matmul of fp32", False, _pair("matmul"), **rows, types=("fp32",)),
        Case("add of int32", True, _pair("add"), **two, types=("int32",)),
        Case("mul of int32", True, _pair("mul"), **two, types=("int32",)),
        Case("matmul of int32", True, _pair("matmul"), **rows, types=("int32",)),
        Case("cast to int32", True, _of("cast", dtype="int32")),
        Case("cast from int32", True, _of("cast", dtype="fp16"), types=("int32",)),
        Case("cast to fp32", False, _of("cast", dtype="fp32")),
        Case(
            "quantize and dequantize",
            False,
            lambda mb, x: mb.dequantize(
                input=mb.quantize(input=x, scale=np.float16(0.1), output_dtype="int8"),
                scale=np.float16(0.1),
            ),
        ),
    ]


def _sizes() -> list[Case]:
    relu = _of("relu")
    shapes = (
        (65536,),
        (256, 256),
        ROWS,
        (1, 4, 16, 32, 32),
        (1, 1, 1, 16385),
        (1, 1, 1, 65536),
        (1, 65536, 1, 1),
        (1, 1, 65536, 1),
        (64, 64, 8, 8),
    )
    found = [Case(f"relu of {shape}", False, relu, (shape,)) for shape in shapes]
    above = ((1, 1, 1, 65537), (1, 65537, 1, 1), (1, 1, 65537, 1))
    found += [Case(f"relu of {shape}", True, relu, (shape,)) for shape in above]
    sums = {16384: False, 32768: False, 40000: True, 65536: True}
    found += [
        Case(f"matmul over {size}", blocked, _pair("matmul"), ((1, 16, size), (1, size, 16)))
        for size, blocked in sums.items()
    ]
    kernels = {
        (1, 1): False,
        (3, 3): False,
        (13, 13): False,
        (15, 15): False,
        (16, 16): False,
        (17, 17): True,
        (1, 15): False,
        (1, 16): True,
        (1, 31): True,
        (1, 64): True,
        (16, 1): False,
        (31, 1): False,
        (32, 1): True,
        (64, 1): True,
    }
    found += [Case(f"conv {k[0]}x{k[1]}", is_, _conv(*k)) for k, is_ in kernels.items()]
    pools = {
        (3, 3): False,
        (8, 8): False,
        (9, 9): True,
        (15, 15): True,
        (1, 9): True,
        (9, 1): False,
    }
    found += [
        Case(f"max_pool {k[0]}x{k[1]}", is_, _pool("max_pool", *k)) for k, is_ in pools.items()
    ]
    found += [Case(f"avg_pool {k}x{k}", False, _pool("avg_pool", k, k)) for k in (4, 9, 14)]
    return found


def _products() -> list[Case]:
    found = [Case(f"conv of {n} groups", False, _conv(3, 3, groups=n)) for n in (2, 16, 64)]
    heads = (1, 8, 128, 64)
    found += [
        Case("conv of stride 2", False, _conv(7, 7, strides=[2, 2])),
        Case("conv of dilation 2", False, _conv(3, 3, dilations=[2, 2])),
        Case("conv of one axis", False, _conv(3), ((1, 64, 1024),)),
        Case("conv of three axes", False, _conv(3, 3, 3), ((1, 64, 8, 16, 16),)),
        Case(
            "conv of computed weights",
            False,
            lambda mb, x, w: mb.conv(x=x, weight=w),
            (IMAGE, (64, 64, 1, 1)),
        ),
        Case(
            "conv_transpose",
            False,
            lambda mb, x: mb.conv_transpose(x=x, weight=half(64, 64, 2, 2), strides=[2, 2]),
        ),
        Case(
            "linear",
            False,
            lambda mb, x: mb.linear(x=x, weight=half(512, 256), bias=half(512)),
            (ROWS,),
        ),
        Case(
            "matmul by a constant", False, lambda mb, x: mb.matmul(x=x, y=half(256, 512)), (ROWS,)
        ),
        Case("matmul", False, _pair("matmul"), (ROWS, (1, 256, 128))),
        Case("matmul in batches", False, _pair("matmul"), (heads, (1, 8, 64, 128))),
        Case(
            "scaled_dot_product_attention",
            False,
            lambda mb, q, k, v: mb.scaled_dot_product_attention(query=q, key=k, value=v),
            (heads,) * 3,
        ),
        Case("lstm", True, _recurrent("lstm", 4), ((16, 1, 64),)),
        Case("gru", True, _recurrent("gru", 3), ((16, 1, 64),)),
        Case("rnn", True, _recurrent("rnn", 1), ((16, 1, 64),)),
        Case("l2_pool", False, _pool("l2_pool", 2, 2, pad_type="valid")),
        Case("layer_norm of channels", False, _of("layer_norm", axes=[1], epsilon=1e-4)),
        Case("layer_norm of all", False, _of("layer_norm", axes=[1, 2, 3])),
        Case("instance_norm", False, _of("instance_norm", gamma=half(64), beta=half(64))),
        Case("batch_norm", False, _of("batch_norm", mean=half(64), variance=half(64))),
        Case("l2_norm", False, _of("l2_norm")),
        Case("local_response_norm", False, _of("local_response_norm", size=5)),
    ]
    found += [Case(f"softmax of axis {axis}", False, _of("softmax", axis=axis)) for axis in (1, 3)]
    sums = "sum mean max min l1_norm l2_norm sum_square log_sum log_sum_exp prod"
    found += [
        Case(f"reduce_{kind}", kind == "prod", _of(f"reduce_{kind}", axes=[1], keep_dims=True))
        for kind in sums.split()
    ]
    return found


def _shaping() -> list[Case]:
    doubled: Any = {"shapes": (IMAGE, IMAGE)}
    scale = {"scale_factor_height": 2, "scale_factor_width": 2}
    return [
        Case("reshape", False, _of("reshape", shape=[1, 64, 1024])),
        Case("transpose", False, _of("transpose", perm=[0, 1, 3, 2])),
        Case("concat", False, lambda mb, x, y: mb.concat(values=(x, y), axis=1), **doubled),
        Case("stack", False, lambda mb, x, y: mb.stack(values=(x, y), axis=1), **doubled),
        Case("split", False, lambda mb, x: mb.split(x=x, num_splits=2, axis=1)[0]),
        Case(
            "slice_by_index", False, _of("slice_by_index", begin=[0, 8, 0, 0], end=[1, 40, 32, 32])
        ),
        Case(
            "slice_by_size", False, _of("slice_by_size", begin=[0, 0, 4, 4], size=[1, 64, 16, 16])
        ),
        Case(
            "slice from a computed place",
            True,
            lambda mb, x, at: mb.slice_by_size(x=x, begin=at, size=[1, 32, 16, 16]),
            (IMAGE, (4,)),
            ("fp16", "int32"),
        ),
        Case("reverse", False, _of("reverse", axes=[3])),
        Case("tile", False, _of("tile", reps=[1, 2, 1, 2])),
        Case("pad", False, _of("pad", pad=[2, 2, 2, 2], mode="reflect")),
        Case("depth_to_space", False, _of("depth_to_space", block_size=2)),
        Case("space_to_depth", False, _of("space_to_depth", block_size=2)),
        Case("pixel_shuffle", False, _of("pixel_shuffle", upscale_factor=2)),
        Case("upsample_bilinear", False, _of("upsample_bilinear", **scale)),
        Case("upsample_nearest_neighbor", False, _of("upsample_nearest_neighbor", **scale)),
        Case(
            "resize_bilinear",
            False,
            _of("resize_bilinear", target_size_height=48, target_size_width=48),
        ),
        Case(
            "sliding_windows",
            True,
            _of("sliding_windows", axis=2, size=8, stride=4),
            ((1, 64, 256),),
        ),
        Case("band_part", True, _of("band_part", lower=-1, upper=0), ((1, 128, 128),)),
        Case("cumsum", True, _of("cumsum", axis=3)),
    ]


def _indices() -> list[Case]:
    indices = np.arange(16, dtype=np.int32)
    both = ("fp16", "int32")
    return [
        Case("gather", False, _of("gather", indices=indices, axis=1)),
        Case(
            "gather at computed indices",
            True,
            lambda mb, x, at: mb.gather(x=x, indices=at, axis=0),
            ((1000, 256), (1, 64)),
            both,
        ),
        Case(
            "gather of a table",
            True,
            lambda mb, at: mb.gather(x=half(1000, 256), indices=at, axis=0),
            ((1, 64),),
            ("int32",),
        ),
        Case(
            "gather_along_axis",
            True,
            lambda mb, x, at: mb.gather_along_axis(x=x, indices=at, axis=3),
            (IMAGE, IMAGE),
            both,
        ),
        Case(
            "gather_nd",
            True,
            lambda mb, x, at: mb.gather_nd(x=x, indices=at),
            (IMAGE, (8, 2)),
            both,
        ),
        Case(
            "scatter",
            True,
            lambda mb, x, at, new: mb.scatter(data=x, indices=at, updates=new, axis=3),
            (IMAGE, (4,), (1, 64, 32, 4)),
            ("fp16", "int32", "fp16"),
        ),
        Case("topk", False, lambda mb, x: mb.topk(x=x, k=4, axis=3)[0]),
        Case("argsort", True, lambda mb, x: mb.cast(x=mb.argsort(x=x, axis=3), dtype="fp16")),
        Case(
            "reduce_argmax",
            True,
            lambda mb, x: mb.cast(x=mb.reduce_argmax(x=x, axis=1), dtype="fp16"),
        ),
        Case(
            "one_hot",
            True,
            lambda mb, at: mb.one_hot(indices=at, one_hot_vector_size=128),
            ((1, 64),),
            ("int32",),
        ),
        Case(
            "non_zero", True, lambda mb, x: mb.cast(x=mb.non_zero(x=x), dtype="fp16"), ((1, 256),)
        ),
        Case(
            "range_1d",
            True,
            lambda mb, end: mb.cast(
                x=mb.range_1d(start=0, end=mb.squeeze(x=end), step=1), dtype="fp16"
            ),
            ((1,),),
            ("int32",),
        ),
        Case(
            "random_normal",
            True,
            lambda mb, x: mb.add(
                x=x, y=mb.cast(x=mb.random_normal(shape=np.array(IMAGE, np.int32)), dtype="fp16")
            ),
        ),
        Case("fill_like", False, lambda mb, x: mb.fill_like(ref_tensor=x, value=1.0)),
    ]


CASES = tuple(_cases())
