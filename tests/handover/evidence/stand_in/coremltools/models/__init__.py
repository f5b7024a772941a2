"""``CompiledMLModel``, which loads a compiled model for some units, and predicts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from asrbuild.coreml import executor
from coremltools import ComputeUnit
from coremltools.models import utils  # noqa: F401 - as coremltools imports it


class CompiledMLModel:
    def __init__(
        self,
        path: str,
        compute_units: ComputeUnit = ComputeUnit.ALL,
        function_name: str | None = None,
        optimization_hints: dict[str, Any] | None = None,
    ) -> None:
        assert path.endswith(".mlmodelc")
        assert isinstance(compute_units, ComputeUnit)
        if compute_units.name in os.environ.get("STAND_IN_FAILS", "").split(","):
            raise RuntimeError("Error compiling model: ANECCompile() FAILED")
        (package,) = Path(path).iterdir()
        self._model = executor.load(package, function=function_name or None)

    def predict(self, data: dict[str, Any], state: Any = None) -> dict[str, Any]:
        return self._model.predict(data, *(() if state is None else (state,)))

    def make_state(self) -> Any:
        return self._model.make_state()
