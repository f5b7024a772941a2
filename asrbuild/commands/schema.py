"""``asrbuild schema``."""

from __future__ import annotations

from asrbuild import terminal


def schema() -> None:
    """Print the JSON Schema of manifest.json.

    Example: asrbuild schema > manifest.schema.json
    """
    from asrbuild.manifest import json_schema

    terminal.say_json(json_schema())
