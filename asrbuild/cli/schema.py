"""``asrbuild schema``."""

from __future__ import annotations

from asrbuild.base import terminal


def schema() -> None:
    """Print the JSON Schema of manifest.json.

    Examples:
        asrbuild schema > manifest.schema.json
    """
    from asrbuild.artifact.reading import json_schema

    terminal.say_json(json_schema())
