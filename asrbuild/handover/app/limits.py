"""The artifacts that the app kit cannot run."""

from __future__ import annotations

from asrbuild.artifact import manifest2
from asrbuild.artifact.manifest import Manifest
from asrbuild.base.errors import AsrbuildError
from asrbuild.coreml.choices import ASSET


def refusal(manifest: Manifest) -> str | None:
    """The part of an artifact that the kit's Swift code cannot run; None: it runs all of it."""
    if not isinstance(manifest, manifest2.Manifest):
        return None
    if manifest.model.format == ASSET:
        return f"an .aimodel with a manifest {manifest.schema_version}"
    for pair in manifest.state:
        if pair.initial == "given":
            return f"the state {pair.output}, which begins with values that an app gives"
    known = ("features", "samples", "step_count", "step_range", "state")
    for tensor in manifest.model.inputs:
        if tensor.meaning not in known:
            return f"the input {tensor.name}, whose meaning is {tensor.meaning}"
        if tensor.dtype == "float16":
            return f"the input {tensor.name} in half precision"
    if manifest.streaming.functions is not None:
        return "a stream of several functions of the package"
    return None


def check_kit(manifest: Manifest) -> None:
    """Raises if the kit's Swift code cannot run an artifact.

    Raises:
        AsrbuildError: naming what it cannot run.
    """
    if (what := refusal(manifest)) is not None:
        raise AsrbuildError(
            f"the app kit does not run {manifest.artifact_id}: it has no code for {what}",
            key="schema_version",
            fix="feed the package as its manifest says, as `asrbuild transcribe` does",
        )
