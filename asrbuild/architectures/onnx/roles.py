"""Finds the roles of a model's inputs and outputs by their names and shapes.

A role is assigned only if there is one candidate; otherwise the recipe must state it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from asrbuild.architectures.onnx.graph import Graph, Tensor
from asrbuild.architectures.onnx.section import DRAFT, SECTION, OnnxConfig, open_axis
from asrbuild.base.errors import AsrbuildError

#: Parts of names that mark a state, or distinguish an old state from a new one.
_AGE = frozenset(
    {
        "in",
        "out",
        "output",
        "input",
        "new",
        "next",
        "n",
        "prev",
        "old",
        "cache",
        "updated",
        "o",
        "0",
    }
)
_LENGTH = re.compile(r"len|length|lens|size", re.IGNORECASE)
_TIME = re.compile(r"time|seq|frame|sample|step|^[tnlTNL]$|len", re.IGNORECASE)
_BATCH = re.compile(r"batch|^[bBN]$")
#: The fewest axes of features: batch, steps, width.
_FEATURE_AXES = 3


def assign(graph: Graph, config: OnnxConfig) -> tuple[OnnxConfig, list[Tensor]]:
    """The section with roles and states, and the inputs that have no role.

    Args:
        graph: the folded graph, with the section's pins and cuts.

    Raises:
        AsrbuildError: the section does not fit the graph.
    """
    states = config.states or _states(graph, config)
    inputs = {name: _stated(graph, name, one) for name, one in config.inputs.items()}
    for given, output in states.items():
        known = {tensor.name for tensor in graph.outputs}
        if output not in known:
            raise _error(f"states.{given}", f"the model has no output {output}")
        inputs.setdefault(given, _state(graph, given))
    left = [tensor for tensor in graph.inputs if tensor.name not in inputs]
    lengths = [tensor for tensor in left if _is_length(tensor)]
    rest = [tensor for tensor in left if tensor not in lengths]
    has_time = any(one["meaning"] in ("features", "samples") for one in inputs.values())
    floats = [tensor for tensor in rest if tensor.dtype.startswith("float")]
    if not has_time and len(floats) == 1 and (role := _time_input(floats[0])) is not None:
        inputs[floats[0].name] = role
        rest.remove(floats[0])
    for tensor in lengths:
        inputs[tensor.name] = {"meaning": "step_count", "axes": [1], "dtype": "int32"}
    ordered = {tensor.name: inputs[tensor.name] for tensor in graph.inputs if tensor.name in inputs}
    return OnnxConfig(**{**vars(config), "inputs": ordered, "states": dict(states)}), rest


def _tensor(graph: Graph, name: str) -> Tensor:
    tensor = graph.input(name)
    if tensor is None:
        known = ", ".join(one.name for one in graph.inputs)
        raise _error(f"inputs.{name}", f"the model has no input {name}", f"its inputs are {known}")
    return tensor


def _stated(graph: Graph, name: str, stated: Any) -> dict[str, Any]:
    """A role from the recipe; omitted axes come from the file."""
    tensor = _tensor(graph, name)
    own = dict(stated) if isinstance(stated, Mapping) else {"meaning": stated}
    if own.get("meaning") == "state":
        return _state(graph, name) | own
    if own.get("meaning") == "step_count":
        return {"axes": [1], "dtype": "int32"} | own
    if "axes" in own and "meaning" in own:
        return own
    found = _time_input(tensor)
    if found is None:
        raise _error(f"inputs.{name}.axes", f"the axes of {name} are not known: {tensor.shape}")
    return found | own


def _state(graph: Graph, name: str) -> dict[str, Any]:
    tensor = _tensor(graph, name)
    axes = [size if isinstance(size, int) else 1 for size in tensor.shape or ()]
    whole = {"dtype": "int32"} if tensor.dtype.startswith("int") else {}
    return {"meaning": "state", "axes": axes or [1], **whole}


def _is_length(tensor: Tensor) -> bool:
    if tensor.shape is None or len(tensor.shape) > 1:
        return False
    return bool(_LENGTH.search(tensor.name)) or (
        tensor.dtype.startswith("int") and tensor.shape != ()
    )


def _time_input(tensor: Tensor) -> dict[str, Any] | None:
    """The role of features or samples, with the axis of time; None if neither is certain."""
    if tensor.shape is None:
        return None
    sizes = list(tensor.shape)
    free = [at for at, size in enumerate(sizes) if not isinstance(size, int)]
    wide = len(sizes) >= _FEATURE_AXES
    if free and (len(free) > 1 or wide) and _is_batch(free[0], sizes[free[0]]):
        sizes[free[0]] = 1
        free = free[1:]
    if len(free) > 1:
        free = [at for at in free if _TIME.search(str(sizes[at]))]
        if len(free) != 1:
            return None
    time = free[0] if free else _fixed_time(sizes)
    others = [size for at, size in enumerate(sizes) if at != time]
    if any(not isinstance(size, int) for size in others):
        return None
    features = (wide or time == 0) and any(size != 1 for size in others)
    meaning = "features" if features else "samples"
    axes: list[Any] = list(sizes)
    axes[time] = open_axis(meaning)
    return {"meaning": meaning, "axes": axes, **({} if free else {"steps": sizes[time]})}


def _is_batch(at: int, name: int | str | None) -> bool:
    return bool(_BATCH.search(str(name))) or (at == 0 and not _TIME.search(str(name)))


def _fixed_time(sizes: list[Any]) -> int:
    """The axis of time of an input with fixed axes: for features, the second."""
    if len(sizes) >= _FEATURE_AXES and sizes[-1] != 1:
        return 1
    return max(range(len(sizes)), key=lambda at: sizes[at])


def _states(graph: Graph, config: OnnxConfig) -> dict[str, str]:
    """Inputs and outputs of one shape whose names differ only in the part for old and new."""
    found = {}
    for tensor in graph.inputs:
        stem = _stem(tensor.name)
        same = [
            output.name
            for output in graph.outputs
            if _stem(output.name) == stem and _fits(tensor, output)
        ]
        if len(same) == 1 and tensor.name not in config.inputs:
            found[tensor.name] = same[0]
    return found


def _stem(name: str) -> tuple[str, ...]:
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+|\d+", name.removesuffix(":0"))
    lower = [word.lower() for word in words]
    kept = [word for word in lower if word not in _AGE]
    # hn and cn are the usual names of an LSTM's last states.
    return tuple(word[0] if word in ("hn", "cn") else word for word in kept) or tuple(lower)


def _fits(one: Tensor, other: Tensor) -> bool:
    if one.shape is None or other.shape is None:
        return one.dtype == other.dtype
    if len(one.shape) != len(other.shape):
        return False
    pairs = zip(one.shape, other.shape, strict=True)
    return all(a == b or not (isinstance(a, int) and isinstance(b, int)) for a, b in pairs)


def _error(key: str, message: str, fix: str = DRAFT) -> AsrbuildError:
    return AsrbuildError(message, key=f"{SECTION}.{key}", fix=fix)
