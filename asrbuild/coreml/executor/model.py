"""A loaded package, with its inputs, outputs, states and ``predict``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, overload

import numpy as np

from asrbuild.base.array import Array
from asrbuild.base.errors import AsrbuildError
from asrbuild.coreml.executor.literals import Blobs
from asrbuild.coreml.executor.package import Package, open_package
from asrbuild.coreml.executor.signature import (
    Feature,
    Fixed,
    check_array,
    check_inputs,
    filled,
    read_features,
    read_sequenced,
)

_DAMAGED = "the package is damaged: build it again, or copy it again from a good copy"
#: Inputs, outputs and states, by name.
ModelFeatures = tuple[dict[str, Feature], dict[str, Feature], dict[str, Feature]]


class Runnable(Protocol):
    """A compiled function or network."""

    def run(self, values: dict[str, Any]) -> dict[str, Any]: ...


@dataclass
class StateCell:
    """The current value of one state, shared by the calls that get the same ``State``."""

    value: Array


class State:
    """The states of one stream, like Core ML's ``MLState``: zeros first, changed by ``predict``."""

    def __init__(self, features: dict[str, Feature], model: str) -> None:
        self.features = features
        self._model = model
        self._cells = {name: StateCell(_zeros(one, model)) for name, one in features.items()}

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the states."""
        return tuple(self.features)

    def read(self, name: str) -> Array:
        """A copy of one state's value."""
        return self._cell(name).value.copy()

    def write(self, name: str, value: Array) -> None:
        """Replaces one state's value; converts types as for inputs."""
        cell = self._cell(name)
        cell.value = np.array(check_array(value, self.features[name], self._model))

    def _cell(self, name: str) -> StateCell:
        if name not in self._cells:
            raise AsrbuildError(
                f"no such state: {name}", fix=f"the states are {', '.join(self._cells) or 'none'}"
            )
        return self._cells[name]


class Model:
    """A loaded package, ready to run.

    ``inputs``, ``outputs`` and ``states`` describe its features by name; ``functions`` are the
    names of a multifunction package's functions, ``function`` the one loaded.
    """

    def __init__(
        self,
        path: Path,
        program: Runnable,
        features: ModelFeatures,
        functions: tuple[str, ...],
        function: str,
    ) -> None:
        self.path = path
        self.inputs, self.outputs, self.states = features
        self.functions = functions
        self.function = function
        self._program = program

    @overload
    def predict(self, data: Mapping[str, Any], state: State | None = None) -> dict[str, Any]: ...

    @overload
    def predict(self, data: list[Mapping[str, Any]]) -> list[dict[str, Any]]: ...

    def predict(self, data: Any, state: State | None = None) -> Any:
        """Runs the package on a dict of arrays by input name; returns arrays by output name.

        A classifier's label is a str or int, its probabilities are a dict by label. A list of
        dicts gives a list of results, as coremltools' ``MLModel.predict`` does.

        Raises:
            AsrbuildError: an input's name, type or shape is wrong, a state is missing, or an op
                cannot run on these values.
        """
        if isinstance(data, list):
            return predict_each(self.predict, data, state)
        return self.results(self._arrays(data, state))

    def results(self, arrays: dict[str, Any]) -> dict[str, Any]:
        """The outputs for checked inputs and state cells."""
        results = self._program.run(arrays)
        return {
            name: _own(self._array(results, name), feature.dtype, arrays)
            if feature.kind == "array"
            else self._label(results, feature)
            for name, feature in self.outputs.items()
        }

    def _label(self, results: Mapping[str, Any], feature: Feature) -> Any:
        value = results.get(feature.name)
        if not isinstance(value, str | int if feature.kind == "label" else dict):
            raise AsrbuildError(
                f"the package computes no {feature.kind} for its output {feature.name}",
                file=self.path,
                fix=_DAMAGED,
            )
        return value

    def _array(self, results: Mapping[str, Any], name: str) -> Array:
        value = results.get(name)
        if not isinstance(value, np.ndarray | np.generic):
            raise AsrbuildError(
                f"the package computes no array for its output {name}", file=self.path, fix=_DAMAGED
            )
        return np.asarray(value)

    def trace(self, data: Mapping[str, Any], state: State | None = None) -> dict[str, Array]:
        """As ``predict``, but returns every array that the package computes, in order.

        It requires a model loaded with ``keep_all``. Values inside loops and branches are absent.
        """
        results = self._program.run(self._arrays(data, state))
        return {name: np.array(v) for name, v in results.items() if isinstance(v, np.ndarray)}

    def make_state(self) -> State:
        """A new state, all zeros; pass it to ``predict``, once per stream."""
        if not self.states:
            raise AsrbuildError(
                "this package keeps no state inside",
                file=self.path,
                fix="pass its state inputs to predict, or build it with coreml.state=stateful",
            )
        return State(self.states, str(self.path))

    def _arrays(self, data: Mapping[str, Any], state: State | None) -> dict[str, Any]:
        arrays: dict[str, Any] = dict(check_inputs(data, self.inputs, str(self.path)))
        arrays.update(self._cells(state))
        return arrays

    def _cells(self, state: State | None) -> dict[str, StateCell]:
        if not self.states:
            if state is not None:
                raise AsrbuildError(
                    "this package keeps no state inside", file=self.path, fix="leave state out"
                )
            return {}
        if not isinstance(state, State) or state.features != self.states:
            raise AsrbuildError(
                f"predict needs this package's state ({', '.join(self.states)})",
                file=self.path,
                fix="pass state=model.make_state(), and the same one for a whole stream",
            )
        return {name: state._cell(name) for name in self.states}


def predict_each(
    predict: Callable[[Mapping[str, Any]], dict[str, Any]], data: list[Any], state: object
) -> list[dict[str, Any]]:
    """The results of a list of inputs, one after the other.

    Raises:
        AsrbuildError: a state is given, which belongs to one call at a time.
    """
    if state is not None:
        raise AsrbuildError(
            "a state goes through one call at a time, not through a list of inputs",
            fix="call predict for each input, with the same state",
        )
    return [predict(one) for one in data]


def load(
    path: str | Path,
    function: str | None = None,
    *,
    keep_all: bool = False,
) -> Model:
    """Opens an ``.mlpackage`` or ``.mlmodel`` and compiles it for execution.

    Args:
        function: a function of a multifunction package; None: the default one.
        keep_all: keep every value of a run, for ``Model.trace``; it requires more memory.

    Raises:
        AsrbuildError: the package or function does not exist, or the executor lacks an op.
    """
    package = open_package(path)
    try:
        return _load(package, function, keep_all)
    except AsrbuildError as error:
        # Errors come from code that does not know the package's path.
        error.file = error.file or str(package.path)
        raise


def _load(package: Package, function: str | None, keep_all: bool) -> Model:
    kind = package.spec.WhichOneof("Type")
    if kind == "mlProgram":
        return _load_program(package, function, keep_all)
    if kind in _NETWORKS or kind in _PIPELINES:
        if function is not None:
            raise AsrbuildError(
                f"only an ML program has functions, this is a {kind}; asked {function}",
                file=package.path,
                fix="leave the function out",
            )
        if kind in _NETWORKS:
            return _load_network(package, keep_all)
        return _load_pipeline(package, kind, keep_all)
    raise AsrbuildError(
        f"the executor runs ML programs, neural networks and pipelines of them, this is a {kind}",
        file=package.path,
        fix="convert with convert_to='mlprogram' or 'neuralnetwork', or run it with Core ML on a "
        "Mac",
    )


_NETWORKS = ("neuralNetwork", "neuralNetworkClassifier", "neuralNetworkRegressor")
_PIPELINES = ("pipeline", "pipelineClassifier", "pipelineRegressor")


@dataclass(frozen=True)
class Pipeline:
    """A pipeline of models, run in order; each reads the pipeline's inputs and earlier outputs."""

    parts: tuple[Model, ...]

    def run(self, values: dict[str, Any]) -> dict[str, Any]:
        """As a network's or function's ``run``; each state goes to the part that names it."""
        known = dict(values)
        for part in self.parts:
            given = {name: known[name] for name in part.inputs if name in known}
            arrays: dict[str, Any] = dict(check_inputs(given, part.inputs, str(part.path)))
            arrays |= {name: known[name] for name in part.states}
            known |= part.results(arrays)
        return known


def _load_pipeline(package: Package, kind: str, keep_all: bool) -> Model:
    inner = getattr(package.spec, kind)
    pipeline = inner if kind == "pipeline" else inner.pipeline
    function, names, features = described_features(package.spec, package.path, None)
    parts = []
    for number, spec in enumerate(pipeline.models, 1):
        part = replace(package, spec=spec)
        try:
            parts.append(_load(part, None, keep_all))
        except AsrbuildError as error:
            error.message = f"part {number} of {len(pipeline.models)}: {error.message}"
            raise
    kept = {name for part in parts for name in part.states}
    if kept != set(features[2]):
        raise AsrbuildError(
            f"the pipeline's parts keep the states {', '.join(sorted(kept)) or 'none'}, its own "
            f"description has {', '.join(features[2]) or 'none'}",
            fix=_DAMAGED,
        )
    return Model(package.path, Pipeline(tuple(parts)), features, names, function)


def _load_program(package: Package, function: str | None, keep_all: bool) -> Model:
    from asrbuild.coreml.executor.function import compile_function

    function, names, features = described_features(package.spec, package.path, function)
    blobs = Blobs(package.directory)
    program = compile_function(package.spec.mlProgram, function, blobs, keep_all=keep_all)
    inputs, _, states = features
    if set(program.inputs) != set(inputs) | set(states):
        raise AsrbuildError(
            f"function {function} takes {', '.join(program.inputs)}; the package's description "
            f"has {', '.join([*inputs, *states])}",
            fix=_DAMAGED,
        )
    return Model(package.path, program, features, names, function)


def _load_network(package: Package, keep_all: bool) -> Model:
    from asrbuild.coreml.executor.network import compile_network, uses_exact_ranks

    function, names, (inputs, outputs, states) = described_features(
        package.spec, package.path, None
    )
    network = getattr(package.spec, package.spec.WhichOneof("Type"))
    if not uses_exact_ranks(network):
        inputs = read_sequenced(inputs)
    program = compile_network(package, inputs, outputs, keep_all=keep_all)
    return Model(package.path, program, (inputs, outputs, states), names, function)


def described_features(
    spec: Any, path: Path, function: str | None
) -> tuple[str, tuple[str, ...], ModelFeatures]:
    """The function to load, the names of all functions, and its inputs, outputs and states."""
    description = spec.description
    by_name = {described.name: described for described in description.functions}
    names = tuple(by_name) or ("main",)
    if function is None:
        function = description.defaultFunctionName or names[0]
    if function not in names:
        raise AsrbuildError(
            f"no function {function} in the package",
            file=path,
            fix=f"the functions are {', '.join(names)}",
        )
    described = by_name.get(function, description)
    inputs, outputs, states = (
        read_features(part) for part in (described.input, described.output, described.state)
    )
    return function, names, (inputs, outputs, states)


def _zeros(feature: Feature, model: str) -> Array:
    if not isinstance(feature.shape, Fixed):
        raise AsrbuildError(f"state {feature.name} has no fixed shape", file=model, fix=_DAMAGED)
    return filled(feature.shape.shape, 0, feature, model)


def _own(array: Array, dtype: np.dtype[Any], inputs: dict[str, Any]) -> Array:
    """The output as an array that shares no memory with a constant, an input or another value."""
    if array.dtype != dtype:
        with np.errstate(all="ignore"):
            return array.astype(dtype)
    shared = array.base is not None or not array.flags.writeable
    if shared or any(array is given for given in inputs.values()):
        return array.copy()
    return array
