"""Opens a Core ML package on disk: an ``.mlpackage`` directory or an ``.mlmodel`` file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError

from asrbuild.base.disk import read_plain
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.kinds.places import PACKAGE
from asrbuild.base.kinds.recognition import require
from asrbuild.coreml import protobufs as coremlproto
from asrbuild.coreml.executor.nnweights import NnWeights, not_a_model, split_weights

_NOT_A_PACKAGE = "give a .mlpackage directory or a .mlmodel file that coremltools or asrbuild wrote"
#: Bytes of a ``Manifest.json``, which names one or two files.
_MOST_MANIFEST = 1 << 20


@dataclass(frozen=True)
class Package:
    """The protobuf messages of a package, and the location of its weights.

    ``spec`` is the ``Model`` message; in a neural network its large weights are replaced by
    references into ``weights``. ``directory`` is the value of ``@model_path``.
    """

    path: Path
    spec: Any
    directory: Path
    weights: NnWeights | None


def open_package(path: str | Path) -> Package:
    """Reads a package's specification; weights stay on disk and are mapped on demand.

    Raises:
        AsrbuildError: the package does not exist or is damaged.
    """
    path = Path(path)
    spec_path = _specification(path)
    spec, weights = split_weights(spec_path)
    return Package(path, _of_some_type(spec, path), spec_path.parent, weights)


def read_spec(path: str | Path) -> Any:
    """Reads a package's whole ``Model`` message, including the weights of a neural network.

    Raises:
        AsrbuildError: the package does not exist or is damaged.
    """
    path = Path(path)
    spec_path = _specification(path)
    try:
        spec = coremlproto.model().Model.FromString(spec_path.read_bytes())
    except (OSError, DecodeError) as error:
        raise not_a_model(spec_path, error) from error
    return _of_some_type(spec, path)


def _of_some_type(spec: Any, path: Path) -> Any:
    if spec.WhichOneof("Type") is None:
        raise AsrbuildError("not a Core ML model", file=path, fix=_NOT_A_PACKAGE)
    return spec


def _specification(path: Path) -> Path:
    """The file with the ``Model`` message: the ``.mlmodel`` itself, or the file in a package."""
    require(path, PACKAGE)
    return _root_model(path) if path.is_dir() else path


def _root_model(path: Path) -> Path:
    manifest_path = path / "Manifest.json"
    try:
        manifest = json.loads(read_plain(manifest_path, _MOST_MANIFEST))
        root = manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]["path"]
        model = (path / "Data" / root).resolve()
        there = model.is_file()
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise AsrbuildError(
            f"not a Core ML package: its Manifest.json cannot be read ({error!r})",
            file=path,
            fix=_NOT_A_PACKAGE,
        ) from error
    if not model.is_relative_to(path.resolve()) or not there:
        raise AsrbuildError(
            f"the package's manifest names {root}, which is not in it",
            file=path,
            fix="the package is incomplete: build it again, or copy it again as a directory",
        )
    return model
