"""Compares a package with its manifest: interface, spec version and the package's own metadata.

An app reads either of them, so both must agree. The proof checks the values that a package
computes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from asrbuild.artifact import manifest2
from asrbuild.artifact.calls import decoded_tensor
from asrbuild.artifact.manifest import Axis, Function, Manifest, Tensor
from asrbuild.coreml.choices import ASSET
from asrbuild.coreml.executor.package import open_package
from asrbuild.coreml.executor.signature import Enumerated, Feature, Fixed, Ranged, read_features

METADATA_PREFIX = "asrbuild."


def contradictions(package: Path, manifest: Manifest) -> list[str]:
    """The differences between a package and its manifest, one line each.

    Args:
        package: the ``.mlpackage`` or ``.mlmodel``.
        manifest: the manifest of its artifact.
    """
    if manifest.model.format == ASSET:
        # An asset does not describe types as a manifest does; its run checks the interface.
        from asrbuild.coreai.asset import inspect

        return list(_metadata(inspect(package)["values"], manifest))
    spec = open_package(package).spec
    kinds = {"mlProgram": "mlprogram", "neuralNetwork": "neuralnetwork"}
    found = kinds.get(spec.WhichOneof("Type"), spec.WhichOneof("Type"))
    return [
        *_differs("format", found, manifest.model.format),
        *_differs("specification version", spec.specificationVersion, manifest.model.spec_version),
        *_functions(spec.description, manifest),
        *_metadata(spec.description.metadata.userDefined, manifest),
    ]


def metadata_of(manifest: Manifest) -> dict[str, str]:
    """The essentials of the manifest, in the form of the package's user-defined metadata."""
    features = manifest.features
    common = {
        "name": manifest.name,
        "recipe_version": manifest.version.partition("+")[0],
        "sample_rate_hz": manifest.audio.sample_rate,
        "blank_index": manifest.decoder.blank_index,
        "alphabet": json.dumps(manifest.decoder.alphabet, ensure_ascii=False),
    }
    if isinstance(manifest, manifest2.Manifest):
        own = {
            "row_steps": manifest.rows.steps,
            "output": decoded_tensor(manifest.model.outputs).meaning,
        }
        return {f"{METADATA_PREFIX}{key}": str(value) for key, value in (common | own).items()}
    values = common | {
        "window_samples": features.window_samples,
        "step_samples": features.step_samples,
        "fft_size": features.fft_size,
        "mel_bands": features.mel_bands,
        "lower_hz": features.lower_hz,
        "upper_hz": features.upper_hz,
        "coefficients": features.coefficients,
        "context_frames": features.context_frames,
        "log_floor": features.log_floor,
    }
    return {f"{METADATA_PREFIX}{key}": str(value) for key, value in values.items()}


def _differs(what: str, package: Any, manifest: Any) -> Iterator[str]:
    if package != manifest:
        yield f"{what}: the package has {package}, the manifest {manifest}"


def _metadata(stated: Mapping[str, str], manifest: Manifest) -> Iterator[str]:
    for key, value in metadata_of(manifest).items():
        # A package has only the start of a default name, see recipe.label.
        if key == f"{METADATA_PREFIX}name" and value.startswith(f"{stated.get(key)}-"):
            continue
        yield from _differs(f"metadata {key}", stated.get(key), value)


def _functions(description: Any, manifest: Manifest) -> Iterator[str]:
    described = {function.name: function for function in description.functions}
    promised = {function.name: function for function in manifest.model.functions}
    if not described and len(promised) == 1:
        described = dict.fromkeys(promised, description)
    yield from _differs("functions", sorted(described), sorted(promised))
    default = description.defaultFunctionName or manifest.model.default_function
    yield from _differs("default function", default, manifest.model.default_function)
    for name in described.keys() & promised.keys():
        prefix = f"{name}: " if len(promised) > 1 else ""
        yield from _tensors(prefix, described[name], promised[name])
        kept = sorted(read_features(described[name].state))
        wanted = sorted(s.output for s in manifest.state if s.kind == "stateful")
        yield from _differs(f"{prefix}states inside", kept, wanted)


def _tensors(prefix: str, described: Any, promised: Function) -> Iterator[str]:
    for kind, features, tensors in (
        ("input", read_features(described.input), promised.inputs),
        ("output", read_features(described.output), promised.outputs),
    ):
        names = [tensor.name for tensor in tensors]
        yield from _differs(f"{prefix}{kind}s", sorted(features), sorted(names))
        for tensor in tensors:
            feature = features.get(tensor.name)
            if feature is None:
                continue
            where = f"{prefix}{kind} {tensor.name}"
            yield from _differs(f"{where} type", str(feature.dtype), tensor.dtype)
            # Core ML declares no size for an output whose length depends on the input's.
            if kind == "input":
                yield from _differs(f"{where} shape", _sizes(feature), _promised_sizes(tensor))


def _sizes(feature: Feature) -> list[Any]:
    """(Smallest, largest) for each axis, or the list of sizes."""
    shape = feature.shape
    if isinstance(shape, Fixed):
        return [(size, size) for size in shape.shape]
    if isinstance(shape, Ranged):
        return list(shape.bounds)
    if isinstance(shape, Enumerated):
        columns = (sorted(set(column)) for column in zip(*shape.shapes, strict=True))
        return [sizes if len(sizes) > 1 else (sizes[0], sizes[0]) for sizes in columns]
    return []


def _promised_sizes(tensor: Tensor) -> list[Any]:
    def one(axis: Axis) -> Any:
        return axis.enumerated if axis.enumerated is not None else (axis.min, axis.max)

    return [one(axis) for axis in tensor.shape]
