"""Lets coremltools' passes go past stand-in weights without reading each of them many times."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np

from asrbuild.coreml.arrays import transposed
from asrbuild.coreml.speedups import enabled


@contextmanager
def lean_passes(min_elements: int) -> Iterator[None]:
    """While it is open, three places in coremltools leave big constants alone.

    - The fp16 pass looks for values that overflow: stand-ins do not, and the real weights are
      checked when they are put back.
    - The fp16 pass flattens (copies) an array to learn that it is too big to be looked at.
    - A transposed constant is a view, which every comparison of constants copies again: it is
      copied once instead.

    Args:
        min_elements: constants of this many elements are left alone.
    """
    if not enabled("lean_passes"):
        yield
        return
    from coremltools.converters.mil.mil.ops.defs.iOS15.control_flow import Const
    from coremltools.converters.mil.mil.passes.defs.quantization import FP16ComputePrecision

    overflows = FP16ComputePrecision.fp16_overflow
    check_underflow = FP16ComputePrecision._check_underflow_to_zero
    infer = Const.value_inference

    def is_small(value: Any) -> bool:
        return not isinstance(value, np.ndarray) or value.size < min_elements

    def overflows_small(op: Any) -> bool:
        def small(given: Any) -> bool:
            return isinstance(given, (list, tuple)) or is_small(given.val)

        inputs = {name: given for name, given in op.inputs.items() if small(given)}
        return bool(overflows(SimpleNamespace(inputs=inputs)))

    def check_small_underflow(self: Any, new_var: Any, var: Any) -> None:
        if is_small(var.val):
            check_underflow(self, new_var, var)

    def infer_in_c_order(self: Any) -> Any:
        value = infer(self)
        if is_small(value) or value.ndim != 2 or value.flags.c_contiguous:
            return value
        return transposed(value.T, value.dtype)

    FP16ComputePrecision.fp16_overflow = staticmethod(overflows_small)
    FP16ComputePrecision._check_underflow_to_zero = check_small_underflow
    Const.value_inference = infer_in_c_order
    try:
        yield
    finally:
        FP16ComputePrecision.fp16_overflow = staticmethod(overflows)
        FP16ComputePrecision._check_underflow_to_zero = check_underflow
        Const.value_inference = infer


@contextmanager
def lean_constants() -> Iterator[None]:
    """While it is open, constants are neither inferred a second time nor copied to be written.

    A pass that infers every op again compares each constant with itself, element by element; and
    fp16 is written from a third copy.
    """
    if not enabled("lean_constants"):
        yield
        return
    from coremltools.converters.mil.backend.mil import helper
    from coremltools.converters.mil.mil.ops.defs.iOS15.control_flow import Const

    infer, write = Const.type_value_inference, helper._get_offset_by_writing_data

    def infer_once(self: Any, overwrite_output: bool = False) -> None:
        if self._output_vars is None:
            infer(self, overwrite_output)

    def write_uncopied(output_var: Any, blob_writer: Any) -> Any:
        value = output_var.val
        if value.dtype == np.float16 and value.flags.c_contiguous:
            return blob_writer.write_fp16_data(value.reshape(-1).view(np.uint16))
        return write(output_var, blob_writer)

    Const.type_value_inference = infer_once
    helper._get_offset_by_writing_data = write_uncopied
    try:
        yield
    finally:
        Const.type_value_inference = infer
        helper._get_offset_by_writing_data = write
