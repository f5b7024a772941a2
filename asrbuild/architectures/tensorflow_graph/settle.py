"""Reads a frozen graph or a SavedModel, and completes the keys of ``source.config``.

Roles, rows, context and labels are as for an ONNX model: see
:mod:`asrbuild.architectures.onnx.settle`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asrbuild.architectures.architecture import Found
from asrbuild.architectures.onnx.section import OnnxConfig
from asrbuild.architectures.onnx.settle import (
    Settled,
    checked_section,
    facts_found,
    measured_section,
    model_file,
    with_labels,
)
from asrbuild.architectures.tensorflow_graph import WORKER, saved_model
from asrbuild.base.digest import file_digest
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.kinds.places import SAVED_MODEL, TENSORFLOW_GRAPH
from asrbuild.base.kinds.recognition import recognise

if TYPE_CHECKING:
    from asrbuild.architectures.onnx.graph import Graph as Ports
    from asrbuild.architectures.tensorflow.proto import Graph

_CODE = (
    "architectures/tensorflow_graph/settle.py",
    "architectures/tensorflow_graph/saved_model.py",
)


def settle(recipe: Any, cache_root: Path, keep: bool) -> Found:
    """Cuts and pins the graph, assigns a role to every tensor, and measures omitted values.

    Raises:
        AsrbuildError: the file is missing or damaged, or a role is unknown.
    """
    config = checked_section(recipe)
    file = graph_file(recipe)
    found = settled(file, config, cache_root, keep)
    return with_labels(config, found, file, files_of(file), {})


def graph_file(recipe: Any) -> Path:
    """The file of the graph, or the folder of the SavedModel.

    Raises:
        AsrbuildError: the file is missing, or of another kind.
    """
    if recipe.source.kind == "saved_model":
        return model_file(recipe, SAVED_MODEL, "saved_model_folder")
    return model_file(recipe, TENSORFLOW_GRAPH, "graph.pb")


def files_of(file: Path) -> dict[str, Path]:
    """Label -> file of a graph, or of the SavedModel in a folder."""
    return saved_model.parts(file) if file.is_dir() else {"checkpoint.graph": file}


def settled(file: Path, config: OnnxConfig, cache_root: Path, keep: bool) -> Settled:
    """The facts about a graph, from the cache if they were found before."""
    digests = {label: file_digest(part, cache_root) for label, part in files_of(file).items()}
    return facts_found(partial(_find, file, config), _CODE, digests, config, cache_root, keep)


def cut_to(file: Path, config: OnnxConfig, destination: Path) -> None:
    """Writes the graph with the section's cuts and pins; freezes a SavedModel first.

    Args:
        file: a graph, or a SavedModel: its folder, or the ``saved_model.pb`` in it.
    """
    folder = file if file.is_dir() else file.parent
    if file == folder or recognise(file).key == "saved-model-file":
        frozen = saved_model.frozen(folder, config.signature)
        _cut(Path(frozen.name, saved_model.GRAPH), config, destination)
    else:
        _cut(file, config, destination)


def _cut(file: Path, config: OnnxConfig, destination: Path) -> None:
    from asrbuild.architectures.tensorflow.cutting import Cut, cut_graph
    from asrbuild.architectures.tensorflow.graph import load_graph
    from asrbuild.architectures.tensorflow.outputs import output_nodes
    from asrbuild.architectures.tensorflow.proto import FLOAT, INT32, Shape, write_graph

    graph = load_graph(file)
    cuts = {}
    for tensor in config.cut:
        own = _stated(config, tensor)
        sizes = [own.get("steps") if isinstance(s, str) else s for s in own.get("axes", ())]
        dtype = INT32 if own.get("dtype") == "int32" else FLOAT
        cuts[tensor] = Cut(dtype, Shape(tuple(sizes) or None))
    outputs = list(config.outputs) or [node.name for node in output_nodes(graph)]
    write_graph(cut_graph(graph, cuts, config.pin, outputs), destination)


def refuse_keras_loops(graph: Graph, file: Path) -> None:
    """Raises for the loop over time of a recurrent layer of Keras.

    coremltools 9 does not convert it, but it converts the loops of TensorFlow 1, over arrays.

    Raises:
        AsrbuildError: it names the layer.
    """
    if not any(node.op == "TensorListReserve" for node in graph.nodes):
        return
    loops = (n for n in graph.nodes if n.op in ("LoopCond", "While", "StatelessWhile"))
    if (loop := next(loops, None)) is not None:
        layer = loop.name.partition("/while")[0].rpartition("/")[2]
        raise AsrbuildError(
            f"{layer} is a recurrent layer of Keras, a loop without a Core ML form",
            key="source.path",
            file=file,
            fix="export the model with unroll=True in its LSTM and GRU layers, or write the "
            "network in PyTorch and export it to ONNX, which has LSTM and GRU as ops",
        )


def _stated(config: OnnxConfig, tensor: str) -> Mapping[str, Any]:
    """The section's entry for the input that replaces a cut tensor."""
    from asrbuild.architectures.tensorflow.cutting import input_of

    own = config.inputs.get(input_of(tensor))
    if not isinstance(own, Mapping) or "axes" not in own:
        raise AsrbuildError(
            f"the shape of {tensor}, where the graph is cut, is not stated",
            key=f"source.config.inputs.{input_of(tensor)}",
            fix=f"set it, for instance +source.config.inputs.{input_of(tensor)}="
            "{meaning: features, axes: [1, steps, 40]}",
        )
    return own


def ports_of(graph: Graph, outputs: Sequence[str]) -> Ports:
    """The inputs and outputs of a graph."""
    from asrbuild.architectures.onnx.graph import Graph as Ports, Tensor
    from asrbuild.architectures.tensorflow.proto import DType, Shape

    inputs = []
    for node in graph.nodes:
        if node.op == "Placeholder":
            dtype, shape = node.attrs.get("dtype"), node.attrs.get("shape")
            sizes = shape.dims if isinstance(shape, Shape) else None
            named = dtype.name if isinstance(dtype, DType) else "float32"
            inputs.append(Tensor(node.name, named, sizes))
    ends = tuple(Tensor(name, "float32", None) for name in outputs)
    return Ports((), {}, tuple(inputs), ends)


def _find(file: Path, config: OnnxConfig) -> Settled:
    """Cuts the graph and measures it."""
    from asrbuild.architectures.measure import measure
    from asrbuild.architectures.tensorflow.convertible import unconvertible
    from asrbuild.architectures.tensorflow.cutting import suggested_cuts
    from asrbuild.architectures.tensorflow.graph import load_graph
    from asrbuild.architectures.tensorflow.outputs import output_nodes

    with tempfile.TemporaryDirectory(prefix="asrbuild-cut-") as folder:
        path = Path(folder, "graph.pb")
        cut_to(file, config, path)
        graph = load_graph(path)
        refuse_keras_loops(graph, file)
        outputs = list(config.outputs) or [node.name for node in output_nodes(graph)]
        if refused := unconvertible(graph, outputs):
            first, *others = suggested_cuts(graph, outputs) or ("TENSOR",)
            also = f", or at one of {', '.join(others)}" if others else ""
            raise AsrbuildError(
                f"no Core ML form for {refused[0].op} ({refused[0].node})",
                key="source.config.cut",
                file=file,
                fix=f"cut the graph: source.config.cut=[{first}]{also}",
            )
        seen = ports_of(graph, outputs)
        ask = ["--model", str(path), "--outputs", ",".join(outputs)]
        return measured_section(seen, config, lambda q: measure(WORKER, "TensorFlow", ask, q))
