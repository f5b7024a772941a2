"""What a Core ML package shall be: the request both front ends take, and its checks.

Nothing here imports coremltools, so an impossible request is refused at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from asrbuild.base.errors import AsrbuildError
from asrbuild.coreml.signature import Signature

#: Deployment target -> Core ML specification version of an ML program.
SPECIFICATION_VERSIONS = MappingProxyType(
    {"iOS15": 6, "iOS16": 7, "iOS17": 8, "iOS18": 9, "iOS26": 10}
)
#: The specification versions coremltools gives a neural network: iOS 13, and iOS 14 where the
#: shape is flexible.
NEURALNETWORK_FIXED, NEURALNETWORK_FLEXIBLE = 4, 5
#: Core ML's limit on the shapes of one enumerated input.
MAX_ENUMERATED = 128
#: coremltools gathers with int16 indices inside fp16 loops from iOS17 on.
MAX_INT16_STEPS = 32767 - 1


@dataclass(frozen=True)
class FixedSteps:
    """The package takes exactly ``steps`` time steps."""

    steps: int


@dataclass(frozen=True)
class RangeSteps:
    """Any number of steps from ``lower`` to ``upper``; ``None``: no limit (neural network only)."""

    lower: int
    default: int
    upper: int | None


@dataclass(frozen=True)
class EnumeratedSteps:
    """One of ``sizes`` steps."""

    sizes: tuple[int, ...]
    default: int


Steps = FixedSteps | RangeSteps | EnumeratedSteps


@dataclass(frozen=True)
class ConversionRequest:
    """One package.

    Args:
        format: an ``.mlpackage`` (``mlprogram``) or an ``.mlmodel`` (``neuralnetwork``).
        precision: of computation (``mlprogram``) or of the stored weights (``neuralnetwork``).
        deployment_target: the oldest system that shall load an ``mlprogram``. A neural network
            always gets specification version 4 or 5 (iOS 13 or 14), which all of these load.
        steps: the time axis of the features; ignored where ``functions`` is not empty.
        functions: name -> steps of each function of a multifunction package, the default first.
        lstm: one ``lstm`` op, or coremltools' own ``while_loop`` over time.
        state: the network's states are passed in and out, or live in the model (iOS 18).
        outputs: names and order of the outputs; None: all that the network has. A stateful package
            has no outputs of states: they are left out of it.
        compress: layer -> how its weights are stored (``int8``, ``palettize_6``, ``palettize_4``,
            ``prune``); layers that are not in it are stored as they are.
        sparsity: the fraction of a pruned layer's weights that become 0, the smallest.
        metadata: user-defined metadata, beside author, license, version and description.
    """

    format: Literal["mlprogram", "neuralnetwork"] = "mlprogram"
    precision: Literal["fp16", "fp32"] = "fp16"
    deployment_target: str = "iOS17"
    steps: Steps = FixedSteps(16)
    functions: Mapping[str, Steps] = field(default_factory=dict)
    lstm: Literal["native", "loop"] = "native"
    state: Literal["explicit", "stateful"] = "explicit"
    outputs: tuple[str, ...] | None = None
    compress: Mapping[str, str] = field(default_factory=dict)
    sparsity: float = 0.5
    metadata: Mapping[str, str] = field(default_factory=dict)
    author: str = ""
    license: str = ""
    version: str = ""
    description: str = ""


@dataclass(frozen=True)
class Layers:
    """The layers of a network whose weights can be compressed.

    ``dense``: in the order in which the program runs them. ``recurrent``: the one that is an
    ``lstm`` op or the body of a loop.
    """

    dense: tuple[str, ...] = ()
    recurrent: str | None = None


def package_suffix(format: str) -> str:
    """``.mlpackage`` or ``.mlmodel``."""
    return ".mlpackage" if format == "mlprogram" else ".mlmodel"


def specification_version(request: ConversionRequest) -> int:
    """The Core ML specification version the package will have."""
    if request.format == "neuralnetwork":
        fixed = isinstance(request.steps, FixedSteps)
        return NEURALNETWORK_FIXED if fixed else NEURALNETWORK_FLEXIBLE
    return SPECIFICATION_VERSIONS[request.deployment_target]


def model_outputs(request: ConversionRequest, signature: Signature) -> tuple[str, ...]:
    """The outputs the package has: a stateful one keeps its states to itself.

    Raises:
        AsrbuildError: the network has no such output, or all that are asked for are states.
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


def check_request(request: ConversionRequest) -> tuple[str, ...]:
    """Refuses what Core ML cannot do; returns advice on what it can do but at a price.

    Raises:
        AsrbuildError: naming the key of the recipe that is at fault.
    """
    _one_of("coreml.format", request.format, ("mlprogram", "neuralnetwork"))
    _one_of("coreml.precision", request.precision, ("fp16", "fp32"))
    _one_of("coreml.lstm", request.lstm, ("native", "loop"))
    _one_of("coreml.state", request.state, ("explicit", "stateful"))
    targets = tuple(SPECIFICATION_VERSIONS)
    _one_of("coreml.minimum_deployment_target", request.deployment_target, targets)
    if request.outputs == ():
        raise AsrbuildError("the package has no outputs", key="coreml.outputs", fix="name one")
    if request.outputs and len(set(request.outputs)) != len(request.outputs):
        raise AsrbuildError("an output is named twice", key="coreml.outputs")
    for steps in request.functions.values() or (request.steps,):
        _check_steps(steps, request)
    if request.functions:
        _check_functions(request)
    if request.state == "stateful":
        _check_stateful(request)
    if request.compress:
        _check_compress(request)
    return _advice(request)


def _one_of(key: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise AsrbuildError(f"{value!r} is not one of {', '.join(choices)}", key=key)


def _check_steps(steps: Steps, request: ConversionRequest) -> None:
    if isinstance(steps, FixedSteps):
        sizes: tuple[int, ...] = (steps.steps,)
    elif isinstance(steps, EnumeratedSteps):
        _check_enumerated(steps)
        sizes = steps.sizes
    else:
        _check_range(steps, request)
        sizes = (steps.lower, steps.default) + (() if steps.upper is None else (steps.upper,))
    if min(sizes) < 1:
        raise AsrbuildError(
            f"a package needs at least 1 time step, got {min(sizes)}", key="model.steps"
        )
    int16_loop = (
        request.format == "mlprogram"
        and request.lstm == "loop"
        and request.precision == "fp16"
        and specification_version(request) >= SPECIFICATION_VERSIONS["iOS17"]
    )
    if int16_loop and max(sizes) > MAX_INT16_STEPS:
        raise AsrbuildError(
            f"an fp16 loop counts its steps in int16 from iOS17 on, {max(sizes)} is above "
            f"{MAX_INT16_STEPS}",
            key="model.steps",
            fix="use coreml.lstm=native or coreml.precision=fp32, or a lower bound on the steps",
        )


def _check_enumerated(steps: EnumeratedSteps) -> None:
    if not steps.sizes:
        raise AsrbuildError("no step counts are enumerated", key="model.steps.sizes")
    if len(steps.sizes) > MAX_ENUMERATED:
        raise AsrbuildError(
            f"Core ML takes at most {MAX_ENUMERATED} enumerated shapes, got {len(steps.sizes)}",
            key="model.steps.sizes",
            fix="use a range of steps (model=dynamic)",
        )
    if len(set(steps.sizes)) != len(steps.sizes):
        raise AsrbuildError("a step count is enumerated twice", key="model.steps.sizes")
    if steps.default not in steps.sizes:
        raise AsrbuildError(
            f"the default of {steps.default} steps is not one of "
            f"{', '.join(map(str, steps.sizes))}",
            key="model.steps.default",
        )


def _check_range(steps: RangeSteps, request: ConversionRequest) -> None:
    if steps.upper is None and request.format == "mlprogram":
        raise AsrbuildError(
            "an mlprogram needs an upper bound on its steps",
            key="model.steps.upper",
            fix="give one, or use coreml=neuralnetwork, which takes any number of steps",
        )
    if steps.upper is not None and steps.upper < steps.lower:
        raise AsrbuildError(
            f"the range of steps {steps.lower} to {steps.upper} is empty", key="model.steps.upper"
        )
    above = steps.upper is not None and steps.default > steps.upper
    if steps.default < steps.lower or above:
        raise AsrbuildError(
            f"the default of {steps.default} steps is outside the range "
            f"{steps.lower} to {steps.upper if steps.upper is not None else 'any'}",
            key="model.steps.default",
        )


def _check_functions(request: ConversionRequest) -> None:
    if request.format != "mlprogram" or specification_version(request) < 9:
        raise AsrbuildError(
            "several functions in one package need an mlprogram for iOS18 or later",
            key="coreml.minimum_deployment_target",
            fix="set coreml=mlprogram coreml.minimum_deployment_target=iOS18",
        )
    for name in request.functions:
        if not name.isidentifier():
            raise AsrbuildError(f"{name!r} is not a function name", key="model.functions")
    if request.state == "stateful":
        raise AsrbuildError(
            "a Core ML state belongs to one function, so functions could not hand it on",
            key="coreml.state",
            fix="use coreml.state=explicit with functions",
        )


def _check_stateful(request: ConversionRequest) -> None:
    if request.format != "mlprogram" or specification_version(request) < 9:
        raise AsrbuildError(
            "a stateful package needs an mlprogram for iOS18 or later",
            key="coreml.state",
            fix="set coreml=mlprogram coreml.minimum_deployment_target=iOS18",
        )
    if request.precision != "fp16":
        raise AsrbuildError(
            "Core ML states are fp16, so a stateful package is not fp32",
            key="coreml.precision",
            fix="use coreml.precision=fp16, or coreml.state=explicit",
        )


def _check_compress(request: ConversionRequest) -> None:
    if request.format != "mlprogram":
        raise AsrbuildError(
            "coremltools.optimize compresses ML programs, not neural networks",
            key="coreml.compress",
            fix="choose coreml=mlprogram, or halve the weights with coreml.precision=fp16",
        )
    version = specification_version(request)
    if version < SPECIFICATION_VERSIONS["iOS16"]:
        raise AsrbuildError(
            "compressed weights came with iOS16",
            key="coreml.minimum_deployment_target",
            fix="leave coreml.minimum_deployment_target=auto",
        )


def _advice(request: ConversionRequest) -> tuple[str, ...]:
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
