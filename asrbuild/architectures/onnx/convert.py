"""Converts an ONNX graph to a Core ML package."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from asrbuild.architectures.onnx.folding import fold
from asrbuild.architectures.onnx.inside import package_signature, settings_inside
from asrbuild.architectures.onnx.lowering.walk import lower
from asrbuild.architectures.onnx.reading import read_graph
from asrbuild.architectures.onnx.section import OnnxConfig, check_steps, port_name, signature_of
from asrbuild.coreml.compression import Layers
from asrbuild.coreml.convert import Body, write_model
from asrbuild.coreml.mixed import FRONT_END, Mixed
from asrbuild.coreml.request import ConversionRequest
from asrbuild.coreml.speedups.importing import import_coremltools


def convert_graph(
    file: Path, config: OnnxConfig, request: ConversionRequest, destination: Path
) -> None:
    """Writes the package ``destination`` of a model, or replaces it.

    Raises:
        AsrbuildError: a node has no Core ML form.
    """
    check_steps(package_signature(config), request)
    graph = fold(read_graph(file), config.pin, config.cut)
    axes = {tensor.name: tensor.shape for tensor in graph.inputs}
    mb = import_coremltools().converters.mil.Builder

    def body(steps: int | None, inputs: Mapping[str, Any]) -> dict[str, Any]:
        del steps
        given = {name: inputs[port_name(name)] for name in config.inputs}
        # Core ML has no tensors without axes.
        given = {n: mb.squeeze(x=v) if axes[n] == () else v for n, v in given.items()}
        made = lower(graph, given, list(config.outputs))
        return {port_name(name): value for name, value in made.items()}

    settings, prefix = settings_inside(config), None
    whole: Body = body
    if settings is not None:
        from asrbuild.architectures.front_end.program import with_front_end
        from asrbuild.architectures.front_end.spectra import PREFIX

        whole, prefix = with_front_end(body, signature_of(config), settings), PREFIX
    mixed = Mixed(request.fp32 or FRONT_END, always=prefix)
    write_model(whole, package_signature(config), request, destination, Layers(), half=mixed)
    mixed.check()
