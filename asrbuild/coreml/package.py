"""Writes Core ML models to disk with the same bytes every time.

coremltools writes random UUIDs into ``Manifest.json``, today's date into the metadata, and protobuf
maps in any order. Here the UUIDs are made from the paths, there is no date, and maps are sorted.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from asrbuild.base.errors import AsrbuildError
from asrbuild.coreml.request import ConversionRequest

AUTHOR = "com.apple.CoreML"
WEIGHTS_PATH = "weights/weight.bin"
#: Metadata of coremltools that differs from day to day.
DATED_METADATA = ("com.github.apple.coremltools.conversion_date",)
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://apple.github.io/coremltools/mlpackage")


def describe(spec: Any, request: ConversionRequest) -> None:
    """Sets the model's metadata from the request; removes metadata that changes from day to day."""
    metadata = spec.description.metadata
    metadata.author = request.author
    metadata.license = request.license
    metadata.versionString = request.version
    metadata.shortDescription = request.description
    for name in DATED_METADATA:
        metadata.userDefined.pop(name, None)
    for name, value in request.metadata.items():
        metadata.userDefined[name] = value


def write_package(
    spec: Any, weight_file: Path, request: ConversionRequest, destination: Path
) -> None:
    """Writes an ``.mlpackage``: specification, ``Manifest.json``, and the moved ``weight_file``."""
    _check_suffix(destination, ".mlpackage")
    describe(spec, request)
    with _beside(destination) as scratch:
        package = scratch / "package"
        data = package / "Data" / AUTHOR
        data.mkdir(parents=True)
        (data / "model.mlmodel").write_bytes(spec.SerializeToString(deterministic=True))
        items = {"model.mlmodel": ("model.mlmodel", "CoreML Model Specification")}
        if weight_file.exists():
            weights = data / WEIGHTS_PATH
            weights.parent.mkdir()
            shutil.move(weight_file, weights)
            items["weights"] = ("weights", "CoreML Model Weights")
        (package / "Manifest.json").write_text(_manifest(items))
        _replace(package, destination, scratch)


def write_neuralnetwork(spec: Any, request: ConversionRequest, destination: Path) -> None:
    """Writes an ``.mlmodel``."""
    _check_suffix(destination, ".mlmodel")
    describe(spec, request)
    with _beside(destination) as scratch:
        model = scratch / "model"
        model.write_bytes(spec.SerializeToString(deterministic=True))
        _replace(model, destination, scratch)


def _manifest(items: dict[str, tuple[str, str]]) -> str:
    """The text of ``Manifest.json``.

    ``items``: name -> (path below the author's folder, description), the root model first.
    """
    entries, identifiers = {}, []
    for name, (path, description) in items.items():
        full = f"{AUTHOR}/{path}"
        identifiers.append(str(uuid.uuid5(_NAMESPACE, full)).upper())
        entries[identifiers[-1]] = {
            "author": AUTHOR,
            "description": description,
            "name": name,
            "path": full,
        }
    manifest = {
        "fileFormatVersion": "1.0.0",
        "itemInfoEntries": entries,
        "rootModelIdentifier": identifiers[0],
    }
    return json.dumps(manifest, indent=4, sort_keys=True)


def _check_suffix(destination: Path, suffix: str) -> None:
    if destination.suffix != suffix:
        raise AsrbuildError(f"the package must be named *{suffix}", file=destination)


@contextmanager
def _beside(destination: Path) -> Iterator[Path]:
    """Yields a scratch folder on the destination's file system, for a rename as the last step."""
    with tempfile.TemporaryDirectory(prefix=f".{destination.name}.", dir=destination.parent) as at:
        yield Path(at)


def _replace(new: Path, destination: Path, scratch: Path) -> None:
    # A folder cannot be renamed onto one that is not empty, so the old one is moved first.
    if destination.is_dir():
        destination.rename(scratch / "old")
    new.rename(destination)
