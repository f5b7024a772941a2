"""Evidence in a store and on remotes: adds it after the checks, and reads it again."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from asrbuild.artifact.evidence import all_evidence, keep_evidence, list_evidence
from asrbuild.artifact.manifest import Manifest
from asrbuild.artifact.reading import read_manifest
from asrbuild.base.disk import disk_errors, read_plain
from asrbuild.base.errors import AsrbuildError
from asrbuild.handover.evidence.checks import check_claims, check_measured
from asrbuild.handover.evidence.document import Document, read_document, read_json
from asrbuild.handover.fit.planned import Planned, PlannedOp
from asrbuild.handover.ship.evidence import fetch_evidence, seal, unseal
from asrbuild.handover.ship.refusal import refusing
from asrbuild.handover.ship.remotes.remote import MAX_EVIDENCE, Remote
from asrbuild.handover.ship.signing.signer import AnySigner
from asrbuild.handover.ship.signing.trust import Trust


@dataclass(frozen=True)
class Kept:
    """Evidence of an artifact, signed by a trusted signer.

    ``digest``: SHA-256 of the signed file; ``where``: the file, or the remote's address.
    """

    digest: str
    where: str
    signer: str
    document: Document


@dataclass(frozen=True)
class Unusable:
    """An evidence file that does not count, and the reason."""

    digest: str
    where: str
    why: str


@dataclass(frozen=True)
class Checked:
    """Evidence that passed every check; ``signed`` is its envelope, None for a kit's document."""

    document: Document
    signed: bytes | None
    signer: str | None


def check_file(
    file: Path,
    artifact: Path,
    trust: Trust,
    known: Iterable[Document] = (),
    now: datetime | None = None,
) -> Checked:
    """Checks an evidence file, a kit's document or a signed envelope, against an artifact.

    Args:
        artifact: the artifact's directory, whole.
        known: evidence that is kept already, of any artifact.
        now: the present time; None: this machine's.

    Raises:
        AsrbuildError: the evidence is refused, see :mod:`asrbuild.handover.evidence.checks`; or it
        was added before, unchanged or with another date, device or package.
    """
    with disk_errors("reading evidence", file):
        raw = read_plain(file, MAX_EVIDENCE)
    signed, signer = None, None
    value = read_json(raw, file, MAX_EVIDENCE)
    if isinstance(value, dict) and "payloadType" in value:
        with refusing(file):
            signed, (raw, by) = raw, unseal(raw, trust)
            signer = by.label
    document = read_document(raw, file)
    manifest = read_manifest(artifact)
    try:
        check_claims(document, manifest, now)
        _require_new(document, known)
        check_measured(document, manifest, artifact)
    except AsrbuildError as error:
        error.file = error.file or str(file)
        raise
    return Checked(document, signed, signer)


def _require_new(document: Document, known: Iterable[Document]) -> None:
    """Raises for evidence that is kept already, and for a copy of a run under another name.

    Two runs have hardly any equal times, so a run with half of its times equal is a copy.
    """
    mine = _times(document)
    for other in known:
        if other.payload == document.payload:
            raise AsrbuildError(
                f"the evidence is refused: it was added before, measured {other.measured}",
                key="passes",
                fix="see `asrbuild evidence ls`",
            )
        if 2 * sum(a == b for a, b in zip(mine, _times(other), strict=False)) > len(mine):
            of = f"{other.artifact.name} {other.artifact.version}"
            raise AsrbuildError(
                f"the evidence is refused: its passes are those of a run of {of} on "
                f"{other.device.identifier}, measured {other.measured}",
                key="passes",
                fix="measure again with `asrbuild evidence kit ARTIFACT -o FOLDER`",
            )


def _times(document: Document) -> list[float]:
    return [ms for one in document.passes for ms in one.calls_ms]


def keep(checked: Checked, artifact: Path, signer: AnySigner | None) -> Kept:
    """Keeps evidence of an artifact in its store; ``signer`` signs a kit's document."""
    manifest = read_manifest(artifact)
    if (artifact.parent.name, artifact.name) != (manifest.name, manifest.version):
        raise AsrbuildError(
            "this folder is not in an artifact store, so no evidence is kept beside it",
            file=artifact,
            fix="name the artifact as `asrbuild ls` lists it",
        )
    raw, by = sealed(checked, signer)
    path = keep_evidence(artifact, raw)
    return Kept(path.stem, str(path), by, checked.document)


def send(checked: Checked, remote: Remote, signer: AnySigner | None) -> Kept:
    """Puts evidence on the remote of its artifact; see :func:`keep`."""
    raw, by = sealed(checked, signer)
    of, digest = checked.document.artifact, hashlib.sha256(raw).hexdigest()
    remote.add_evidence(of.name, of.version, digest, raw)
    remote.refresh()
    return Kept(digest, remote.address, by, checked.document)


def sealed(checked: Checked, signer: AnySigner | None) -> tuple[bytes, str]:
    """The signed envelope of checked evidence, and its signer's name."""
    if checked.signed is not None:
        return checked.signed, str(checked.signer)
    if signer is None:
        raise AsrbuildError("there is no key to sign with", fix="make one with `asrbuild key new`")
    return seal(checked.document.payload, signer), signer.name


def evidence_of(artifact: Path, trust: Trust) -> tuple[list[Kept], list[Unusable]]:
    """The evidence of an artifact in a store, newest run first, and the files that do not count.

    Signature, package and claims are checked again; the package does not run.
    """
    manifest = read_manifest(artifact)
    files = []
    for path in list_evidence(artifact):
        with disk_errors("reading evidence", path):
            files.append((path.stem, str(path), read_plain(path, MAX_EVIDENCE)))
    return _read(files, manifest, trust)


def evidence_on(
    remote: Remote, manifest: Manifest, trust: Trust
) -> tuple[list[Kept], list[Unusable]]:
    """As :func:`evidence_of`, for an artifact on a remote."""
    fetched = fetch_evidence(remote, manifest.name, manifest.version, trust)
    files = [(digest, remote.address, raw) for digest, raw, _ in fetched]
    return _read(files, manifest, trust)


def _read(
    files: Iterable[tuple[str, str, bytes]], manifest: Manifest, trust: Trust
) -> tuple[list[Kept], list[Unusable]]:
    kept: list[Kept] = []
    unusable: list[Unusable] = []
    for digest, where, raw in files:
        try:
            if hashlib.sha256(raw).hexdigest() != digest:
                raise AsrbuildError("its bytes are not those of its name")
            payload, by = unseal(raw, trust)
            document = read_document(payload, where)
            check_claims(document, manifest)
            kept.append(Kept(digest, where, by.label, document))
        except AsrbuildError as error:
            unusable.append(Unusable(digest, where, error.message))
    return sorted(kept, key=lambda one: one.document.measured, reverse=True), unusable


def known_documents(root: Path) -> list[Document]:
    """Every readable document in a store, of any artifact and signer."""
    found = []
    for _, path in all_evidence(root):
        try:
            payload = json.loads(read_plain(path, MAX_EVIDENCE))["payload"]
            found.append(read_document(base64.b64decode(payload), path))
        except (AsrbuildError, OSError, ValueError, KeyError, TypeError, RecursionError):
            continue  # `asrbuild evidence ls` reports it
    return found


def planned(root: Path, package_sha256: str, trust: Trust) -> tuple[Planned, ...]:
    """The plans and figures of every run of these package bytes in a store.

    Args:
        root: the artifact store.
        package_sha256: see :func:`asrbuild.handover.evidence.document.package_digest`.
    """
    artifacts = {artifact for artifact, _ in all_evidence(root) if artifact.is_dir()}
    return tuple(
        row
        for artifact in sorted(artifacts)
        for kept in evidence_of(artifact, trust)[0]
        if kept.document.artifact.package_sha256 == package_sha256
        for row in rows(kept.document)
    )


def rows(document: Document) -> list[Planned]:
    """The plan and figures of a document, for each timed set of units."""
    plans = {plan.units: plan for plan in document.plans}
    loads = {load.units: load for load in document.loads}
    device = document.device
    found = []
    for one in document.statistics:
        plan, load = plans.get(one.units), loads[one.units]
        ops = () if plan is None else plan.ops
        found.append(
            Planned(
                device.identifier,
                f"{device.os} {device.os_version} ({device.os_build})",
                one.units,
                plan is not None and plan.answered,
                tuple(
                    PlannedOp(op.output, op.operator, op.preferred, tuple(op.supported))
                    for op in ops
                ),
                one.p50_ms,
                one.p95_ms,
                one.passes,
                load.first_ms if load.cache == "cleared" else None,
            )
        )
    return found
