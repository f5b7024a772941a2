"""Real packages for the tests, built from weights by the stages of a build."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np

from asrbuild.architectures.deepspeech.from_weights import convert_weights
from asrbuild.architectures.deepspeech.network import AcousticWeights
from asrbuild.artifact import layout
from asrbuild.artifact.manifest import Manifest
from asrbuild.builder import conversion, describe
from asrbuild.builder.recipe import Recipe
from asrbuild.builder.sources import settle
from asrbuild.proof.cases import RECORDINGS
from tests.paths import DEMO


def recipe_of(*overrides: str) -> Recipe:
    """A composed recipe, as from the command line."""
    from asrbuild.builder.compose import compose_recipe

    return compose_recipe(list(overrides))


def build(folder: Path, weights: AcousticWeights, *overrides: str) -> Manifest:
    """Converts into ``folder``, the artifact directory, and returns the package's manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    recipe = recipe_of(*overrides)
    # Recordings and alphabet are the demo's; the weights are those of the test.
    recipe, source = settle(recipe, folder)
    package = folder / conversion.package_name(recipe.coreml.format)
    request = conversion.conversion_request(conversion.conversion(recipe, source))
    convert_weights(weights, request, package)
    return describe.describe(recipe, source, package)


def recordings() -> dict[str, np.ndarray]:
    """The demo's recordings as float32 samples."""
    from asrbuild.speech.audio import read_audio

    return {name: read_audio(DEMO / f"{name}.wav", 16_000) for name in RECORDINGS}


def texts() -> dict[str, str]:
    """The transcripts of the recordings."""
    return {name: (DEMO / f"{name}.txt").read_text().strip() for name in RECORDINGS}


def publish(store_root: Path, work_folder: Path, weights: AcousticWeights, *overrides: str) -> Path:
    """Publishes an artifact whose reference is that of the numpy network; returns its path."""
    from asrbuild.artifact import store
    from asrbuild.builder import assemble, publish
    from asrbuild.builder.stages.prove import PROBABILITIES, VERIFICATION
    from asrbuild.builder.stages.vectors import VECTORS
    from asrbuild.handover.app.vectors import kit_recordings, run_package, save_vectors
    from asrbuild.proof.cases import build_cases, save_reference
    from asrbuild.proof.gates import gates_from
    from asrbuild.proof.ranges import save_reaches
    from asrbuild.proof.verdict import WordGates, prove, save_probabilities
    from asrbuild.speech.mfcc import FeatureSettings
    from tests.proof import numpy_network

    # Random weights give no words, so the letters of their transcripts are ties.
    recipe = recipe_of("verify.require_transcript=false", *overrides)
    recipe, source = settle(recipe, work_folder)
    manifest = build(work_folder, weights, "verify.require_transcript=false", *overrides)
    samples = {name: samples[8_000:40_000] for name, samples in recordings().items()}
    cases = build_cases(FeatureSettings(), samples, ["sample", "random"])
    reference = {name: numpy_network.run(weights, windows) for name, windows in cases.items()}
    precision = manifest.model.compute_precision
    gates = gates_from(asdict(recipe.verify.thresholds[precision]), precision)
    proof = prove(
        work_folder, manifest, cases, reference, gates, texts(), WordGates(require_transcript=False)
    )
    assert proof.verification.passed, proof.failures
    save_reference(work_folder / layout.PARITY, cases, reference)
    save_probabilities(work_folder / PROBABILITIES, proof)
    save_reaches(work_folder, proof.reaches)
    (work_folder / VERIFICATION).write_text(proof.verification.model_dump_json())
    reference_audio = describe.reference_samples(conversion.feature_settings(recipe), source)
    recorded = run_package(work_folder, manifest, kit_recordings(manifest, reference_audio))
    save_vectors(work_folder / VECTORS, recorded)
    with store.staging(store_root) as staging:
        copied = publish.copy_package(staging, work_folder, recipe)
        folders = dict.fromkeys(("convert", "prove"), work_folder)
        proven = assemble.Proven(folders, lambda: work_folder, staging, copied)
        manifest = assemble.assemble(recipe, source, overrides, proven)
        return store.publish(store_root, manifest.name, staging, manifest.version)
