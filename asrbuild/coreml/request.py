"""The conversion request: describes a package for both front ends.

An impossible request raises when it is made. This module does not import coremltools.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from asrbuild.base.errors import AsrbuildError
from asrbuild.coreml.choices import (
    DEFAULT_SPARSITY,
    DEFAULT_STEPS,
    SPECIFICATION_VERSIONS,
    Format,
    LstmForm,
    Precision,
    StateKind,
)
from asrbuild.coreml.signature import Signature

#: The spec versions of coremltools for a neural network: iOS 13, and iOS 14 for a flexible shape.
NEURALNETWORK_FIXED, NEURALNETWORK_FLEXIBLE = 4, 5
#: Core ML's limit on the shapes of one enumerated input.
MAX_ENUMERATED = 128
#: Limit of steps of an unrolled LSTM: a step is a dozen operations, and fp16 cannot count more than
#: 2,048 steps.
MAX_UNROLLED = 256
#: From iOS17 on, coremltools gathers with int16 indices inside fp16 loops.
MAX_INT16_STEPS = 32767 - 1


@dataclass(frozen=True)
class FixedSteps:
    """The package takes exactly ``steps`` time steps."""

    steps: int

    def __post_init__(self) -> None:
        _check_least(self.steps)


@dataclass(frozen=True)
class RangeSteps:
    """Any number of steps from ``lower`` to ``upper``; None: unbounded (neural network only)."""

    lower: int
    default: int
    upper: int | None

    def __post_init__(self) -> None:
        _check_least(self.lower)
        if not self.lower <= self.default <= (self.default if self.upper is None else self.upper):
            raise AsrbuildError(
                f"the default of {self.default} steps is not in the range {self.lower} to "
                f"{'any' if self.upper is None else self.upper}",
                key="model.steps",
                fix="keep lower <= n_steps <= upper",
            )


@dataclass(frozen=True)
class EnumeratedSteps:
    """One of ``sizes`` steps."""

    sizes: tuple[int, ...]
    default: int

    def __post_init__(self) -> None:
        different = len(set(self.sizes))
        if not 1 <= different <= MAX_ENUMERATED or different != len(self.sizes):
            raise AsrbuildError(
                f"the enumerated steps have {len(self.sizes)} entries ({different} different); "
                f"Core ML takes 1 to {MAX_ENUMERATED} different shapes",
                key="model.steps.sizes",
                fix="for example model.steps.sizes=[16,32,64], or a range of steps: model=dynamic",
            )
        _check_least(min(self.sizes))
        if self.default not in self.sizes:
            raise AsrbuildError(
                f"the default of {self.default} steps is not one of "
                f"{', '.join(map(str, self.sizes))}",
                key="model.steps.sizes",
                fix=f"add {self.default} to the sizes, or set n_steps to one of them",
            )


def _check_least(steps: int) -> None:
    if steps < 1:
        raise AsrbuildError(
            f"a package takes at least 1 step, not {steps}",
            key="model.steps",
            fix="lengths start at 1 step",
        )


Steps = FixedSteps | RangeSteps | EnumeratedSteps


@dataclass(frozen=True)
class ConversionRequest:
    """The description of a package; an impossible one raises ``AsrbuildError``.

    Args:
        format: an ``.mlpackage`` (``mlprogram``) or an ``.mlmodel`` (``neuralnetwork``).
        precision: the compute precision of an ``mlprogram``, or that of the weights of a
            ``neuralnetwork``.
        deployment_target: the oldest system that must load an ``mlprogram``. A neural network
            always has spec version 4 or 5 (iOS 13 or 14), which all of these load.
        steps: the axis of time of the features; ignored if ``functions`` is not empty.
        functions: name -> steps of each function of a multifunction package, the default first.
        lstm: the form of an LSTM: one ``lstm`` op, coremltools' own ``while_loop`` over time, or
            (for research) unrolled steps.
        state: ``explicit``: states are inputs and outputs; ``stateful``: the package keeps them
            (iOS 18).
        outputs: names and order of the outputs; None: all outputs of the network. A stateful
            package has no outputs of states.
        fp32: the part of an fp16 package that stays in single precision: ``front_end`` (all up to
            the first logarithm), ``none``, or names of nodes; None: the architecture chooses.
        compress: layer -> compression of its weights (``int8``, ``palettize_6``, ``palettize_4``,
            ``prune``); other layers are not compressed.
        sparsity: the fraction of a pruned layer's weights, the smallest, that become 0.
        metadata: user-defined metadata, in addition to author, license, version and description.
    """

    format: Format = "mlprogram"
    precision: Precision = "fp16"
    deployment_target: str = "iOS17"
    steps: Steps = FixedSteps(DEFAULT_STEPS)
    functions: Mapping[str, Steps] = field(default_factory=dict)
    lstm: LstmForm = "native"
    state: StateKind = "explicit"
    outputs: tuple[str, ...] | None = None
    fp32: str | tuple[str, ...] | None = None
    compress: Mapping[str, str] = field(default_factory=dict)
    sparsity: float = DEFAULT_SPARSITY
    metadata: Mapping[str, str] = field(default_factory=dict)
    author: str = ""
    license: str = ""
    version: str = ""
    description: str = ""

    def __post_init__(self) -> None:
        for rule in _RULES:
            for problem in rule(self):
                raise problem


def package_suffix(format: str) -> str:
    """``.mlpackage`` or ``.mlmodel``."""
    return ".mlpackage" if format == "mlprogram" else ".mlmodel"


def specification_version(request: ConversionRequest) -> int:
    """The spec version of the package."""
    if request.format == "neuralnetwork":
        fixed = isinstance(request.steps, FixedSteps)
        return NEURALNETWORK_FIXED if fixed else NEURALNETWORK_FLEXIBLE
    return SPECIFICATION_VERSIONS[request.deployment_target]


def model_outputs(request: ConversionRequest, signature: Signature) -> tuple[str, ...]:
    """The outputs of the package; a stateful package has no outputs of states.

    Raises:
        AsrbuildError: the network lacks an output, or every requested output is a state.
    """
    asked = signature.output_names if request.outputs is None else request.outputs
    if unknown := [name for name in asked if name not in signature.output_names]:
        raise AsrbuildError(
            f"the network has no output {', '.join(unknown)}",
            key="coreml.outputs",
            fix=f"choose from {', '.join(signature.output_names)}",
        )
    if request.state == "explicit":
        return asked
    carried = {pair.output for pair in signature.states}
    if not (kept := tuple(name for name in asked if name not in carried)):
        raise AsrbuildError(
            f"a stateful package has no outputs {', '.join(asked)}: it keeps its states",
            key="coreml.outputs",
            fix=f"add {signature.probabilities}",
        )
    return kept


def _target(request: ConversionRequest) -> Iterator[AsrbuildError]:
    """The deployment target must support ML programs, or the neural network's spec version."""
    target = SPECIFICATION_VERSIONS[request.deployment_target]
    if request.format == "mlprogram" and target < SPECIFICATION_VERSIONS["iOS15"]:
        yield AsrbuildError(
            f"ML programs came with iOS15, and the target is {request.deployment_target}",
            key="coreml.minimum_deployment_target",
            fix="choose iOS15 or later, or coreml=neuralnetwork",
        )
    if request.format == "neuralnetwork" and target < specification_version(request):
        yield AsrbuildError(
            "a neuralnetwork of flexible shape requires iOS14",
            key="coreml.minimum_deployment_target",
            fix="choose iOS14 or later, or a model of fixed shape, such as model=static",
        )


def _fp32(request: ConversionRequest) -> Iterator[AsrbuildError]:
    if isinstance(request.fp32, str) and request.fp32 not in ("front_end", "none"):
        yield AsrbuildError(
            f"coreml.fp32={request.fp32} is not a choice",
            key="coreml.fp32",
            fix="choose front_end or none, or give a list of node names: coreml.fp32=[/conv/Conv]",
        )
    if request.fp32 and request.format == "neuralnetwork":
        yield AsrbuildError(
            "a neuralnetwork has one precision; coreml.fp32 names parts of an mlprogram",
            key="coreml.fp32",
            fix="leave coreml.fp32 out, or choose coreml=mlprogram",
        )


def _outputs(request: ConversionRequest) -> Iterator[AsrbuildError]:
    outputs = request.outputs
    if outputs is not None and (not outputs or len(set(outputs)) != len(outputs)):
        yield AsrbuildError(
            f"coreml.outputs={list(outputs)} must name each output once",
            key="coreml.outputs",
            fix="leave coreml.outputs out for all outputs that the network has",
        )


def _lengths(request: ConversionRequest) -> Iterator[AsrbuildError]:
    lengths: list[int] = []
    for steps in request.functions.values() or (request.steps,):
        if isinstance(steps, FixedSteps):
            lengths.append(steps.steps)
        elif isinstance(steps, EnumeratedSteps):
            lengths += steps.sizes
        elif steps.upper is not None:
            lengths.append(steps.upper)
        elif request.format == "mlprogram":
            yield AsrbuildError(
                "an mlprogram cannot have an unbounded axis: model.steps.upper is empty",
                key="coreml.range_upper",
                fix="set coreml.range_upper=3000, or choose coreml=neuralnetwork",
            )
    int16_loop = (
        request.format == "mlprogram"
        and request.lstm == "loop"
        and request.precision == "fp16"
        and specification_version(request) >= SPECIFICATION_VERSIONS["iOS17"]
    )
    longest = max(lengths, default=0)
    if int16_loop and longest > MAX_INT16_STEPS:
        yield AsrbuildError(
            f"an fp16 loop counts its steps in int16 from iOS17 on, {longest} is above "
            f"{MAX_INT16_STEPS}",
            key="model.steps",
            fix="use coreml.lstm=native or coreml.precision=fp32, or a lower bound on the steps",
        )


def _functions(request: ConversionRequest) -> Iterator[AsrbuildError]:
    if not request.functions:
        return
    if request.format == "neuralnetwork":
        yield AsrbuildError(
            "a neuralnetwork has one function",
            key="model.functions",
            fix="choose coreml=mlprogram for model=multifunction",
        )
    what = "several functions in one package need"
    yield from _before_ios18(request, what, "coreml.minimum_deployment_target")
    for name in request.functions:
        if not name.isidentifier():
            yield AsrbuildError(
                f"{name!r} is not a function name",
                key="model.functions",
                fix="use letters, digits and underscores, not starting with a digit",
            )
    if request.state == "stateful":
        yield AsrbuildError(
            "a Core ML state belongs to one function, so functions could not hand it on",
            key="coreml.state",
            fix="use coreml.state=explicit with functions",
        )


def _stateful(request: ConversionRequest) -> Iterator[AsrbuildError]:
    if request.state != "stateful":
        return
    if request.format == "neuralnetwork":
        yield AsrbuildError(
            "a neuralnetwork has no StateType",
            key="coreml.state",
            fix="choose coreml=mlprogram with coreml.minimum_deployment_target=iOS18",
        )
    yield from _before_ios18(request, "a stateful package needs", "coreml.state")
    if request.precision != "fp16":
        yield AsrbuildError(
            "Core ML states are fp16, so a stateful package is not fp32",
            key="coreml.precision",
            fix="use coreml.precision=fp16, or coreml.state=explicit",
        )


def _before_ios18(request: ConversionRequest, what: str, key: str) -> Iterator[AsrbuildError]:
    if specification_version(request) < SPECIFICATION_VERSIONS["iOS18"]:
        yield AsrbuildError(
            f"{what} an mlprogram for iOS18 or later",
            key=key,
            fix="set coreml=mlprogram coreml.minimum_deployment_target=iOS18",
        )


def _compressed(request: ConversionRequest) -> Iterator[AsrbuildError]:
    if not request.compress:
        return
    if request.format != "mlprogram":
        yield AsrbuildError(
            "coremltools.optimize compresses ML programs, not neural networks",
            key="coreml.compress",
            fix="choose coreml=mlprogram, or halve the weights with coreml.precision=fp16",
        )
    if specification_version(request) < SPECIFICATION_VERSIONS["iOS16"]:
        yield AsrbuildError(
            "compressed weights came with iOS16",
            key="coreml.minimum_deployment_target",
            fix="leave coreml.minimum_deployment_target=auto",
        )


def _unrolled(request: ConversionRequest) -> Iterator[AsrbuildError]:
    if request.lstm != "unrolled":
        return
    if request.format != "mlprogram":
        yield AsrbuildError(
            "a neuralnetwork has no unrolled LSTM: what is known of its operations is known of ML "
            "programs",
            key="coreml.lstm",
            fix="choose coreml=mlprogram, or coreml.lstm=native",
        )
    for steps in request.functions.values() or (request.steps,):
        if not isinstance(steps, FixedSteps):
            yield AsrbuildError(
                "an unrolled LSTM has one operation after the other for each step, so every "
                "function requires a fixed number of steps",
                key="coreml.lstm",
                fix="choose model=dynamic_to_static, or coreml.lstm=native",
            )
        elif steps.steps > MAX_UNROLLED:
            yield AsrbuildError(
                f"{steps.steps} steps are too many to unroll: at most {MAX_UNROLLED}",
                key="coreml.lstm",
                fix=f"set n_steps={MAX_UNROLLED} or less, or coreml.lstm=native",
            )
    if request.compress:
        yield AsrbuildError(
            "an unrolled LSTM is not compressed: coremltools finds layers by their operations",
            key="coreml.compress",
            fix="set coreml.compress=none, or coreml.lstm=native",
        )


def _sparsity(request: ConversionRequest) -> Iterator[AsrbuildError]:
    if not 0.0 < request.sparsity < 1.0:
        yield AsrbuildError(
            f"coreml.sparsity={request.sparsity} is not between 0 and 1",
            key="coreml.sparsity",
            fix="give the fraction of a pruned layer's weights that become 0, for example 0.1",
        )


#: The rules of Core ML. Each yields errors that name the recipe's key; the first is raised.
_RULES = (
    _target,
    _fp32,
    _outputs,
    _functions,
    _stateful,
    _lengths,
    _unrolled,
    _compressed,
    _sparsity,
)


def advice(request: ConversionRequest) -> tuple[str, ...]:
    """Remarks on requests that have a cost, one sentence each."""
    version = specification_version(request)
    if request.format == "mlprogram" and request.lstm == "native" and request.precision == "fp16":
        if version == SPECIFICATION_VERSIONS["iOS15"]:
            return (
                "before iOS17 an lstm op computes in fp32: its weights are stored in fp32 and the "
                "package is about 1.7 times as large; coreml.minimum_deployment_target=iOS17 keeps "
                "fp16",
            )
        if version == SPECIFICATION_VERSIONS["iOS16"]:
            return (
                "before iOS17 an lstm op computes in fp32: its weights are stored in fp16 and cast "
                "when the package is loaded",
            )
    return ()
