"""``manifest.json`` of this, older and newer versions."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from asrbuild.artifact.manifest import SCHEMA_VERSION, content_core, to_json
from asrbuild.artifact.reading import json_schema, read_manifest
from asrbuild.base.errors import AsrbuildError
from tests.manifests import MANIFEST

MAJOR, MINOR = (int(part) for part in SCHEMA_VERSION.split("."))
NEWER = f"{MAJOR}.{MINOR + 1}"


def written(folder: Path, version: Any, **sections: Any) -> tuple[Path, dict[str, Any]]:
    fields = copy.deepcopy(MANIFEST) | {"schema_version": version}
    for section, values in sections.items():
        known = fields.get(section)
        fields[section] = known | values if isinstance(known, dict) else values
    (folder / "manifest.json").write_text(json.dumps(fields))
    return folder, fields


MORE = {"audio": {"gain": 1.5}, "weather": {"rain": [1, None]}}


def test_a_newer_minor_version_may_have_more_keys(tmp_path: Path) -> None:
    artifact, fields = written(tmp_path, NEWER, **MORE)
    fields["files"][0]["signed"] = None
    (artifact / "manifest.json").write_text(json.dumps(fields))
    manifest = read_manifest(artifact)
    assert manifest.audio.sample_rate == MANIFEST["audio"]["sample_rate"]
    # Unknown keys are kept, so that the content digest is that of the publisher.
    assert json.loads(to_json(manifest)) == fields
    core = content_core(manifest)
    assert core["weather"] == {"rain": [1, None]}
    assert core["audio"]["gain"] == 1.5


def test_a_newer_minor_version_requires_every_known_key(tmp_path: Path) -> None:
    artifact, fields = written(tmp_path, NEWER)
    del fields["audio"]["channels"]
    (artifact / "manifest.json").write_text(json.dumps(fields))
    with pytest.raises(AsrbuildError, match=r"audio\.channels") as error:
        read_manifest(artifact)
    assert error.value.fix == f"use an asrbuild that knows schema_version {NEWER}"


@pytest.mark.parametrize("version", [f"{MAJOR}.{minor}" for minor in range(MINOR + 1)])
@pytest.mark.parametrize("key", MORE)
def test_unknown_keys_of_this_and_older_versions_are_refused(
    tmp_path: Path, version: str, key: str
) -> None:
    artifact, _ = written(tmp_path, version, **{key: MORE[key]})
    with pytest.raises(AsrbuildError, match=r"breaks its schema at .*Extra inputs"):
        read_manifest(artifact)


@pytest.mark.parametrize("version", [f"{MAJOR}.{minor}" for minor in range(MINOR + 1)])
def test_an_older_version_is_written_back_unchanged(tmp_path: Path, version: str) -> None:
    artifact, fields = written(tmp_path, version)
    assert json.loads(to_json(read_manifest(artifact))) == fields


@pytest.mark.parametrize(
    "version", [f"{MAJOR + 2}.0", "0.9", "1", "1.", "1.x", "1.0.0", "", " 1.1", "1.²", 1.1, None]
)
def test_another_major_version_is_refused(tmp_path: Path, version: Any) -> None:
    artifact, _ = written(tmp_path, version)
    with pytest.raises(AsrbuildError, match=r"schema_version .* is not supported"):
        read_manifest(artifact)


def test_every_added_key_is_null_by_default() -> None:
    """The promise of :class:`Section` holds only for such keys."""
    for name, section in json_schema()["$defs"].items():
        for key in set(section["properties"]) - set(section["required"]):
            assert section["properties"][key]["default"] is None, f"{name}.{key}"
