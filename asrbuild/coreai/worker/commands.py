"""The commands of the worker: lower a package, open, run and inspect an asset."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import call, lowering, ops, selftest  # noqa: F401 - ops registers the lowerings
from .apple import NDArray, authoring, check_version

Arrays = dict[str, np.ndarray[Any, Any]]
Reply = tuple[dict[str, Any], Arrays]


@dataclass
class LoadedAsset:
    """A loaded asset: its functions, their signatures, and its time of change."""

    stack: AsyncExitStack
    functions: dict[str, Any]
    described: dict[str, Any]
    written: int


class Commands:
    """The open assets by path, with their loaded functions."""

    def __init__(self) -> None:
        self.version = check_version()
        self._loop = asyncio.new_event_loop()
        self._open: dict[str, LoadedAsset] = {}

    def answer(self, request: Mapping[str, Any], arrays: Arrays) -> Reply:
        """Runs a request; returns the reply and its arrays."""
        wanted = {name: value for name, value in request.items() if name != "command"}
        command = getattr(self, f"do_{request['command']}")
        reply: Reply = command(arrays, **wanted)
        return reply

    def do_self_test(self, arrays: Arrays) -> Reply:
        """Builds, saves, loads and runs a graph with all features that lowerings require."""
        self._loop.run_until_complete(selftest.run())
        return {"version": self.version}, {}

    def do_ops(self, arrays: Arrays) -> Reply:
        """Lists the MIL ops that have a lowering."""
        return {"ops": sorted(call.OPS)}, {}

    def do_lower(
        self,
        arrays: Arrays,
        handover: str,
        asset: str,
        metadata: Mapping[str, Any],
        wide: bool,
        keep_all: bool,
    ) -> Reply:
        """Lowers a hand-over into a folder that does not exist yet."""
        read = call.Handover.read(Path(handover))
        module = lowering.build(read, wide=wide, keep_all=keep_all)
        path = Path(asset)
        authoring.AIProgram(module).save_asset(path)
        sizes = {
            function["name"]: [
                lowering.function_name(function["name"], size) for size in function["sizes"]
            ]
            for function in read.functions
            if function["sizes"]
        }
        own = dict(metadata["creatorDefinedMetadata"]) | ({"sizes": sizes} if sizes else {})
        # coreai-core writes the time into it, and orders its keys differently in each process.
        written = {
            **metadata,
            "assetVersion": json.loads((path / "metadata.json").read_text())["assetVersion"],
            "producer": f"coreai-core {self.version}",
            "creatorDefinedMetadata": own,
        }
        text = json.dumps(written, indent=2, sort_keys=True, ensure_ascii=False)
        (path / "metadata.json").write_text(text + "\n", encoding="utf-8", newline="\n")
        return {"functions": [function["name"] for function in read.functions]}, {}

    def do_open(self, arrays: Arrays, asset: str) -> Reply:
        """Compiles and loads an asset; replies with its functions and their signatures."""
        written = (Path(asset) / "main.mlirb").stat().st_mtime_ns
        if asset in self._open and self._open[asset].written == written:
            return {"functions": self._open[asset].described}, {}
        self.do_close(arrays, asset)
        stack = AsyncExitStack()
        loaded = authoring.AIModelAsset.load(asset)
        model = self._loop.run_until_complete(stack.enter_async_context(loaded.executable()))
        functions = {name: model.load_function(name) for name in model.function_names}
        described = {name: _signature(function.desc) for name, function in functions.items()}
        self._open[asset] = LoadedAsset(stack, functions, described, written)
        return {"functions": described}, {}

    def do_close(self, arrays: Arrays, asset: str) -> Reply:
        """Closes an asset."""
        held = self._open.pop(asset, None)
        if held is not None:
            held.functions.clear()
            self._loop.run_until_complete(held.stack.aclose())
        return {}, {}

    def do_run(self, arrays: Arrays, asset: str, function: str, states: list[str]) -> Reply:
        """Runs a function of an open asset; replies with its outputs and new states, by name."""
        if asset not in self._open:
            self.do_open({}, asset)
        called = self._open[asset].functions[function]
        given = {name: NDArray(np.array(array)) for name, array in arrays.items()}
        kept = {name: given.pop(name) for name in states}
        call = called(given, kept) if kept else called(given)
        results = self._loop.run_until_complete(call)
        # The runtime's arrays are valid only as long as the model.
        found = {name: np.array(value.numpy()) for name, value in results.items()}
        return {}, found | {name: np.array(value.numpy()) for name, value in kept.items()}

    def do_inspect(self, arrays: Arrays, asset: str) -> Reply:
        """Describes an asset, without running it."""
        loaded = authoring.AIModelAsset.load(asset)
        metadata, summary = loaded.metadata, loaded.summary(include_statistics=True)
        program = Path(asset) / "main.mlirb"
        digest = hashlib.sha256(program.read_bytes()).digest()
        functions = {
            name: {
                "inputs": _described(summary.function_inputs(name)),
                "outputs": _described(summary.function_outputs(name)),
            }
            for name in summary.function_names
        }
        return {
            "functions": functions,
            "storage_types": dict(summary.storage_types),
            "compute_types": [str(kind) for kind in summary.compute_types],
            "ops": dict(summary.operation_distribution),
            "minimum_os": str(summary._compatibility_version),
            "producer": metadata._producer,
            "author": metadata.author,
            "license": metadata.license,
            "description": metadata.model_description,
            "hash_agrees": digest == (Path(asset) / "main.hash").read_bytes(),
        }, {}


def _signature(described: Any) -> dict[str, Any]:
    """Names, types and shapes of a function's features; null for an unknown size."""

    def listed(names: list[str], descriptor: Any) -> dict[str, Any]:
        return {
            name: {
                "dtype": str(descriptor(name).dtype),
                "shape": [size if size and size > 0 else None for size in descriptor(name).shape],
            }
            for name in names
        }

    return {
        "inputs": listed(described.input_names, described.input_descriptor),
        "outputs": listed(described.output_names, described.output_descriptor),
        "states": listed(described.state_names, described.state_descriptor),
    }


def _described(features: Any) -> Any:
    return json.loads(json.dumps(features, default=str))
