"""``asrbuild schema``."""

from __future__ import annotations

import json

import typer


def schema() -> None:
    """Print the JSON Schema of manifest.json.

    Example: asrbuild schema > manifest.schema.json
    """
    from asrbuild.manifest import json_schema

    typer.echo(json.dumps(json_schema(), indent=2))
