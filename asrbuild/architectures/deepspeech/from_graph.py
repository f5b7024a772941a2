"""The front end ``tensorflow``: converts a frozen graph with ``coremltools.convert``.

It runs in a process of its own, because it imports TensorFlow: the caller's process stays small,
and its coremltools has no TensorFlow. That process is ``python -m
asrbuild.architectures.deepspeech.from_graph job.json``.
"""

from __future__ import annotations

import gc
import os
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from asrbuild.architectures.conversion_job import run_job, serve_job
from asrbuild.architectures.deepspeech.signature import (
    INPUT_NODE,
    LAYERS,
    SIGNATURE,
    check_layers,
)
from asrbuild.architectures.tensorflow.convertible import random_nodes, unconvertible
from asrbuild.architectures.tensorflow.graph import load_graph
from asrbuild.architectures.tensorflow.proto import graph_pieces
from asrbuild.base.array import Array
from asrbuild.base.disk import full_disk_errors
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.kinds.recognition import recognise
from asrbuild.coreml.compress import add_compression
from asrbuild.coreml.convert import flexible
from asrbuild.coreml.package import write_neuralnetwork, write_package
from asrbuild.coreml.request import (
    ConversionRequest,
    FixedSteps,
    Steps,
    specification_version,
)
from asrbuild.coreml.speedups import placeholders
from asrbuild.coreml.speedups.lean_passes import lean_passes
from asrbuild.coreml.speedups.placeholders import (
    StandInLostError,
    StandIns,
    check_all_found,
    put_back,
    stand_in,
)

_DT_INT32 = 3
_RECURRENT_OPS = ("BlockLSTM", "BlockLSTMV2", "LSTMBlockCell")


def convert_graph(graph_path: Path, request: ConversionRequest, destination: Path) -> None:
    """Writes the package ``destination`` from a frozen graph, in a process of its own.

    Raises:
        AsrbuildError: the request or the graph is at fault, or coremltools cannot convert it.
    """
    check_layers(request)
    check_supported(request)
    _check_operations(graph_path, request)
    module = "asrbuild.architectures.deepspeech.from_graph"
    code, line = run_job(module, request, destination, graph=str(graph_path.absolute()))
    if code:
        raise AsrbuildError(
            f"the conversion process ended with code {code}: {line}",
            file=graph_path,
        ) from RuntimeError(line)


def _outputs(request: ConversionRequest) -> tuple[str, ...]:
    """The names of the requested outputs, by default all."""
    return SIGNATURE.output_names if request.outputs is None else request.outputs


def _check_operations(graph_path: Path, request: ConversionRequest) -> None:
    graph = load_graph(graph_path)
    outputs = [name for name in _outputs(request) if name in graph.by_name]
    if drawn := random_nodes(graph, outputs):
        raise AsrbuildError(
            f"the graph draws random numbers: {', '.join(drawn[:5])}",
            key="source.path",
            file=graph_path,
            fix="export the graph for inference, without dropout",
        )
    refused = unconvertible(graph, outputs)
    if refused:
        named = ", ".join(f"{item.op} ({item.node})" for item in refused[:5])
        raise AsrbuildError(
            f"the graph has operations without a Core ML form: {named}",
            key="coreml.outputs",
            file=graph_path,
            fix="`asrbuild inspect graph` lists them with the outputs that need them: leave those "
            "outputs out, or export the graph without them",
        )


def check_supported(request: ConversionRequest) -> None:
    """Raises for requests that only the other front end supports.

    Raises:
        AsrbuildError: it names the key of the recipe at fault.
    """
    if request.functions:
        raise AsrbuildError(
            "frontend tensorflow converts one function",
            key="coreml.frontend",
            fix="use coreml.frontend=mil for model=multifunction",
        )
    if request.state == "stateful":
        raise AsrbuildError(
            "frontend tensorflow cannot put the state into the model",
            key="coreml.frontend",
            fix="use coreml.frontend=mil for coreml.state=stateful",
        )


def convert_here(graph_path: Path, request: ConversionRequest, destination: Path) -> None:
    """``convert_graph`` in this process: imports TensorFlow."""
    graph_def = _read_graph(graph_path)
    _check_outputs(graph_def, request, graph_path)
    _check_recurrent(graph_def, request)
    inputs = _inputs(graph_def, request, graph_path)
    # Compression requires the real weights.
    stand_ins = StandIns((), ()) if request.compress else stand_in(graph_def)
    with (
        tempfile.TemporaryDirectory(dir=destination.parent) as scratch,
        # Inside, so that the space of the scratch folder is free at its end.
        full_disk_errors("converting the graph", destination.parent),
    ):
        try:
            _write(graph_def, stand_ins, inputs, request, destination, Path(scratch))
            return
        except StandInLostError:
            pass
        whole = _read_graph(graph_path)
        nothing = StandIns((), ())
        again = Path(scratch) / "again"
        again.mkdir()
        _write(whole, nothing, inputs, request, destination, again)


def _write(
    graph_def: Any,
    stand_ins: StandIns,
    inputs: list[Any],
    request: ConversionRequest,
    destination: Path,
    scratch: Path,
) -> None:
    if request.format == "mlprogram":
        package = scratch / "converted.mlpackage"
        with lean_passes(placeholders.MIN_ELEMENTS if stand_ins.matrices else sys.maxsize):
            model = _convert(graph_def, inputs, request, package)
        if stand_ins.matrices:
            put_back(stand_ins, package)
        weights = package / "Data" / "com.apple.CoreML" / "weights" / "weight.bin"
        write_package(model.get_spec(), weights, request, destination)
        return
    from coremltools.models.neural_network import NeuralNetworkBuilder

    from asrbuild.coreml.speedups.nn_weights import fast_weights

    found: set[int] = set()

    def real(stored: Array) -> Array:
        number, matrix = stand_ins.number(stored.ravel()), stand_ins.real(stored.ravel())
        if number is None or matrix is None:
            return stored
        found.add(number)
        return matrix

    half = request.precision == "fp16"
    with (
        fast_weights(NeuralNetworkBuilder, half=half, real=real),
        lean_passes(placeholders.MIN_ELEMENTS if stand_ins.matrices else sys.maxsize),
    ):
        model = _convert(graph_def, inputs, request, None)
    check_all_found(stand_ins, found)
    write_neuralnetwork(model.get_spec(), request, destination)


def _convert(
    graph_def: Any, inputs: list[Any], request: ConversionRequest, package: Path | None
) -> Any:
    import coremltools as ct

    gc.freeze()  # coremltools collects garbage often, and would scan all of TensorFlow each time
    arguments: dict[str, Any] = {"outputs": list(_outputs(request))}
    if request.format == "mlprogram":
        # float32 outside of the package, as in the other front end.
        arguments["outputs"] = [ct.TensorType(name, dtype=np.float32) for name in _outputs(request)]
        arguments["minimum_deployment_target"] = ct.target(specification_version(request))
        half = request.precision == "fp16"
        arguments["compute_precision"] = ct.precision.FLOAT16 if half else ct.precision.FLOAT32
        arguments["package_dir"] = str(package)
    passes = ct.PassPipeline()
    add_compression(passes, request, LAYERS)
    try:
        return ct.convert(
            graph_def,
            source="tensorflow",
            convert_to=request.format,
            inputs=inputs,
            skip_model_load=True,
            pass_pipeline=passes,
            **arguments,
        )
    except Exception as error:  # any error of coremltools' translations or passes
        text = " ".join([f"{type(error).__name__}:", *str(error).split()])
        raise AsrbuildError(
            f"coremltools cannot convert the graph ({text})",
            key="coreml.frontend",
            fix="leave out coreml.frontend, where the graph is one of DeepSpeech or Coqui STT; "
            "--debug shows where coremltools failed",
        ) from error


def _read_graph(path: Path) -> Any:
    try:
        content = path.read_bytes() if recognise(path).key != "pbmm" else _from_regions(path)
    except OSError as error:
        raise AsrbuildError(f"cannot read the graph: {error.strerror}", file=path) from error
    from google.protobuf.message import DecodeError
    from tensorflow.compat.v1 import GraphDef

    graph_def = GraphDef()
    try:
        graph_def.ParseFromString(content)
    except DecodeError as error:
        raise AsrbuildError("not a frozen graph, or a truncated one", file=path) from error
    return graph_def


def _from_regions(path: Path) -> bytes:
    """The ``GraphDef`` of a memory-mapped graph, with its constants."""
    graph = load_graph(path)
    return b"".join(graph_pieces(graph.nodes, graph.producer))


def _check_outputs(graph_def: Any, request: ConversionRequest, path: Path) -> None:
    names = {node.name for node in graph_def.node}
    missing = [name for name in _outputs(request) if name not in names]
    if missing:
        used = {_node_name(name) for node in graph_def.node for name in node.input}
        ends = sorted(
            node.name for node in graph_def.node if node.name not in used and node.op != "Const"
        )
        raise AsrbuildError(
            f"the graph has no node {', '.join(missing)}",
            key="coreml.outputs",
            file=path,
            fix=f"it ends in: {', '.join(ends)}",
        )


def _check_recurrent(graph_def: Any, request: ConversionRequest) -> None:
    if any(node.op in _RECURRENT_OPS for node in graph_def.node):
        check_lstm_form(request)


def check_lstm_form(request: ConversionRequest) -> None:
    """Raises for the native form of a graph with an LSTM, which every DeepSpeech graph has.

    Raises:
        AsrbuildError: ``ct.convert`` gives only the loop.
    """
    if request.lstm != "loop":
        raise AsrbuildError(
            "coreml.frontend=tensorflow gives an LSTM as coremltools' loop",
            key="coreml.lstm",
            fix="set coreml.lstm=loop, or leave out coreml.frontend",
        )


def _inputs(graph_def: Any, request: ConversionRequest, path: Path) -> list[Any]:
    """The type of every placeholder that the outputs depend on, with the steps as open axis."""
    import coremltools as ct

    needed = _needed(graph_def, _outputs(request))
    inputs = []
    for node in graph_def.node:
        if node.op != "Placeholder" or node.name not in needed:
            continue
        shape = [dim.size for dim in node.attr["shape"].shape.dim]
        described = _shape(ct, node.name, shape, request.steps, path)
        dtype = np.int32 if node.attr["dtype"].type == _DT_INT32 else np.float32
        # A neural network has only float32 inputs, and coremltools accepts no type for them.
        typed = {} if request.format == "neuralnetwork" else {"dtype": dtype}
        inputs.append(ct.TensorType(node.name, shape=described, **typed))
    return inputs


def _shape(ct: Any, name: str, shape: list[int], steps: Steps, path: Path) -> Any:
    """A placeholder's shape, with ``steps`` for its open axis (-1), if it has one."""
    if shape.count(-1) > 1:
        raise AsrbuildError(
            f"{name} has {shape.count(-1)} open axes {tuple(shape)}, the steps can fill one",
            file=path,
            fix="export it again with --export_batch_size 1",
        )
    if -1 not in shape:
        if name == INPUT_NODE and len(shape) == 4 and steps != FixedSteps(shape[1]):
            asked = steps.steps if isinstance(steps, FixedSteps) else "a flexible number"
            raise AsrbuildError(
                f"the graph is static at {shape[1]} steps, asked {asked}",
                key="n_steps",
                file=path,
                fix="export with n_steps=-1 (model=dynamic_to_static)",
            )
        return tuple(shape)
    axis = shape.index(-1)

    def filled(length: Any) -> tuple[Any, ...]:
        return (*shape[:axis], length, *shape[axis + 1 :])

    return flexible(ct, filled, steps)


def _needed(graph_def: Any, outputs: Iterable[str]) -> set[str]:
    """Names of the nodes the outputs depend on."""
    sources = {node.name: [_node_name(name) for name in node.input] for node in graph_def.node}
    needed: set[str] = set()
    waiting = list(outputs)
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            waiting += sources.get(name, [])
    return needed


def _node_name(tensor: str) -> str:
    return tensor.lstrip("^").split(":")[0]


def _serve(job: Mapping[str, Any], request: ConversionRequest, destination: Path) -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    convert_here(Path(job["graph"]), request, destination)


if __name__ == "__main__":
    serve_job(sys.argv[1], _serve)
