"""A bundle's header: the files of an artifact, its sources, and the signatures of both.

The header is canonical JSON, so one content has one spelling: JSON that is not spelled as
:func:`asrbuild.base.digest.canonical_json` spells it is refused, and with it duplicate keys, stray
spaces and unusual numbers.

    {"envelope": DSSE, "files": [{"bytes", "path", "sha256"}, ...], "format": FORMAT,
     "name": ..., "version": ...}

The envelope holds an in-toto Statement v1 with a SLSA provenance v1 predicate. Its subjects are
exactly the files, and its external parameters name the artifact, so the signature covers the whole
header.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asrbuild.artifact import proven
from asrbuild.artifact.layout import MANIFEST, SUMS
from asrbuild.base import terminal
from asrbuild.base.digest import canonical_json, tree_digests
from asrbuild.base.disk import disk_errors
from asrbuild.handover.ship.names import check_name, check_paths, check_version
from asrbuild.handover.ship.refusal import Refusal, Refused, shown
from asrbuild.handover.ship.signing.envelope import (
    Signatures,
    check_signatures,
    open_envelope,
    sign,
)
from asrbuild.handover.ship.signing.signer import AnySigner
from asrbuild.handover.ship.signing.trust import Trust, Trusted

if TYPE_CHECKING:
    from asrbuild.artifact.manifest import Manifest

FORMAT = "asrbuild-bundle/1"
MAX_HEADER = 1 << 20
MAX_FILES = 1024
MAX_MANIFEST = 8 << 20
MAX_TOTAL = 1 << 36
PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "urn:asrbuild:build:1"
_HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class File:
    """One file of the artifact."""

    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Listing:
    """The content of an artifact to be signed; ``payload`` is the statement about exactly that."""

    name: str
    version: str
    files: tuple[File, ...]
    payload: bytes

    @property
    def digests(self) -> dict[str, str]:
        """Path -> SHA-256 of every file."""
        return {file.path: file.sha256 for file in self.files}

    @property
    def total(self) -> int:
        """Bytes of all files."""
        return sum(file.bytes for file in self.files)

    def file(self, path: str) -> File:
        """The entry of one file.

        Raises:
            Refused: FILE_MISSING.
        """
        for file in self.files:
            if file.path == path:
                return file
        raise Refused(Refusal.FILE_MISSING, f"it has no {path}")


@dataclass(frozen=True)
class Header(Listing):
    """A header whose shape is checked; ``raw`` is its one spelling.

    ``statement`` is the signed statement; the signatures are not checked yet.
    """

    statement: Mapping[str, Any]
    signatures: Signatures
    raw: bytes

    @property
    def digest(self) -> str:
        """SHA-256 of the header: it commits to every byte of the artifact."""
        return hashlib.sha256(self.raw).hexdigest()


def make_header(artifact: Path, manifest: Manifest, signer: AnySigner) -> Header:
    """Reads, lists and signs an artifact; the same bytes and key give the same header.

    Raises:
        AsrbuildError: the artifact has no files to ship, or one whose name cannot be shipped.
    """
    return sign_listing(list_artifact(artifact, manifest), signer)


def list_artifact(artifact: Path, manifest: Manifest) -> Listing:
    """Lists an artifact's files for signing; an artifact that is unknown here is proven first."""
    # Listed first: a link or a device is refused before anything reads through it.
    with disk_errors("reading an artifact", artifact):
        files = tuple(
            File(path, (artifact / path).stat().st_size, digest)
            for path, digest in sorted(tree_digests(artifact).items())
        )
    if not proven.is_proven_here(artifact):
        from asrbuild.proof.verdict import prove_unknown

        prove_unknown(artifact, manifest, partial(terminal.say, err=True))
    payload = canonical_json(_statement(manifest, files)).encode()
    return Listing(manifest.name, manifest.version, files, payload)


def sign_listing(listing: Listing, signer: AnySigner) -> Header:
    """Signs a listing; raises :class:`AsrbuildError` if it cannot be shipped."""
    header = {
        "envelope": sign(PAYLOAD_TYPE, listing.payload, signer),
        "files": [asdict(file) for file in listing.files],
        "format": FORMAT,
        "name": listing.name,
        "version": listing.version,
    }
    # Parsed as a reader parses it: a header that cannot be pulled is not shipped.
    return parse_header(canonical_json(header).encode())


def _subjects(files: tuple[File, ...]) -> list[dict[str, Any]]:
    return [{"name": file.path, "digest": {"sha256": file.sha256}} for file in files]


def _statement(manifest: Manifest, files: tuple[File, ...]) -> dict[str, Any]:
    origin = manifest.provenance
    return {
        "_type": STATEMENT_TYPE,
        "subject": _subjects(files),
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {
                    "name": manifest.name,
                    "version": manifest.version,
                    "recipe": origin.recipe,
                    "overrides": origin.overrides,
                },
                "internalParameters": {"platform": origin.platform},
                "resolvedDependencies": [
                    {
                        "name": source.name,
                        "digest": {"sha256": source.sha256},
                        "annotations": {"role": source.role},
                    }
                    for source in origin.sources
                ]
                + (
                    [
                        {
                            "name": "repository",
                            "digest": {"gitCommit": origin.git.commit},
                            "annotations": {"dirty": origin.git.dirty},
                        }
                    ]
                    if origin.git is not None
                    else []
                ),
            },
            "runDetails": {
                "builder": {"id": "urn:asrbuild:builder:local", "version": origin.tools},
                "metadata": {
                    "invocationId": manifest.artifact_id,
                    "finishedOn": origin.created,
                },
            },
        },
    }


def strict_json(raw: bytes, limit: int, malformed: Refusal) -> Any:
    """The value of foreign JSON in its canonical spelling.

    Raises:
        Refused: it is too large, is not JSON, nests too deep, or is not canonical.
    """
    if len(raw) > limit:
        raise Refused(
            Refusal.HEADER_TOO_LARGE, f"it has {len(raw)} bytes, at most {limit} are read"
        )
    try:
        value = json.loads(raw.decode("ascii"), parse_float=_fraction)
        # As canonical_json spells it, without a check of each of perhaps a million values.
        canonical = json.dumps(
            value, sort_keys=True, separators=(",", ":"), allow_nan=False
        ).encode()
    except (ValueError, RecursionError):
        raise Refused(malformed, "it is not JSON that this program reads") from None
    if canonical != raw:
        raise Refused(malformed, "the JSON is not in its canonical spelling")
    return value


def _fraction(text: str) -> float:
    """A number with a fraction; a whole number has another spelling."""
    number = float(text)
    if number.is_integer() and abs(number) < 2**53:
        raise ValueError(text)
    return number


def header_fields(raw: bytes, form: str, keys: set[str]) -> dict[str, Any]:
    """The fields of a header of the format ``form``, which has exactly these keys.

    Raises:
        Refused: HEADER_MALFORMED or UNKNOWN_FORMAT.
    """
    value = strict_json(raw, MAX_HEADER, Refusal.HEADER_MALFORMED)
    if not isinstance(value, dict) or not isinstance(value.get("format"), str):
        raise Refused(Refusal.HEADER_MALFORMED, "it does not name its format")
    if value["format"] != form:
        raise Refused(Refusal.UNKNOWN_FORMAT, f"its format is {shown(value['format'])}, not {form}")
    if set(value) != keys:
        raise Refused(Refusal.HEADER_MALFORMED, "its keys are not those of the format")
    return value


def parse_header(raw: bytes) -> Header:
    """Checks a header's shape, limits, names and paths, and that its statement agrees.

    Signatures are not checked: :func:`check_header` does that, before anything is unpacked.

    Raises:
        Refused: one of the reasons of docs/bundle-format.md.
    """
    value = header_fields(raw, FORMAT, {"envelope", "files", "format", "name", "version"})
    name, version = check_name(value["name"]), check_version(value["version"])
    files = _parse_files(value["files"])
    payload, signatures = open_envelope(value["envelope"], PAYLOAD_TYPE, Refusal.HEADER_MALFORMED)
    statement = strict_json(payload, MAX_HEADER, Refusal.HEADER_MALFORMED)
    header = Header(name, version, files, payload, statement, signatures, raw)
    for needed in (MANIFEST, SUMS):
        header.file(needed)
    if header.file(MANIFEST).bytes > MAX_MANIFEST:
        raise Refused(
            Refusal.TOO_LARGE, f"{MANIFEST} is larger than {MAX_MANIFEST} bytes", file=MANIFEST
        )
    _check_statement(header)
    return header


def _parse_files(listed: Any) -> tuple[File, ...]:
    if not isinstance(listed, list):
        raise Refused(Refusal.HEADER_MALFORMED, "its files are not a list")
    if len(listed) > MAX_FILES:
        raise Refused(
            Refusal.TOO_MANY_FILES, f"it has {len(listed)} files, at most {MAX_FILES} are read"
        )
    files = []
    for entry in listed:
        if (
            not isinstance(entry, dict)
            or set(entry) != {"bytes", "path", "sha256"}
            or not isinstance(entry["path"], str)
            or not isinstance(entry["bytes"], int)
            or isinstance(entry["bytes"], bool)
            or entry["bytes"] < 0
            or not isinstance(entry["sha256"], str)
            or not _HEX.fullmatch(entry["sha256"])
        ):
            raise Refused(Refusal.HEADER_MALFORMED, f"{shown(entry)} is not a file entry")
        files.append(File(entry["path"], entry["bytes"], entry["sha256"]))
    check_paths([file.path for file in files])
    if sum(file.bytes for file in files) > MAX_TOTAL:
        raise Refused(Refusal.TOO_LARGE, f"its files are larger than {MAX_TOTAL} bytes")
    return tuple(files)


def _check_statement(header: Header) -> None:
    """Refuses a statement that is not about this artifact and exactly these files."""
    try:
        statement = header.statement
        parameters = statement["predicate"]["buildDefinition"]["externalParameters"]
        agrees = (
            statement["_type"] == STATEMENT_TYPE
            and statement["predicateType"] == PREDICATE_TYPE
            and statement["subject"] == _subjects(header.files)
            and (parameters["name"], parameters["version"]) == (header.name, header.version)
        )
    except (KeyError, TypeError):
        agrees = False
    if not agrees:
        raise Refused(
            Refusal.STATEMENT_MISMATCH,
            "the signed statement is not about this artifact and exactly these files",
        )


def check_header(header: Header, trust: Trust) -> Trusted:
    """The trusted signer of the header; raises :class:`Refused` if there is none."""
    return check_signatures(PAYLOAD_TYPE, header.payload, header.signatures, trust)


def check_manifest(header: Listing, manifest: Manifest) -> None:
    """Refuses an artifact's own manifest, whose bytes are proven, if it contradicts the header.

    Raises:
        Refused: IDENTITY_MISMATCH or MANIFEST_MISMATCH.
    """
    from asrbuild.artifact.agreement import content_digest_of

    if (manifest.name, manifest.version) != (header.name, header.version):
        raise Refused(
            Refusal.IDENTITY_MISMATCH,
            f"the manifest is of {shown(manifest.name)} {shown(manifest.version)}, "
            f"not of {header.name} {header.version}",
        )
    listed = {(f.path, f.bytes, f.sha256) for f in manifest.files}
    present = {(f.path, f.bytes, f.sha256) for f in header.files}
    if strays := sorted(path for path, _, _ in listed - present):
        raise Refused(
            Refusal.MANIFEST_MISMATCH,
            f"the manifest lists another {shown(strays[0])} than the header",
        )
    digest = content_digest_of(manifest)
    claimed = manifest.version.rpartition("+")[2]
    if len(claimed) < 12 or not digest.startswith(claimed):
        raise Refused(
            Refusal.IDENTITY_MISMATCH,
            f"the version ends in {shown(claimed)}, the content digest is {digest[:12]}",
        )
