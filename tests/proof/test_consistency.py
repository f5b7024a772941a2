"""A package whose description differs from its manifest is refused, with the difference."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from asrbuild.architectures.deepspeech.network import random_weights
from asrbuild.artifact.manifest import Manifest
from asrbuild.coreml import protobufs as coremlproto
from asrbuild.proof.consistency import contradictions
from tests.proof import building

WEIGHTS = random_weights(16, seed=3)
FORMS = {
    "fixed": ("model=static",),
    "range": ("model=dynamic", "coreml.range_upper=40"),
    "enumerated": ("model=enumerated", "coreml=neuralnetwork"),
    "unbounded": ("model=dynamic", "coreml=neuralnetwork"),
    "functions": ("model=multifunction",),
    "stateful": ("model=static", "coreml.state=stateful"),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_built_package_agrees_with_its_manifest(tmp_path: Path, form: str) -> None:
    manifest = building.build(tmp_path, WEIGHTS, *FORMS[form])
    assert contradictions(tmp_path / manifest.model.package, manifest) == []


def features_of(spec: Any) -> Any:
    return next(i for i in spec.description.input if i.name == "input_node").type.multiArrayType


def widen(spec: Any) -> None:
    features_of(spec).shapeRange.sizeRanges[1].upperBound = 9000


def narrow(spec: Any) -> None:
    features_of(spec).shapeRange.sizeRanges[1].lowerBound = 2


def retype(spec: Any) -> None:
    features_of(spec).dataType = 65552


def rename(spec: Any) -> None:
    spec.description.output[0].name = "probabilities"


def age(spec: Any) -> None:
    spec.specificationVersion = 9


def blank(spec: Any) -> None:
    spec.description.metadata.userDefined["asrbuild.blank_index"] = "0"


def letters(spec: Any) -> None:
    said = spec.description.metadata.userDefined
    said["asrbuild.alphabet"] = said["asrbuild.alphabet"].replace('"b"', '"c"')


def forget(spec: Any) -> None:
    del spec.description.metadata.userDefined["asrbuild.sample_rate_hz"]


@pytest.fixture(scope="module")
def ranged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    folder = tmp_path_factory.mktemp("ranged")
    return folder, building.build(folder, WEIGHTS, *FORMS["range"])


@pytest.mark.parametrize(
    ("lie", "said"),
    [
        (widen, "input input_node shape: the package has [(1, 1), (1, 9000)"),
        (narrow, "input input_node shape: the package has [(1, 1), (2, 40)"),
        (retype, "input input_node type: the package has float16, the manifest float32"),
        (rename, "outputs: the package has ["),
        (age, "specification version: the package has 9, the manifest 8"),
        (blank, "metadata asrbuild.blank_index: the package has 0, the manifest 28"),
        (letters, "metadata asrbuild.alphabet: the package has ["),
        (forget, "metadata asrbuild.sample_rate_hz: the package has None, the manifest 16000"),
    ],
)
def test_a_package_that_contradicts_its_manifest_is_refused(
    ranged: tuple[Path, Manifest], lie: Callable[[Any], None], said: str
) -> None:
    folder, manifest = ranged
    package = folder / manifest.model.package
    file = package / "Data" / "com.apple.CoreML" / "model.mlmodel"
    before = file.read_bytes()
    spec = coremlproto.model().Model.FromString(before)
    lie(spec)
    file.write_bytes(spec.SerializeToString())
    try:
        (problem,) = contradictions(package, manifest)
    finally:
        file.write_bytes(before)
    assert problem.startswith(said)


def test_a_manifest_that_promises_more_than_the_package_fails(
    ranged: tuple[Path, Manifest],
) -> None:
    """Every case fits both, so gates on numbers cannot find the fault."""
    import numpy as np

    from asrbuild.proof.gates import Gates
    from asrbuild.proof.verdict import WordGates, prove
    from tests.proof import numpy_network as network

    folder, manifest = ranged
    features = next(t for t in manifest.model.inputs if t.meaning == "features")
    shape = list(features.shape)
    shape[1] = shape[1].model_copy(update={"max": 9000})
    inputs = [
        tensor.model_copy(update={"shape": shape}) if tensor is features else tensor
        for tensor in manifest.model.inputs
    ]
    functions = [f.model_copy(update={"inputs": inputs}) for f in manifest.model.functions]
    model = manifest.model.model_copy(update={"inputs": inputs, "functions": functions})
    lying = manifest.model_copy(update={"model": model})
    windows = np.random.default_rng(0).standard_normal((20, 19, 26)).astype(np.float32)
    cases, reference = {"sample": windows}, {"sample": network.run(WEIGHTS, windows)}
    gates = Gates(0.9, 0.1, 0.1, 30.0, 1.0, 20.0, argmax_tie=0.05)
    words = WordGates(require_transcript=False)
    assert prove(folder, manifest, cases, reference, gates, words=words).verification.passed
    proof = prove(folder, lying, cases, reference, gates, words=words)
    assert all(metric.passed for metric in proof.verification.metrics)
    assert not proof.verification.passed
    assert proof.failures[0].startswith("input input_node shape: the package has [(1, 1), (1, 40)")
