"""Writes a package from a network's body, which coremltools' MIL builder makes.

An architecture provides the body; this module adds inputs, states, outputs and functions from its
signature and the request, so that the packages of all architectures have the same form.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from asrbuild.base.disk import full_disk_errors
from asrbuild.coreml.compress import add_compression
from asrbuild.coreml.compression import Layers
from asrbuild.coreml.package import write_neuralnetwork, write_package
from asrbuild.coreml.request import (
    ConversionRequest,
    EnumeratedSteps,
    FixedSteps,
    Steps,
    model_outputs,
    specification_version,
)
from asrbuild.coreml.sharing import add_sharing
from asrbuild.coreml.signature import Port, Signature
from asrbuild.coreml.speedups.checked_once import checked_once
from asrbuild.coreml.speedups.importing import import_coremltools
from asrbuild.coreml.speedups.nn_weights import fast_weights

DEFAULT_FUNCTION = "main"
#: The body of a network: takes the steps of a call (None: any number), and inputs and states by the
#: name of the input; returns outputs by name. Features have the compute precision, all others their
#: declared type; outputs may have either precision. With a ``Half``, everything is float32.
Body = Callable[[int | None, Mapping[str, Any]], Mapping[str, Any]]
#: Whether an operation of an fp16 package computes in half precision.
Half = Callable[[Any], bool]


def is_half(request: ConversionRequest) -> bool:
    """Whether the package computes in fp16; never a neural network, which only stores fp16."""
    return request.format == "mlprogram" and request.precision == "fp16"


def write_model(
    body: Body,
    signature: Signature,
    request: ConversionRequest,
    destination: Path,
    layers: Layers,
    half: Half | None = None,
) -> None:
    """Writes the package ``destination`` (``.mlpackage`` or ``.mlmodel``), or replaces it.

    The same body, signature and request give the same bytes in every process and on every day.

    Args:
        signature: a signature with the size of every axis except the steps.
        layers: the layers that can be compressed.
        half: chooses the operations of an fp16 package that compute in half precision, for a body
            in float32; None: the body has casts of its own.
    """
    program = _program(body, signature, request, own_casts=half is None)
    with (
        tempfile.TemporaryDirectory(dir=destination.parent) as scratch,
        # Inside, so that the space of the scratch folder is free at its end.
        full_disk_errors("writing the package", destination.parent),
    ):
        spec = _export(program, request, Path(scratch), layers, half)
        if request.format == "mlprogram":
            write_package(spec, Path(scratch) / "weight.bin", request, destination)
        else:
            write_neuralnetwork(spec, request, destination)


def _program(
    body: Body, signature: Signature, request: ConversionRequest, *, own_casts: bool
) -> Any:
    ct = import_coremltools()
    functions = dict(request.functions) or {DEFAULT_FUNCTION: request.steps}
    _forget_names(ct)
    program = ct.converters.mil.mil.Program()
    for name, steps in functions.items():
        function = _function(ct, body, signature, request, steps, own_casts)
        function.set_input_types(_input_types(ct, signature, request, steps))
        program.functions[name] = function
    program.default_function_name = next(iter(functions))
    program.export_as_multifunction = bool(request.functions)
    return program


def _function(
    ct: Any,
    body: Body,
    signature: Signature,
    request: ConversionRequest,
    steps: Steps,
    own_casts: bool,
) -> Any:
    mil, mb = ct.converters.mil.mil, ct.converters.mil.Builder
    fixed = steps.steps if isinstance(steps, FixedSteps) else None
    length = fixed if fixed is not None else mil.get_new_symbol()
    stateful = request.state == "stateful"
    types = {"float32": mil.types.fp32, "int32": mil.types.int32}
    kept = {pair.input: pair.kept for pair in signature.states} if stateful else {}
    placeholders = {
        port.name: mb.placeholder(_shape(port, length), types[port.dtype])
        for port in signature.inputs
        if port.name not in kept
    }
    shapes = {port.name: _shape(port, length) for port in signature.inputs}
    for name, state in kept.items():
        placeholders[state] = mb.state_tensor_placeholder(shapes[name], mil.types.fp16)
    outputs: dict[str, Any] = {}
    target = ct.target(specification_version(request))
    with mil.Function(placeholders, opset_version=target) as function:
        inputs = dict(function.inputs)
        given = {name: inputs[name] for name in shapes if name not in kept}
        if is_half(request) and own_casts:
            for port in signature.inputs:
                if port.meaning == "features":
                    name = f"{port.name}_to_fp16"
                    given[port.name] = mb.cast(x=given[port.name], dtype="fp16", name=name)
        for name, state in kept.items():
            given[name] = mb.read_state(input=inputs[state], name=f"read_{state}")
            if not own_casts:
                given[name] = mb.cast(x=given[name], dtype="fp32", name=f"{name}_to_fp32")
        made = body(fixed, given)
        for pair in signature.states if stateful else ():
            value, shape = made[pair.output], shapes[pair.input]
            if tuple(value.shape) != shape:  # cut from a value of any length
                value = mb.reshape(x=value, shape=shape, name=f"{pair.output}_of_state")
            if not own_casts:
                value = mb.cast(x=value, dtype="fp16", name=f"{pair.output}_to_fp16")
            mb.coreml_update_state(state=inputs[pair.kept], value=value, name=f"update_{pair.kept}")
        for name in model_outputs(request, signature):
            outputs[name] = _float32(mb, name, made[name])
        function.set_outputs(list(outputs.values()))
    for name, value in outputs.items():
        value.name = name
    return function


def _float32(mb: Any, name: str, value: Any) -> Any:
    """``value`` as float32, its type outside of the package."""
    if value.dtype.__name__ == "fp32":
        return value
    return mb.cast(x=value, dtype="fp32", name=name)


def _shape(port: Port, length: Any) -> tuple[Any, ...]:
    """The shape of a port, with ``length`` as the size of its open axis."""
    return tuple(length if axis.open else axis.size for axis in port.axes)


def _input_types(
    ct: Any, signature: Signature, request: ConversionRequest, steps: Steps
) -> tuple[Any, ...]:
    """The input types of the package, with explicit bounds for a flexible axis."""
    kept = {pair.input for pair in signature.states} if request.state == "stateful" else ()
    return tuple(
        ct.TensorType(
            port.name,
            shape=flexible(ct, partial(_shape, port), steps)
            if port.time is not None
            else _shape(port, None),
            dtype=np.dtype(port.dtype).type,
        )
        for port in signature.inputs
        if port.name not in kept
    )


def flexible(ct: Any, shape: Callable[[Any], tuple[Any, ...]], steps: Steps) -> Any:
    """A shape for coremltools; ``shape`` makes a shape from the length of its open axis."""
    if isinstance(steps, FixedSteps):
        return shape(steps.steps)
    if isinstance(steps, EnumeratedSteps):
        return ct.EnumeratedShapes(
            [shape(size) for size in steps.sizes], default=shape(steps.default)
        )
    upper = -1 if steps.upper is None else steps.upper
    return ct.Shape(shape(ct.RangeDim(steps.lower, upper, default=steps.default)))


def _export(
    program: Any, request: ConversionRequest, scratch: Path, layers: Layers, half: Half | None
) -> Any:
    """Runs coremltools' passes and back end, which writes ``weight.bin`` into ``scratch``."""
    ct = import_coremltools()
    from coremltools.converters.mil.converter import ConverterRegistry, mil_convert_to_proto

    passes = ct.PassPipeline()
    dropped: set[str] = set()
    if half is None or not is_half(request):
        # the program already has the form that this pass makes
        dropped.add("common::add_fp16_cast")
    else:
        passes.set_options("common::add_fp16_cast", {"op_selector": half})
    if request.precision == "fp32" or request.lstm == "native":
        dropped.add("common::add_int16_cast")
    if request.lstm == "native" and half is None:
        # The program gathers once, with an index that is never negative.
        dropped.add("common::guard_negative_gather_indices")
    passes.remove_passes(dropped)
    add_compression(passes, request, layers)
    if request.functions and half is not None:
        add_sharing(passes)  # the body names no weights that functions share
    builder = ct.models.neural_network.NeuralNetworkBuilder
    try:
        with checked_once(), fast_weights(builder, half=request.precision == "fp16"):
            spec, _ = mil_convert_to_proto(
                program,
                "milinternal",
                request.format,
                ConverterRegistry,
                main_pipeline=passes,
                specification_version=specification_version(request),
                weights_dir=str(scratch),
            )
    finally:
        _forget_names(ct)
    return spec


def _forget_names(ct: Any) -> None:
    # The builder numbers names for the life of the process; bytes must not depend on earlier
    # conversions.
    ct.converters.mil.Builder.name_count.clear()
