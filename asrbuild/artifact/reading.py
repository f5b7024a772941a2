"""Reads ``manifest.json`` of either major version.

The policy, for 1.x and 2.x alike:

- A reader is strict for versions that it knows: a missing key, an unknown key, or a value out of
bounds is an error.
- A minor version only adds optional keys. Of a newer minor version of a major that it knows, a
  reader ignores, and keeps, the keys that it does not know.
- A new major version may change or drop keys. A reader refuses a major version that it does not
know.
- An artifact has the oldest version that can describe it.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from asrbuild.artifact import manifest2
from asrbuild.artifact.layout import MANIFEST
from asrbuild.artifact.manifest import FETCH, SCHEMA_VERSION, Manifest
from asrbuild.artifact.named_files import file_of, named_files
from asrbuild.base.errors import AsrbuildError

#: Limit of bytes in a manifest.
_MOST_BYTES = 1 << 26


def _schemas() -> tuple[tuple[str, type[Manifest]], ...]:
    """The version that is written of each major version, with its model."""
    return (SCHEMA_VERSION, Manifest), (manifest2.SCHEMA_VERSION, manifest2.Manifest)


def json_schema(major: int = 1) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) that ``asrbuild schema`` prints."""
    version, model = _schemas()[major - 1]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:asrbuild:manifest:{version}",
        **model.model_json_schema(),
    }


def read_manifest(artifact: Path) -> Manifest:
    """Reads ``manifest.json`` of an artifact directory.

    Raises:
        AsrbuildError: it is missing, is not JSON, has another major version, or breaks the schema.
    """
    path = artifact / MANIFEST
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise AsrbuildError(
                f"the manifest is larger than {_MOST_BYTES:,} bytes", file=path, fix=FETCH
            )
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise AsrbuildError(
            f"{artifact.name} is not an artifact: it has no {MANIFEST}",
            file=path,
            fix="give a directory that `asrbuild ls` lists",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise AsrbuildError(f"the manifest cannot be read: {error}", file=path) from error
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:  # numbers of 5,000 digits, nesting
        raise AsrbuildError(f"the manifest is not JSON: {error}", file=path, fix=FETCH) from error
    found = raw.get("schema_version") if isinstance(raw, dict) else None
    version = re.fullmatch(r"(\d+)\.(\d+)", found, re.ASCII) if isinstance(found, str) else None
    known = {int(text.split(".")[0]): (text, model) for text, model in _schemas()}
    if version is None or int(version[1]) not in known:
        raise AsrbuildError(
            f"manifest schema_version {found!r} is not supported by this asrbuild "
            f"(it reads {' and '.join(f'{major}.x' for major in known)})",
            file=path,
            fix="use the asrbuild version that the artifact was built with, or rebuild it",
        )
    written, model = known[int(version[1])]
    newer = int(version[2]) > int(written.split(".")[1])
    try:
        manifest = model.model_validate_json(text, extra="allow" if newer else "forbid")
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise AsrbuildError(
            f"the manifest breaks its schema at {where}: {first['msg']} "
            f"({error.error_count()} problem(s))",
            key=where or None,
            file=path,
            fix=f"use an asrbuild that knows schema_version {found}"
            if newer
            else "print the schema with `asrbuild schema`",
        ) from error
    for key, named in named_files(manifest):
        file_of(artifact, named, key)
    return manifest
