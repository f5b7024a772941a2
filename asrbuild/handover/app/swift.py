"""The manifest's models as Swift: ``ASRManifest.swift``, Codable structs as strict as pydantic's.

The structs are made from the models whose schema ``asrbuild schema`` prints, so they cannot differ.
A field whose type has no Swift equivalent here is an error.
"""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from asrbuild.artifact.manifest import SCHEMA_VERSION, Manifest, Section

ROOT = "ASRManifest"
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
    """One property: its JSON key, Swift name, Swift type without ``?``, and whether it has one.

    ``reading``: ``value``, ``nullable`` (null must be written out) or ``optional`` (may be absent).
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
        """The name without backticks, as it is written after a dot."""
        return self.name.strip("`")


def manifest_swift() -> str:
    """``ASRManifest.swift``.

    Raises:
        AsrbuildError: a model has a field that has no Swift type.
    """
    nested = [model for model in _reachable(Manifest) if model is not Manifest]
    parts = [
        "// Made by asrbuild from the models of its JSON Schema. Do not edit.",
        _struct(Manifest),
        *(f"extension {ROOT} {{\n{_indented(_struct(model))}\n}}" for model in nested),
    ]
    return "\n\n".join(parts) + "\n"


def _reachable(model: type[Section], seen: list[type[Section]] | None = None) -> list[Any]:
    """The model and every section in it, each once, in order of appearance."""
    seen = [] if seen is None else seen
    if model not in seen:
        seen.append(model)
        for field in model.model_fields.values():
            for inner in _sections(field.annotation):
                _reachable(inner, seen)
    return seen


def _sections(annotation: Any) -> Iterator[type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for argument in get_args(annotation):
        yield from _sections(argument)


def _struct(model: type[Section]) -> str:
    name = ROOT if model is Manifest else model.__name__
    fields, enums = [], []
    for key, info in model.model_fields.items():
        values = _literal(info.annotation)
        enum = None
        if values:
            enum = _type_name(key, name)
            enums.append(_enum(enum, values))
        inner, nullable = _optional(info.annotation)
        swift = enum or _swift_type(inner, f"{model.__name__}.{key}")
        reading = "value" if not nullable else "nullable" if info.is_required() else "optional"
        fields.append(_Field(key, _identifier(key), swift, reading))
    lines = [*_documentation(model), f"public struct {name}: Codable, Equatable, Sendable {{"]
    if model is Manifest:
        lines += [
            "    /// The schema of this code; another major version is refused.",
            f'    public static let supportedSchemaVersion = "{SCHEMA_VERSION}"',
            "",
        ]
    lines += [f"    public var {f.name}: {f.type}{'?' * f.nullable}" for f in fields]
    lines += [f"\n{_indented(enum)}" for enum in enums]
    lines += ["", "    enum CodingKeys: String, CodingKey, CaseIterable {"]
    lines += [
        f"        case {f.name}" + (f' = "{f.key}"' if f.name.strip("`") != f.key else "")
        for f in fields
    ]
    lines += [
        "    }",
        "",
        "    public init(from source: any Swift.Decoder) throws {",
        "        let fields = try StrictFields<CodingKeys>(source)",
    ]
    lines += [f"        self.{f.plain} = try fields.{f.reading}(.{f.plain})" for f in fields]
    lines += ["    }"]
    if any(f.nullable for f in fields):
        # Swift's own encoding would leave a null out.
        lines += [
            "",
            "    public func encode(to target: any Swift.Encoder) throws {",
            "        var container = target.container(keyedBy: CodingKeys.self)",
            *(
                f"        try container.encode{'IfPresent' * (f.reading == 'optional')}"
                f"(self.{f.plain}, forKey: .{f.plain})"
                for f in fields
            ),
            "    }",
        ]
    return "\n".join([*lines, "}"])


def _documentation(model: type[Section]) -> list[str]:
    text = inspect.cleandoc(model.__doc__ or "").replace("``", "`")
    return [f"/// {line}".rstrip() for line in text.splitlines()]


def _enum(name: str, values: tuple[str, ...]) -> str:
    cases = []
    for value in values:
        case = _identifier(value)
        cases.append(f"    case {case}" + (f' = "{value}"' if case.strip("`") != value else ""))
    head = f"public enum {name}: String, Codable, CaseIterable, Sendable {{"
    return "\n".join([head, *cases, "}"])


def _literal(annotation: Any) -> tuple[str, ...]:
    """The choices of a field of strings; empty for any other field."""
    inner, _ = _optional(annotation)
    values = get_args(inner) if get_origin(inner) is Literal else ()
    return values if all(isinstance(value, str) for value in values) else ()


def _optional(annotation: Any) -> tuple[Any, bool]:
    """``X | None`` as X and True; a bounded X is X."""
    if get_origin(annotation) in (Union, types.UnionType):
        rest = [argument for argument in get_args(annotation) if argument is not type(None)]
        if len(rest) == 1:
            return _unbounded(rest[0]), True
    return _unbounded(annotation), False


def _unbounded(annotation: Any) -> Any:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _swift_type(annotation: Any, where: str) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is list:
        return f"[{_swift_type(arguments[0], where)}]"
    if origin is dict and arguments[0] is str:
        return f"[String: {_swift_type(arguments[1], where)}]"
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation.__name__
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
