"""The first front end: the DeepSpeech network built straight from its weights, no TensorFlow.

coremltools' MIL builder makes the program, its passes and back ends write it. Weights are handed
over in the precision they are stored in: that is where plain conversion spends its time and memory.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from asrbuild.architectures.deepspeech.layout import FREEZE_WEIGHT, Layout, lay_out
from asrbuild.architectures.deepspeech.network import DENSE_LAYERS, AcousticWeights, Geometry
from asrbuild.base.disk import full_disk_errors
from asrbuild.base.errors import AsrbuildError
from asrbuild.coreml.compress import add_compression
from asrbuild.coreml.package import write_neuralnetwork, write_package
from asrbuild.coreml.request import (
    INPUT_LENGTHS,
    INPUT_NODE,
    OUTPUTS,
    STATE_NAMES,
    STATE_PAIRS,
    ConversionRequest,
    EnumeratedSteps,
    FixedSteps,
    Steps,
    check_request,
    model_outputs,
    specification_version,
)
from asrbuild.coreml.speedups.importing import import_coremltools
from asrbuild.coreml.speedups.lean_passes import lean_constants
from asrbuild.coreml.speedups.nn_weights import fast_weights

DEFAULT_FUNCTION = "main"
#: A neural network's LSTM always clips its cell; coremltools' own 500 could be reached by a cell
#: that grows by up to 1 a step.
NEURALNETWORK_CELL_CLIP = 50000.0


@dataclass(frozen=True)
class _Types:
    """Numpy types: of the computation, of the stored dense weights, of the lstm and its weights."""

    compute: type
    dense: type
    lstm: type
    lstm_stored: type


def convert_weights(
    weights: AcousticWeights,
    request: ConversionRequest,
    destination: Path,
    geometry: Geometry | None = None,
) -> None:
    """Writes the package ``destination`` (``.mlpackage`` or ``.mlmodel``), replacing an old one.

    The same weights and request give the same bytes in every process and on every day.

    Args:
        geometry: window, coefficients and ReLU clip; DeepSpeech 0.7's when not given.

    Raises:
        AsrbuildError: the request is impossible, or the weights do not fit it.
    """
    check_request(request)
    unknown = [name for name in request.outputs if name not in OUTPUTS]
    if unknown:
        raise AsrbuildError(
            f"the network has no output {', '.join(unknown)}",
            key="coreml.outputs",
            fix=f"choose from {', '.join(OUTPUTS)}",
        )
    geometry = geometry or Geometry(26, 9, weights.n_hidden, weights.n_output)
    if geometry.n_features != weights.n_features:
        raise AsrbuildError(
            f"layer 1 reads {weights.n_features} values, a window of {geometry.n_window} frames "
            f"has {geometry.n_features}",
            key="n_context",
        )
    types = _types(request)
    layout = lay_out(
        weights,
        request.lstm,
        types.dense,
        types.lstm_stored,
        geometry.relu_clip,
        request.precision,
        FREEZE_WEIGHT["compressed" if "lstm" in request.compress else "exact"],
    )
    program = _program(layout, request, geometry, types)
    with (
        tempfile.TemporaryDirectory(dir=destination.parent) as scratch,
        # Inside: the scratch's own end gives its space back.
        full_disk_errors("writing the package", destination.parent),
    ):
        spec = _export(program, request, Path(scratch))
        if request.format == "mlprogram":
            write_package(spec, Path(scratch) / "weight.bin", request, destination)
        else:
            write_neuralnetwork(spec, request, destination)


def _types(request: ConversionRequest) -> _Types:
    if request.format == "neuralnetwork" or request.precision == "fp32":
        return _Types(np.float32, np.float32, np.float32, np.float32)
    version = specification_version(request)
    if version >= 8 or request.lstm == "loop":
        return _Types(np.float16, np.float16, np.float16, np.float16)
    # Before iOS17 an lstm op is fp32 only; iOS16 has constexpr_cast to store its weights in fp16.
    return _Types(np.float16, np.float16, np.float32, np.float16 if version == 7 else np.float32)


def _program(layout: Layout, request: ConversionRequest, geometry: Geometry, types: _Types) -> Any:
    ct = import_coremltools()
    functions = dict(request.functions) or {DEFAULT_FUNCTION: request.steps}
    _forget_names(ct)
    program = ct.converters.mil.mil.Program()
    for name, steps in functions.items():
        function = _function(layout, request, geometry, types, steps)
        function.set_input_types(_input_types(ct, geometry, layout.n_hidden, request, steps))
        program.functions[name] = function
    program.default_function_name = next(iter(functions))
    program.export_as_multifunction = bool(request.functions)
    return program


def _function(
    layout: Layout,
    request: ConversionRequest,
    geometry: Geometry,
    types: _Types,
    steps: Steps,
) -> Any:
    from asrbuild.architectures.deepspeech.program import Network, ct, mb, probabilities_and_state

    mil = ct.converters.mil.mil
    fixed = steps.steps if isinstance(steps, FixedSteps) else None
    network = Network(
        layout,
        geometry.relu_clip,
        fixed,
        types.compute,
        types.lstm,
        cell_clip=NEURALNETWORK_CELL_CLIP if request.format == "neuralnetwork" else None,
        share_weights=bool(request.functions),
    )
    fp32, int32, fp16 = mil.types.fp32, mil.types.int32, mil.types.fp16
    length = fixed if fixed is not None else mil.get_new_symbol()
    state_shape = (1, layout.n_hidden)
    inputs = {
        INPUT_NODE: mb.placeholder((1, length, geometry.n_window, geometry.n_input), fp32),
        INPUT_LENGTHS: mb.placeholder((1,), int32),
    }
    if request.state == "stateful":
        inputs |= {name: mb.state_tensor_placeholder(state_shape, fp16) for name in STATE_NAMES}
    else:
        inputs |= {name: mb.placeholder(state_shape, fp32) for name, _ in STATE_PAIRS}
    target = ct.target(specification_version(request))
    with mil.Function(inputs, opset_version=target) as function:
        given = function.inputs
        node = given[INPUT_NODE]
        if types.compute is np.float16:
            node = mb.cast(x=node, dtype="fp16", name="input_node_to_fp16")
        if request.state == "stateful":
            states = [mb.read_state(input=given[name], name=f"read_{name}") for name in STATE_NAMES]
        else:
            states = [given[name] for name, _ in STATE_PAIRS]
        found = probabilities_and_state(network, node, given[INPUT_LENGTHS], *states)
        if request.state == "stateful":
            for name, value in zip(STATE_NAMES, found[1:], strict=True):
                mb.coreml_update_state(state=given[name], value=value, name=f"update_{name}")
        named = dict(zip(OUTPUTS, found, strict=True))
        outputs = {name: _float32(mb, name, named[name]) for name in model_outputs(request)}
        function.set_outputs(list(outputs.values()))
    for name, value in outputs.items():
        value.name = name
    return function


def _float32(mb: Any, name: str, value: Any) -> Any:
    """``value`` as float32, which it is outside the package whatever it is inside."""
    if value.dtype.__name__ == "fp32":
        return value
    return mb.cast(x=value, dtype="fp32", name=name)


def _input_types(
    ct: Any, geometry: Geometry, n_hidden: int, request: ConversionRequest, steps: Steps
) -> tuple[Any, ...]:
    """The inputs as the package describes them, its flexible axis with explicit bounds."""

    def node_shape(length: Any) -> tuple[Any, ...]:
        return (1, length, geometry.n_window, geometry.n_input)

    if isinstance(steps, FixedSteps):
        shape: Any = node_shape(steps.steps)
    elif isinstance(steps, EnumeratedSteps):
        shape = ct.EnumeratedShapes(
            [node_shape(size) for size in steps.sizes], default=node_shape(steps.default)
        )
    else:
        upper = -1 if steps.upper is None else steps.upper
        shape = ct.Shape(node_shape(ct.RangeDim(steps.lower, upper, default=steps.default)))
    described = [
        ct.TensorType(INPUT_NODE, shape=shape, dtype=np.float32),
        ct.TensorType(INPUT_LENGTHS, shape=(1,), dtype=np.int32),
    ]
    if request.state == "explicit":
        described += [
            ct.TensorType(name, shape=(1, n_hidden), dtype=np.float32) for name, _ in STATE_PAIRS
        ]
    return tuple(described)


def _export(program: Any, request: ConversionRequest, scratch: Path) -> Any:
    """Runs coremltools' passes and back end; an mlprogram's ``weight.bin`` lands in ``scratch``."""
    ct = import_coremltools()
    from coremltools.converters.mil.converter import ConverterRegistry, mil_convert_to_proto

    passes = ct.PassPipeline()
    dropped = {"common::add_fp16_cast"}  # the program already is what this pass would make of it
    if request.precision == "fp32" or request.lstm == "native":
        dropped.add("common::add_int16_cast")
    if request.lstm == "native":
        # It gathers once, at an index that is never negative.
        dropped.add("common::guard_negative_gather_indices")
    passes.remove_passes(dropped)
    add_compression(passes, request, DENSE_LAYERS)
    builder = ct.models.neural_network.NeuralNetworkBuilder
    try:
        with fast_weights(builder, half=request.precision == "fp16"), lean_constants():
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
    # The builder numbers names for the life of the process; bytes must not depend on what was
    # converted before.
    ct.converters.mil.Builder.name_count.clear()
