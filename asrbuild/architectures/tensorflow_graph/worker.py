"""Runs the cut graph in TensorFlow, in a process of its own: calls, or measurements.

python -m asrbuild.architectures.tensorflow_graph.worker --model G.pb --outputs labels_softmax
    --cases in.npz --out out.npz [--states JSON] [--names JSON] [--question JSON]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from functools import partial

from asrbuild.architectures.measure import answer_of
from asrbuild.architectures.original import serve
from asrbuild.architectures.run_calls import run_calls
from asrbuild.architectures.tensorflow.graph import load_graph
from asrbuild.architectures.tensorflow.proto import DType
from asrbuild.architectures.tensorflow.session import GraphSession, import_tensorflow
from asrbuild.base.array import Array


class GraphCalls:
    """The graph in TensorFlow; see :class:`asrbuild.architectures.run_calls.Session`."""

    def __init__(self, options: argparse.Namespace) -> None:
        graph = load_graph(options.model)
        self.types = {
            node.name: node.attrs["dtype"] for node in graph.nodes if node.op == "Placeholder"
        }
        self.outputs = options.outputs.split(",")
        self.session = GraphSession(graph, lean=True)

    def run(self, feeds: Mapping[str, Array], call: str) -> dict[str, Array]:
        """The outputs of one call by name."""
        del call
        typed = {}
        for name, array in feeds.items():
            dtype = self.types.get(name)
            if isinstance(dtype, DType) and dtype.numpy is not None:
                typed[name] = array.astype(dtype.numpy, copy=False)
        return dict(zip(self.outputs, self.session.run(self.outputs, typed), strict=True))


def run(options: argparse.Namespace, cases: Mapping[str, Array]) -> dict[str, Array]:
    """The results of all calls, or the answer to ``--question``."""
    session = GraphCalls(options)
    if options.question:
        return answer_of(session, options.question)
    return run_calls(session, options.states, options.names, cases)


if __name__ == "__main__":
    prepare = partial(import_tensorflow, lean=True)
    sys.exit(serve(run, prepare, "--model", "--outputs", "--states", "--names", "--question"))
