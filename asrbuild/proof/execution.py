"""Runs a package on the inputs of a proof, in every way that its manifest allows.

The outputs are data for the proof, which compares them with the original's, so both can run
concurrently.
"""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from asrbuild.architectures.architecture import of_recorded
from asrbuild.artifact.calls import Acoustic, Contract, decoded_tensor, fed_tensor, steps_of
from asrbuild.artifact.manifest import Axis, Execution, Manifest, State, with_function
from asrbuild.artifact.manifest2 import context_of, rows_of
from asrbuild.artifact.named_files import package_path
from asrbuild.base.array import Array
from asrbuild.base.version import __version__
from asrbuild.coreai.environment import VERSION
from asrbuild.coreml.choices import ASSET
from asrbuild.coreml.executor.lockstep import in_lockstep
from asrbuild.coreml.executor.products import sharing
from asrbuild.coreml.executor.recording import watching
from asrbuild.coreml.signature import compared_name
from asrbuild.proof.ranges import Ranges, Reach, load_reaches, save_reaches

Outputs = dict[str, Array]
#: The value of ``Run.against`` for a comparison with the original.
REFERENCE = "original"
OUTPUTS, EXECUTIONS = "outputs.npz", "executions.json"


@dataclass(frozen=True)
class Way:
    """One way to run a package that its manifest allows.

    Args:
        label: the part after the ``@`` in the input of its metrics; empty for an app's way.
        manifest: the manifest, narrowed to this way.
        cases: the cases to run, in the order of the proof.
    """

    label: str
    manifest: Manifest
    cases: tuple[str, ...]


@dataclass(frozen=True)
class Run:
    """One run of a package on one case.

    Args:
        label: the input of its metrics: ``sample``, ``steps_32@32``, ``noise@coreml``.
        executor: empty for asrbuild's executor, or ``coreml``.
        manifest: describes the calls of the package.
        case: name of the case.
        features: the input, (T, n_window, n_input).
        against: the label of the run that it is compared with, ``REFERENCE`` for the original; None
            for a run that others are compared with.
    """

    label: str
    executor: str
    manifest: Manifest
    case: str
    features: Array
    against: str | None = REFERENCE

    @property
    def way(self) -> str:
        """The label without the executor, by which an original that runs call by call is run."""
        return "@".join(mark for mark in self.label.split("@") if mark != (self.executor or None))


@dataclass(frozen=True)
class Executed:
    """The results of executing a package.

    ``outputs``: label of a run -> name of the output in the original -> value. ``reaches``: the
    range of the float16 values of each node in asrbuild's executor.
    """

    outputs: Mapping[str, Outputs]
    executions: tuple[Execution, ...]
    reaches: tuple[Reach, ...] = ()

    @property
    def executors(self) -> tuple[str, ...]:
        """The executors that ran, as in ``Run.executor``."""
        return tuple("coreml" if e.executor == "coreml" else "" for e in self.executions)


def execute(
    artifact: Path,
    manifest: Manifest,
    cases: Mapping[str, Array],
    max_steps: int | None = None,
) -> Executed:
    """Runs the package on every case, in every way that its manifest allows.

    Args:
        artifact: the directory of the manifest's paths.
        manifest: describes the calls of the package; its ``verification`` is not read.
        cases: name -> features (T, n_window, n_input).
        max_steps: also run the upper bound of a range, limited to this; see ``_bound_runs``.
    """
    from asrbuild.coreai import asset
    from asrbuild.coreml.executor import load

    package = package_path(artifact, manifest)
    is_asset = manifest.model.format == ASSET
    loaders: dict[str, Callable[..., Any]] = {"": asset.load if is_asset else load}
    if sys.platform == "darwin" and not is_asset:
        from asrbuild.coreml.executor import coreml_backend

        units = manifest.model.recommended_compute_units
        loaders["coreml"] = partial(coreml_backend.load, compute_units=units)
    outputs: dict[str, Outputs] = {}
    every = runs(manifest, cases, max_steps, tuple(loaders))
    ranges = Ranges()
    with sharing(), watching(ranges):
        for (executor, function), group in groupby(every, _loaded_as):
            model = loaders[executor](package, function=function)
            listed = list(group)
            works = [partial(run_case, model, run.manifest, run.features) for run in listed]
            outputs |= zip((run.label for run in listed), in_lockstep(works), strict=True)
    ours = "coreai" if is_asset else "asrbuild"
    executions = tuple(_execution(name or ours) for name in loaders)
    return Executed(outputs, executions, ranges.reaches())


def _loaded_as(run: Run) -> tuple[str, str | None]:
    return run.executor, package_function(run.manifest)


def runs(
    manifest: Manifest,
    cases: Mapping[str, Array],
    max_steps: int | None,
    executors: Iterable[str],
) -> Iterator[Run]:
    """Yields every run of a proof, in order."""
    for executor in executors:
        for way in ways(manifest, cases):
            for name in way.cases:
                label = _label(name, way.label, executor)
                yield Run(label, executor, way.manifest, name, cases[name])
            yield from _bound_runs(way, cases, max_steps, executor)


def ways(manifest: Manifest, cases: Mapping[str, Array]) -> list[Way]:
    """Every way to run the package: an app's way, then each other function and size.

    An app's way runs all cases, and so does each other function. Another enumerated size runs the
    sample in chunks of that size, and the case of exactly that length. A range that is run in
    chunks also runs the awkward lengths in one call, because its bounds are promises too. Every
    range also runs the sample and the awkward lengths in chunks of its default size, the last one
    padded: an utterance in one call would never show that a state is not carried, or that the input
    of the step count is ignored.
    """
    every = tuple(cases)
    edges = tuple(name for name in every if name.startswith("steps_"))
    speech = tuple(name for name in every if name == "sample")
    found = [Way("", manifest, every)]
    axis = steps_axis(manifest)
    chunk = manifest.streaming.steps_per_chunk
    for size in axis.enumerated or ():
        if size != chunk:
            wanted = tuple(name for name in ("sample", f"steps_{size}") if name in cases)
            found.append(Way(str(size), _chunked(manifest, size), wanted))
    for function in manifest.model.functions:
        if function.name != manifest.model.default_function:
            found.append(Way(function.name, with_function(manifest, function.name), every))
    ranged = [way for way in found if _is_range(steps_axis(way.manifest))]
    for way in ranged:
        size = steps_axis(way.manifest).default
        label = "_".join(part for part in (way.label, str(size)) if part)
        found.append(Way(label, _padded(way.manifest, size), (*speech, *edges)))
    if _is_range(axis) and manifest.streaming.mode == "chunked":
        found.append(Way("whole", _whole(manifest, axis.max), edges))
    return [way for way in found if way.cases]


def bound_of(
    manifest: Manifest, cases: Mapping[str, Array], max_steps: int | None
) -> dict[str, Array] | None:
    """A case as long as the upper bound of a range; None if the cases reach the bound.

    It repeats the sample's windows. A bound above ``max_steps`` is limited to that length, as its
    name states: ``steps_3000_of_9000``.
    """
    axis = steps_axis(manifest)
    if axis.enumerated is not None or manifest.streaming.mode != "whole" or not max_steps:
        return None
    if not _is_range(axis):
        return None
    if axis.max is None or axis.max <= max(map(len, cases.values())):
        return None
    longest = axis.max - _around(manifest)
    steps = min(longest, max_steps)
    name = f"steps_{steps}" if steps == longest else f"steps_{steps}_of_{axis.max}"
    return {name: np.resize(cases["sample"], (steps, *cases["sample"].shape[1:]))}


def _bound_runs(
    way: Way, cases: Mapping[str, Array], max_steps: int | None, executor: str
) -> Iterator[Run]:
    """Runs for a range's upper bound: one call of that length, and the same case in shorter calls.

    The shorter calls are as long as the sample and carry the state. The sample is compared with
    TensorFlow, so the comparison of both runs proves the long call too, without a run of TensorFlow
    that takes as long as all others together. The input of its metrics ends in ``self``.
    """
    called = run_by_calls(way.manifest)
    for name, features in (bound_of(way.manifest, cases, max_steps) or {}).items():
        if called:
            # The original runs at this length too.
            yield Run(_label(name, way.label, executor), executor, way.manifest, name, features)
            continue
        label = _label(name, way.label, f"self@{executor}" if executor else "self")
        shorter = f"{label}@shorter"
        whole = _whole(way.manifest, len(features) + _around(way.manifest))
        yield Run(label, executor, whole, name, features, shorter)
        rows = rows_of(way.manifest)
        chunked = _chunked(way.manifest, rows.needed(rows.of(len(cases["sample"]))))
        yield Run(shorter, executor, chunked, name, features, None)


def _around(manifest: Manifest) -> int:
    """Steps of padding around a recording, for a package that trims its context."""
    context = context_of(manifest)
    return context.left + context.right if context.trimmed else 0


def steps_axis(manifest: Manifest) -> Axis:
    """The axis of time in the default function's input of features or samples."""
    return steps_of(fed_tensor(manifest.model.inputs))


def longest_call(manifest: Manifest, max_steps: int | None) -> int | None:
    """``verify.max_steps``, in steps of 20 ms, converted to the unit of the package's input."""
    if max_steps is None or fed_tensor(manifest.model.inputs).meaning != "samples":
        return max_steps
    return max_steps * manifest.audio.sample_rate // 50


def run_by_calls(manifest: Manifest) -> bool:
    """Whether the original runs call by call; see :mod:`asrbuild.proof.calls`."""
    return of_recorded(manifest.provenance.recipe)[0].CALLS


def _is_range(axis: Axis) -> bool:
    return axis.enumerated is None and axis.min != axis.max


def package_function(manifest: Manifest) -> str | None:
    """The function to load; None if the package has only one."""
    return manifest.model.default_function if len(manifest.model.functions) > 1 else None


def reference_state(manifest: Manifest, state: State) -> str:
    """The original's output that a state of the manifest is compared with.

    A package that keeps its states has other names for them than the original for its outputs.
    """
    architecture, config = of_recorded(manifest.provenance.recipe)
    return compared_name(architecture.signature(config).states, state.output)


def probabilities_of(manifest: Manifest) -> str:
    """The name of the decoded output."""
    return decoded_tensor(manifest.model.outputs).name


def _chunked(manifest: Manifest, size: int) -> Manifest:
    update: dict[str, Any] = {"mode": "chunked", "steps_per_chunk": size}
    return manifest.model_copy(update={"streaming": manifest.streaming.model_copy(update=update)})


def _padded(manifest: Manifest, size: int) -> Manifest:
    """The manifest, limited to chunks of ``size``; a short last chunk is padded."""
    return _chunked(_sized(manifest, size), size)


def with_steps(manifest: Manifest, size: int) -> Manifest:
    """The manifest, limited to calls of ``size`` steps."""
    return _whole(_sized(manifest, size), size)


def _sized(manifest: Manifest, size: int) -> Manifest:
    update: dict[str, Any] = {"min": size, "default": size, "max": size, "enumerated": None}
    fed = fed_tensor(manifest.model.inputs)
    axis = steps_of(fed)
    shape = [a.model_copy(update=update) if a is axis else a for a in fed.shape]
    resized = fed.model_copy(update={"shape": shape})
    inputs = [resized if tensor is fed else tensor for tensor in manifest.model.inputs]
    model = manifest.model.model_copy(update={"inputs": inputs})
    return manifest.model_copy(update={"model": model})


def _whole(manifest: Manifest, bound: int | None) -> Manifest:
    update: dict[str, Any] = {"mode": "whole", "steps_per_chunk": bound}
    return manifest.model_copy(update={"streaming": manifest.streaming.model_copy(update=update)})


@dataclass
class _Watched:
    """A package that keeps the state object of its stream, to be read at the end."""

    package: Any
    kept: Any = None

    def predict(self, data: Mapping[str, Array], state: Any = None) -> Mapping[str, Any]:
        given = (data,) if state is None else (data, state)
        values: Mapping[str, Any] = self.package.predict(*given)
        return values

    def make_state(self) -> Any:
        self.kept = self.package.make_state()
        return self.kept


def run_case(package: Any, manifest: Manifest, features: Array) -> Outputs:
    """Runs a case; returns probabilities (T, V) and final states (1, H) by the original's names."""
    watched = _Watched(package)
    run = Acoustic(watched, Contract.of(manifest))
    outputs = {probabilities_of(manifest): np.concatenate([run.feed(features), run.finish()])}
    known = run.state
    for state in manifest.state:
        if state.kind == "stateful":
            outputs[reference_state(manifest, state)] = np.asarray(watched.kept.read(state.output))
        elif state.output in known:
            outputs[reference_state(manifest, state)] = known[state.output]
    return outputs


def _label(case: str, way: str, executor: str) -> str:
    marks = [mark for mark in (way, executor) if mark]
    return case if not marks else f"{case}@{'@'.join(marks)}"


def save_executed(at: Path, executed: Executed) -> None:
    """Writes outputs, executions and reaches into a directory."""
    save_outputs(at / OUTPUTS, executed.outputs)
    listed = [execution.model_dump() for execution in executed.executions]
    (at / EXECUTIONS).write_text(json.dumps(listed, indent=2) + "\n", encoding="utf-8")
    save_reaches(at, executed.reaches)


def load_executed(at: Path) -> Executed:
    """Reads the files of ``save_executed``."""
    listed = json.loads((at / EXECUTIONS).read_text(encoding="utf-8"))
    executions = tuple(Execution(**fields) for fields in listed)
    return Executed(load_outputs(at / OUTPUTS), executions, load_reaches(at))


def save_outputs(path: Path, outputs: Mapping[str, Outputs]) -> None:
    """Writes an ``.npz`` of ``{label}/{output}``."""
    arrays = {
        f"{label}/{output}": value
        for label, found in outputs.items()
        for output, value in found.items()
    }
    with path.open("wb") as file:
        # numpy's stubs match any unpacked mapping with the flag allow_pickle as well.
        np.savez(file, **arrays)  # type: ignore[arg-type]


def load_outputs(path: Path) -> dict[str, Outputs]:
    """Reads the file of ``save_outputs``: label -> output -> value."""
    outputs: dict[str, Outputs] = {}
    with np.load(path, allow_pickle=False) as archive:
        for key in archive.files:
            label, _, output = key.rpartition("/")
            outputs.setdefault(label, {})[output] = archive[key]
    return outputs


def _execution(executor: str) -> Execution:
    versions = {"coreml": platform.mac_ver()[0], "coreai": VERSION}
    version = versions.get(executor, __version__)
    return Execution(
        executor=executor,  # type: ignore[arg-type]
        version=version,
        platform=f"{platform.system()} {platform.machine()}",
    )
