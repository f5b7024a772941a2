"""Finds the first node of the original whose value a package does not reproduce.

Both run on the same features. The architecture names landmarks in the original; each of them, and
each state after a call, is searched for among all values that the package computes, by size and by
value, not by name. So it works for either front end and either format.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from asrbuild.architectures.architecture import Landmark, Original, of_recorded
from asrbuild.artifact.manifest import Manifest, Metric
from asrbuild.artifact.named_files import package_path
from asrbuild.base.array import Array
from asrbuild.proof.execution import bound_of, package_function, reference_state, ways
from asrbuild.proof.gates import PSNR_CAP_DB, psnr_db

#: PSNR from which a package's value counts as equal to the graph's. Rounding leaves 60 dB and more
#: in half precision, 120 dB and more in single; a fault leaves 20 dB and less.
AGREEMENT_DB = {"fp16": 40.0, "fp32": 80.0}


@dataclass(frozen=True)
class NodeComparison:
    """The comparison of one node of the original with the package, on the steps of one call.

    Args:
        node: the graph's node.
        layer: the layer whose weights the node uses, or its kind.
        first_step: with ``last_step``, the steps of the utterance in this call, without padding.
        nearest: name of the package's value nearest to the node's; None if none has its size.
        psnr_db: PSNR of that value.
        agrees: whether the PSNR reaches the floor.
    """

    node: str
    layer: str
    first_step: int
    last_step: int
    nearest: str | None
    psnr_db: float
    agrees: bool

    def __str__(self) -> str:
        where = f"{self.layer} (node {self.node}), steps {self.first_step} to {self.last_step}"
        if self.nearest is None:
            return f"{where}: the package has no value of its size"
        return f"{where}: the package's nearest value is {self.nearest}, {self.psnr_db:.1f} dB"


@dataclass(frozen=True)
class Bisection:
    """All comparisons, up to the end of the call with the first divergence."""

    comparisons: tuple[NodeComparison, ...]

    @property
    def first(self) -> NodeComparison | None:
        """The first node that diverges; None if all agree."""
        return next((c for c in self.comparisons if not c.agrees), None)

    @property
    def last_good(self) -> NodeComparison | None:
        """The node before the first divergence; without a divergence, the last node."""
        good = None
        for comparison in self.comparisons:
            if not comparison.agrees:
                break
            good = comparison
        return good


@dataclass
class _Call:
    """The inputs and the values of one call of the package."""

    size: int
    real: int
    values: Mapping[str, Array]


@dataclass
class _Traced:
    """A package that records every value that it computes in every call."""

    package: Any
    manifest: Manifest
    calls: list[_Call] = field(default_factory=list)

    def predict(self, data: Mapping[str, Array], state: Any = None) -> Mapping[str, Any]:
        inputs = {tensor.meaning: data[tensor.name] for tensor in self.manifest.model.inputs}
        size = inputs["features"].shape[1]
        real = int(inputs["step_count"][0]) if "step_count" in inputs else size
        values: dict[str, Any] = self.package.trace(data, state)
        kept = {
            reference_state(self.manifest, s): state.read(s.output)
            if state is not None
            else values[s.output]
            for s in self.manifest.state
        }
        self.calls.append(_Call(size, real, values | kept))
        return values

    def make_state(self) -> Any:
        return self.package.make_state()


def bisect(
    artifact: Path,
    manifest: Manifest,
    features: Array,
    original: Original,
) -> Bisection:
    """Compares a package with its original node by node, call by call.

    Args:
        artifact: the directory of the manifest's paths.
        manifest: describes the calls of the package.
        features: one case, (T, n_window, n_input).
        original: the original with the same weights; its own runtime runs it.
    """
    from asrbuild.artifact.calls import Acoustic, Contract
    from asrbuild.coreml.executor import load

    architecture, _ = of_recorded(manifest.provenance.recipe)
    landmarks, states = architecture.landmarks(original, features)
    package = package_path(artifact, manifest)
    traced = _Traced(load(package, package_function(manifest), keep_all=True), manifest)
    run = Acoustic(traced, Contract.of(manifest))
    run.feed(features)
    run.finish()
    floor = AGREEMENT_DB[manifest.model.compute_precision]
    found: list[NodeComparison] = []
    start = 0
    for call in traced.calls:
        found += [_compare(landmark, call, start, floor) for landmark in landmarks]
        for name, rows in states.items():
            state = next((s for s in manifest.state if reference_state(manifest, s) == name), None)
            if state is not None:
                found.append(_compare_state(name, rows, call, start, floor))
        if not all(comparison.agrees for comparison in found):
            break
        start += call.real
    return Bisection(tuple(found))


def bisect_failure(
    artifact: Path,
    manifest: Manifest,
    cases: Mapping[str, Array],
    metrics: Sequence[Metric],
    original: Original,
    max_steps: int | None,
) -> Bisection:
    """Bisects the first run that failed a gate; without a failure, the sample.

    Args:
        artifact: the directory of the manifest's paths.
        manifest: describes the calls of the package.
        cases: name -> features (T, n_window, n_input), the inputs of the metrics.
        metrics: the metrics of a proof.
        original: the original with the same weights.
        max_steps: steps of the longest call in the proof.
    """
    possible = ways(manifest, cases)
    # The inputs for bounds are made from the cases; the proof names them but does not keep them.
    bounds = [bound_of(way.manifest, cases, max_steps) or {} for way in possible]
    features = dict(cases) | {name: made for bound in bounds for name, made in bound.items()}
    failed = [metric.input for metric in metrics if not metric.passed]
    name, *marks = (failed[0] if failed else "sample").split("@")
    label = next((mark for mark in marks if mark not in ("self", "coreml")), "")
    way = next((w for w in possible if w.label == label), possible[0])
    return bisect(artifact, way.manifest, features[name], original)


def _compare(landmark: Landmark, call: _Call, start: int, floor: float) -> NodeComparison:
    """Compares a landmark with the nearest of the package's values of its size."""
    wanted = landmark.rows[start : start + call.real]
    nearest, best = None, -PSNR_CAP_DB
    for name, value in call.values.items():
        rows = _rows(value, call.size, wanted.shape[1])
        if rows is None:
            continue
        value_db = _psnr(wanted, rows[: call.real])
        if nearest is None or value_db > best:
            nearest, best = name, value_db
    last = start + call.real - 1
    agrees = nearest is not None and best >= floor
    return NodeComparison(landmark.node, landmark.layer, start, last, nearest, best, agrees)


def _compare_state(name: str, rows: Array, call: _Call, start: int, floor: float) -> NodeComparison:
    last = start + call.real - 1
    value = _psnr(rows[last][None], call.values[name].reshape(1, -1))
    return NodeComparison(name, "state", start, last, name, value, value >= floor)


def _rows(value: Array, size: int, width: int) -> Array | None:
    """A value as (steps, width), if it is that or (1, steps, width); else None."""
    if value.dtype.kind != "f" or value.size != size * width:
        return None
    if size != 1 and not (value.shape[0] == size or value.shape[:2] == (1, size)):
        return None
    return value.reshape(size, width)


def _psnr(expected: Array, found: Array) -> float:
    if not np.isfinite(found).all():
        return -PSNR_CAP_DB
    return psnr_db(expected, found)
