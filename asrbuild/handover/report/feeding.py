"""Sentences on the input of a package: features, original, and the cost of chunks."""

from __future__ import annotations

from asrbuild.architectures.architecture import of_recorded
from asrbuild.artifact import manifest2
from asrbuild.artifact.manifest import Manifest


def runtime_of(manifest: Manifest) -> str:
    """The runtime of the original that the package was compared with: ``TensorFlow``."""
    return of_recorded(manifest.provenance.recipe)[0].RUNTIME


def features_text(manifest: Manifest, code: str = "`") -> str:
    """The app's computation of features; ``code``: put around the name of a file."""
    f = manifest.features
    if isinstance(f, manifest2.NoFeatures):
        return "none, the package takes samples."
    if isinstance(f, manifest2.LogMel):
        settings = ", ".join(f"{name} {value}" for name, value in f.settings.items())
        return f"{f.kind}, every {f.step_ms:g} ms: {settings}."
    place = getattr(f, "place", "app")
    if place == "package":
        return f"none, the package takes samples and computes {f.coefficients} MFCC of them."
    audio = f"{code}{f.reference.audio}{code}"
    return (
        f"a {f.window_ms:g} ms window every {f.step_ms:g} ms, {f.coefficients} MFCC, "
        f"{f.context_frames} frames of context on each side. {audio} and the frames in the "
        "manifest test the app's own front end."
    )


def after_text(manifest: Manifest) -> str:
    """The context that a call awaits after its own steps: ``9 frames``."""
    steps = manifest2.context_of(manifest).right
    frames = manifest2.context_frames(manifest)
    return f"{steps} steps" if steps and not frames else f"{frames} frames"


def whole_recordings(manifest: Manifest) -> list[dict[str, str]]:
    """The cost of chunks and padding: label edits against the original on the whole recording."""
    rows = []
    for t in manifest.verification.transcripts:
        if isinstance(t, manifest2.Transcript) and t.recording_labels is not None:
            share = t.recording_edits or 0
            rows.append(
                {
                    "input": t.input,
                    "edits": f"{share} of {t.recording_labels}",
                    "recording": t.recording or "",
                }
            )
    return rows
