"""The kit for an app team: everything in an artifact's folder except package and manifest.

README.md      how to check the artifact, add it in Xcode and run it
ASRKit/        a Swift package: the manifest's types, features, streaming, decoding, tests
conformance/   vectors for every step, and a program that compares a runtime with them
"""

from __future__ import annotations

import re
import shutil
import tempfile
import wave
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from asrbuild.artifact import manifest2
from asrbuild.artifact.calls import Predicts
from asrbuild.artifact.integrity import verify_files, write_sums
from asrbuild.artifact.layout import CONFORMANCE_KIT, README, SUMS, SWIFT_KIT
from asrbuild.artifact.manifest import Manifest
from asrbuild.artifact.named_files import file_of
from asrbuild.artifact.runtime import feature_settings, load_package
from asrbuild.base.array import Array
from asrbuild.base.disk import disk_errors, files_in, rename_directory
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.places import resolve_file
from asrbuild.coreml.choices import ASSET
from asrbuild.coreml.executor.products import sharing
from asrbuild.coreml.executor.threads import one_thread
from asrbuild.handover.app.conformance import short_recordings, write_conformance
from asrbuild.handover.app.swift import ROOT, manifest_swift
from asrbuild.handover.report.environment import environment
from asrbuild.handover.report.page import feeding_text
from asrbuild.speech.audio import read_audio, to_int16

TEMPLATES = Path(__file__).parent / "templates"
_RECORDING = "demo:sample.wav"
#: Names that the kit adds to a folder.
ENTRIES = (README, SWIFT_KIT, CONFORMANCE_KIT)
#: The only generated file of the Swift package, made from the models of the manifest.
MADE = f"Sources/ASRCore/Manifest/{ROOT}.swift"
#: The oldest systems of the Swift code: it uses Core ML interfaces that they introduced.
_SWIFT_MINIMUM = {"iOS": "15", "macOS": "12"}
#: Steps of the recording ``one_chunk`` for a package that takes whole utterances.
_WHOLE_STEPS = 16


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


def write_kit(
    directory: Path,
    artifact: Path,
    manifest: Manifest,
    recordings: Mapping[str, Array] | None = None,
    package: Predicts | None = None,
) -> None:
    """Writes the kit of an artifact into ``directory``, which may be the artifact's own.

    Args:
        artifact: the folder of the manifest's paths.
        recordings: name -> int16 samples (n,), for the conformance kit; None: the artifact's
            reference recording, whole and cut to awkward lengths.
        package: the package that computes the vectors; None: the artifact's own package.

    Raises:
        AsrbuildError: the package cannot be run.
    """
    check_kit(manifest)
    kit = directory / CONFORMANCE_KIT
    names = write_vectors(kit, artifact, manifest, recordings, package)
    write_swift(directory / SWIFT_KIT)
    (directory / README).write_text(readme(manifest, names), encoding="utf-8", newline="\n")


def write_vectors(
    directory: Path,
    artifact: Path,
    manifest: Manifest,
    recordings: Mapping[str, Array] | None = None,
    package: Predicts | None = None,
) -> list[str]:
    """Writes the conformance kit of an artifact into a new folder; returns its recordings' names.

    The arguments are as in :func:`write_kit`.
    """
    if recordings is None:
        samples = _reference_samples(artifact, manifest)
        recordings = short_recordings(samples, feature_settings(manifest), _chunk_steps(manifest))
    with one_thread(), sharing():
        package = package or load_package(artifact, manifest)
        write_conformance(directory, manifest, package, recordings)
    return list(recordings)


def _reference_samples(artifact: Path, manifest: Manifest) -> Array:
    """The int16 samples of the artifact's reference recording; without one, of the demo's."""
    reference = getattr(manifest.features, "reference", None)
    if reference is None:
        return to_int16(read_audio(resolve_file(_RECORDING), manifest.audio.sample_rate))
    audio_file = file_of(artifact, reference.audio, "features.reference.audio")
    with wave.open(str(audio_file), "rb") as file:
        return np.frombuffer(file.readframes(file.getnframes()), "<i2")


def write_folder(
    directory: Path,
    artifact: Path,
    manifest: Manifest,
    recordings: Mapping[str, Array] | None = None,
) -> None:
    """Writes a whole artifact with a new kit into a new folder, in one step.

    Raises:
        AsrbuildError: the folder exists already, or the artifact is damaged.
    """
    if directory.exists():
        raise AsrbuildError(
            "this folder exists already", file=directory, fix="name a folder that does not exist"
        )
    if problems := verify_files(artifact):
        raise AsrbuildError(
            f"the artifact is not as it was published: {problems[0]}",
            file=artifact,
            fix="pull or build it again",
        )
    made_anew = {*ENTRIES, SUMS}
    files = [path for path in files_in(artifact) if path.split("/")[0] not in made_anew]
    with (
        disk_errors("writing a folder for the app", directory),
        tempfile.TemporaryDirectory(
            prefix=f".{directory.name}-", dir=_parent(directory)
        ) as temporary,
    ):
        made = Path(temporary, directory.name)
        for file in files:
            (made / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(artifact / file, made / file)
        write_kit(made, artifact, manifest, recordings)
        write_sums(made)
        rename_directory(made, directory)


def _parent(directory: Path) -> Path:
    directory.parent.mkdir(parents=True, exist_ok=True)
    return directory.parent


def write_swift(directory: Path) -> None:
    """Writes the Swift package, whose bytes are the same for every artifact."""
    # File by file: `shutil.copytree` turns an OSError into a list of texts.
    for file in files_in(TEMPLATES / SWIFT_KIT):
        (directory / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(TEMPLATES / SWIFT_KIT / file, directory / file)
    (directory / MADE).write_text(manifest_swift(), encoding="utf-8", newline="\n")


def _chunk_steps(manifest: Manifest) -> int:
    streaming = manifest.streaming
    chunk = streaming.steps_per_chunk if streaming.mode == "chunked" else None
    return chunk or _WHOLE_STEPS


def minimum_systems(manifest: Manifest) -> dict[str, str]:
    """The oldest systems that both the package and the Swift code run on.

    For an ``.aimodel`` they are those of the code: on older systems an app loads its Core ML
    variant.
    """
    if manifest.model.format == ASSET:
        return dict(_SWIFT_MINIMUM)
    return {
        name: max(manifest.model.minimum_os.get(name, needed), needed, key=_numbers)
        for name, needed in _SWIFT_MINIMUM.items()
    }


def _numbers(version: str) -> tuple[int, ...]:
    if not re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,4}){0,2}", version):
        raise AsrbuildError(f"{version!r} is not the version of a system", key="model.minimum_os")
    return tuple(int(part) for part in version.split("."))


def readme(manifest: Manifest, recordings: Sequence[str]) -> str:
    """The README of an artifact; ``recordings``: the names of its conformance kit's."""
    made = environment(TEMPLATES)
    made.filters["feeding"] = feeding_text
    return made.get_template("README.md.j2").render(
        m=manifest, systems=minimum_systems(manifest), recordings=recordings
    )
