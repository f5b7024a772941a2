"""Generates ``ASRManifest.swift``, the manifest's reader in Swift, as strict as the Python models.

The structs are made from the models of both versions of the manifest, so they cannot differ. A
section of both becomes one struct: a field that only one of them has is optional. A device reads
only the keys that it needs to run the package; ``NOT_READ`` lists the others. A field whose type
has no Swift equivalent here is an error.
"""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from asrbuild.artifact import manifest, manifest2
from asrbuild.artifact.manifest import Section

ROOT = "ASRManifest"
#: The manifests of a device: their versions and models, the oldest first.
VERSIONS: tuple[tuple[str, type[Section]], ...] = (
    (manifest.SCHEMA_VERSION, manifest.Manifest),
    (manifest2.SCHEMA_VERSION, manifest2.Manifest),
)
#: Section -> its keys that a device does not read, about the origin of an artifact.
NOT_READ = {
    ROOT: ("verification", "provenance"),
    "Features": ("reference",),
    "Model": ("lstm",),
    "State": ("valid",),
    "Decoder": ("tuned",),
}
#: Choices that a newer minor version may extend without a change for a device.
OPEN = (("FileEntry", "role"),)
#: Sections of a tagged union, which is one struct in Swift.
_UNION = {"MfccTf": "Features", "LogMel": "Features", "NoFeatures": "Features"}
_SCALARS = {str: "String", int: "Int", float: "Double", bool: "Bool", Any: "ASRJSON"}
_SYMBOLS = {"<=": "at_most", ">=": "at_least", "<": "below", ">": "above", "==": "equal"}
_ACRONYMS = {"CPU", "GPU", "NE"}
#: Swift keywords: as a name, each needs backticks.
_RESERVED = frozenset(
    """
    as associatedtype break case catch class continue default defer deinit do else enum extension
    fallthrough false fileprivate for func guard if import in init inout internal is let nil
    operator precedencegroup private protocol public repeat rethrows return self static struct
    subscript super switch throw throws true try typealias var where while
    """.split()
)


@dataclass(frozen=True)
class _Field:
    """One property: its JSON key, Swift name, Swift type without ``?``, and its reading.

    ``reading``: ``value``, ``nullable`` (the key is present, its value may be null) or ``optional``
    (the key may be absent, as a key of only one version is in the other).
    """

    key: str
    name: str
    type: str
    reading: str

    @property
    def nullable(self) -> bool:
        return self.reading != "value"

    @property
    def plain(self) -> str:
        """The name without backticks, for use after a dot."""
        return self.name.strip("`")


def manifest_swift() -> str:
    """The text of ``ASRManifest.swift``.

    Raises:
        TypeError: a field of a model has no Swift type.
    """
    found: dict[str, list[type[Section]]] = {}
    for _, model in VERSIONS:
        _collect(model, found)
    versions = ", ".join(f'"{version}"' for version, _ in VERSIONS)
    head = [
        "    /// The newest schema of each major version that this code knows; another major is",
        "    /// refused, and of a newer minor version keys that are not known are passed over.",
        f"    public static let supportedSchemaVersions = [{versions}]",
        "",
    ]
    parts = ["// Made by asrbuild from the models of its JSON Schema. Do not edit."]
    for name, models in found.items():
        code = _struct(name, models, head if name == ROOT else [])
        parts.append(code if name == ROOT else f"extension {ROOT} {{\n{_indented(code)}\n}}")
    return "\n\n".join(parts) + "\n"


def swift_name(model: type[Section]) -> str:
    """The name of a section's struct."""
    is_root = any(model is root for _, root in VERSIONS)
    return ROOT if is_root else _UNION.get(model.__name__, model.__name__)


def _collect(model: type[Section], found: dict[str, list[type[Section]]]) -> None:
    """Adds the model and every section in it that a device reads, in order of appearance."""
    name = swift_name(model)
    models = found.setdefault(name, [])
    if model in models:
        return
    models.append(model)
    for key, field in model.model_fields.items():
        if key not in NOT_READ.get(name, ()):
            for inner in _sections(field.annotation):
                _collect(inner, found)


def _sections(annotation: Any) -> Iterator[type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for argument in get_args(annotation):
        yield from _sections(argument)


def _struct(name: str, models: list[type[Section]], head: list[str]) -> str:
    skipped = NOT_READ.get(name, ())
    keys = dict.fromkeys(key for model in models for key in model.model_fields)
    fields, enums = [], []
    for key in keys:
        if key in skipped:
            continue
        field, values = _field(name, key, models)
        fields.append(field)
        if values:
            enums.append(_enum(field.type, f"The choices of `{key}`.", values))
    lines = [*_documentation(models[0]), f"public struct {name}: Decodable, Equatable, Sendable {{"]
    lines += head
    for field in fields:
        lines += [
            f"    /// The manifest's `{field.key}`.",
            f"    public var {field.name}: {field.type}{'?' * field.nullable}",
        ]
    lines += [f"\n{_indented(enum)}" for enum in enums]
    lines += ["", "    enum CodingKeys: String, CodingKey, CaseIterable {"]
    lines += [
        f"        case {f.name}" + (f' = "{f.key}"' if f.name.strip("`") != f.key else "")
        for f in fields
    ]
    present = [key for key in skipped if key in keys]
    passed = ", passing: [" + ", ".join(f'"{key}"' for key in present) + "]" if present else ""
    lines += [
        "    }",
        "",
        "    /// Reads the section as strictly as the version of its manifest allows.",
        "    public init(from source: any Swift.Decoder) throws {",
        f"        let fields = try StrictFields<CodingKeys>(source{passed})",
    ]
    lines += [f"        self.{f.plain} = try fields.{f.reading}(.{f.plain})" for f in fields]
    return "\n".join([*lines, "    }", "}"])


def _field(name: str, key: str, models: list[type[Section]]) -> tuple[_Field, tuple[str, ...]]:
    """One property, and its choices, if any."""
    having = [model.model_fields[key] for model in models if key in model.model_fields]
    values = dict.fromkeys(value for info in having for value in _literal(info.annotation))
    inner = [_optional(info.annotation) for info in having]
    if values and (name, key) in OPEN:
        types, values = {"String"}, {}
    elif values:
        types = {_type_name(key, name)}
    else:
        types = {_swift_type(one, f"{name}.{key}") for one, _ in inner}
    if len(types) != 1:
        raise TypeError(f"the manifest's {name}.{key} has the types {', '.join(sorted(types))}")
    optional = len(having) < len(models) or not all(info.is_required() for info in having)
    nullable = any(null for _, null in inner)
    reading = "optional" if optional else "nullable" if nullable else "value"
    return _Field(key, _identifier(key), types.pop(), reading), tuple(values)


def _documentation(model: type[Section]) -> list[str]:
    text = inspect.cleandoc(model.__doc__ or "").replace("``", "`")
    return [f"/// {line}".rstrip() for line in text.splitlines()]


def _enum(name: str, about: str, values: tuple[str, ...]) -> str:
    cases = []
    for value in values:
        case = _identifier(value)
        cases.append(f"    /// `{value}`.")
        cases.append(f"    case {case}" + (f' = "{value}"' if case.strip("`") != value else ""))
    head = f"public enum {name}: String, Codable, CaseIterable, Sendable {{"
    return "\n".join([f"/// {about}", head, *cases, "}"])


def _literal(annotation: Any) -> tuple[str, ...]:
    """The choices of a field of strings; empty for any other field."""
    inner, _ = _optional(annotation)
    values = get_args(inner) if get_origin(inner) is Literal else ()
    return values if all(isinstance(value, str) for value in values) else ()


def _optional(annotation: Any) -> tuple[Any, bool]:
    """``X | None`` as X and True; a bounded X is X."""
    if get_origin(annotation) in (Union, types.UnionType):
        rest = [argument for argument in get_args(annotation) if argument is not type(None)]
        if len(rest) < len(get_args(annotation)):
            return _unbounded(rest[0]), True
        # The sections of a union are one struct.
        if len({swift_name(_unbounded(one)) for one in rest}) == 1:
            return _unbounded(rest[0]), False
    return _unbounded(annotation), False


def _unbounded(annotation: Any) -> Any:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _swift_type(annotation: Any, where: str) -> str:
    annotation = _unbounded(annotation)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is list:
        return f"[{_swift_type(arguments[0], where)}]"
    if origin is dict and arguments[0] is str:
        return f"[String: {_swift_type(arguments[1], where)}]"
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return swift_name(annotation)
    if annotation in _SCALARS:
        return _SCALARS[annotation]
    # A test writes the code of every section, so this error meets a developer, not a user.
    raise TypeError(f"the manifest's {where} is {annotation}, which has no Swift type")


def _words(text: str) -> list[str]:
    text = _SYMBOLS.get(text, text)
    words = [word for word in re.split(r"[^A-Za-z0-9]+", text) if word]
    if not words:
        raise ValueError(f"{text!r} cannot be a name in Swift: add it to _SYMBOLS")
    return words


def _capital(word: str) -> str:
    return word if word in _ACRONYMS else word[0].upper() + word[1:].lower()


def _identifier(text: str) -> str:
    """``steps_per_chunk`` as ``stepsPerChunk``, ``CPU_AND_GPU`` as ``cpuAndGPU``."""
    first, *rest = _words(text)
    name = first.lower() + "".join(_capital(word) for word in rest)
    if name[0].isdigit():
        name = "_" + name
    return f"`{name}`" if name in _RESERVED else name


def _type_name(key: str, owner: str) -> str:
    name = "".join(_capital(word) for word in _words(key))
    # Swift reserves these names of nested types.
    return owner + name if name in ("Type", "Protocol") else name


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" if line else "" for line in text.splitlines())
