"""Converts a PyTorch file to a Core ML package, with ``coremltools.convert`` in its own process.

python -m asrbuild.architectures.torch_export.convert job.json
"""

from __future__ import annotations

import sys
from pathlib import Path

from asrbuild.architectures.onnx.section import OnnxConfig
from asrbuild.architectures.through_coremltools import Loaded, convert_in_process, serve
from asrbuild.architectures.torch_export.program import describe, is_exported, load_program
from asrbuild.coreml.request import ConversionRequest


def convert_program(
    file: Path, config: OnnxConfig, request: ConversionRequest, destination: Path
) -> None:
    """Writes the package ``destination`` of a PyTorch file.

    Raises:
        AsrbuildError: coremltools cannot convert the file.
    """
    convert_in_process(
        "asrbuild.architectures.torch_export.convert",
        file,
        config,
        request,
        destination,
        what="the PyTorch file",
        fix="export the model to ONNX, and build that with source=onnx",
    )


def _load(file: Path) -> Loaded:
    """Loads the program; one of torch.export is decomposed to its core operations."""
    program = load_program(str(file))
    described = describe(program, str(file))
    if is_exported(program):
        program = program.run_decompositions({})
    inputs = tuple(name for name, _, _ in described["inputs"])
    return Loaded(program, "pytorch", inputs, tuple(described["outputs"]))


if __name__ == "__main__":
    serve(sys.argv[1], _load)
