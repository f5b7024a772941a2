"""The reference of manifest.json, from the models that read it."""

from __future__ import annotations

from typing import Any


def page() -> str:
    """Every key of the manifest, by section; `asrbuild schema` prints the same as JSON Schema."""
    from asrbuild.artifact.reading import json_schema

    schema = json_schema()
    lines = [
        "# The manifest",
        "",
        "`manifest.json` is the contract between a build and an app. `asrbuild schema` prints "
        "the JSON Schema from which this page is made. A reader ignores keys that a newer minor "
        "version added; see [versions](../versioning.md).",
        "",
    ]
    heads = [("Manifest", schema)] if "properties" in schema else []
    for name, definition in [*heads, *sorted(schema.get("$defs", {}).items())]:
        properties = definition.get("properties")
        if not properties:
            continue
        lines += [
            f"## {name}",
            "",
            *([definition["description"], ""] if "description" in definition else []),
        ]
        lines += ["| key | type | required | meaning |", "|---|---|---|---|"]
        required = set(definition.get("required", ()))
        for key, value in properties.items():
            meaning = " ".join(str(value.get("description", "")).split()).replace("|", "\\|")
            needed = "yes" if key in required else ""
            lines.append(f"| `{key}` | {kind(value)} | {needed} | {meaning.replace('<', '&lt;')} |")
        lines.append("")
    return "\n".join(lines)


def kind(value: dict[str, Any]) -> str:
    """The type of a value, in words; a section is a link to it."""
    if "$ref" in value:
        name = value["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "const" in value:
        return f"`{value['const']}`"
    if "enum" in value:
        return ", ".join(f"`{each}`" for each in value["enum"])
    for several in ("anyOf", "oneOf"):
        if several in value:
            return " or ".join(dict.fromkeys(map(kind, value[several])))
    if value.get("type") == "array":
        inner = value.get("items") or (value.get("prefixItems") or [{}])[0]
        return f"list of {kind(inner)}"
    if value.get("type") == "object" and isinstance(value.get("additionalProperties"), dict):
        return f"name to {kind(value['additionalProperties'])}"
    return str(value.get("type", "any")).replace("integer", "whole number")
