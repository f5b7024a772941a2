"""MIL programs and classifiers that coremltools converts, for the executor's tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.coreml.executor.harness import ct, floats, mb, types
from tests.coreml.executor.tested import note_function, note_network

Build = Callable[..., Any]


def converted(build: Build, arrays: dict[str, np.ndarray], path: Path, **options: Any) -> Path:
    """A MIL program with these inputs, as ``ct.convert`` writes it."""
    specs = [
        mb.TensorSpec(array.shape, types.numpy_type_to_builtin_type(array.dtype))
        for array in arrays.values()
    ]

    def named(*inputs: Any) -> Any:
        return build(**dict(zip(arrays, inputs, strict=True)))

    # mb.program takes the inputs' names from the function's signature.
    source = f"lambda {', '.join(arrays)}: named({', '.join(arrays)})"
    program = mb.program(input_specs=specs)(eval(source, {"named": named}))
    if path.suffix == ".mlmodel":
        options["convert_to"] = "neuralnetwork"
    else:
        options |= {"convert_to": "mlprogram", "compute_precision": ct.precision.FLOAT32}
    model = ct.convert(program, source="milinternal", skip_model_load=True, **options)
    if path.suffix == ".mlpackage":
        note_function(model._mil_program.functions["main"], "iOS15")
    elif model.get_spec().HasField("neuralNetwork"):
        note_network(model.get_spec().neuralNetwork)
    model.save(str(path))
    return path


WORDS = ["yes", "no", "up"]
WEIGHT = floats((3, 4), seed=1)
FRAMES = floats((1, 4))
