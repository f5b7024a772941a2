"""Runs the original in onnxruntime, in a process of its own and with one thread.

    python -m asrbuild.architectures.onnx.worker --model M.onnx --cases in.npz --out out.npz
        --pins '{"sr": 16000}' --states '{"h": "hn"}' --names '{"state_in": "state"}' --cuts '[]'

onnxruntime reads the file itself; asrbuild's reader is not used here. With ``--question`` the model
is measured instead; see :mod:`asrbuild.architectures.measure`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from asrbuild.architectures.measure import answer_of
from asrbuild.architectures.original import serve
from asrbuild.architectures.run_calls import run_calls
from asrbuild.base.array import Array
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.libraries import import_extra

_DTYPES: dict[str, Any] = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(bool)": np.bool_,
} | {
    f"tensor({name})": np.dtype(name).type
    for name in ("float16", "int64", "int32", "int16", "int8", "uint8")
}
_QUIET = 3  # errors only


def run(options: argparse.Namespace, cases: Mapping[str, Array]) -> dict[str, Array]:
    """The results of all calls, or the answer to ``--question``."""
    session = OnnxCalls(options)
    if options.question:
        return answer_of(session, options.question)
    return run_calls(session, options.states, options.names, cases)


def import_onnxruntime() -> Any:
    """Imports onnxruntime.

    Raises:
        AsrbuildError: it is not installed.
    """
    use = "running a model in ONNX requires the package onnxruntime"
    return import_extra("onnxruntime", "onnx", use, "source.path")


class OnnxCalls:
    """The model in onnxruntime."""

    def __init__(self, options: argparse.Namespace) -> None:
        onnxruntime = import_onnxruntime()
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = settings.inter_op_num_threads = 1
        settings.log_severity_level = _QUIET
        self.file = options.model
        pins = json.loads(options.pins or "{}")
        cuts = json.loads(options.cuts or "[]")
        try:
            model = _cut(options.model, cuts, pins) if cuts or pins else options.model
            model = _every_value(model) if options.every else model
            self.session = onnxruntime.InferenceSession(
                model, settings, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime has a class of its own for each kind
            raise self._error(f"onnxruntime cannot load the model: {error}") from error
        self.inputs = {entry.name: entry for entry in self.session.get_inputs()}
        self.outputs = [entry.name for entry in self.session.get_outputs()]
        self.pins = {name: np.asarray(value) for name, value in pins.items() if name in self.inputs}

    def run(self, feeds: Mapping[str, Array], call: str) -> dict[str, Array]:
        """The outputs of one call by name."""
        known = {name: array for name, array in feeds.items() if name in self.inputs}
        typed = {name: self._typed(name, array) for name, array in (known | self.pins).items()}
        try:
            made: list[Any] = self.session.run(self.outputs, typed)
        except Exception as error:
            raise self._error(f"onnxruntime cannot run {call}: {error}") from error
        return dict(zip(self.outputs, made, strict=True))

    def _typed(self, name: str, array: Array) -> Array:
        """An array in the type and rank of the model's input."""
        entry = self.inputs[name]
        typed: Array = array.astype(_DTYPES[entry.type], copy=False)
        missing = len(entry.shape) - typed.ndim
        if missing < 0 and typed.size == 1:  # inputs of packages have at least one axis
            return typed.reshape((1,) * len(entry.shape))
        return typed.reshape((1,) * max(0, missing) + typed.shape)

    def _error(self, message: str) -> AsrbuildError:
        return AsrbuildError(
            message.splitlines()[0],
            key="source.path",
            file=self.file,
            fix="check that onnxruntime runs the model with these inputs",
        )


def _every_value(model: bytes | str) -> bytes:
    """The model with every float tensor as an output."""
    import onnx

    whole = onnx.load(model) if isinstance(model, str) else onnx.load_from_string(model)
    known = {entry.name for entry in whole.graph.output}
    floats = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)
    inferred = onnx.shape_inference.infer_shapes(whole).graph.value_info
    whole.graph.output.extend(
        entry
        for entry in inferred
        if entry.type.tensor_type.elem_type in floats and entry.name not in known
    )
    made: bytes = whole.SerializeToString()
    return made


def _cut(file: str, cuts: list[str], pins: Mapping[str, Any]) -> bytes | str:
    """The model cut at these tensors, by the ``onnx`` package's own extractor.

    A pinned inner tensor is a cut too. Without cuts the file itself runs.
    """
    import onnx
    from onnx.utils import Extractor

    model = onnx.load(file)
    known = {entry.name for entry in model.graph.input}
    if not (cuts := [*cuts, *(name for name in pins if name not in known)]):
        return file
    outputs = [entry.name for entry in model.graph.output]
    read = set(outputs)
    for node in reversed(model.graph.node):
        if read.intersection(node.output) - set(cuts):
            read.update(node.input)
    weights = {entry.name for entry in model.graph.initializer}
    inputs = [entry.name for entry in model.graph.input if entry.name in read - weights]
    kept = [name for name in inputs if name not in cuts]
    extractor = Extractor(onnx.shape_inference.infer_shapes(model))
    whole: bytes = extractor.extract_model([*cuts, *kept], outputs).SerializeToString()
    return whole


if __name__ == "__main__":
    sys.exit(
        serve(
            run,
            import_onnxruntime,
            "--model",
            "--pins",
            "--states",
            "--names",
            "--cuts",
            "--question",
            "--every",
        )
    )
