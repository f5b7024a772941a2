"""The stage ``vectors``: computes the conformance vectors of the app kit."""

from __future__ import annotations

from pathlib import Path

from asrbuild.builder.stage import Stage, View
from asrbuild.builder.stages.convert import conversion

VECTORS = "vectors.npz"


def run(view: View, at: Path) -> None:
    """Writes ``vectors.npz``, but not for a package that the kit cannot run."""
    from asrbuild.artifact.manifest2 import NoFeatures
    from asrbuild.builder.conversion import package_name
    from asrbuild.builder.describe import describe_package, reference_samples
    from asrbuild.handover.app.limits import refusal
    from asrbuild.handover.app.vectors import kit_recordings, run_package, save_vectors

    folder, asked = view.folder("convert"), conversion(view)
    manifest = describe_package(asked, folder / package_name(asked.coreml.format))
    if refusal(manifest) is not None:
        return
    reference = None
    if not isinstance(manifest.features, NoFeatures):
        reference = reference_samples(asked.front_end.settings, view.source)
    recordings = kit_recordings(manifest, reference)
    save_vectors(at / VECTORS, run_package(folder, manifest, recordings))


STAGE = Stage(
    name="vectors",
    title="conformance vectors for the app kit",
    run=run,
    calls=("signature", "front_end", "card"),
    files=("recordings",),
    after=("convert",),
    libraries=("numpy", "soundfile", "soxr"),
    threaded=(
        "asrbuild.builder.conversion",
        "asrbuild.builder.describe",
        "asrbuild.coreml.executor.mil",
        "asrbuild.handover.app.limits",
        "asrbuild.handover.app.vectors",
    ),
)
