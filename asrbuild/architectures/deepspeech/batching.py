"""Spares 15 % of a cold build (2.9 s of 18.8 s of CPU time, 2048 units): batches of utterances.

A step of the LSTM reads all its weights, for one utterance or for several; TensorFlow's kernel
takes 5.6 ms for one, 11.6 for two, 12.5 for four and 15.9 for six of 2048 units. So four run at a
time, and the next one begins where one ends. The graph is that of the file, run by the same
kernels. Only the constants with the number of utterances are fed with another value, as any tensor
of a TensorFlow 1 graph can be::

    Reshape to [-1, 1, n_hidden]  ->  [-1, 4, n_hidden]      around the LSTM, and of the logits
    Range(0, 1)                   ->  Range(0, 4)            which utterance's state is picked
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from asrbuild.architectures.deepspeech.signature import OUTPUTS
from asrbuild.architectures.tensorflow.proto import Graph, Node, Shape, input_name
from asrbuild.architectures.tensorflow.session import GraphSession
from asrbuild.base.array import Array
from asrbuild.coreml.speedups import enabled

#: Utterances of a batch.
_UTTERANCES = 4
_INPUTS = ("input_node", "input_lengths", "previous_state_c", "previous_state_h")


@dataclass(frozen=True)
class Batch:
    """The constants of a graph with its number of utterances.

    ``shapes``: name -> last dimension of a ``Reshape``; ``counts``: names of counts of a ``Range``.
    """

    shapes: Mapping[str, int]
    counts: tuple[str, ...]

    def feeds(self, utterances: int) -> dict[str, Array]:
        """The values of these constants for a number of utterances."""
        shapes = {
            name: np.array([-1, utterances, last], np.int32) for name, last in self.shapes.items()
        }
        return shapes | dict.fromkeys(self.counts, np.array(utterances, np.int32))


def find_batch(graph: Graph) -> Batch | None:
    """The constants of a graph that are 1 for its one utterance; None if it has none."""
    if not enabled("batching"):
        return None
    nodes = {node.name: node for node in graph.nodes}
    shapes: dict[str, int] = {}
    counts: set[str] = set()
    for node in _leading_to(nodes, OUTPUTS):
        given = [nodes[input_name(reference)] for reference in node.inputs]
        if node.op == "Reshape" and given[1].op == "Const":
            wanted = given[1].value.tolist()
            if len(wanted) == 3 and wanted[:2] == [-1, 1]:
                shapes[given[1].name] = wanted[2]
        elif node.op == "Pack":  # a length and a number for each utterance
            counts.update(
                nodes[input_name(each.inputs[1])].name for each in given if _counts_one(each, nodes)
            )
    return Batch(shapes, tuple(sorted(counts))) if shapes and counts else None


def _leading_to(nodes: Mapping[str, Node], names: Sequence[str]) -> Iterator[Node]:
    waiting, seen = list(names), set[str]()
    while waiting:
        if (name := waiting.pop()) not in seen:
            seen.add(name)
            yield nodes[name]
            waiting += [input_name(reference) for reference in nodes[name].inputs]


def _counts_one(node: Node, nodes: Mapping[str, Node]) -> bool:
    """Whether this is ``Range(0, 1)``."""
    if node.op != "Range":
        return False
    limits = [nodes[input_name(reference)] for reference in node.inputs]
    return all(limit.op == "Const" for limit in limits) and [
        limit.value.item() for limit in limits
    ] == [0, 1, 1]


def for_any_batch(graph: Graph) -> Graph:
    """The graph with inputs for any number of utterances."""

    def relaxed(node: Node) -> Node:
        shape = node.attrs.get("shape")
        if node.name not in _INPUTS or not isinstance(shape, Shape) or not shape.dims:
            return node
        return replace(node, attrs={**node.attrs, "shape": Shape((None, *shape.dims[1:]))})

    return replace(graph, nodes=tuple(relaxed(node) for node in graph.nodes))


@dataclass(frozen=True)
class Piece:
    """The result of one run of the graph for one utterance.

    Args:
        logits: probabilities of its steps without padding, (T', V).
        states: c and h after them, (1, H) each.
        nodes: the other requested tensors, for this utterance alone.
    """

    logits: Array
    states: tuple[Array, Array]
    nodes: tuple[Array, ...]


def run_together(
    session: GraphSession,
    batch: Batch | None,
    cases: Mapping[str, Array],
    nodes: Sequence[str],
    steps: int | None,
    n_hidden: int,
) -> dict[str, list[Piece]]:
    """Runs cases in batches, the longest first, with carried state.

    A short last chunk is padded with zeros, and ``input_lengths`` is its number of steps without
    padding.

    Args:
        session: a session; for several cases, of a graph from ``for_any_batch``.
        batch: None for one case.
        cases: name -> features (T, window, coefficients).
        nodes: further requested tensors; for several cases, of the shape (T, utterances, ...).
        steps: the steps of a call of a static graph; None for a dynamic graph, whose calls end
            where an utterance ends.
    """
    waiting = sorted((name for name in cases if len(cases[name])), key=lambda n: len(cases[n]))
    made: dict[str, list[Piece]] = {name: [] for name in cases}
    begun: dict[str, int] = {}  # the utterances of the next call -> their next step
    zeros = np.zeros((1, n_hidden), np.float32)
    while waiting or begun:
        while waiting and len(begun) < _UTTERANCES:
            begun[waiting.pop()] = 0
        size = steps or min(len(cases[name]) - start for name, start in begun.items())
        parts = [cases[name][start : start + size] for name, start in begun.items()]
        lengths = np.array([len(part) for part in parts], np.int32)
        chunk = np.zeros((len(parts), size, *parts[0].shape[1:]), np.float32)
        for row, part in enumerate(parts):
            chunk[row, : len(part)] = part
        states = [made[name][-1].states if made[name] else (zeros, zeros) for name in begun]
        values = (chunk, lengths, *(np.concatenate(each) for each in zip(*states, strict=True)))
        feeds = dict(zip(_INPUTS, values, strict=True))
        feeds |= batch.feeds(len(parts)) if batch else {}
        logits, c, h, *more = session.run([*OUTPUTS, *nodes], feeds)
        for row, name in enumerate(list(begun)):
            own = slice(row, row + 1)
            extra = tuple(each[:, own] if batch else each for each in more)
            made[name].append(Piece(logits[: lengths[row], row], (c[own], h[own]), extra))
            begun[name] += size
            if begun[name] >= len(cases[name]):
                del begun[name]
    return made
