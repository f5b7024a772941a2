"""A TensorFlow session that spares 16 % of a cold build (3.6 s of 22.7 s, 2048 units).

It has two causes. Importing all of TensorFlow takes 8 to 15 s, of which a session requires a third:
the package's own ``__init__``, which collects the public API, is skipped. And large constants
become variables that are assigned from the mapped file, without two serialised copies of the graph.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import types
from collections.abc import Mapping, Sequence
from typing import Any

from asrbuild.architectures.tensorflow.proto import (
    AttrValue,
    DType,
    Graph,
    Node,
    Shape,
    Tensor,
    graph_pieces,
)
from asrbuild.base.array import Array
from asrbuild.base.errors import AsrbuildError
from asrbuild.coreml.speedups import SWITCH, enabled

_LARGE = 4096  # bytes from which a constant becomes a variable


class GraphSession:
    """Runs the nodes of a graph in TensorFlow; the values are those of the graph in the file.

    Args:
        graph: the graph.
        lean: import only the parts of TensorFlow that a session requires. Only for a process that
            imports nothing else of TensorFlow, before or after, and that can be started again.
    """

    def __init__(self, graph: Graph, *, lean: bool = False) -> None:
        graph_pb2, config_pb2, session, importer, ops = import_tensorflow(lean)
        variables = enabled("session")
        large = {node.name: node for node in graph.nodes if variables and is_large(node)}
        nodes = [
            part
            for node in graph.nodes
            for part in (_as_variable(node) if node.name in large else (node,))
        ]
        self._file = graph.path
        refusals: tuple[type[Exception], ...] = (ValueError, *tensorflow_errors())
        self._errors: tuple[type[Exception], ...] = (KeyError, *refusals)
        try:
            definition = graph_pb2.GraphDef()
            definition.ParseFromString(b"".join(graph_pieces(nodes, graph.producer)))
            with ops.Graph().as_default() as loaded:
                importer.import_graph_def(definition, name="")
            self._session = session.Session(graph=loaded, config=_config(config_pb2))
            for name, node in large.items():
                self._session.run(f"{name}/assign", {f"{name}/value:0": node.value})
        except refusals as error:
            raise self._refuse("TensorFlow does not take the graph", error) from error

    def run(self, fetches: Sequence[str], feeds: Mapping[str, Array]) -> list[Array]:
        """The values of nodes (``name`` or ``name:index``) for these values of the inputs.

        Raises:
            AsrbuildError: TensorFlow fails, for instance at the shapes.
        """
        try:
            values: list[Array] = self._session.run(
                [_tensor(name) for name in fetches],
                {_tensor(name): value for name, value in feeds.items()},
            )
            return values
        except self._errors as error:
            raise self._refuse("TensorFlow cannot run the graph", error) from error

    def _refuse(self, what: str, error: Exception) -> AsrbuildError:
        return AsrbuildError(f"{what}: {str(error).splitlines()[0]}", file=self._file)


def _tensor(name: str) -> str:
    return name if ":" in name else f"{name}:0"


def is_large(node: Node) -> bool:
    """Whether a node is a constant that becomes a variable."""
    value = node.attrs.get("value")
    return node.op == "Const" and isinstance(value, Tensor) and value.nbytes >= _LARGE


def _as_variable(node: Node) -> tuple[Node, ...]:
    """The nodes that replace a constant: a handle, a fed value, an assignment, and the read."""
    tensor = node.attrs["value"]
    assert isinstance(tensor, Tensor)
    dtype: DType = tensor.dtype
    handle, value = f"{node.name}/handle", f"{node.name}/value"
    shape = Shape(tensor.shape)
    shared: dict[str, AttrValue] = {
        "container": b"",
        "shared_name": node.name.encode(),
        "dtype": dtype,
        "shape": shape,
    }
    return (
        Node(handle, "VarHandleOp", (), shared),
        Node(value, "Placeholder", (), {"dtype": dtype, "shape": shape}),
        Node(f"{node.name}/assign", "AssignVariableOp", (handle, value), {"dtype": dtype}),
        Node(node.name, "ReadVariableOp", (handle,), {"dtype": dtype}),
    )


def _config(config_pb2: Any) -> Any:
    """Session options: one operation at a time, in the caller's thread, with the graph's kernels.

    The build executes the package meanwhile, and sums have the same order on every machine.
    """
    config = config_pb2.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=-1)
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    config.graph_options.optimizer_options.opt_level = config_pb2.OptimizerOptions.L0
    return config


def import_tensorflow(lean: bool) -> tuple[Any, ...]:
    """Imports TensorFlow's session machinery: graph_pb2, config_pb2, session, importer, ops."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # Plain kernels: with them chunks and a single call differ less, and so do machines.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    parts = lean and enabled("session") and "tensorflow" not in sys.modules
    if parts:
        _leave_out_public_api()
    try:
        try:
            return _session_modules()
        except (ImportError, AttributeError):
            if not parts:
                raise
            # In this TensorFlow the parts require the whole. Its libraries cannot be loaded twice,
            # so the process starts again.
            os.execve(
                sys.executable,
                [sys.executable, *sys.orig_argv[1:]],
                {**os.environ, SWITCH: f"{os.environ.get(SWITCH, '')},session"},
            )
    except ImportError as error:
        raise AsrbuildError(
            f"TensorFlow cannot be imported: {error}",
            fix="install it: a build is verified against it (`asrbuild doctor` says more)",
        ) from error


def _session_modules() -> tuple[Any, ...]:
    from tensorflow.core.framework import graph_pb2
    from tensorflow.core.protobuf import config_pb2
    from tensorflow.python.client import session
    from tensorflow.python.framework import importer, ops

    return graph_pb2, config_pb2, session, importer, ops


def _leave_out_public_api() -> None:
    """Replaces ``tensorflow`` by an empty package with the real submodules."""
    found = importlib.util.find_spec("tensorflow")
    if found is None or not found.submodule_search_locations:
        return
    package = types.ModuleType("tensorflow")
    package.__path__ = list(found.submodule_search_locations)
    package.__spec__ = found
    package.__file__ = found.origin
    sys.modules["tensorflow"] = package


def tensorflow_errors() -> tuple[type[Exception], ...]:
    """The classes of TensorFlow's own exceptions."""
    from tensorflow.python.framework import errors

    return (errors.OpError,)
