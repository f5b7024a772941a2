"""Metrics that compare a package with its original, and the gates that they must pass.

They are computed in float64. For a value that is not finite, or a missing or misshapen output,
every metric has its worst value, which fails each gate and is valid in JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Literal

import numpy as np

from asrbuild.artifact.manifest import Metric
from asrbuild.base.array import Array
from asrbuild.base.errors import AsrbuildError

#: Floor of probabilities before a logarithm (they are normalised again): twice the smallest
#: positive half-precision number, below which fp16 outputs are all zero.
PROBABILITY_FLOOR = 1.2e-7
#: PSNR of identical arrays, and the greatest PSNR that is reported.
PSNR_CAP_DB = 200.0
#: The error that is reported for a value that is not finite.
WORST = {
    "argmax_agreement": 0.0,
    "kl_divergence": 1e9,
    "max_abs_error": 1e9,
    "psnr_db": -PSNR_CAP_DB,
}
#: Two classes whose probabilities differ by less than this fraction are a tie: rounding decides
#: which of them is best. Near-uniform steps (silence, random features) have such ties, confident
#: steps do not. After six layers in half precision, a probability is accurate to about four units
#: of its last place (2^-10); in single precision to a few times 2^-20.
ARGMAX_TIE = {"fp16": 2.0**-8, "fp32": 2.0**-18}


@dataclass(frozen=True)
class Gates:
    """The gates of one build: thresholds of the metrics, from ``conf/verify``.

    Args:
        argmax_agreement: least fraction of steps whose best class is the reference's.
        kl_divergence: largest KL divergence of a step, in nats.
        max_abs_error: largest error of a probability.
        psnr_db: least PSNR of the probabilities.
        state_max_abs_error: largest error of a state's value, relative to the state's largest
        magnitude if that is above 1: a cell grows without bound, and so does its rounding error.
        state_psnr_db: least PSNR of a state.
        argmax_tie: classes within this fraction of the reference's best probability count as the
            best class; the precision decides it, see ``ARGMAX_TIE``.
    """

    argmax_agreement: float
    kl_divergence: float
    max_abs_error: float
    psnr_db: float
    state_max_abs_error: float
    state_psnr_db: float
    argmax_tie: float


# A looser gate would let a uniform predictor, or a network without its state, pass.
_SENSIBLE: dict[str, tuple[float, float]] = {
    "argmax_agreement": (0.9, 1.0),
    "kl_divergence": (0.0, 0.1),
    "max_abs_error": (0.0, 0.1),
    "psnr_db": (30.0, PSNR_CAP_DB),
    "state_max_abs_error": (0.0, 1.0),
    "state_psnr_db": (20.0, PSNR_CAP_DB),
}
# Compressed weights sometimes move a letter by a step, which is a large error in that step. The
# worst step of a uniform predictor has above 2 nats, and a step that is certain of a wrong letter
# an error above 0.9.
_SENSIBLE_COMPRESSED = _SENSIBLE | {"kl_divergence": (0.0, 1.0), "max_abs_error": (0.0, 0.6)}
_AT_LEAST = ("argmax_agreement", "psnr_db", "state_psnr_db")


def gates_of(
    thresholds: Mapping[str, Mapping[str, object]], precision: str, names: Iterable[str]
) -> Gates:
    """The gates of a build: for each metric, the loosest of those that its recipe names.

    Args:
        thresholds: the recipe's ``verify.thresholds``.
        precision: decides ties.
        names: names of gates in the thresholds.
    """
    found = [asdict(gates_from(thresholds.get(name, {}), precision, name)) for name in names]
    return Gates(
        **{
            measure: (min if measure in _AT_LEAST else max)(gates[measure] for gates in found)
            for measure in found[0]
        }
    )


def gates_from(thresholds: Mapping[str, object], precision: str, name: str | None = None) -> Gates:
    """The gates of one precision or compression from ``verify.thresholds[name]``.

    Args:
        precision: decides ties.
        name: a compression; None: the precision.

    Raises:
        AsrbuildError: a threshold is missing, unknown or out of range.
    """
    name = name or precision
    key = f"verify.thresholds.{name}"
    measures = [field.name for field in fields(Gates) if field.name != "argmax_tie"]
    wrong = sorted(set(thresholds) - set(measures)) or [m for m in measures if m not in thresholds]
    if wrong:
        problem = "unknown threshold" if wrong[0] in thresholds else "missing threshold"
        raise AsrbuildError(
            f"{problem} {wrong[0]!r}",
            key=f"{key}.{wrong[0]}",
            fix=f"the thresholds are: {', '.join(measures)}",
        )
    bounds = _SENSIBLE if name in ARGMAX_TIE else _SENSIBLE_COMPRESSED
    for measure, value in thresholds.items():
        low, high = bounds[measure]
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise AsrbuildError(f"{measure} is {value!r}, not a number", key=f"{key}.{measure}")
        if not low <= value <= high:
            raise AsrbuildError(
                f"{measure} is {value}, outside {low} to {high}",
                key=f"{key}.{measure}",
                fix="a gate outside these bounds would pass anything, or nothing",
            )
    return Gates(**thresholds, argmax_tie=ARGMAX_TIE[precision])  # type: ignore[arg-type]


def max_abs_error(reference: Array, package: Array) -> float:
    """The largest absolute difference of two arrays of the same shape."""
    return float(np.abs(_wide(reference) - _wide(package)).max(initial=0.0))


def psnr_db(reference: Array, package: Array) -> float:
    """Peak signal to noise in dB: the reference's largest magnitude over the RMS error.

    It is limited to +-200 dB; identical arrays have 200. A reference of zeros has no peak: any
    error gives the worst value.
    """
    wide = _wide(reference)
    noise = float(np.mean((wide - _wide(package)) ** 2)) if wide.size else 0.0
    peak = float(np.abs(wide).max(initial=0.0))
    if noise == 0.0:
        return PSNR_CAP_DB
    if peak == 0.0:
        return -PSNR_CAP_DB
    value = 20.0 * np.log10(peak) - 10.0 * np.log10(noise)
    return float(np.clip(value, -PSNR_CAP_DB, PSNR_CAP_DB))


def kl_divergence(reference: Array, package: Array) -> float:
    """KL(reference || package) of the worst step, in nats; probabilities (T, V).

    A mean would hide one wrong step in a long recording.
    """
    p, q = _floored(reference), _floored(package)
    return float(np.sum(p * (np.log(p) - np.log(q)), axis=-1).max(initial=0.0))


def argmax_agreement(reference: Array, package: Array, tie: float) -> float:
    """The fraction of steps (T, V) with the same best class.

    A step agrees when the package's best class has at least ``1 - tie`` times the reference's
    largest probability.
    """
    if len(reference) == 0:
        return 1.0
    wide = _wide(reference)
    chosen = np.take_along_axis(wide, np.argmax(package, axis=-1)[:, None], axis=-1)[:, 0]
    return float(np.mean(chosen >= wide.max(axis=-1) * (1.0 - tie)))


def compare(
    case: str,
    reference: Mapping[str, Array],
    package: Mapping[str, Array],
    gates: Gates,
    probabilities: str,
) -> list[Metric]:
    """The metrics of one case, each with its gate.

    Args:
        case: the input of the metrics.
        reference: the original's probabilities (T, V) and states. An output that it lacks is not
            compared.
        package: the package's, likewise.
        gates: the thresholds.
        probabilities: name of the output with probabilities; the others are states.
    """
    metrics: list[Metric] = []
    for output, expected in reference.items():
        found = package.get(output)
        usable = (
            found is not None
            and found.shape == expected.shape
            and bool(np.isfinite(found).all())
            and bool(np.isfinite(expected).all())
        )
        for name, comparison, threshold, measure in _gates_of(
            expected, gates, output == probabilities
        ):
            value = WORST[name]
            if usable and found is not None:
                value = measure(expected, found)
            metrics.append(_metric(case, output, name, value, comparison, threshold))
    return metrics


def of_probabilities(metrics: Iterable[Metric]) -> set[str]:
    """The outputs that have metrics of probabilities; the others are states."""
    return {metric.output for metric in metrics if metric.name == "argmax_agreement"}


def worst(metrics: list[Metric]) -> Metric | None:
    """The metric nearest to its gate, or furthest beyond it; None without metrics."""
    return max(metrics, key=used, default=None)


def used(metric: Metric) -> float:
    """The share of its gate that a metric uses; above 1 it fails.

    It is the error divided by the largest allowed; disagreeing steps divided by those allowed; for
    PSNR, the RMS error divided by the largest allowed.
    """
    if metric.name == "psnr_db":
        return float(10.0 ** ((metric.threshold - metric.value) / 20.0))
    error, allowed = metric.value, metric.threshold
    if metric.name == "argmax_agreement":
        error, allowed = 1.0 - error, 1.0 - allowed
    return 0.0 if error <= 0.0 else error / max(allowed, 1e-12)


Comparison = Literal["<=", ">="]
MetricName = Literal["argmax_agreement", "kl_divergence", "max_abs_error", "psnr_db"]
Measure = Callable[[Array, Array], float]


def _gates_of(
    expected: Array, gates: Gates, are_probabilities: bool
) -> list[tuple[MetricName, Comparison, float, Measure]]:
    """Metric, comparison, threshold and measuring function of each gate for one output."""
    if not are_probabilities:
        peak = (
            float(np.abs(_wide(expected)).max(initial=1.0)) if np.isfinite(expected).all() else 1.0
        )
        return [
            ("max_abs_error", "<=", gates.state_max_abs_error * peak, max_abs_error),
            ("psnr_db", ">=", gates.state_psnr_db, psnr_db),
        ]

    def agreement(reference: Array, package: Array) -> float:
        return argmax_agreement(reference, package, gates.argmax_tie)

    return [
        ("argmax_agreement", ">=", gates.argmax_agreement, agreement),
        ("kl_divergence", "<=", gates.kl_divergence, kl_divergence),
        ("max_abs_error", "<=", gates.max_abs_error, max_abs_error),
        ("psnr_db", ">=", gates.psnr_db, psnr_db),
    ]


def _metric(
    case: str,
    output: str,
    name: MetricName,
    value: float,
    comparison: Comparison,
    threshold: float,
) -> Metric:
    passed = value >= threshold if comparison == ">=" else value <= threshold
    return Metric(
        input=case,
        output=output,
        name=name,
        value=value,
        comparison=comparison,
        threshold=float(threshold),
        passed=bool(passed),
    )


def _wide(array: Array) -> Array:
    return np.asarray(array, np.float64)


def _floored(probabilities: Array) -> Array:
    floored = np.maximum(_wide(probabilities), PROBABILITY_FLOOR)
    shares: Array = floored / floored.sum(axis=-1, keepdims=True)
    return shares
