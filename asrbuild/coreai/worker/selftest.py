"""The self-test of the installed coreai-core, a preview: all features that lowerings require."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from . import values
from .apple import DictAttr, NDArray, StringAttr, authoring, raw, tensor_type

_WEIGHTS = np.arange(32, dtype=np.float32).reshape(4, 8)


async def run() -> None:
    """Saves and runs a graph with three ops, a loop, a state and a named constant.

    Raises:
        ValueError: the result is wrong, or two saved files differ.
    """
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{name}.aimodel" for name in ("one", "two")]
        for path in paths:
            _save(path)
        one, two = ((path / "main.mlirb").read_bytes() for path in paths)
        if one != two:
            raise ValueError("two savings of the same graph differ")
        async with authoring.AIModelAsset.load(paths[0]).executable() as model:
            function = model.load_function("main")
            x, kept = np.ones((1, 4), np.float32), NDArray(np.full((1, 8), 2, np.float32))
            results = await function({"x": NDArray(x)}, {"kept": kept})
            # Doubled three times, then added to the state.
            product = np.tanh(x @ _WEIGHTS * 0.01)
            wanted = 2 + 8 * product
            _compare("an output", results["y"].numpy(), wanted)
            _compare("a state", kept.numpy(), wanted)


def _compare(what: str, found: Any, wanted: Any) -> None:
    if found.shape != wanted.shape or not np.allclose(found, wanted, atol=1e-5):
        raise ValueError(f"{what} is {found.tolist()}, expected {wanted.tolist()}")


def _save(path: Path) -> None:
    values.forget_blobs()
    frame: dict[str, Any] = {"Module": authoring.Module, "add": _add}
    exec(compile("module = Module.create()\nwith module: add()", "asrbuild", "exec"), frame)
    authoring.AIProgram(frame["module"]).save_asset(path)


def _add() -> None:
    types = [tensor_type([1, 4], np.float32), tensor_type([1, 8], np.float32)]
    graph = raw.GraphOp("main", types, [], ["x", "kept"], [])
    with graph.block:
        x, kept = graph.arguments
        product = raw.broadcasting_batch_matmul(x, values.const(_WEIGHTS))
        small = raw.tanh(values.mul(product, values.const(np.full((1, 1), 0.01, np.float32))))
        start = values.ints(0)
        results, (before, after) = raw.while_(
            results=[start.type, small.type], inits=[start, small]
        )
        with before:
            count, value = before.arguments
            more = raw.broadcasting_greater(values.ints(3), count)
            raw.condition(raw.shrink_dims(more, values.ints(0)), count, value)
        with after:
            count, value = after.arguments
            raw.yield_([values.add(count, values.ints(1)), values.add(value, value)])
        total = values.add(kept, results[1])
        raw.OutputOp([total, total])
        graph.outputs_spec = [("y", total), ("kept_next", total)]
    mutated = {"MutableBuffers.buffer_mutation": StringAttr.get("kept_next")}
    graph.arg_attrs = [
        DictAttr.get({entry.name: entry.attr for entry in given} | added)
        for given, added in zip(graph.arg_attrs, ({}, mutated), strict=True)
    ]
