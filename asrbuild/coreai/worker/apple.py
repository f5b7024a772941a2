"""Everything that is imported of coreai-core; its ``_compiler`` has no stable interface.

``raw`` is the dialect's own module: loops, states and named constants are only there.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

# First: the raw dialects alone import in a circle.
import coreai.authoring as authoring
from coreai._compiler.dialects import coreai as raw
from coreai._compiler.ir import (
    DenseElementsAttr,
    DenseResourceElementsAttr,
    DictAttr,
    IntegerType,
    StringAttr,
)
from coreai.runtime import NDArray

PINNED = "1.0.0b3"


def check_version() -> str:
    """The version of coreai-core.

    Raises:
        ValueError: it is another than this code is written for.
    """
    found = version("coreai-core")
    if found != PINNED:
        raise ValueError(f"coreai-core is {found}, asrbuild requires {PINNED}")
    return found


def bit_type() -> Any:
    """The type of an unsigned integer of one bit, as masks have it."""
    return IntegerType.get_unsigned(1)


def tensor_type(shape: list[int], dtype: Any) -> Any:
    """A tensor's type: -1 is a size that is not known; ``dtype`` of numpy or of Core AI."""
    return authoring.TensorSpec(shape, dtype)._to_mlir_type()


__all__ = [
    "PINNED",
    "DenseElementsAttr",
    "DenseResourceElementsAttr",
    "DictAttr",
    "NDArray",
    "StringAttr",
    "authoring",
    "bit_type",
    "check_version",
    "raw",
    "tensor_type",
]
