"""Compiles a neural network's layers into steps over numbered slots.

Blobs of a neural network are variables: a loop's body writes the same names repeatedly. Every name
has one slot; a slot is cleared as soon as its value cannot be read again, so that ``scatter`` can
write into a loop's list in place.

Source: ``NeuralNetwork.proto``. All values are float32, integers and booleans too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import asrbuild.coreml.executor.nn  # noqa: F401 - registers the layers
from asrbuild.base.array import Array
from asrbuild.base.errors import AsrbuildError
from asrbuild.coreml import protobufs as coremlproto
from asrbuild.coreml.executor.mil.control import label_and_probabilities
from asrbuild.coreml.executor.nn.inside import count_reads
from asrbuild.coreml.executor.nnweights import NnWeights
from asrbuild.coreml.executor.package import Package
from asrbuild.coreml.executor.program import CompiledBlock, Draft, inconsistent, make_step
from asrbuild.coreml.executor.recording import Site, watched
from asrbuild.coreml.executor.registry import NN_LAYERS, NOT_HERE, NnLayer
from asrbuild.coreml.executor.signature import Feature, default_shape


@dataclass(frozen=True)
class Labels:
    """The classes of a classifier: the blob with their probabilities, and its outputs."""

    blob: str
    classes: tuple[str | int, ...]
    label: str
    probabilities: str

    @property
    def given(self) -> set[str]:
        """The names of the outputs with the label and the probabilities."""
        return {self.label, self.probabilities} - {""}

    def of(self, values: Array) -> dict[str, Any]:
        """The outputs by name.

        Raises:
            AsrbuildError: the numbers of values and classes differ.
        """
        try:
            pair = label_and_probabilities(values, list(self.classes))
        except ValueError as error:
            raise inconsistent(f"the classifier's blob {self.blob}", error) from error
        named = zip((self.label, self.probabilities), pair, strict=True)
        return {name: value for name, value in named if name}


@dataclass(frozen=True)
class CompiledNetwork:
    """A neural network ready to run."""

    inputs: dict[str, int]
    outputs: dict[str, int]
    block: CompiledBlock
    slots: int
    labels: Labels | None = None

    def run(self, values: dict[str, Any]) -> dict[str, Any]:
        """Runs the network in float32 on input name -> array; returns output name -> array."""
        env: list[Any] = [None] * self.slots
        for name, slot in self.inputs.items():
            env[slot] = np.asarray(values[name], np.float32)
        with np.errstate(all="ignore"):
            self.block.run(env)
        results = {name: env[slot] for name, slot in self.outputs.items()}
        if self.labels is not None:
            results |= self.labels.of(results[self.labels.blob])
        return results


@dataclass(frozen=True)
class PaddedNetwork:
    """A network with five axes for every array: sequence, batch, channel, height, width.

    Source: ``RANK5_ARRAY_MAPPING`` in NeuralNetwork.proto: (C) is (1, 1, C, 1, 1) inside and
    (C, H, W) is (1, 1, C, H, W); the first two axes may be given as well. An output has its
    declared shape again if that removes only axes of size 1; else it keeps its five axes.
    """

    network: CompiledNetwork
    ranks: dict[str, int]
    shapes: dict[str, tuple[int, ...]]

    def run(self, values: dict[str, Any]) -> dict[str, Any]:
        """As ``CompiledNetwork.run``, for arrays with or without padded axes."""
        padded = {name: _padded(np.asarray(v), self.ranks[name]) for name, v in values.items()}
        results = self.network.run(padded)
        return {
            name: _unpadded(value, self.shapes[name]) if name in self.shapes else value
            for name, value in results.items()
        }


def _padded(x: Array, rank: int) -> Array:
    """Pads (C) or (C, H, W), with or without two axes before them, to five axes."""
    lead = x.shape[:-rank] or (1, 1)
    return x.reshape(*lead, *x.shape[-rank:], *(1,) * (3 - rank))


def _unpadded(x: Any, shape: tuple[int, ...]) -> Any:
    without_ones = tuple(size for size in np.shape(x) if size != 1)
    wanted = tuple(size for size in shape if size != 1)
    return x.reshape(shape) if without_ones == wanted else x


@dataclass
class NetworkCompiler:
    """Compiles the layers of one model, including inner networks."""

    weights: NnWeights
    reads: Counter[str]
    padded: bool = False
    slots: dict[str, int] = field(default_factory=dict)
    _path: list[str] = field(default_factory=list)

    def slot(self, name: str) -> int:
        """The slot of a blob, made at its first use."""
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

    def path(self, layer: Any) -> str:
        """Enclosing layers and the layer's own name."""
        return " > ".join([*self._path, layer.name])

    def place(self, layer: Any) -> str:
        """The path of a layer, with the prefix of its network, for messages."""
        return f"layer {self.path(layer)}"

    def _draft(self, layer: Any) -> Draft:
        kind = layer.WhichOneof("layer")
        place = self.place(layer)
        entry = NN_LAYERS.get(kind or "")
        if entry is None:
            raise AsrbuildError(
                f"the executor has no layer {kind} ({place})",
                fix=NOT_HERE,
            )
        if self.padded and kind not in _PADDED_LAYERS:
            raise AsrbuildError(
                f"{place} ({kind}) is a layer of iOS 13 or later in a network that pads its arrays "
                "to five axes, which Core ML refuses",
                fix="convert it again with coremltools 4 or later",
            )
        place = f"{place} ({kind})"
        try:
            draft: Any = (
                entry.compile(self, layer) if entry.structural else self._call(entry, layer)
            )
        except AsrbuildError:
            raise
        except Exception as error:
            raise inconsistent(place, error) from error
        draft.place = place
        return draft

    def _call(self, entry: NnLayer, layer: Any) -> Draft:
        run = entry.compile(layer, self.weights)
        reads: list[int | list[int]] = [self.slot(name) for name in layer.input]
        writes = [self.slot(name) for name in layer.output]
        owned = 0 if getattr(run, "owns_first", False) else None
        run = watched(_as_list(run, len(writes)), lambda: self._site(entry, layer))
        return Draft(run, reads, writes, owned=owned)

    def _site(self, entry: NnLayer, layer: Any) -> Site:
        count = len(layer.input)
        dtypes = (np.dtype(np.float32),) * count
        return Site(self.path(layer), entry.name, ("input",) * count, dtypes, (False,) * count)


def compile_network(
    package: Package,
    inputs: Mapping[str, Feature],
    outputs: Mapping[str, Feature],
    *,
    keep_all: bool = False,
) -> CompiledNetwork | PaddedNetwork:
    """Compiles a package's ``NeuralNetwork``, or that of its classifier or regressor.

    ``keep_all``: make every blob that its layers write an output, in order.

    Raises:
        AsrbuildError: it has a layer that the executor lacks, or a classifier without classes.
    """
    kind = package.spec.WhichOneof("Type")
    network = getattr(package.spec, kind)
    padded = not uses_exact_ranks(network)
    labels = _labels(network, package.spec.description) if "Classifier" in kind else None
    names = [name for name in outputs if labels is None or name not in labels.given]
    names += [labels.blob] if labels is not None else []
    if keep_all:
        names += [name for layer in network.layers for name in layer.output]
    names = list(dict.fromkeys(names))
    reads = Counter[str](names)
    count_reads(network, reads)
    assert package.weights is not None
    compiler = NetworkCompiler(package.weights, reads, padded)
    places = {name: compiler.slot(name) for name in inputs}
    block = compiler.network(network)
    # Weights copied out of the file are in memory now, so the mapped source can be released.
    package.weights.release()
    slots = {name: compiler.slot(name) for name in names}
    compiled = CompiledNetwork(places, slots, block, len(compiler.slots), labels)
    if not padded:
        return compiled
    ranks = {name: len(default_shape(f.shape)) for name, f in inputs.items() if f.shape is not None}
    shapes = {name: default_shape(f.shape) for name, f in outputs.items() if f.shape is not None}
    return PaddedNetwork(compiled, ranks, shapes)


#: Layers from before iOS 13, the only ones allowed in a network with padded arrays.
_PADDED_LAYERS = frozenset(
    """
    convolution pooling activation innerProduct embedding batchnorm mvn l2normalize softmax lrn crop
    padding upsample resizeBilinear cropResize unary add multiply average scale bias max min dot
    reduce loadConstant reshape flatten permute concat split sequenceRepeat reorganizeData slice
    simpleRecurrent gru uniDirectionalLSTM biDirectionalLSTM
    """.split()
)


def uses_exact_ranks(network: Any) -> bool:
    """Whether a neural network's arrays keep their ranks, instead of being padded to five axes."""
    return network.arrayInputShapeMapping == coremlproto.neural_network().EXACT_ARRAY_MAPPING


def _labels(network: Any, description: Any) -> Labels:
    kind = network.WhichOneof("ClassLabels")
    if kind is None:
        raise AsrbuildError(
            "the classifier has no class labels",
            fix="the model is damaged: build it again, or copy it again from a good copy",
        )
    blob = network.labelProbabilityLayerName
    if not blob and network.layers:
        blob = network.layers[-1].output[0]
    return Labels(
        blob,
        tuple(getattr(network, kind).vector),
        description.predictedFeatureName,
        description.predictedProbabilitiesName,
    )


def _dying(drafts: Sequence[Draft], outer: set[int]) -> list[frozenset[int]]:
    """For each step, the slots whose value nothing reads after the step.

    These are slots read for the last time before they are written again; and slots read for the
    last time of all, if this network writes them first and nothing outside reads them.
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
    """Makes a layer return a list: a layer with a single output returns an array."""
    if count != 1:
        return run

    def run_one(*inputs: Any) -> Any:
        result = run(*inputs)
        return result[0] if isinstance(result, list) else result

    return run_one
