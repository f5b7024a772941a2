"""The Swift types match the JSON Schema, and every Swift file parses."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from tree_sitter import Language, Node, Parser
from tree_sitter_swift import language

from asrbuild.artifact.manifest import Manifest, Section
from asrbuild.artifact.reading import json_schema
from asrbuild.base.errors import AsrbuildError
from asrbuild.handover.app import swift
from asrbuild.handover.app.checking import check_syntax
from asrbuild.handover.app.kit import TEMPLATES, minimum_systems, write_swift
from tests.manifests import MANIFEST
from tests.paths import ROOT

SCALARS = {"string": "String", "integer": "Int", "number": "Double", "boolean": "Bool"}


def nodes(node: Node, kind: str) -> Iterator[Node]:
    """The outermost nodes of a kind."""
    for child in node.children:
        if child.type == kind:
            yield child
        else:
            yield from nodes(child, kind)


def text(node: Node | None) -> str:
    assert node is not None
    assert node.text is not None
    return node.text.decode()


@functools.cache
def declared() -> dict[str, Node]:
    """The structs of ASRManifest.swift by name."""
    root = Parser(Language(language())).parse(swift.manifest_swift().encode()).root_node
    assert not root.has_error
    found: dict[str, Node] = {}

    def look(node: Node, inside: str) -> None:
        for child in node.children:
            if child.type != "class_declaration":
                look(child, inside)
                continue
            kind = text(child.child_by_field_name("declaration_kind"))
            name = text(child.child_by_field_name("name"))
            body = child.child_by_field_name("body")
            assert body is not None
            if kind == "struct":
                found[name] = body
            if kind == "extension":
                assert name == swift.ROOT, "every nested type lies in the manifest's namespace"
                look(body, name)

    look(root, "")
    return found


def properties(body: Node) -> dict[str, str]:
    """Stored property -> its type, as written."""
    found = {}
    for node in body.children:
        if node.type == "property_declaration" and text(node).startswith("public var "):
            name, kind = text(node).removeprefix("public var ").split(": ", 1)
            found[name.strip("`")] = kind
    return found


def enums(body: Node) -> dict[str, dict[str, str]]:
    """Enum -> case -> raw value."""
    found = {}
    for node in body.children:
        if node.type == "class_declaration":
            assert text(node.child_by_field_name("declaration_kind")) == "enum"
            cases = {}
            for entry in nodes(node, "enum_entry"):
                name, _, raw = text(entry).removeprefix("case ").partition(" = ")
                name = name.strip("`")
                cases[name] = json.loads(raw) if raw else name
            found[text(node.child_by_field_name("name"))] = cases
    return found


@functools.cache
def sections() -> dict[str, list[dict[str, Any]]]:
    """Swift struct -> the schemas of its section in both versions, without unread ones."""
    found: dict[str, list[dict[str, Any]]] = {}

    def look(described: Any, schema: dict[str, Any]) -> None:
        if isinstance(described, list):
            for inner in described:
                look(inner, schema)
        if not isinstance(described, dict):
            return
        if "$ref" in described:
            key = described["$ref"].rpartition("/")[2]
            add(struct(key), schema["$defs"][key], schema)
        for inner in described.values():
            look(inner, schema)

    def add(name: str, described: dict[str, Any], schema: dict[str, Any]) -> None:
        if described not in found.setdefault(name, []):
            found[name].append(described)
            look([d for key, d in described["properties"].items() if read(name, key)], schema)

    for major in (1, 2):
        add(swift.ROOT, json_schema(major), json_schema(major))
    return found


def struct(key: str) -> str:
    """The name of a definition's struct: one for all kinds of features, without the version."""
    name = key.rpartition("__")[2]
    return "Features" if name in ("MfccTf", "LogMel", "NoFeatures") else name


def read(name: str, key: str) -> bool:
    return key not in swift.NOT_READ.get(name, ())


def swift_type(described: dict[str, Any], choices: dict[str, dict[str, str]]) -> str:
    """The Swift type of a JSON Schema, written from the schema alone."""
    several = described.get("anyOf", []) + described.get("oneOf", [])
    if several:
        (inner,) = {swift_type(one, choices) for one in several if one != {"type": "null"}}
        return inner + "?" * ({"type": "null"} in several)
    if not described.keys() & {"$ref", "enum", "const", "type"}:
        return "ASRJSON"
    if "$ref" in described:
        return struct(described["$ref"].rpartition("/")[2])
    values = described.get("enum") or ([described["const"]] if "const" in described else None)
    if values:
        names = [name for name, cases in choices.items() if {*values} <= {*cases.values()}]
        # A choice that may get more values is a text.
        return names[0] if names else "String"
    if described.get("type") == "array":
        return f"[{swift_type(described['items'], choices)}]"
    if described.get("type") == "object":
        inner = described["additionalProperties"]
        return f"[String: {'ASRJSON' if inner is True else swift_type(inner, choices)}]"
    return SCALARS[described["type"]]


def test_exactly_the_sections_that_are_read_have_structs() -> None:
    assert set(declared()) == set(sections())
    assert not {"Verification", "Provenance", "ReferenceVector", "Tuned"} & set(declared())


@pytest.mark.parametrize("name", sections())
def test_properties_types_and_choices_are_those_of_both_schemas(name: str) -> None:
    schemas, body = sections()[name], declared()[name]
    assert all(schema["additionalProperties"] is False for schema in schemas)
    choices = enums(body)
    keys = choices.pop("CodingKeys")
    expected: dict[str, str] = {}
    readings: dict[str, str] = {}
    for key in dict.fromkeys(key for schema in schemas for key in schema["properties"]):
        if not read(name, key):
            continue
        having = [schema for schema in schemas if key in schema["properties"]]
        types = {swift_type(schema["properties"][key], choices) for schema in having}
        (bare,) = {kind.rstrip("?") for kind in types}
        everywhere = len(having) == len(schemas) and all(key in s["required"] for s in having)
        nullable = not everywhere or any(kind.endswith("?") for kind in types)
        expected[key] = bare + "?" * nullable
        how = "nullable" if nullable else "value"
        readings[key] = how if everywhere else "optional"
    assert {keys[prop]: kind for prop, kind in properties(body).items()} == expected
    assert {*choices} <= {kind.strip("?[]") for kind in expected.values()}
    # Each is read once, and as optional only if it may be null.
    (reader,) = (node for node in body.children if node.type == "init_declaration")
    lines = [line.strip() for line in text(reader).splitlines() if "try fields." in line]
    props = {key: prop for prop, key in keys.items()}
    assert lines == [
        f"self.{props[k]} = try fields.{how}(.{props[k]})" for k, how in readings.items()
    ]
    passed = [
        key for key in swift.NOT_READ.get(name, ()) if any(key in s["properties"] for s in schemas)
    ]
    assert all(f'"{key}"' in text(reader) for key in passed)


@pytest.mark.parametrize("choice", ["DecoderType", "Kind", "Meaning", "Dtype"])
def test_a_choice_has_exactly_the_values_of_both_versions(choice: str) -> None:
    (owner, cases), *rest = (
        [(name, enums(body)[choice]) for name, body in declared().items() if choice in enums(body)]
        if choice != "Kind"
        else [("Decoder", enums(declared()["Decoder"])["Kind"])]
    )
    key = {"DecoderType": "type"}.get(choice, choice.lower())
    described = [s["properties"][key] for s in sections()[owner] if key in s["properties"]]
    assert {*cases.values()} == {value for one in described for value in one["enum"]}
    assert not rest


def test_a_type_without_a_swift_spelling_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Odd(Section):
        sizes: set[int]

    monkeypatch.setattr(swift, "VERSIONS", (("1.0", Odd),))
    with pytest.raises(
        TypeError, match=r"ASRManifest\.sizes is set\[int\], which has no Swift type"
    ):
        swift.manifest_swift()


def test_a_key_that_a_minor_version_added_may_be_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    class Odd(Section):
        first: int
        second: int | None
        third: list[str] | None = None

    monkeypatch.setattr(swift, "VERSIONS", (("1.0", Odd),))
    made = swift.manifest_swift()
    assert not Parser(Language(language())).parse(made.encode()).root_node.has_error
    assert "public var third: [String]?" in made
    assert "self.third = try fields.optional(.third)" in made
    assert "self.second = try fields.nullable(.second)" in made


def test_reserved_names_of_swift_are_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    class Odd(Section):
        default: int
        protocol: Literal["CPU_AND_GPU", "<=", "4bit", "case", "ds_ctcdecoder"]

    monkeypatch.setattr(swift, "VERSIONS", (("1.0", Odd),))
    made = swift.manifest_swift()
    assert not Parser(Language(language())).parse(made.encode()).root_node.has_error
    assert "public var `default`: Int" in made
    assert "self.default = try fields.value(.default)" in made
    assert "public enum ASRManifestProtocol: String" in made
    for case in ('cpuAndGPU = "CPU_AND_GPU"', 'atMost = "<="', '_4bit = "4bit"', "`case`"):
        assert f"        case {case}\n" in made


@pytest.fixture
def manifest() -> Manifest:
    return Manifest.model_validate_json(json.dumps(MANIFEST))


def test_every_file_parses(tmp_path: Path) -> None:
    write_swift(tmp_path / "ASRKit")
    check = check_syntax(tmp_path / "ASRKit")
    assert check.passed, check.detail
    # The files of the templates, and the one that is generated from the manifest's models.
    count = 1 + len(list((TEMPLATES / "ASRKit").rglob("*.swift")))
    assert check.detail.startswith(f"{count} files")


@pytest.mark.parametrize("broken", ["func f( {", "let x: = 3", "struct S {"])
def test_a_file_that_does_not_parse_is_named(tmp_path: Path, broken: str) -> None:
    write_swift(tmp_path / "ASRKit")
    with (tmp_path / "ASRKit/Sources/ASRCore/Model/Rows.swift").open("a") as file:
        file.write(broken)
    check = check_syntax(tmp_path / "ASRKit")
    assert check.passed is False
    assert "Sources/ASRCore/Model/Rows.swift:" in check.detail


@pytest.mark.parametrize(
    ("package", "expected"),
    [
        ({"iOS": "13", "macOS": "10.15"}, {"iOS": "15", "macOS": "12"}),
        ({"iOS": "17", "macOS": "14"}, {"iOS": "17", "macOS": "14"}),
        ({"iOS": "18"}, {"iOS": "18", "macOS": "12"}),
    ],
)
def test_the_readme_names_the_requirements_of_package_and_code(
    manifest: Manifest, package: dict[str, str], expected: dict[str, str]
) -> None:
    model = manifest.model.model_copy(update={"minimum_os": package})
    assert minimum_systems(manifest.model_copy(update={"model": model})) == expected


@pytest.mark.parametrize("version", ["", "17b", "17.", '17"), .custom("', "-1", "1.2.3.4"])
def test_malformed_versions_of_a_system_are_refused(manifest: Manifest, version: str) -> None:
    model = manifest.model.model_copy(update={"minimum_os": {"iOS": version}})
    with pytest.raises(AsrbuildError, match="is not the version of a system"):
        minimum_systems(manifest.model_copy(update={"model": model}))


def test_the_kit_carries_the_licence_of_its_code(tmp_path: Path) -> None:
    write_swift(tmp_path)
    assert (tmp_path / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
