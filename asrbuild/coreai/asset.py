"""Core AI assets: made from a package, run by Apple's runtime, and inspected.

``open_witness`` runs a package's program in Apple's runtime in single precision, the only
arithmetic that is the same on Linux as on a device.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from asrbuild.base.array import Array
from asrbuild.base.disk import remove_tree
from asrbuild.base.errors import AsrbuildError
from asrbuild.coreai import environment
from asrbuild.coreai.handover import NoLoweringError, hand_over
from asrbuild.coreai.process import RefusedError, RuntimeProcess
from asrbuild.coreml.executor.model import State, described_features, predict_each
from asrbuild.coreml.executor.package import open_package
from asrbuild.coreml.executor.signature import Enumerated, Feature, Fixed, Ranged, check_inputs

#: Modules to import before a thread uses this one.
THREAD_MODULES = ("asrbuild.coreai.asset", "coremltools")
_DAMAGED = "make the asset again, or copy it again from a good copy"
_workers: dict[Path, RuntimeProcess] = {}
_lock = threading.Lock()


@dataclass(frozen=True)
class AssetMetadata:
    """The metadata of an asset; ``values`` are JSON, for instance the manifest's digest."""

    author: str = ""
    license: str = ""
    description: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)

    def written(self) -> dict[str, Any]:
        """The content of ``metadata.json``."""
        return {
            "author": self.author,
            "license": self.license,
            "modelDescription": self.description,
            "creatorDefinedMetadata": dict(self.values),
        }


def lower(
    package: Path,
    asset: Path,
    *,
    wide: bool = False,
    keep_all: bool = False,
    decompress: bool = False,
    metadata: AssetMetadata | None = None,
) -> None:
    """Writes a package's program as an ``.aimodel``, with the same bytes in every process.

    Args:
        package: an ``.mlpackage`` with an ML program.
        asset: the new folder; its name ends in ``.aimodel``.
        wide: store half precision in single precision; constants keep their values.
        keep_all: make every value of a function an output, for ``CoreAIModel.trace``.
        decompress: store compressed constants in the form that asrbuild's executor expands them to.
        metadata: the asset's metadata.

    Raises:
        NoLoweringError: an op has no counterpart; nothing was written.
        AsrbuildError: the package cannot be read, or the process of Core AI ended.
    """
    with tempfile.TemporaryDirectory(prefix="asrbuild-handover-") as name:
        folder = Path(name)
        hand_over(package, folder, decompress=decompress)
        made = folder / "made.aimodel"
        ask(
            package,
            "lower",
            handover=str(folder),
            asset=str(made),
            metadata=(metadata or AssetMetadata()).written(),
            wide=wide,
            keep_all=keep_all,
        )
        remove_tree(asset)
        shutil.move(made, asset)


def load(asset: Path, function: str | None = None) -> CoreAIModel:
    """Opens an asset for execution by Apple's runtime.

    Args:
        function: a function of the asset; None: the first one.

    Raises:
        AsrbuildError: the asset has no such function, or is damaged.
    """
    return CoreAIModel(asset, function)


@contextmanager
def open_witness(
    package: Path,
    function: str | None = None,
    *,
    keep_all: bool = False,
    decompress: bool = False,
) -> Iterator[CoreAIModel]:
    """Yields a package's program in Apple's runtime, in single precision.

    Raises:
        NoLoweringError: an op has no counterpart in Core AI.
        AsrbuildError: the package cannot be read, or the process of Core AI ended.
    """
    with tempfile.TemporaryDirectory(prefix="asrbuild-witness-") as name:
        asset = Path(name) / "witness.aimodel"
        lower(package, asset, wide=True, keep_all=keep_all, decompress=decompress)
        with CoreAIModel(asset, function, package=package) as model:
            yield model


def inspect(asset: Path) -> dict[str, Any]:
    """Describes an asset: functions, inputs, outputs, states, element types, ops and metadata."""
    reply, _ = ask(asset, "inspect", asset=str(asset))
    opened, _ = ask(asset, "open", asset=str(asset))
    ask(asset, "close", asset=str(asset))
    for name, function in opened["functions"].items():
        reply["functions"][name]["states"] = function["states"]
    metadata = _own_metadata(asset)
    files = {p.name: p.stat().st_size for p in sorted(asset.iterdir()) if p.is_file()}
    return {**reply, "values": metadata, "files": files}


class CoreAIModel:
    """A loaded asset, with the interface of the executor's ``Model``.

    ``inputs``, ``outputs`` and ``states`` describe its features by name. A function with
    enumerated sizes is several functions of the asset; ``predict`` takes the one that fits.
    """

    def __init__(
        self, asset: Path, function: str | None = None, *, package: Path | None = None
    ) -> None:
        self.path = asset
        reply, _ = ask(asset, "open", asset=str(asset))
        self._described: dict[str, Any] = reply["functions"]
        sizes: dict[str, list[str]] = _own_metadata(asset).get("sizes", {})
        listed = {name for names in sizes.values() for name in names}
        self.functions = tuple(sizes) + tuple(n for n in self._described if n not in listed)
        if package is not None:
            spec = open_package(package).spec
            default, self.functions, features = described_features(spec, package, function)
            function = function or default
        self.function = function or self.functions[0]
        if self.function not in self.functions:
            raise AsrbuildError(
                f"no function {function} in the asset",
                file=asset,
                fix=f"the functions are {', '.join(self.functions)}",
            )
        self._variants = tuple(sizes.get(self.function, (self.function,)))
        each = [self._described[variant] for variant in self._variants]
        self.inputs, self.outputs, self.states = (
            {name: _feature(name, [one[kind][name] for one in each]) for name in each[0][kind]}
            for kind in ("inputs", "outputs", "states")
        )
        if package is not None:
            # Bounds and lists of sizes come from the package, element types from the asset.
            self.inputs = {
                name: replace(feature, dtype=self.inputs[name].dtype)
                for name, feature in features[0].items()
            }

    def __enter__(self) -> CoreAIModel:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the asset in Apple's runtime."""
        ask(self.path, "close", asset=str(self.path))

    def make_state(self) -> State:
        """A new state, all zeros; pass it to ``predict``, once per stream."""
        if not self.states:
            raise AsrbuildError("this asset keeps no state inside", file=self.path)
        return State(self.states, str(self.path))

    def predict(self, data: Any, state: State | None = None) -> Any:
        """Runs the asset on a dict of arrays by input name; returns arrays by output name.

        Raises:
            AsrbuildError: an input's name, type or shape is wrong, a state is missing, or the
                process of Core AI ended.
        """
        if isinstance(data, list):
            return predict_each(self.predict, data, state)
        results = self.trace(data, state)
        return {name: results[name] for name in self.outputs if name in results}

    def trace(self, data: Mapping[str, Any], state: State | None = None) -> dict[str, Array]:
        """As ``predict``, but with every value that an asset lowered with ``keep_all`` computes."""
        arrays = check_inputs(data, self.inputs, str(self.path))
        if self.states and state is None:
            raise AsrbuildError(
                f"predict needs this asset's state ({', '.join(self.states)})",
                file=self.path,
                fix="pass state=model.make_state(), and the same one for a whole stream",
            )
        kept = {} if state is None else {name: state.read(name) for name in self.states}
        _, results = ask(
            self.path,
            "run",
            arrays | kept,
            asset=str(self.path),
            function=self._variant(arrays),
            states=list(kept),
        )
        for name in kept:
            assert state is not None
            state.write(name, results.pop(name))
        return results

    def _variant(self, arrays: Mapping[str, Array]) -> str:
        """The asset's function for inputs of these shapes."""
        for variant in self._variants:
            inputs = self._described[variant]["inputs"]
            if all(_fits(arrays[name].shape, inputs[name]["shape"]) for name in arrays):
                return variant
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise AsrbuildError(
            f"the asset has no function for {shapes}",
            file=self.path,
            fix=f"its functions are {', '.join(self._variants)}",
        )


def _fits(shape: tuple[int, ...], declared: list[int | None]) -> bool:
    return len(shape) == len(declared) and all(
        known in (None, size) for size, known in zip(shape, declared, strict=True)
    )


def _feature(name: str, described: Sequence[Mapping[str, Any]]) -> Feature:
    """A feature, from its descriptions in each variant of a function."""
    shape = described[0]["shape"]
    dtype = np.dtype(described[0]["dtype"])
    shapes = tuple(dict.fromkeys(tuple(one["shape"]) for one in described))
    if len(shapes) > 1:
        return Feature(name, dtype, Enumerated(shapes[0], shapes))
    if None not in shape:
        return Feature(name, dtype, Fixed(tuple(shape)))
    bounds = tuple((1, None) if size is None else (size, size) for size in shape)
    return Feature(name, dtype, Ranged(tuple(low for low, _ in bounds), bounds))


def _own_metadata(asset: Path) -> dict[str, Any]:
    import json

    try:
        text = (asset / "metadata.json").read_text(encoding="utf-8")
        values = json.loads(text).get("creatorDefinedMetadata", {})
    except (OSError, ValueError, AttributeError) as error:
        raise AsrbuildError(
            f"not a Core AI asset: its metadata.json cannot be read ({error})",
            file=asset,
            fix=_DAMAGED,
        ) from error
    return values if isinstance(values, dict) else {}


def ask(
    file: Path, command: str, arrays: Mapping[str, Array] | None = None, **request: Any
) -> tuple[dict[str, Any], dict[str, Array]]:
    """Sends a request to the worker; its refusals and its end become errors about ``file``."""
    try:
        python = environment.coreai_python()
    except AsrbuildError as error:
        error.file = str(file)
        raise
    with _lock:
        if python not in _workers:
            _workers[python] = RuntimeProcess(python)
            atexit.register(_workers[python].close)
        worker = _workers[python]
    try:
        return worker.call(command, arrays, **request)
    except RefusedError as refusal:
        message = str(refusal)
        ops = refusal.reply.get("ops")
        if ops is not None:
            raise NoLoweringError(
                message, tuple(ops), file=file, fix="build with verify.witness=off and coreai=none"
            ) from refusal
        raise AsrbuildError(
            f"Core AI refused to {command}: {message}", file=file, fix=_DAMAGED
        ) from refusal
    except AsrbuildError as error:
        error.file = error.file or str(file)
        raise


def _forget_workers() -> None:
    """Forgets the workers in a forked process, which must not share its parent's pipes."""
    _workers.clear()


os.register_at_fork(after_in_child=_forget_workers)
