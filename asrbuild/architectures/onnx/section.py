"""``source.config``: the roles of a model's inputs and outputs, and other facts about it.

Names are the model's own. Omitted values are read from the file or measured by running it; then the
section is complete, so that the recipe of an artifact does not require the model.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, get_args

from asrbuild.architectures.architecture import section
from asrbuild.base.errors import AsrbuildError
from asrbuild.coreml.signature import (
    ROWS,
    SAMPLES,
    STEPS,
    Axis,
    Context,
    InputMeaning,
    OutputMeaning,
    Port,
    Rows,
    Signature,
    StatePair,
)

if TYPE_CHECKING:
    from asrbuild.coreml.request import ConversionRequest

SECTION = "source.config"
DRAFT = "`asrbuild inspect FILE --recipe` writes a draft of the whole section"
_FILLS = {
    "features": "features of the recording, zeros past the last real step",
    "samples": "samples of the recording from -1 to 1, zeros past the last",
    "step_count": "number of real steps",
    "probabilities": "a probability for each class",
    "log_probabilities": "the logarithm of a probability for each class",
    "logits": "a number for each class, whose softmax is its probability",
    "row_count": "number of real rows",
}


@dataclass
class OnnxConfig:
    """The section ``source.config`` of a network with its own inputs and outputs.

    Args:
        inputs: name -> ``{meaning, axes}``; an axis is a size, or ``steps`` or ``samples``.
        outputs: name -> meaning, or ``{meaning, axes}``; the open axis is ``rows``.
        states: input -> the output that the next call takes.
        pin: input -> the constant that it becomes.
        cut: tensors that become inputs; the nodes before them are dropped.
        rows: ``{steps, add}``, a row for every so many steps.
        context: ``{causal, left, right, padding, trimmed}``.
        sample_rate: the rate of recordings, in Hz.
        features: ``{kind, place, ...}``; ``none``: the model takes samples.
        tokens: ``{file, kind, blank, boundary, silent}``.
        signature: name of the signature of a SavedModel to build.
    """

    inputs: dict[str, Any] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)
    pin: dict[str, Any] = field(default_factory=dict)
    cut: list[str] = field(default_factory=list)
    rows: dict[str, Any] = field(default_factory=dict)
    context: dict[str, Any] = field(default_factory=dict)
    sample_rate: int = 16_000
    features: dict[str, Any] = field(default_factory=lambda: {"kind": "none"})
    tokens: dict[str, Any] = field(default_factory=dict)
    signature: str = ""


def read_section(values: Any) -> OnnxConfig:
    """Reads a composed or recorded section.

    Raises:
        AsrbuildError: a key is unknown, or a value has another type.
    """
    return section(OnnxConfig, values, SECTION)


def problems(config: OnnxConfig) -> Iterator[AsrbuildError]:
    """Yields an error for each impossible value."""
    meanings = {"inputs": get_args(InputMeaning), "outputs": get_args(OutputMeaning)}
    for side, known in meanings.items():
        for name, value in getattr(config, side).items():
            meaning = value.get("meaning", known[0]) if isinstance(value, Mapping) else value
            if meaning not in known:
                yield AsrbuildError(
                    f"the meaning of {name} is {meaning}",
                    key=f"{SECTION}.{side}.{name}",
                    fix=f"choose one of {', '.join(known)}",
                )
    both = [name for name in config.inputs if name in config.pin]
    if both:
        yield AsrbuildError(
            f"the input {both[0]} has a role and is pinned",
            key=f"{SECTION}.pin.{both[0]}",
            fix="leave one of the two out",
        )


def port_name(name: str) -> str:
    """The name of a tensor in a package.

    Core ML allows letters, digits and underscores, and ``state`` is a keyword of MIL.
    """
    plain = re.sub(r"\W", "_", name, flags=re.ASCII)
    plain = f"_{plain}" if plain[:1].isdigit() else plain
    return "state_in" if plain == "state" else plain


def tensor_names(config: OnnxConfig) -> dict[str, str]:
    """Name in the package -> the model's own name, for each input and output."""
    return {port_name(name): name for side in (config.inputs, config.outputs) for name in side}


def renamed_ports(config: OnnxConfig) -> dict[str, str]:
    """The :func:`tensor_names` that differ."""
    return {port: name for port, name in tensor_names(config).items() if port != name}


def signature_of(config: OnnxConfig) -> Signature:
    """The signature in a complete section."""
    fed_by = {output: given for given, output in config.states.items()}
    inputs = [_port(name, one, fed_by) for name, one in config.inputs.items()]
    outputs = [_port(name, one, fed_by) for name, one in config.outputs.items()]
    return Signature(
        tuple(inputs),
        tuple(outputs),
        tuple(
            StatePair(port_name(given), port_name(output), f"{port_name(given)}_kept")
            for given, output in config.states.items()
        ),
        Rows(**config.rows),
        Context(**config.context),
        next((one["steps"] for one in config.inputs.values() if "steps" in one), None),
    )


def _port(name: str, stated: Mapping[str, Any], fed_by: Mapping[str, str]) -> Port:
    meaning, sizes = stated["meaning"], stated["axes"]
    if meaning == "state":
        other = port_name(fed_by[name]) if name in fed_by else ""
        fill = f"feed back as {other}" if other else "zeros, then the output of the call before"
    else:
        fill = _FILLS.get(meaning, "")
    decoded = meaning in ("probabilities", "log_probabilities", "logits")
    axes = []
    for at, size in enumerate(sizes):
        if isinstance(size, str):
            axes.append(Axis(size))
        elif decoded and at == len(sizes) - 1:
            axes.append(Axis("class", size))
        elif at == 0 and size == 1 and len(sizes) > 1:
            axes.append(Axis("batch", size))
        else:
            axes.append(Axis(f"axis_{at}", size))
    whole = meaning in ("step_count", "row_count") or stated.get("dtype") == "int32"
    return Port(port_name(name), tuple(axes), meaning, fill, "int32" if whole else "float32")


def open_axis(meaning: str) -> str:
    """The name of the open axis of a tensor with this meaning."""
    return {"samples": SAMPLES, "features": STEPS}.get(meaning, ROWS)


def check_steps(signature: Signature, request: ConversionRequest) -> None:
    """Raises if calls have other steps than the only number that a model takes.

    Args:
        signature: the signature of the package, whose steps are samples if it computes features.

    Raises:
        AsrbuildError: it names the number.
    """
    from asrbuild.coreml.request import FixedSteps

    only = signature.steps
    if only is not None and (request.functions or request.steps != FixedSteps(only)):
        raise AsrbuildError(
            f"the model takes {only} {signature.time} in a call, and no other number",
            key="n_steps",
            fix=f"set model=static n_steps={only}",
        )
