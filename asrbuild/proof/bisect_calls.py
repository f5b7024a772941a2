"""Finds the first value of the original that a package does not reproduce in one call.

It is for an original that runs call by call (:mod:`asrbuild.proof.calls`) and gives its inner
values by name. The package has the same names, for values that the conversion keeps.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from asrbuild.architectures.architecture import Landmark, Original, of_recorded
from asrbuild.artifact.manifest import Manifest, Metric
from asrbuild.base.array import Array
from asrbuild.proof.bisect import AGREEMENT_DB
from asrbuild.proof.calls import calls_of
from asrbuild.proof.execution import package_function
from asrbuild.proof.gates import psnr_db

#: coremltools adds this to the name of a value that it computes in half precision.
_HALF = "_cast_fp16"


def first_difference(
    package: Path,
    manifest: Manifest,
    cases: Mapping[str, Array],
    metrics: Sequence[Metric],
    original: Original,
    max_steps: int | None,
) -> str | None:
    """The first value that differs in the first call of the failed input; None: none differs.

    Args:
        package: the package's folder or file.
        metrics: the metrics of the proof; one of them failed.
        max_steps: steps of the longest call in the proof.
    """
    from asrbuild.coreml.executor import load

    failed = next((metric.input for metric in metrics if not metric.passed), "sample")
    found = calls_of(manifest, cases, max_steps, failed.removesuffix("@self"))
    if found is None:
        return None
    shown, call = found
    architecture, config = of_recorded(manifest.provenance.recipe)
    landmarks = architecture.landmarks_of_call(original, config, call)
    if not landmarks:
        return None
    loaded = load(package, package_function(shown), keep_all=True)
    given = {name: value for name, value in call.items() if name in loaded.inputs}
    values = loaded.trace(given, loaded.make_state() if loaded.states else None)
    floor = AGREEMENT_DB[manifest.model.compute_precision]
    return compare_values(landmarks, values, floor)


def compare_values(
    landmarks: Sequence[Landmark], values: Mapping[str, Array], floor: float
) -> str | None:
    """The first landmark whose value in the package has a PSNR below ``floor`` dB."""
    for landmark in landmarks:
        plain = re.sub(r"\W", "_", landmark.node, flags=re.ASCII)
        name = next((n for n in (plain, plain + _HALF, f"_{plain}") if n in values), None)
        if name is None or values[name].size != landmark.rows.size:
            continue
        wanted = np.asarray(landmark.rows, np.float64).reshape(-1)
        near = psnr_db(wanted, np.asarray(values[name], np.float64).reshape(-1))
        if near < floor:
            return (
                f"{landmark.layer}, its value {landmark.node} in the first call: {near:.1f} dB "
                f"from the package's {name}"
            )
    return None
