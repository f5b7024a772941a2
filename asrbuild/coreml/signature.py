"""What a network takes and gives: its inputs, outputs and states by role, and how time runs in it.

An architecture declares it; the conversion request, the package's description, the manifest and
the proof read it, so that no other module knows the name of a tensor. Nothing here imports numpy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

from asrbuild.base.errors import AsrbuildError

#: The axis whose size is that of a call: input steps in an input, rows in an output.
STEPS = "steps"

InputMeaning = Literal["features", "samples", "step_count", "state"]
OutputMeaning = Literal["probabilities", "log_probabilities", "logits", "state"]
Labels = Literal["characters", "bytes", "pieces", "phonemes", "classes"]


@dataclass(frozen=True)
class Axis:
    """One axis; ``size`` None: that of a call (``STEPS``), or as the weights have it."""

    name: str
    size: int | None = None


@dataclass(frozen=True)
class Port:
    """An input or output of the network.

    Args:
        name: of the tensor, in the package as in the original.
        axes: in order.
        meaning: its role.
        fill: for the manifest: what an app puts in, or how it reads what comes out.
        dtype: of the package's tensor.
    """

    name: str
    axes: tuple[Axis, ...]
    meaning: InputMeaning | OutputMeaning
    fill: str
    dtype: Literal["float32", "int32"] = "float32"


@dataclass(frozen=True)
class StatePair:
    """A state: ``input`` of a call takes what ``output`` of the call before gave.

    ``kept`` is the name of Core ML's own state where the package keeps it. It begins with zeros.
    """

    input: str
    output: str
    kept: str


@dataclass(frozen=True)
class Signature:
    """The declared facts of one network.

    Args:
        inputs: in the order of the package.
        outputs: in the order of the package, probabilities first.
        states: what is carried from call to call; may be empty.
        rows_per_step: output rows for each input step; below 1 where the network subsamples.
        causal: a row depends on the steps up to its own alone, so the first rows of a recording
            are those of its beginning.
        lookahead: steps after its own that a row depends on, beyond the context frames that are in
            an input step already; 0 where causal.
        blank: index of the CTC blank among the classes; None: the last.
        labels: what a class is.
        front_end: who computes the features: the app, or the package (it takes samples).
    """

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    states: tuple[StatePair, ...] = ()
    rows_per_step: Fraction = Fraction(1)
    causal: bool = True
    lookahead: int = 0
    blank: int | None = None
    labels: Labels = "characters"
    front_end: Literal["app", "package"] = "app"

    def port(self, name: str) -> Port | None:
        """The input or output of this name; None if there is none."""
        return next((port for port in (*self.inputs, *self.outputs) if port.name == name), None)

    @property
    def features(self) -> Port:
        """The input whose steps are the time axis of a call."""
        return next(port for port in self.inputs if port.meaning in ("features", "samples"))

    @property
    def probabilities(self) -> str:
        """Name of the output that is decoded."""
        return self.outputs[0].name

    @property
    def output_names(self) -> tuple[str, ...]:
        return tuple(port.name for port in self.outputs)

    def with_classes(self, count: int) -> Signature:
        """With the size of the last axis of the probabilities."""
        axes = self.outputs[0].axes
        sizes = [axis.size for axis in axes[:-1]]
        return self.sized(self.probabilities, *sizes, count)

    def sized(self, name: str, *sizes: int | None) -> Signature:
        """With these sizes of a tensor's axes."""

        def of(port: Port) -> Port:
            if port.name != name:
                return port
            pairs = zip(port.axes, sizes, strict=True)
            return replace(port, axes=tuple(Axis(axis.name, size) for axis, size in pairs))

        return replace(
            self, inputs=tuple(map(of, self.inputs)), outputs=tuple(map(of, self.outputs))
        )


def compared_name(states: Sequence[StatePair], name: str) -> str:
    """The output of the original that a package's state is compared with.

    ``name``: the package's output, or Core ML's own state where the package keeps it.
    """
    return next((pair.output for pair in states if name in (pair.output, pair.kept)), name)


def check_carried(signature: Signature) -> None:
    """Refuses a network with a fact that packages, manifests and decoders cannot carry yet.

    Raises:
        AsrbuildError: naming the fact.
    """
    facts = (
        ("rows_per_step", signature.rows_per_step, Fraction(1)),
        ("causal", signature.causal, True),  # references of short lengths are prefixes
        ("blank", signature.blank, None),
        ("front_end", signature.front_end, "app"),
        ("outputs[0].meaning", signature.outputs[0].meaning, "probabilities"),
    )
    for fact, value, carried in facts:
        if value != carried:
            wanted = "the last class" if carried is None else carried
            raise AsrbuildError(
                f"the network's signature has {fact} {value}; a package can carry {wanted} only",
                key="source.kind",
                fix="export the network so, or choose another source",
            )
    if signature.labels not in ("characters", "bytes"):
        raise AsrbuildError(
            f"the network's labels are {signature.labels}; decoders read characters and bytes",
            key="source.kind",
            fix="choose a network that writes characters or UTF-8 bytes",
        )
