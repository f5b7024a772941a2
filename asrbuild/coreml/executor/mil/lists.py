"""MIL lists of tensors, as Python lists; ``None`` is an entry that was never written.

Source: "control_flow" in the MIL reference.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from asrbuild.base.array import Array
from asrbuild.coreml.executor import sized
from asrbuild.coreml.executor.literals import NAMED_DTYPES
from asrbuild.coreml.executor.mil.movement import as_list
from asrbuild.coreml.executor.registry import mil_op


class TensorList(list[Any]):
    """A list of entries, and the value of an entry that was never written (``None``: an error)."""

    blank: Array | None = None

    def entry(self, index: int) -> Array:
        """The entry at an index; raises if it was never written."""
        value = self[index]
        value = self.blank if value is None else value
        if value is None:
            raise IndexError(f"entry {index} of the list was never written")
        return value

    def copied(self, length: int) -> TensorList:
        """A copy with at least ``length`` entries."""
        result = TensorList(self)
        result.blank = self.blank
        result += [None] * (length - len(result))
        return result


@mil_op("make_list")
def make_list(
    elem_shape: Any, init_length: int = 1, dynamic_length: bool = True, dtype: str = "fp32"
) -> TensorList:
    """``init_length`` entries of ``elem_shape``, blank; sizes given as names are not known yet."""
    sizes = np.atleast_1d(elem_shape).tolist() if _known(elem_shape) else None
    result = TensorList([None] * sized.sized([init_length])[0])
    if sizes is not None:
        result.blank = np.zeros(sized.sized(sizes), NAMED_DTYPES[dtype])
    return result


@mil_op("list_length")
def list_length(ls: TensorList) -> Array:
    """``List -> i32``."""
    return np.array(len(ls), np.int32)


@mil_op("list_read")
def list_read(ls: TensorList, index: Array) -> Array:
    """``List, i32 -> tensor<*, T>``."""
    return ls.entry(int(index))


@mil_op("list_write")
def list_write(ls: TensorList, index: Array, value: Array) -> TensorList:
    """A list with another entry at ``index``, longer if need be: ``List, i32, tensor -> List``."""
    place = int(index)
    result = ls.copied(place + 1)
    result[place] = value
    return result


@mil_op("list_gather")
def list_gather(ls: TensorList, indices: Array) -> Array:
    """Entries stacked: ``List, tensor<[K], i32> -> tensor<[K, *], T>``."""
    return np.stack([ls.entry(int(index)) for index in indices])


@mil_op("list_scatter")
def list_scatter(ls: TensorList, indices: Array, value: Array) -> TensorList:
    """A list with other entries at ``indices``: ``List, tensor<[K], i32>, tensor<[K, *], T>``."""
    result = ls.copied(int(np.max(indices, initial=-1)) + 1)
    for index, row in zip(indices, value, strict=True):
        result[int(index)] = row
    return result


def _known(elem_shape: Any) -> bool:
    return all(not isinstance(size, str) for size in as_list(elem_shape))
