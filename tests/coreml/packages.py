"""Packages of DeepSpeech networks with given weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from asrbuild.architectures.deepspeech.from_weights import convert_weights
from asrbuild.architectures.deepspeech.network import AcousticWeights
from asrbuild.coreml.request import ConversionRequest, package_suffix


def package_of(
    folder: Path, weights: AcousticWeights, request: ConversionRequest, name: str = "model"
) -> Path:
    """Converts into ``folder``, and returns the package's path."""
    path = folder / f"{name}{package_suffix(request.format)}"
    convert_weights(weights, request, path)
    return path


def package_for_each(folder: Path, weights: AcousticWeights) -> Callable[[ConversionRequest], Path]:
    """A function that converts each request once."""
    made: dict[str, Path] = {}

    def package(request: ConversionRequest) -> Path:
        key = repr(request)
        if key not in made:
            made[key] = package_of(folder, weights, request, str(len(made)))
        return made[key]

    return package
