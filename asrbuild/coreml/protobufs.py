"""Core ML's protobuf messages, without importing coremltools.

``import coremltools`` takes 3 s and imports TensorFlow (11 s); its generated protobuf modules alone
take 0.15 s. They import each other relatively, so they are loaded as a package with another name
that points to coremltools' ``proto`` folder. If coremltools is already imported, its own modules
are used. Importing it later works: protobuf accepts the same file descriptors twice.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

from asrbuild.base.errors import AsrbuildError
from asrbuild.base.libraries import install_fix

_PACKAGE = "asrbuild._coremltools_proto"


def mil() -> ModuleType:
    """The ``MIL_pb2`` module: ``Program``, ``Block``, ``Operation``, ``Value``..."""
    return load("MIL_pb2")


def model() -> ModuleType:
    """The ``Model_pb2`` module: ``Model`` and ``ModelDescription``."""
    return load("Model_pb2")


def neural_network() -> ModuleType:
    """The ``NeuralNetwork_pb2`` module: ``NeuralNetworkLayer`` and every layer's parameters."""
    return load("NeuralNetwork_pb2")


@cache
def load(name: str) -> ModuleType:
    """One of coremltools' generated protobuf modules, for instance ``Model_pb2``.

    Raises:
        AsrbuildError: coremltools is not installed.
    """
    imported = sys.modules.get(f"coremltools.proto.{name}")
    if imported is not None:
        return imported
    if _PACKAGE not in sys.modules:
        package = ModuleType(_PACKAGE)
        package.__path__ = [str(_proto_directory())]
        sys.modules[_PACKAGE] = package
    return importlib.import_module(f"{_PACKAGE}.{name}")


def _proto_directory() -> Path:
    # find_spec does not execute the package for its top-level name; for a submodule it would.
    spec = importlib.util.find_spec("coremltools")
    if spec is None or spec.origin is None:
        raise AsrbuildError(
            "coremltools is not installed, so Core ML packages cannot be read",
            fix=install_fix(None),
        )
    return Path(spec.origin).parent / "proto"
