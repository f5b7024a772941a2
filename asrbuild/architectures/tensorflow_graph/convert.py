"""Converts a cut graph to a Core ML package, with ``coremltools.convert`` in a process of its own.

python -m asrbuild.architectures.tensorflow_graph.convert job.json
"""

from __future__ import annotations

import sys
from pathlib import Path

from asrbuild.architectures.onnx.section import OnnxConfig
from asrbuild.architectures.through_coremltools import Loaded, convert_in_process, serve_job
from asrbuild.coreml.request import ConversionRequest


def convert_graph(
    graph: Path, config: OnnxConfig, request: ConversionRequest, destination: Path
) -> None:
    """Writes the package ``destination`` of a cut graph.

    Raises:
        AsrbuildError: coremltools cannot convert the graph.
    """
    convert_in_process(
        "asrbuild.architectures.tensorflow_graph.convert",
        graph,
        config,
        request,
        destination,
        what="the graph",
        fix="cut the graph behind what it cannot convert: `asrbuild inspect graph` lists it",
    )


def _load(file: Path) -> Loaded:
    """Loads the graph as TensorFlow's message."""
    from tensorflow.compat.v1 import GraphDef

    return Loaded(GraphDef.FromString(file.read_bytes()), "tensorflow")


if __name__ == "__main__":
    serve_job(sys.argv[1], _load)
