"""Passes are not checked one by one; a program that one of them damages is still refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from asrbuild.coreml.speedups.checked_once import checked_once
from asrbuild.coreml.speedups.importing import import_coremltools


def test_a_damaged_program_is_refused(tmp_path: Path) -> None:
    ct = import_coremltools()
    from coremltools.converters.mil.converter import ConverterRegistry, mil_convert_to_proto
    from coremltools.converters.mil.mil.passes.graph_pass import AbstractGraphPass
    from coremltools.converters.mil.mil.passes.pass_registry import PASS_REGISTRY

    mb = ct.converters.mil.Builder

    @mb.program(input_specs=[mb.TensorSpec(shape=(4,))])
    def program(x):
        return mb.add(x=mb.relu(x=x), y=np.ones(4, np.float32))

    class Damage(AbstractGraphPass):
        """Forgets which operation reads the first output."""

        def apply(self, prog) -> None:
            operations = prog.functions["main"].operations
            next(op for op in operations if op.op_type == "relu").outputs[0]._child_ops.clear()

    name = "asrbuild_test::damage"
    PASS_REGISTRY.passes[name] = Damage()
    passes = ct.PassPipeline()
    passes.append_pass(name)
    try:
        with checked_once(), pytest.raises(Exception, match="should be consumed by op"):
            mil_convert_to_proto(
                program,
                "milinternal",
                "mlprogram",
                ConverterRegistry,
                main_pipeline=passes,
                specification_version=ct.target.iOS17,
                weights_dir=str(tmp_path),
            )
    finally:
        del PASS_REGISTRY.passes[name]
