"""Compiles a neural network's layers into steps over numbered slots.

Blobs of a neural network are variables: a loop's body writes to the same names again and again.
Every name has one slot; a slot is cleared where its value can no longer be read, which lets
``scatter`` write into a loop's list in place.

Source: ``NeuralNetwork.proto``. All values are float32, integers and booleans too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import asrbuild.executor.nn  # noqa: F401 - registers the layers
from asrbuild.errors import AsrbuildError
from asrbuild.executor.nn.inside import count_reads
from asrbuild.executor.nnweights import NnWeights
from asrbuild.executor.package import Package
from asrbuild.executor.program import CompiledBlock, Draft, does_not_hold_together, make_step
from asrbuild.executor.registry import NN_LAYERS, NOT_HERE, NnLayer
from asrbuild.executor.signature import uses_exact_ranks


@dataclass(frozen=True)
class CompiledNetwork:
    """A neural network ready to run."""

    inputs: dict[str, int]
    outputs: dict[str, int]
    block: CompiledBlock
    slots: int

    def run(self, values: dict[str, Any]) -> dict[str, Any]:
        """Input name -> array; returns output name -> array. Inside, all is float32."""
        env: list[Any] = [None] * self.slots
        for name, slot in self.inputs.items():
            env[slot] = np.asarray(values[name], np.float32)
        with np.errstate(all="ignore"):
            self.block.run(env)
        return {name: env[slot] for name, slot in self.outputs.items()}


@dataclass
class NetworkCompiler:
    """Compiles the layers of one model, networks inside networks included."""

    weights: NnWeights
    reads: Counter[str]
    slots: dict[str, int] = field(default_factory=dict)
    _path: list[str] = field(default_factory=list)

    def slot(self, name: str) -> int:
        return self.slots.setdefault(name, len(self.slots))

    def network(self, network: Any, label: str | None = None) -> CompiledBlock:
        """Compiles a (nested) network's layers."""
        if label is not None:
            self._path.append(label)
        drafts = [self._draft(layer) for layer in network.layers]
        inside = Counter[str]()
        count_reads(network, inside)
        outer = {self.slot(name) for name, count in self.reads.items() if count > inside[name]}
        if label is not None:
            self._path.pop()
        dying = _dying(drafts, outer)
        steps = tuple(make_step(draft, dead) for draft, dead in zip(drafts, dying, strict=True))
        return CompiledBlock(steps, (), tuple(draft.place for draft in drafts))

    def place(self, layer: Any) -> str:
        """Where a layer is, its network's enclosing layers first."""
        return f"layer {' > '.join([*self._path, layer.name])}"

    def _draft(self, layer: Any) -> Draft:
        kind = layer.WhichOneof("layer")
        place = self.place(layer)
        entry = NN_LAYERS.get(kind or "")
        if entry is None:
            raise AsrbuildError(
                f"the executor has no layer {kind} ({place})",
                fix=NOT_HERE,
            )
        place = f"{place} ({kind})"
        try:
            draft = entry.compile(self, layer) if entry.structural else self._call(entry, layer)
        except AsrbuildError:
            raise
        except Exception as error:
            raise does_not_hold_together(place, error) from error
        draft.place = place
        return draft

    def _call(self, entry: NnLayer, layer: Any) -> Draft:
        run = entry.compile(layer, self.weights)
        reads: list[int | list[int]] = [self.slot(name) for name in layer.input]
        writes = [self.slot(name) for name in layer.output]
        owned = 0 if getattr(run, "owns_first", False) else None
        return Draft(_as_list(run, len(writes)), reads, writes, owned=owned)


def compile_network(
    package: Package, outputs: tuple[str, ...], *, keep_all: bool = False
) -> CompiledNetwork:
    """Compiles a package's ``NeuralNetwork``.

    ``keep_all``: every blob that its layers write is an output too, in their order.

    Raises:
        AsrbuildError: it has a layer the executor does not have, or arrays of padded rank.
    """
    if not uses_exact_ranks(package.spec):
        raise AsrbuildError(
            "this neural network pads its arrays to five axes (arrayInputShapeMapping RANK5)",
            file=package.path,
            fix="convert it again with coremltools 4 or later",
        )
    network = package.spec.neuralNetwork
    if keep_all:
        written = [name for layer in network.layers for name in layer.output]
        outputs = tuple(dict.fromkeys([*outputs, *written]))
    reads = Counter[str](outputs)
    count_reads(network, reads)
    assert package.weights is not None
    compiler = NetworkCompiler(package.weights, reads)
    inputs = {
        feature.name: compiler.slot(feature.name) for feature in package.spec.description.input
    }
    block = compiler.network(network)
    # What had to be copied out of the file is in memory now; its mapped source need not stay.
    package.weights.release()
    return CompiledNetwork(
        inputs, {name: compiler.slot(name) for name in outputs}, block, len(compiler.slots)
    )


def _dying(drafts: Sequence[Draft], outer: set[int]) -> list[frozenset[int]]:
    """Per step the slots whose value nothing reads any more once it has run.

    That is so at a last read before the slot is written again; or at the very last read of a slot
    that this network writes first and that nothing outside of it reads.
    """
    events: dict[int, list[tuple[int, bool]]] = {}
    for number, draft in enumerate(drafts):
        for slot in draft.flat_reads():
            events.setdefault(slot, []).append((number, False))
        for slot in draft.writes:
            events.setdefault(slot, []).append((number, True))
    dying: list[set[int]] = [set() for _ in drafts]
    for slot, sequence in events.items():
        temporary = slot not in outer and sequence[0][1]
        for (number, _), following in zip(sequence, [*sequence[1:], None], strict=True):
            rewritten = following is not None and following[1] and following[0] > number
            if rewritten or (following is None and temporary):
                dying[number].add(slot)
    return [frozenset(slots) for slots in dying]


def _as_list(run: Callable[..., Any], count: int) -> Callable[..., Any]:
    """A layer with several outputs gives a list; one with a single output gives the array."""
    if count != 1:
        return run

    def run_one(*inputs: Any) -> Any:
        result = run(*inputs)
        return result[0] if isinstance(result, list) else result

    return run_one
