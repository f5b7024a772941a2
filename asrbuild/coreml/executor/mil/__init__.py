"""MIL ops, one function each; importing this package registers them all.

Shapes in docstrings are MIL's. Sources: "MIL Ops" in the coremltools API reference, by op name, and
the op definitions' ``value_inference`` where they have one.
"""

from __future__ import annotations

from asrbuild.coreml.executor.mil import (  # noqa: F401
    activation,
    binary,
    boxes,
    constexpr,
    control,
    convolution,
    gather,
    linear,
    lists,
    loop,
    movement,
    normalization,
    random,
    recurrent,
    reduction,
    resizing,
    scatter,
    slicing,
    spatial,
    tensor,
    unary,
)
