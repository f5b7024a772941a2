"""Small complete artifacts, and bundles with faults."""

from __future__ import annotations

import copy
import hashlib
import json
import struct
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asrbuild.artifact import store
from asrbuild.artifact.agreement import content_digest_of
from asrbuild.artifact.manifest import Manifest, to_json
from asrbuild.base.digest import canonical_json
from asrbuild.handover.ship.formats.frame import MAGIC
from asrbuild.handover.ship.formats.header import PAYLOAD_TYPE
from asrbuild.handover.ship.signing.envelope import sign
from asrbuild.handover.ship.signing.keys import Signer
from tests.manifests import MANIFEST

ROLES = {"model.mlmodel": "package", "alphabet.txt": "alphabet", "reference.wav": "reference_audio"}
CONTENT = {
    "model.mlmodel": b"weights" * 40_000,
    "alphabet.txt": b"a\nb\n",
    "reference.wav": b"RIFF" + bytes(5000),
    "model.mlpackage/Data/weight.bin": b"",
}


def next_second(address: str) -> None:
    """Waits for the clock's next second if the remote is S3, whose times are whole seconds."""
    if address.startswith("s3:"):
        time.sleep(1.01 - time.time() % 1)


def make_artifact(
    root: Path,
    name: str = "demo-dynamic",
    content: Mapping[str, bytes] = CONTENT,
    change: Callable[[dict[str, Any]], object] = lambda _: None,
    recipe_version: str = "1.0.0",
) -> Path:
    """Publishes an artifact with a true manifest in the store ``root``."""
    fields = copy.deepcopy(MANIFEST)
    fields["name"] = name
    fields["files"] = [
        {
            "path": path,
            "role": ROLES.get(path, "package"),
            "bytes": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
        }
        for path, data in sorted(content.items())
    ]
    change(fields)
    digest = content_digest_of(Manifest.model_validate_json(json.dumps(fields)))
    fields["version"] = f"{recipe_version}+{digest[:12]}"
    fields["artifact_id"] = f"{name}/{fields['version']}"
    manifest = Manifest.model_validate_json(json.dumps(fields))
    with store.staging(root) as directory:
        for path, data in content.items():
            (directory / path).parent.mkdir(parents=True, exist_ok=True)
            (directory / path).write_bytes(data)
        (directory / "manifest.json").write_text(to_json(manifest), encoding="utf-8")
        return store.publish(root, name, directory, manifest.version)


def make_versions(root: Path, count: int) -> list[Path]:
    """Publishes versions of one artifact that share all but their alphabets."""
    contents = ({**CONTENT, "alphabet.txt": b"%d" % number} for number in range(count))
    return [make_artifact(root, content=content) for content in contents]


def variant_of(root: Path, name: str, ios: str, macos: str, package: bytes) -> Path:
    """An artifact that requires these systems; only its package differs from others."""

    def change(fields: dict[str, Any]) -> None:
        fields["model"]["minimum_os"] = {"iOS": ios, "macOS": macos}

    return make_artifact(root, name, {**CONTENT, "model.mlmodel": package}, change)


@dataclass
class Forgery:
    """The parts of a bundle, which tests change and join again without checks.

    ``resign``: sign the statement again after the change, as the key's holder could.
    """

    files: list[dict[str, Any]]
    contents: list[bytes]
    statement: dict[str, Any]
    name: Any
    version: Any
    format: Any = "asrbuild-bundle/1"

    @classmethod
    def of(cls, artifact: Path, signer: Signer) -> Forgery:
        from asrbuild.artifact.reading import read_manifest
        from asrbuild.handover.ship.formats.header import make_header

        header = make_header(artifact, read_manifest(artifact), signer)
        fields = json.loads(header.raw)
        contents = [(artifact / file["path"]).read_bytes() for file in fields["files"]]
        return cls(
            fields["files"], contents, json.loads(header.payload), header.name, header.version
        )

    def add(self, path: str, content: bytes = b"evil") -> None:
        """Adds a file at the end of the list, with content and signature."""
        digest = hashlib.sha256(content).hexdigest()
        self.files.append({"path": path, "bytes": len(content), "sha256": digest})
        self.contents.append(content)

    def sort(self) -> None:
        """Puts files and contents in order."""
        pairs = sorted(zip(self.files, self.contents, strict=True), key=lambda p: p[0]["path"])
        self.files, self.contents = [list(column) for column in zip(*pairs, strict=True)]

    def subjects(self) -> None:
        """Makes the statement agree with the files, the name and the version."""
        self.statement["subject"] = [
            {"name": f["path"], "digest": {"sha256": f["sha256"]}} for f in self.files
        ]
        parameters = self.statement["predicate"]["buildDefinition"]["externalParameters"]
        parameters |= {"name": self.name, "version": self.version}

    def header(self, signer: Signer) -> dict[str, Any]:
        """The header as JSON values, signed by ``signer``."""
        payload = canonical_json(self.statement).encode()
        return {
            "envelope": sign(PAYLOAD_TYPE, payload, signer),
            "files": self.files,
            "format": self.format,
            "name": self.name,
            "version": self.version,
        }

    def bytes(self, signer: Signer) -> bytes:
        """The whole bundle."""
        return assemble(canonical_json(self.header(signer)).encode(), b"".join(self.contents))


def assemble(header: bytes, contents: bytes) -> bytes:
    """Joins magic, length, header and contents without checks."""
    return MAGIC + struct.pack("<I", len(header)) + header + contents
