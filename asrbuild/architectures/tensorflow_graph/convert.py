"""Converts a cut graph to a Core ML package, with ``coremltools.convert`` in a process of its own.

python -m asrbuild.architectures.tensorflow_graph.convert job.json
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from asrbuild.architectures.onnx.section import OnnxConfig
from asrbuild.architectures.through_coremltools import Loaded, convert_in_process, serve
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

    _divide_by_zero_as_tensorflow()
    return Loaded(GraphDef.FromString(file.read_bytes()), "tensorflow")


def _divide_by_zero_as_tensorflow() -> None:
    """Converts DivNoNan, of which coremltools makes a plain division: silence became NaN.

    Its quotient is 0 where the divisor is (TensorFlow's documentation of ``math.divide_no_nan``).
    """
    from coremltools.converters.mil import Builder
    from coremltools.converters.mil.frontend.tensorflow.tf_op_registry import register_tf_op

    def div_no_nan(context: Any, node: Any) -> None:
        dividend, divisor = (context[name] for name in node.inputs)
        zero = Builder.cast(x=Builder.equal(x=divisor, y=0.0), dtype="fp32")
        quotient = Builder.real_div(x=dividend, y=Builder.add(x=divisor, y=zero))
        kept = Builder.sub(x=1.0, y=zero)
        context.add(node.name, Builder.mul(x=quotient, y=kept, name=node.name))

    div_no_nan.__name__ = "DivNoNan"  # the registry takes the name of the function
    register_tf_op(div_no_nan, override=True)


if __name__ == "__main__":
    serve(sys.argv[1], _load)
