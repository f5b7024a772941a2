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
    """Nodes of a kind, not looking inside of those that were found."""
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
    """Stored property -> its type as it is written."""
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


def schema_types() -> dict[str, dict[str, Any]]:
    schema = json_schema()
    return {swift.ROOT: schema, **schema["$defs"]}


def swift_type(described: dict[str, Any], choices: dict[str, dict[str, str]]) -> str:
    """The Swift type of a JSON Schema, written from the schema alone."""
    if "anyOf" in described:
        inner, null = described["anyOf"]
        assert null == {"type": "null"}
        return swift_type(inner, choices) + "?"
    if not described.keys() & {"$ref", "enum", "const", "type"}:
        return "ASRJSON"
    if "$ref" in described:
        return described["$ref"].rpartition("/")[2]
    values = described.get("enum") or ([described["const"]] if "const" in described else None)
    if values:
        (name,) = (name for name, cases in choices.items() if [*cases.values()] == values)
        return name
    if described.get("type") == "array":
        return f"[{swift_type(described['items'], choices)}]"
    if described.get("type") == "object":
        inner = described["additionalProperties"]
        return f"[String: {'ASRJSON' if inner is True else swift_type(inner, choices)}]"
    return SCALARS[described["type"]]


def test_every_type_of_the_schema_is_there_and_no_other() -> None:
    assert set(declared()) == set(schema_types())


@pytest.mark.parametrize("name", schema_types())
def test_properties_keys_types_and_choices_are_the_schemas(name: str) -> None:
    schema, body = schema_types()[name], declared()[name]
    for key, described in schema["properties"].items():
        if key not in schema["required"]:
            assert described["default"] is None, "a key of a minor version is absent or has a value"
    assert schema["additionalProperties"] is False
    choices = enums(body)
    keys = choices.pop("CodingKeys")
    found = {keys[name]: kind for name, kind in properties(body).items()}
    assert [*keys.values()] == [*schema["properties"]]
    assert found == {
        key: swift_type(described, choices) for key, described in schema["properties"].items()
    }
    used = {kind.strip("?[]") for kind in found.values()}
    assert set(choices) <= used


@pytest.mark.parametrize("name", schema_types())
def test_every_property_is_read_once_and_null_only_where_it_may_be(name: str) -> None:
    body = declared()[name]
    (reader,) = (node for node in body.children if node.type == "init_declaration")
    lines = [line.strip() for line in text(reader).splitlines() if "try fields." in line]
    schema = schema_types()[name]
    keys = enums(body)["CodingKeys"]
    readings = {
        prop: "optional"
        if keys[prop] not in schema["required"]
        else "nullable"
        if kind.endswith("?")
        else "value"
        for prop, kind in properties(body).items()
    }
    expected = [f"self.{prop} = try fields.{how}(.{prop})" for prop, how in readings.items()]
    assert lines == expected
    nullable = any(kind.endswith("?") for kind in properties(body).values())
    assert ("func encode(to" in text(body)) == nullable, "Swift's own leaves null out"


def test_a_type_without_a_swift_spelling_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Odd(Section):
        sizes: set[int]

    monkeypatch.setattr(swift, "Manifest", Odd)
    with pytest.raises(TypeError, match=r"Odd\.sizes is set\[int\], which has no Swift type"):
        swift.manifest_swift()


def test_a_key_that_a_minor_version_added_may_be_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    class Odd(Section):
        first: int
        second: int | None
        third: list[str] | None = None

    monkeypatch.setattr(swift, "Manifest", Odd)
    made = swift.manifest_swift()
    assert not Parser(Language(language())).parse(made.encode()).root_node.has_error
    assert "public var third: [String]?" in made
    assert "self.third = try fields.optional(.third)" in made
    assert "try container.encodeIfPresent(self.third, forKey: .third)" in made
    assert "try container.encode(self.second, forKey: .second)" in made


def test_names_that_swift_keeps_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    class Odd(Section):
        default: int
        protocol: Literal["CPU_AND_GPU", "<=", "4bit", "case", "ds_ctcdecoder"]

    monkeypatch.setattr(swift, "Manifest", Odd)
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
    # The files of the templates, and the one that is made of the manifest's models.
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
def test_the_readme_names_what_package_and_code_want(
    manifest: Manifest, package: dict[str, str], expected: dict[str, str]
) -> None:
    model = manifest.model.model_copy(update={"minimum_os": package})
    assert minimum_systems(manifest.model_copy(update={"model": model})) == expected


@pytest.mark.parametrize("version", ["", "17b", "17.", '17"), .custom("', "-1", "1.2.3.4"])
def test_what_is_no_version_of_a_system_is_refused(manifest: Manifest, version: str) -> None:
    model = manifest.model.model_copy(update={"minimum_os": {"iOS": version}})
    with pytest.raises(AsrbuildError, match="is not the version of a system"):
        minimum_systems(manifest.model_copy(update={"model": model}))


def test_the_kit_carries_the_licence_of_its_code(tmp_path: Path) -> None:
    write_swift(tmp_path)
    assert (tmp_path / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
