"""``asrbuild schema``: prints the JSON Schema of a manifest."""

from __future__ import annotations

from typing import Annotated

import typer

from asrbuild.base import terminal


def schema(
    major: Annotated[
        int, typer.Option("--major", min=1, max=2, help="The manifest's major version.")
    ] = 1,
) -> None:
    """Print the JSON Schema of manifest.json.

    Examples:
        asrbuild schema > manifest.schema.json
        asrbuild schema --major 2
    """
    from asrbuild.artifact.reading import json_schema

    terminal.say_json(json_schema(major))
