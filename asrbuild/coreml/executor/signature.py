"""The inputs, outputs and states of a package, and checks of their values.

Source: ``ModelDescription`` and ``ArrayFeatureType`` in Core ML's protobuf definitions; the
conventions of coremltools' ``MLModel.predict`` (a dict of arrays by name, a dict back).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from asrbuild.base.array import Array
from asrbuild.base.errors import AsrbuildError
from asrbuild.coreml.features import FeatureSummary as Description, read_feature

#: The types that a label can have.
_LABELS: dict[str, np.dtype[Any]] = {"stringType": np.dtype(str), "int64Type": np.dtype(np.int64)}
#: Limit of bytes for an array made from a declared shape alone (an absent input, a new state).
_LARGEST_FILLED = 1 << 30


@dataclass(frozen=True)
class Fixed:
    """A shape constraint: exactly one shape."""

    shape: tuple[int, ...]

    def allows(self, shape: tuple[int, ...]) -> bool:
        return shape == self.shape

    def __str__(self) -> str:
        return str(self.shape)


@dataclass(frozen=True)
class Ranged:
    """A shape constraint: the smallest and largest size of each axis; None: unbounded."""

    default: tuple[int, ...]
    bounds: tuple[tuple[int, int | None], ...]

    def allows(self, shape: tuple[int, ...]) -> bool:
        return len(shape) == len(self.bounds) and all(
            low <= size and (high is None or size <= high)
            for size, (low, high) in zip(shape, self.bounds, strict=True)
        )

    def __str__(self) -> str:
        axes = (
            str(low) if low == high else f"{low}..{'' if high is None else high}"
            for low, high in self.bounds
        )
        return f"({', '.join(axes)})"


@dataclass(frozen=True)
class Enumerated:
    """A shape constraint: one of a list of shapes."""

    default: tuple[int, ...]
    shapes: tuple[tuple[int, ...], ...]

    def allows(self, shape: tuple[int, ...]) -> bool:
        return shape in self.shapes

    def __str__(self) -> str:
        return "one of " + ", ".join(map(str, self.shapes))


@dataclass(frozen=True)
class Sequenced:
    """A shape constraint: a shape, optionally with a sequence and a batch axis before it."""

    single: Fixed | Ranged | Enumerated

    @property
    def default(self) -> tuple[int, ...]:
        """The default shape, without the two axes."""
        return default_shape(self.single)

    def allows(self, shape: tuple[int, ...]) -> bool:
        return self.single.allows(shape) or self.single.allows(shape[2:])

    def __str__(self) -> str:
        return f"{self.single}, or a sequence and a batch axis before it"


def default_shape(shape: Fixed | Ranged | Enumerated | Sequenced) -> tuple[int, ...]:
    """The default shape of a constraint."""
    return shape.shape if isinstance(shape, Fixed) else shape.default


@dataclass(frozen=True)
class Feature:
    """One input, output or state; ``shape`` is None if the package does not declare it.

    ``kind``: ``array``; or for a classifier ``label``, a str or int, and ``probabilities``, a dict
    by label. Their ``dtype`` is the label's type: ``str`` or ``int64``.
    """

    name: str
    dtype: np.dtype[Any]
    shape: Fixed | Ranged | Enumerated | Sequenced | None
    default_value: float | None = None
    kind: str = "array"


def read_features(descriptions: Iterable[Any]) -> dict[str, Feature]:
    """Reads ``FeatureDescription`` messages: name -> feature, in order."""
    return {description.name: _feature(description) for description in descriptions}


def _feature(description: Any) -> Feature:
    kind, read = description.type.WhichOneof("Type"), read_feature(description)
    if kind in _LABELS:
        return Feature(read.name, _LABELS[kind], None, kind="label")
    if kind == "dictionaryType":
        key = str(description.type.dictionaryType.WhichOneof("KeyType"))
        label = _LABELS[key.replace("KeyType", "Type")]
        return Feature(read.name, label, None, kind="probabilities")
    if kind not in ("multiArrayType", "stateType"):
        raise AsrbuildError(
            f"{read.name} is of type {kind}; the executor takes and gives arrays, and a "
            "classifier's label and probabilities",
            fix="convert with ct.TensorType inputs and outputs",
        )
    if read.dtype.lstrip("-").isdigit():
        raise AsrbuildError(
            f"{read.name} has the unknown array type {read.dtype}",
            fix="a newer asrbuild may read this package",
        )
    return Feature(read.name, np.dtype(read.dtype), _constraint(read), read.optional_value)


def _constraint(read: Description) -> Fixed | Ranged | Enumerated | None:
    default = read.default or ()
    if read.shapes is not None:
        return Enumerated(default, read.shapes)
    if read.axes is not None and any(low != high for low, high in read.axes):
        return Ranged(default, read.axes)
    return Fixed(default) if default else None


def check_inputs(
    data: Mapping[str, Any], features: Mapping[str, Feature], model: str
) -> dict[str, Array]:
    """The inputs as arrays of the declared types, checked against every declared constraint.

    Raises:
        AsrbuildError: a name, type or shape is wrong; it names the input and the accepted values.
    """
    if not isinstance(data, Mapping):
        raise AsrbuildError(
            f"inputs must be a dict of arrays by name, got {type(data).__name__}",
            file=model,
            fix=_expected(features),
        )
    unknown = [str(name) for name in data if name not in features]
    if unknown:
        raise AsrbuildError(
            f"no such input: {', '.join(unknown)}", file=model, fix=_expected(features)
        )
    for feature in features.values():
        if feature.kind != "array":
            raise AsrbuildError(
                f"input {feature.name} is not an array; the executor takes arrays only",
                file=model,
                fix="convert the model again with ct.TensorType inputs",
            )
    missing = [f.name for f in features.values() if f.name not in data and f.default_value is None]
    if missing:
        raise AsrbuildError(
            f"missing input: {', '.join(missing)}", file=model, fix=_expected(features)
        )
    arrays = {
        feature.name: check_array(data[feature.name], feature, model)
        if feature.name in data
        else _default_array(feature, model)
        for feature in features.values()
    }
    _check_together(arrays, features, model)
    return arrays


def _check_together(
    arrays: Mapping[str, Array], features: Mapping[str, Feature], model: str
) -> None:
    """Raises unless the enumerated shapes of several inputs have the same index in their lists.

    Source: "Flexible Input Shapes" in the coremltools guide. A shape that is listed twice has the
    index of its first place (coremltools issue 2271).
    """
    shapes = {f.name: f.shape for f in features.values() if isinstance(f.shape, Enumerated)}
    if len(shapes) < 2:
        return
    if len({len(one.shapes) for one in shapes.values()}) > 1:
        raise AsrbuildError(
            f"the inputs {', '.join(shapes)} enumerate different numbers of shapes, which Core ML "
            "does not take",
            file=model,
            fix="convert again with equally long lists, or with a range of sizes",
        )
    if len({one.shapes.index(arrays[name].shape) for name, one in shapes.items()}) > 1:
        given = ", ".join(f"{name} {arrays[name].shape}" for name in shapes)
        together = " or ".join(
            ", ".join(f"{name} {shape}" for name, shape in zip(shapes, row, strict=True))
            for row in zip(*(one.shapes for one in shapes.values()), strict=True)
        )
        raise AsrbuildError(
            f"the package does not take these shapes together: {given}",
            file=model,
            fix=f"give {together}",
        )


def check_array(value: Any, feature: Feature, model: str) -> Array:
    """One value as an array of the feature's type, with a checked shape.

    Raises:
        AsrbuildError: its type or shape is wrong, or it is not an array.
    """
    try:
        array = np.asarray(value)
    except Exception as error:  # any error of the object's own __array__
        raise AsrbuildError(
            f"input {feature.name} is not an array: {error}", file=model, fix=_expected_one(feature)
        ) from error
    if feature.shape is not None and not feature.shape.allows(array.shape):
        raise AsrbuildError(
            f"input {feature.name} has shape {array.shape}, the package takes {feature.shape}",
            file=model,
            fix=f"give {feature.name} a shape it takes, or convert with other shapes",
        )
    if array.dtype == feature.dtype:
        return array
    if not _converts(array, feature.dtype):
        raise AsrbuildError(
            f"input {feature.name} is {array.dtype}, the package takes {feature.dtype}",
            file=model,
            fix=f"pass {feature.name}.astype('{feature.dtype}')",
        )
    with np.errstate(over="ignore"):
        return array.astype(feature.dtype)


def _converts(array: Array, dtype: np.dtype[Any]) -> bool:
    """Whether an array can be converted: any number to a float, an integer to one that it fits."""
    if dtype.kind == "f":
        return array.dtype.kind in "fiu"
    if array.dtype.kind not in "iu":
        return False
    limits = np.iinfo(dtype)
    return array.size == 0 or bool(array.min() >= limits.min and array.max() <= limits.max)


def _default_array(feature: Feature, model: str) -> Array:
    if feature.shape is None:
        raise AsrbuildError(f"optional input {feature.name} declares no shape", fix="pass it")
    return filled(default_shape(feature.shape), feature.default_value, feature, model)


def filled(shape: tuple[int, ...], value: float | None, feature: Feature, model: str) -> Array:
    """An array of the feature's type with one value everywhere.

    Raises:
        AsrbuildError: no array can have its declared shape or value.
    """
    size = math.prod(shape) * feature.dtype.itemsize
    try:
        if min(shape, default=0) < 0 or size > _LARGEST_FILLED:
            raise ValueError(f"{size} bytes")
        return np.full(shape, value, feature.dtype)
    except (ValueError, OverflowError) as error:
        raise AsrbuildError(
            f"{feature.name} is declared as {feature.dtype} {shape} of {value}, which cannot be "
            f"made: {error}",
            file=model,
            fix="the package is damaged: build it again, or copy it again from a good copy",
        ) from error


def _expected(features: Mapping[str, Feature]) -> str:
    return "the inputs are " + "; ".join(_expected_one(f) for f in features.values())


def _expected_one(feature: Feature) -> str:
    return f"{feature.name}: {feature.dtype} {feature.shape}"


def read_sequenced(features: Mapping[str, Feature]) -> dict[str, Feature]:
    """The features of a network that pads its arrays to five axes; they may have the first two.

    Raises:
        AsrbuildError: a shape has neither one nor three axes, so their meaning is unknown.
    """
    found = {}
    for feature in features.values():
        shape = feature.shape
        if isinstance(shape, Fixed | Ranged | Enumerated):
            if len(default_shape(shape)) not in (1, 3):
                raise AsrbuildError(
                    f"{feature.name} has the shape {shape} in a network that pads arrays to five "
                    "axes; the format knows one axis (C) or three (C, H, W)",
                    fix="convert it again with coremltools 4 or later",
                )
            shape = Sequenced(shape)
        found[feature.name] = replace(feature, shape=shape)
    return found
