"""From a cut graph to a Core ML package, through ``coremltools.convert`` in a process of its own.

python -m asrbuild.architectures.tensorflow_graph.convert job.json
"""

from __future__ import annotations

import json
import signal
import sys
import tempfile
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from asrbuild.architectures.deepspeech.from_graph import decoded_request, encoded_request
from asrbuild.architectures.onnx.section import OnnxConfig, check_steps, port_name, signature_of
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.processes import run
from asrbuild.coreml.convert import flexible, is_half
from asrbuild.coreml.mixed import FRONT_END, Mixed
from asrbuild.coreml.package import write_package
from asrbuild.coreml.request import ConversionRequest, model_outputs, specification_version


def convert_graph(
    graph: Path, config: OnnxConfig, request: ConversionRequest, destination: Path
) -> None:
    """Writes the package ``destination`` of a cut graph.

    Raises:
        AsrbuildError: coremltools cannot convert the graph.
    """
    check_steps(config, request)
    with tempfile.TemporaryDirectory() as scratch:
        job = Path(scratch, "job.json")
        job.write_text(
            json.dumps(
                {
                    "graph": str(graph), "destination": str(destination.absolute()),
                    "config": asdict(config), "request": encoded_request(request),
                }
            )
        )  # fmt: skip
        code, lines = run("asrbuild.architectures.tensorflow_graph.convert", str(job))
    if code:
        raise AsrbuildError(
            f"coremltools cannot convert the graph: {lines[-1]}",
            key="source.path",
            file=graph,
            fix="cut the graph behind what it cannot convert: `asrbuild inspect graph` lists it",
        )


def convert_here(job: dict[str, Any]) -> None:
    """The conversion in this process: imports TensorFlow."""
    import coremltools as ct
    from tensorflow.compat.v1 import GraphDef

    request, config = decoded_request(job["request"]), OnnxConfig(**job["config"])
    signature, destination = signature_of(config), Path(job["destination"])
    definition = GraphDef.FromString(Path(job["graph"]).read_bytes())
    names = {port_name(name): name for side in (config.inputs, config.outputs) for name in side}
    inputs = []
    for port in signature.inputs:
        sizes = [axis.size for axis in port.axes]

        def filled(length: Any, sizes: list[Any], time: int | None) -> tuple[Any, ...]:
            return tuple(length if at == time else size for at, size in enumerate(sizes))

        shape = partial(filled, sizes=sizes, time=port.time)
        shaped = tuple(sizes) if port.time is None else flexible(ct, shape, request.steps)
        dtype = np.dtype(port.dtype).type
        inputs.append(ct.TensorType(names[port.name], shape=shaped, dtype=dtype))
    mixed = Mixed(FRONT_END)
    half = ct.transform.FP16ComputePrecision(op_selector=mixed)
    wanted = model_outputs(request, signature)
    with tempfile.TemporaryDirectory(dir=destination.parent) as scratch:
        package = Path(scratch) / "converted.mlpackage"
        model = ct.convert(
            definition,
            source="tensorflow",
            inputs=inputs,
            outputs=[ct.TensorType(names[name], dtype=np.float32) for name in wanted],
            compute_precision=half if is_half(request) else ct.precision.FLOAT32,
            minimum_deployment_target=ct.target(specification_version(request)),
            skip_model_load=True,
            package_dir=str(package),
        )
        weights = package / "Data" / "com.apple.CoreML" / "weights" / "weight.bin"
        write_package(model.get_spec(), weights, request, destination)


if __name__ == "__main__":
    # Ctrl-C ends it at once: TensorFlow, being imported, would swallow a KeyboardInterrupt.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    convert_here(json.loads(Path(sys.argv[1]).read_text()))
