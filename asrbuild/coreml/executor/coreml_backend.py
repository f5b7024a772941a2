"""Core ML itself, with the interface of the executor; it runs on macOS only."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from asrbuild.base.array import Array
from asrbuild.base.errors import AsrbuildError
from asrbuild.coreml.executor.model import described_features, predict_each
from asrbuild.coreml.executor.package import open_package
from asrbuild.coreml.executor.signature import check_inputs


class CoreMLState:
    """The states of one stream, kept by Core ML."""

    def __init__(self, state: Any, names: tuple[str, ...]) -> None:
        self.handle = state
        self.names = names

    def read(self, name: str) -> Array:
        """A copy of one state's value."""
        return np.array(self.handle.read_state(name))

    def write(self, name: str, value: Array) -> None:
        """Replaces one state's value."""
        self.handle.write_state(name, np.asarray(value))


class CoreMLModel:
    """A package loaded by Core ML, with the interface of the executor's ``Model``."""

    def __init__(self, path: Path, function: str | None, compute_units: str) -> None:
        import coremltools as ct

        spec = open_package(path).spec
        self.path = path
        self.function, self.functions, features = described_features(spec, path, function)
        self.inputs, self.outputs, self.states = features
        self._model = ct.models.MLModel(
            str(path),
            compute_units=ct.ComputeUnit[compute_units],
            # The only function of a package is not named, whatever its name is.
            **({"function_name": self.function} if len(self.functions) > 1 else {}),
        )

    def predict(self, data: Any, state: CoreMLState | None = None) -> Any:
        """Runs the package on a dict of arrays by input name, or on a list of such dicts."""
        if isinstance(data, list):
            return predict_each(self.predict, data, state)
        arrays = check_inputs(data, self.inputs, str(self.path))
        if state is None and self.states:
            raise AsrbuildError(
                f"predict needs this package's state ({', '.join(self.states)})",
                file=self.path,
                fix="pass state=model.make_state(), and the same one for a whole stream",
            )
        results = self._model.predict(arrays, **({} if state is None else {"state": state.handle}))
        return {
            name: np.asarray(results[name]).astype(feature.dtype, copy=False)
            if feature.kind == "array"
            else results[name]
            for name, feature in self.outputs.items()
        }

    def make_state(self) -> CoreMLState:
        """A new state, all zeros."""
        if not self.states:
            raise AsrbuildError(
                "this package keeps no state inside",
                file=self.path,
                fix="pass its state inputs to predict, or build it with coreml.state=stateful",
            )
        return CoreMLState(self._model.make_state(), tuple(self.states))


def load(path: str | Path, function: str | None = None, compute_units: str = "ALL") -> CoreMLModel:
    """Opens a package with Core ML.

    Args:
        function: a function of a multifunction package; None: the default one.
        compute_units: ``ALL``, ``CPU_ONLY``, ``CPU_AND_GPU`` or ``CPU_AND_NE``.

    Raises:
        AsrbuildError: this machine is not a Mac, or Core ML refuses the package.
    """
    if sys.platform != "darwin":
        raise AsrbuildError(
            "Core ML runs on macOS only",
            file=path,
            fix=f"run it with asrbuild's own executor: `asrbuild run {path}`",
        )
    try:
        return CoreMLModel(Path(path), function, compute_units)
    except (RuntimeError, ValueError) as error:
        raise AsrbuildError(
            f"Core ML cannot open the package: {error}",
            file=path,
            fix="check its deployment target against this macOS with `asrbuild inspect model`",
        ) from error
