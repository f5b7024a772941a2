"""The lowering of each MIL op, by family; importing this registers them."""

from . import (  # noqa: F401
    constexpr,
    control,
    convolution,
    elementwise,
    indexing,
    movement,
    normalization,
    products,
    recurrent,
    reduction,
    slicing,
    tensor,
)
