"""Converts with ``coremltools.convert``, in a process that imports the model's runtime.

A module that converts has a function that loads its model, and ends in :func:`serve`.
coremltools makes a program of the network alone; its operations are then written into a package
like those of any other architecture, so that every setting of a recipe works here as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from asrbuild.architectures.conversion_job import run_job, serve_job
from asrbuild.architectures.onnx.inside import package_signature, settings_inside
from asrbuild.architectures.onnx.section import OnnxConfig, check_steps, signature_of, tensor_names
from asrbuild.base.errors import AsrbuildError
from asrbuild.coreml.compression import Layers
from asrbuild.coreml.convert import Body, write_model
from asrbuild.coreml.inlining import inlined
from asrbuild.coreml.mixed import FRONT_END, Mixed
from asrbuild.coreml.request import ConversionRequest, specification_version


@dataclass(frozen=True)
class Loaded:
    """A loaded model for coremltools.

    Args:
        source: coremltools' name of its kind.
        inputs, outputs: its own names in order, if the order counts and all are required.
    """

    model: Any
    source: str
    inputs: tuple[str, ...] | None = None
    outputs: tuple[str, ...] | None = None


def convert_in_process(
    module: str,
    file: Path,
    config: OnnxConfig,
    request: ConversionRequest,
    destination: Path,
    *,
    what: str,
    fix: str,
) -> None:
    """Writes the package ``destination`` of a model's file, with a module that converts.

    Args:
        what: the model's name for messages; ``fix``: the fix if it cannot be converted.

    Raises:
        AsrbuildError: coremltools cannot convert the model, or Core ML does not support the
        package.
    """
    check_steps(package_signature(config), request)
    given = {"file": str(file), "config": asdict(config)}
    code, line = run_job(module, request, destination, **given)
    if code:
        raise AsrbuildError(
            f"coremltools cannot convert {what}: {line}", key="source.path", file=file, fix=fix
        )


def serve(job: str, load: Callable[[Path], Loaded]) -> None:
    """Runs a job in this process, which imports the model's runtime."""

    def convert(given: Mapping[str, Any], request: ConversionRequest, destination: Path) -> None:
        _convert(load(Path(given["file"])), OnnxConfig(**given["config"]), request, destination)

    serve_job(job, convert)


def _convert(
    loaded: Loaded, config: OnnxConfig, request: ConversionRequest, destination: Path
) -> None:
    settings, prefix = settings_inside(config), None
    body = _network(loaded, config, request)
    if settings is not None:
        from asrbuild.architectures.front_end.program import with_front_end
        from asrbuild.architectures.front_end.spectra import PREFIX

        body, prefix = with_front_end(body, signature_of(config), settings), PREFIX
    mixed = Mixed(request.fp32 or FRONT_END, always=prefix)
    write_model(body, package_signature(config), request, destination, Layers(), half=mixed)
    mixed.check()


def _network(loaded: Loaded, config: OnnxConfig, request: ConversionRequest) -> Body:
    """The body of the operations that coremltools makes, for each number of steps."""
    import coremltools as ct

    signature = signature_of(config)
    names = tensor_names(config)
    ports = {names[port.name]: port for port in signature.inputs}
    outputs = {names[name]: name for name in signature.output_names}
    for side, given, all_of in (
        ("inputs", ports, loaded.inputs),
        ("outputs", outputs, loaded.outputs),
    ):
        if all_of is not None and (more := set(all_of) - set(given)):
            raise SystemExit(f"its {side} {', '.join(sorted(more))} have no role in the recipe")

    def body(steps: int | None, inputs: Mapping[str, Any]) -> dict[str, Any]:
        length = ct.RangeDim(1, -1) if steps is None else steps
        types = []
        for own in loaded.inputs or ports:
            shape = [length if axis.open else axis.size for axis in ports[own].axes]
            types.append(ct.TensorType(own, shape=shape, dtype=np.dtype(ports[own].dtype).type))
        made = list(loaded.outputs or outputs)
        program = ct.convert(
            loaded.model,
            source=loaded.source,
            convert_to="milinternal",
            inputs=types,
            outputs=[ct.TensorType(name) for name in made],
            compute_precision=ct.precision.FLOAT32,
            minimum_deployment_target=ct.target(specification_version(request)),
        )
        function = program.functions["main"]
        known = {function.inputs[own]: inputs[port.name] for own, port in ports.items()}
        values = inlined(function, known)
        return {outputs[name]: value for name, value in zip(made, values, strict=True)}

    return body
