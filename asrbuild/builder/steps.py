"""Sizes of a call, in the unit of the network's axis of time (steps or samples)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from asrbuild.base.errors import AsrbuildError
from asrbuild.builder.recipe import AxisConfig, Recipe, StepsConfig, network_of
from asrbuild.coreml.choices import DEFAULT_STEPS

if TYPE_CHECKING:
    from asrbuild.coreml.signature import Signature

#: Default, bounds and listed sizes in seconds, for networks that are not fed in small chunks.
_DEFAULT_S, _BOUNDS_S, _SIZES_S = 4.0, (0.5, 30.0), (2.0, 4.0, 8.0)


def axis_steps(recipe: Recipe, steps: StepsConfig, only: int | None) -> StepsConfig:
    """``model.steps`` completed by ``model.axes``, or by defaults in seconds.

    A network that takes samples, or whose rows depend on steps around them, has calls of seconds
    instead of 16 steps; a network that carries states has calls of 16 rows.

    Args:
        only: the only number of steps that the model takes; None: any.

    Raises:
        AsrbuildError: ``model.axes`` names an axis that the network does not have, or the model
        does not take calls of the recipe's sizes.
    """
    architecture, config = network_of(recipe)
    axes = {name: own for name, own in vars(recipe.model.axes).items() if own != AxisConfig()}
    if not axes and architecture.CALLS is False:
        return steps
    from asrbuild.coreml.signature import SAMPLES, STEPS

    signature = architecture.signature(config)
    for name in axes:
        if name != signature.time:
            raise AsrbuildError(
                f"the network has no open axis {name}: its axis of time is {signature.time}",
                key=f"model.axes.{name}",
                fix=f"name it model.axes.{signature.time}",
            )
    if only is not None:
        only = signature.steps or only  # samples, if the package computes the features
        if steps.kind not in ("fixed", "exported") or recipe.n_steps not in (None, only):
            raise AsrbuildError(
                f"the model takes calls of {only} {signature.time} only",
                key="n_steps" if steps.kind == "fixed" else "model.steps",
                fix="choose model=static and leave n_steps out, or export the model with an open "
                f"axis of {signature.time}",
            )
        return replace(steps, default=only)
    if counts_rows(recipe):
        pass
    elif signature.states and signature.time == STEPS and recipe.n_steps is None:
        steps = steps_of_rows(replace(steps, default=steps.default or DEFAULT_STEPS), signature)
    elif signature.time == SAMPLES or not signature.context.causal:
        front = architecture.front_end(config)
        in_samples = signature.time == SAMPLES
        rate = front.settings.sample_rate if in_samples else 1000.0 / front.step_ms
        steps = _in_seconds(steps, signature, rate, recipe.n_steps)
    axis = axes.get(signature.time)
    given = {} if axis is None else {k: v for k, v in asdict(axis).items() if v is not None}
    return replace(steps, **given)


def function_steps(recipe: Recipe, steps: StepsConfig) -> StepsConfig:
    """The sizes of one function of a package: their numbers count rows, new ones next to context.

    A chunk of 16 steps is 16 rows of DeepSpeech, and shorter than the context of most others.
    """
    architecture, config = network_of(recipe)
    if not architecture.CALLS or counts_rows(recipe):
        return steps
    signature = architecture.signature(config)
    if signature.states:
        return steps_of_rows(steps, signature)
    rule, around = signature.rows, signature.around

    def size(rows: int) -> int:
        steps = rows * rule.steps + around
        return steps if rule.longest is None else min(steps, rule.longest)

    return replace(
        steps,
        default=size(steps.default or DEFAULT_STEPS),
        lower=max(rule.least(), size(steps.lower) - around),
        upper=None if steps.upper is None else size(steps.upper),
        sizes=[size(each) for each in steps.sizes],
    )


def counts_rows(recipe: Recipe) -> bool:
    """Whether the recipe counts rows although the package takes samples.

    That is so if the package computes the features of a network that carries states.
    """
    architecture, config = network_of(recipe)
    return recipe.features.place == "package" and bool(architecture.signature(config).states)


def steps_of_rows(steps: StepsConfig, signature: Signature) -> StepsConfig:
    """Sizes in steps of calls that give these numbers of rows."""
    rows, upper = signature.rows, steps.upper
    return replace(
        steps,
        default=rows.needed(steps.default or 0),
        lower=rows.needed(steps.lower),
        upper=None if upper is None else rows.needed(upper),
        sizes=[rows.needed(size) for size in steps.sizes],
    )


def _in_seconds(
    steps: StepsConfig, signature: Signature, rate: float, asked: int | None
) -> StepsConfig:
    """Completes steps with sizes of some seconds: whole rows and the context."""

    longest = signature.rows.longest

    def size(seconds: float) -> int:
        steps = round(seconds * rate)
        if longest is not None:
            steps = min(steps, longest - signature.around)
        rows = steps // signature.rows.steps
        return max(1, rows) * signature.rows.steps + signature.around

    return replace(
        steps,
        default=size(_DEFAULT_S) if asked is None else asked,
        lower=max(signature.rows.least(), round(_BOUNDS_S[0] * rate)),
        upper=size(_BOUNDS_S[1]) if steps.kind in ("range", "exported") else None,
        sizes=[size(seconds) for seconds in _SIZES_S] if steps.kind == "enumerated" else [],
    )


def check_calls(recipe: Recipe, signature: Signature) -> None:
    """Raises for calls that a network cannot take, or that have no new steps besides its context.

    Raises:
        AsrbuildError: it names the key and the nearest size.
    """
    named = {"model.steps": recipe.model.steps} if not recipe.model.functions else {}
    named |= {f"model.functions.{name}": own for name, own in recipe.model.functions.items()}
    for key, steps in named.items():
        for length in (steps.default, *steps.sizes):
            _check_length(key, length or 0, signature)
        _check_longest(key, max(steps.default or 0, steps.upper or 0, *steps.sizes), signature)


def check_features(recipe: Recipe, signature: Signature) -> None:
    """Raises if the features do not have the shape of the network's input.

    Raises:
        AsrbuildError: it names both shapes.
    """
    import numpy as np

    from asrbuild.coreml.signature import SAMPLES
    from asrbuild.speech.features.kinds import compute

    if signature.time == SAMPLES:
        return
    architecture, config = network_of(recipe)
    settings: Any = architecture.front_end(config).settings
    made = compute(np.zeros(settings.sample_rate, np.float32), settings).shape[1:]
    fed = signature.features
    taken = [axis.size for axis in fed.axes if not axis.open and axis.name != "batch"]
    if None in taken or _wide(made) == _wide(taken):
        return  # if only the weights have the sizes, they are checked with the weights
    raise AsrbuildError(
        f"the network takes {taken} numbers a step, and the features are {list(made)}",
        key="source.config.features",
        fix=_bands(settings, made, taken),
    )


def _bands(settings: Any, made: Sequence[int], taken: Sequence[int | None]) -> str:
    """The fix for features of another width: the number of bands, where that is the width."""
    if settings.kind != "mfcc_tf" and len(made) == len(taken) == 1:
        return (
            f"set source.config.features.n_mels={taken[0]}, and the kind that the network was "
            "trained with"
        )
    return "set the kind and the sizes that the network was trained with"


def _wide(sizes: Sequence[int | None]) -> list[int | None]:
    """Sizes without axes of size 1, such as the window of MFCC without context."""
    return [size for size in sizes if size != 1]


def _check_longest(key: str, length: int, signature: Signature) -> None:
    longest = signature.rows.longest
    if longest is not None and length > longest:
        raise AsrbuildError(
            f"the network has at most {signature.rows.most} rows in a call, those of {longest} "
            f"{signature.time}; a call of {length} would lose the rest",
            key=key,
            fix=f"set model.axes.{signature.time}.upper={longest}, or n_steps to less",
        )


def _check_length(key: str, length: int, signature: Signature) -> None:
    rule, around = signature.rows, signature.around
    new = length - around
    if new >= rule.steps and not new % rule.steps:
        return
    if rule.steps == 1 and not around:
        return
    nearest = max(1, round(new / rule.steps)) * rule.steps + around
    fix = f"set n_steps={nearest}, or model.axes.{signature.time}.default={nearest}"
    if key.startswith("model.functions"):
        fix = f"set {key}.default={nearest}, or choose model=static, dynamic or enumerated"
    context = f", of which {around} are context" if around else ""
    raise AsrbuildError(
        f"a call of {length} {signature.time}{context} is not a whole number of rows of "
        f"{rule.steps} {signature.time}",
        key=key,
        fix=fix,
    )
