"""All imports from coreai-core in one place, because its ``_compiler`` has no stable interface.

``raw`` is the dialect's own module, which alone has loops, states and named constants.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

# This import comes first: on their own, the raw dialects have a circular import.
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
    """Returns the version of coreai-core, if it is the pinned one.

    Raises:
        ValueError: it is another version.
    """
    found = version("coreai-core")
    if found != PINNED:
        raise ValueError(f"coreai-core is {found}, asrbuild requires {PINNED}")
    return found


def bit_type() -> Any:
    """The type of an unsigned integer of one bit, for masks."""
    return IntegerType.get_unsigned(1)


def tensor_type(shape: list[int], dtype: Any) -> Any:
    """The type of a tensor; ``dtype`` is numpy's or Core AI's, an unknown size is -1."""
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
