"""Programs of one op, built with coremltools' MIL builder and run by the executor.

A program goes through its saved bytes, and its results must have the types and shapes that
coremltools inferred. Where coremltools can compute the op itself, that is a second reference.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from asrbuild.coreml.executor.function import compile_function
from asrbuild.coreml.executor.literals import Blobs
from asrbuild.coreml.executor.model import StateCell
from asrbuild.coreml.speedups.importing import import_coremltools
from tests.coreai import opinions
from tests.coreml.executor.tested import note_function, note_inference

ct = import_coremltools()

from coremltools.converters.mil import Builder as mb  # noqa: E402, N813
from coremltools.converters.mil.backend.mil.load import MILProtoExporter  # noqa: E402
from coremltools.converters.mil.mil import Function, Program, types  # noqa: E402

Tensors = dict[str, Any]
#: Half a unit in the last place, relative, of the storage type; results are rounded once.
ROUNDING = {np.dtype(np.float16): 2.0**-10, np.dtype(np.float32): 2e-6}
TARGETS = {name: getattr(ct.target, name) for name in ("iOS15", "iOS16", "iOS17", "iOS18")}


@dataclass(frozen=True)
class Result:
    """The executor's output, and coremltools' own value if it has one."""

    outputs: list[Any]
    inferred: list[Any] | None


def run_op(op: str, tensors: Tensors, target: str = "iOS15", **constants: Any) -> Result:
    """Runs one op: ``tensors`` are given at run time, ``constants`` are in the program."""

    def build(variables: Tensors) -> Any:
        return getattr(mb, op)(**variables, **constants)

    return Result(run(build, tensors, target), _infer(build, tensors, target))


def check(
    op: str,
    expected: Any,
    tensors: Tensors,
    target: str = "iOS15",
    *,
    rtol: float | None = None,
    atol: float = 0.0,
    infer: bool = True,
    **constants: Any,
) -> None:
    """Runs one op and compares with ``expected`` and with coremltools' own value.

    ``expected`` is one array or a tuple of them, in higher precision. ``infer=False`` leaves out
    coremltools' own value, if that is wrong or has another type; the call gives the reason.
    """
    result = run_op(op, tensors, target, **constants)
    wanted = expected if isinstance(expected, tuple) else (expected,)
    references = [wanted]
    if infer and result.inferred is not None and all(v is not None for v in result.inferred):
        note_inference(op)
        references.append(tuple(result.inferred))
    for reference in references:
        assert len(reference) == len(result.outputs)
        for got, want in zip(result.outputs, reference, strict=True):
            close(got, want, rtol=rtol, atol=atol)


def close(got: Any, want: Any, *, rtol: float | None = None, atol: float = 0.0) -> None:
    """Integers and booleans equal; floats within a rounding of their type."""
    got, want = np.asarray(got), np.asarray(want)
    assert got.shape == want.shape
    if got.dtype.kind != "f":
        np.testing.assert_array_equal(got, want.astype(got.dtype))
        return
    tolerance = ROUNDING[got.dtype] if rtol is None else rtol
    np.testing.assert_allclose(
        got.astype(np.float64), want.astype(np.float64), rtol=tolerance, atol=atol
    )


def run(build: Callable[[Tensors], Any], tensors: Tensors, target: str = "iOS15") -> list[Any]:
    """Builds a program, writes and reads it, runs it; returns its outputs, types checked."""
    placeholders = {}
    for name, value in tensors.items():
        for part, array in _parts(name, value):
            placeholders[part] = mb.placeholder(
                shape=array.shape, dtype=types.numpy_type_to_builtin_type(array.dtype)
            )
    with Function(placeholders, opset_version=TARGETS[target]) as function:
        variables = {
            name: _like(value, [function.inputs[part] for part, _ in _parts(name, value)])
            for name, value in tensors.items()
        }
        built = build(variables)
        outputs = list(built) if isinstance(built, tuple | list) else [built]
        function.set_outputs(outputs)
    values = {part: arr for name, value in tensors.items() for part, arr in _parts(name, value)}
    return run_function(function, values, target)


def run_function(function: Any, values: Tensors, target: str = "iOS15") -> list[Any]:
    """Writes a MIL function, reads its bytes, runs it."""
    note_function(function, target)
    program = Program()
    program.add_function("main", function)
    with tempfile.TemporaryDirectory() as directory:
        weights = Path(directory) / "weights"
        weights.mkdir()
        exporter = MILProtoExporter(program, str(weights), TARGETS[target])
        proto = exporter.export()
        exporter.blob_writers.clear()  # the weight file is complete once its writer is deleted
        proto = type(proto).FromString(proto.SerializeToString())
        compiled = compile_function(proto, "main", Blobs(Path(directory)))
        names = list(compiled.outputs)
        first = {name: _copied(value) for name, value in values.items()}
        before = {name: np.array(v) for name, v in values.items() if isinstance(v, np.ndarray)}
        results = compiled.run(values)
        opinions.record(proto, Path(directory), first, values, [results[name] for name in names])
        again = compiled.run(values)
    for name, array in before.items():
        np.testing.assert_array_equal(values[name], array, err_msg=f"{name} was overwritten")
    if not any(isinstance(value, StateCell) for value in values.values()):
        for name in names:
            np.testing.assert_array_equal(results[name], again[name], err_msg="second run differs")
    outputs = [results[name] for name in names]
    for output, variable in zip(outputs, function.outputs, strict=True):
        _check_type(output, variable)
    return outputs


def _copied(value: Any) -> Any:
    return StateCell(np.array(value.value)) if isinstance(value, StateCell) else value


def _check_type(output: Any, variable: Any) -> None:
    array = np.asarray(output)
    primitive = variable.dtype
    assert array.dtype == types.nptype_from_builtin(primitive), (array.dtype, primitive)
    declared = tuple(variable.shape)
    assert array.ndim == len(declared), (array.shape, declared)
    for size, wanted in zip(array.shape, declared, strict=True):
        if isinstance(wanted, int | np.integer):
            assert size == wanted, (array.shape, declared)


def _infer(build: Callable[[Tensors], Any], tensors: Tensors, target: str) -> list[Any] | None:
    """coremltools' own value of the op, if it has one."""
    try:
        with Function({}, opset_version=TARGETS[target]) as function:
            constants = {
                name: _like(value, [mb.const(val=array) for _, array in _parts(name, value)])
                for name, value in tensors.items()
            }
            built = build(constants)
            outputs = list(built) if isinstance(built, tuple | list) else [built]
            function.set_outputs(outputs)
    except Exception:
        # Some ops cannot be built from constants, and some fail in their own inference.
        return None
    if any(output.val is None for output in outputs):
        return None
    return [output.val for output in outputs]


def _parts(name: str, value: Any) -> list[tuple[str, np.ndarray]]:
    if isinstance(value, list):
        return [(f"{name}_{number}", array) for number, array in enumerate(value)]
    return [(name, value)]


def _like(value: Any, variables: list[Any]) -> Any:
    return variables if isinstance(value, list) else variables[0]


def floats(
    shape: tuple[int, ...],
    dtype: Any = np.float32,
    low: float = -2.0,
    high: float = 2.0,
    seed: int = 0,
) -> np.ndarray:
    """Random values between two bounds."""
    rng = np.random.default_rng((seed, *shape))
    return rng.uniform(low, high, shape).astype(dtype)


def integers(
    shape: tuple[int, ...], low: int = -5, high: int = 6, dtype: Any = np.int32, seed: int = 0
) -> np.ndarray:
    """Random integers from ``low`` up to ``high``, exclusive."""
    return np.random.default_rng((seed, *shape)).integers(low, high, shape).astype(dtype)


__all__ = [
    "Function",
    "Result",
    "check",
    "close",
    "ct",
    "floats",
    "integers",
    "mb",
    "run",
    "run_function",
    "run_op",
    "types",
]
