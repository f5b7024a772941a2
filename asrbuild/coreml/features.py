"""Describes the inputs, outputs and states of a Core ML model for a person."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

#: ``ArrayFeatureType.ArrayDataType`` -> numpy's name.
_ARRAY_TYPES = {
    65552: "float16",
    65568: "float32",
    65600: "float64",
    131104: "int32",
    131080: "int8",
}
#: ``ImageFeatureType.ColorSpace``.
_COLOURS = {10: "grayscale", 20: "RGB", 30: "BGR", 40: "grayscale float16"}
_SCALARS = {"int64Type": "int64", "doubleType": "float64", "stringType": "string"}


@dataclass(frozen=True)
class FeatureSummary:
    """An input, output or state.

    ``dtype``: numpy's name for an array, ``image RGB``, ``string``, ``dictionary of string``.
    ``axes``: the smallest and largest size of each axis, None: unbounded; ``shapes``: the
    enumerated shapes. Both are None if the package does not declare them. The axes of an image are
    (height, width) in pixels, that of a sequence is its length. ``optional_value`` is the value of
    an optional array that is not given.
    """

    name: str
    dtype: str
    default: tuple[int, ...] | None
    axes: tuple[tuple[int, int | None], ...] | None
    shapes: tuple[tuple[int, ...], ...] | None
    optional: bool
    optional_value: float | None = None

    @property
    def shape_text(self) -> str:
        """``(1, 1..100, 19, 26)``, ``(1, 8|16|32, 19, 26)`` or ``not declared``."""
        if self.shapes is not None:
            if len({len(shape) for shape in self.shapes}) > 1:
                return " or ".join(map(str, self.shapes))
            columns = zip(*self.shapes, strict=True)
            sizes = ("|".join(str(n) for n in dict.fromkeys(column)) for column in columns)
        elif self.axes is not None:
            sizes = (
                str(low) if low == high else f"{low}..{'' if high is None else high}"
                for low, high in self.axes
            )
        else:
            return "not declared"
        return f"({', '.join(sizes)})"


def read_feature(described: Any) -> FeatureSummary:
    """Reads a ``FeatureDescription`` message, or the description of a state."""
    kind = described.type.WhichOneof("Type") or "unknown"
    value: Any = getattr(described.type, kind, None)
    optional = described.type.isOptional
    if kind == "stateType":
        return _array(described.name, value.arrayType, optional)
    if kind == "multiArrayType":
        return _array(described.name, value, optional)
    if kind == "imageType":
        return _image(described.name, value, optional)
    if kind == "sequenceType":
        item = value.WhichOneof("Type") or "unknown"
        axes = (_range(value.sizeRange),) if value.HasField("sizeRange") else None
        dtype = f"sequence of {_SCALARS.get(item, item)}"
        return FeatureSummary(described.name, dtype, None, axes, None, optional)
    if kind == "dictionaryType":
        key = (value.WhichOneof("KeyType") or "unknown").replace("KeyType", "Type")
        dtype = f"dictionary of {_SCALARS.get(key, key)}"
    else:
        dtype = _SCALARS.get(kind, kind)
    return FeatureSummary(described.name, dtype, None, None, None, optional)


def _array(name: str, array: Any, optional: bool) -> FeatureSummary:
    default = tuple(map(int, array.shape)) or None
    flexible = array.WhichOneof("ShapeFlexibility")
    axes: tuple[tuple[int, int | None], ...] | None
    axes = None if default is None else tuple((size, size) for size in default)
    shapes = None
    if flexible == "shapeRange":
        axes = tuple(map(_range, array.shapeRange.sizeRanges))
    elif flexible == "enumeratedShapes":
        axes = None
        shapes = tuple(tuple(map(int, item.shape)) for item in array.enumeratedShapes.shapes)
    dtype = _ARRAY_TYPES.get(array.dataType, str(array.dataType))
    given = array.WhichOneof("defaultOptionalValue")
    absent = float(getattr(array, given)) if given else 0.0
    return FeatureSummary(
        name, dtype, default, axes, shapes, optional, absent if optional else None
    )


def _image(name: str, image: Any, optional: bool) -> FeatureSummary:
    default = (image.height, image.width)
    flexible = image.WhichOneof("SizeFlexibility")
    axes: tuple[tuple[int, int | None], ...] | None = tuple((size, size) for size in default)
    shapes = None
    if flexible == "imageSizeRange":
        axes = (_range(image.imageSizeRange.heightRange), _range(image.imageSizeRange.widthRange))
    elif flexible == "enumeratedSizes":
        axes = None
        shapes = tuple((size.height, size.width) for size in image.enumeratedSizes.sizes)
    dtype = f"image {_COLOURS.get(image.colorSpace, 'of unknown colours')}"
    return FeatureSummary(name, dtype, default, axes, shapes, optional)


def _range(sizes: Any) -> tuple[int, int | None]:
    # An upper bound below 0 means unbounded.
    return sizes.lowerBound, sizes.upperBound if sizes.upperBound >= 0 else None
