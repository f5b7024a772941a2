"""A channel's policy: the evidence that a version requires before a channel points to it.

    devices: ["iPhone16,2", "iPhone14,*"]   models; * stands for anything
    systems: ["iOS 18", "iOS 26"]           each device is required with each of its systems
    units: CPU_AND_NE                       null: those that the manifest recommends
    p95_ms: 60                              per second of audio
    first_load_ms: 5000                     with a cleared cache
    peak_memory_mb: 400                     over what the process had before the first load
    words: equal                            every recording of the conformance kit
    max_age: 90d

Every limit is optional. Each device with each system requires one run within all limits.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timezone
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator

from asrbuild.artifact.layout import CONFORMANCE_KIT, MANIFEST
from asrbuild.artifact.manifest import Manifest
from asrbuild.artifact.reading import read_manifest
from asrbuild.base.digest import canonical_json
from asrbuild.base.disk import disk_errors
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.quantities import duration_seconds
from asrbuild.coreml.choices import ComputeUnits
from asrbuild.handover.evidence.checks import greedy_text, probabilities_of
from asrbuild.handover.evidence.document import Document, Milliseconds, Part, Text
from asrbuild.handover.evidence.kept import Kept, evidence_on
from asrbuild.handover.ship.channels.record import Accepted
from asrbuild.handover.ship.formats.header import Header
from asrbuild.handover.ship.formats.sets import VariantSet, artifacts_of
from asrbuild.handover.ship.lookup import proven, require_artifact
from asrbuild.handover.ship.pull import fetch_files
from asrbuild.handover.ship.remotes.remote import Remote
from asrbuild.handover.ship.signing.trust import Trust

_STEPS = f"{CONFORMANCE_KIT}/steps.json"
System = Annotated[str, Field(pattern=r"^(iOS|macOS) \d{1,3}(\.\d{1,3}){0,2}$")]


class Policy(Part):
    """The content of a policy file; None: no limit."""

    devices: Annotated[list[Text], Field(min_length=1, max_length=100)]
    systems: Annotated[list[System], Field(min_length=1, max_length=20)]
    units: ComputeUnits | None = None
    p95_ms: Milliseconds | None = None
    first_load_ms: Milliseconds | None = None
    peak_memory_mb: Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)] | None = None
    words: Literal["equal"] = "equal"
    max_age: str | None = None

    @field_validator("max_age")
    @classmethod
    def _age(cls, text: str | None) -> str | None:
        if text is not None:
            duration_seconds(text)
        return text

    @property
    def digest(self) -> str:
        """SHA-256 of the policy's canonical JSON, which the channel's record has."""
        return hashlib.sha256(canonical_json(self.model_dump(mode="json")).encode()).hexdigest()

    @property
    def needed(self) -> list[tuple[str, str]]:
        """Every pair of a device and a system that it can have."""
        return [one for one in product(self.devices, self.systems) if _can_have(*one)]


def _can_have(device: str, system: str) -> bool:
    name = system.split()[0]
    if device.startswith("iP"):
        return name == "iOS"
    return name == "macOS" if device.startswith(("Mac", "iMac")) else True


def read_policy(path: Path) -> Policy:
    """Reads a policy file.

    Raises:
        AsrbuildError: the file is missing, is not YAML, or has an unknown key or an invalid value.
    """
    from omegaconf import OmegaConf

    with disk_errors("reading a policy", path):
        text = path.read_text(encoding="utf-8", errors="replace")
    try:
        values = OmegaConf.to_container(OmegaConf.create(text), resolve=False)
    except Exception as error:  # YAML's and OmegaConf's errors have no common base class
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise AsrbuildError(
            f"the policy is not YAML: {reason[:200]}", file=path, fix="see docs/evidence.md"
        ) from None
    try:
        policy = Policy.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise AsrbuildError(
            f"the policy cannot be used: {where or 'the file'}: {first['msg']}",
            key=where or None,
            file=path,
            fix=f"its keys are {', '.join(Policy.model_fields)}; quote a model: 'iPhone16,2'",
        ) from None
    for index, given in enumerate((policy.devices, policy.systems)):
        paired = {pair[index] for pair in policy.needed}
        if alone := [one for one in given if one not in paired]:
            raise AsrbuildError(
                f"the policy has no {'system' if index == 0 else 'device'} for {alone[0]}",
                key=("devices", "systems")[index],
                file=path,
                fix="an iPhone or iPad requires an iOS, a Mac a macOS",
            )
    return policy


def missing(
    policy: Policy,
    manifest: Manifest,
    evidence: Iterable[Kept],
    texts: Mapping[str, str],
    now: datetime | None = None,
) -> tuple[list[str], set[str]]:
    """The unmet requirements of a policy, one line each, and the digests of sufficient evidence.

    Args:
        evidence: of this artifact, checked; the newest first.
        texts: recording -> its expected transcript.
        now: the present time; None: this machine's.
    """
    now = now or datetime.now(timezone.utc)
    units = policy.units or manifest.model.recommended_compute_units
    lacks: list[str] = []
    used: set[str] = set()
    kept = list(evidence)
    loading = [one for one in policy.needed if not _older(one[1], manifest)]
    if not loading:
        return ["the package loads on none of the policy's systems"], used
    for device, system in loading:
        runs = [
            one
            for one in kept
            if fnmatch.fnmatchcase(one.document.device.identifier, device)
            and _is_system(one.document, system)
        ]
        decode = greedy_text(manifest) if runs else str
        faults = [_faults(policy, one.document, units, texts, decode, now) for one in runs]
        fitting = [one for one, found in zip(runs, faults, strict=True) if not found]
        if fitting:
            used.add(fitting[0].digest)
        elif runs:
            lacks.append(f"{device} with {system}: {'; '.join(faults[0])}")
        else:
            lacks.append(f"{device} with {system}: no evidence")
    return lacks, used


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


def _older(system: str, manifest: Manifest) -> bool:
    """Whether the package requires a newer major version of this system."""
    name, version = system.split()
    oldest = manifest.model.minimum_os.get(name)
    return oldest is not None and _numbers(version)[0] < _numbers(oldest)[0]


def _is_system(document: Document, system: str) -> bool:
    name, version = system.split()
    wanted = _numbers(version)
    device = document.device
    return device.os == name and _numbers(device.os_version)[: len(wanted)] == wanted


def _faults(
    policy: Policy,
    document: Document,
    units: str,
    texts: Mapping[str, str],
    decode: Callable[[Any], str],
    now: datetime,
) -> list[str]:
    """The limits of a policy that a run exceeds."""
    figures = next((one for one in document.statistics if one.units == units), None)
    if figures is None:
        return [f"{units} was not timed"]
    load = next(one for one in document.loads if one.units == units)
    faults = []
    if policy.p95_ms is not None and figures.p95_ms > policy.p95_ms:
        faults.append(
            f"95 % of the passes with {units} take {figures.p95_ms:.4g} ms per second of audio, "
            f"at most {policy.p95_ms:g} are allowed"
        )
    if policy.first_load_ms is not None:
        if load.cache != "cleared":
            faults.append(f"the first load with {units} was not with a cleared cache")
        elif load.first_ms > policy.first_load_ms:
            faults.append(
                f"the first load with {units} takes {load.first_ms:.4g} ms, at most "
                f"{policy.first_load_ms:g} are allowed"
            )
    more = (document.memory.peak_bytes - document.memory.before_bytes) / 1e6
    if policy.peak_memory_mb is not None and more > policy.peak_memory_mb:
        faults.append(f"it takes {more:.4g} MB, at most {policy.peak_memory_mb:g} are allowed")
    if policy.max_age is not None:
        age = (now - datetime.fromisoformat(document.measured)).total_seconds()
        if age > duration_seconds(policy.max_age):
            faults.append(f"it was measured {document.measured[:10]}, over {policy.max_age} ago")
    given = [one for one in document.outputs if one.units == units]
    for one in given:
        try:
            same = decode(probabilities_of(one, "outputs")) == texts.get(one.recording)
        except AsrbuildError:
            same = False  # they are not probabilities
        if not same:
            faults.append(f"the words of {one.recording} with {units} are others")
    if {one.recording for one in given} != set(texts):
        faults.append(f"{units} has not run every recording")
    return faults


def accept(
    remote: Remote, trust: Trust, policy: Policy | None, without: str | None
) -> Callable[[Header | VariantSet], Accepted]:
    """A function that checks the evidence of a remote before a channel points to a version.

    Each artifact of a set must satisfy the policy, on those of its systems that load it.

    Args:
        policy: the policy; None: no evidence is required.
        without: the reason for moving the channel if the evidence does not suffice.

    Raises:
        AsrbuildError: raised by the function: the evidence does not suffice, and there is no
        reason.
    """

    def decide(published: Header | VariantSet) -> Accepted:
        lacks: list[str] = []
        used: set[str] = set()
        if policy is not None:
            parts = (
                [published]
                if isinstance(published, Header)
                else [
                    require_artifact(proven(remote, *one, trust)[0])
                    for one in artifacts_of(published)
                ]
            )
            for header in parts:
                manifest, texts = _described(remote, header)
                kept, _ = evidence_on(remote, manifest, trust)
                found, digests = missing(policy, manifest, kept, texts)
                prefix = "" if len(parts) == 1 else f"{header.name} {header.version}: "
                lacks += [prefix + line for line in found]
                used |= digests
        if lacks and without is None:
            raise AsrbuildError(
                f"the evidence of {published.name} {published.version} does not satisfy the "
                f"policy: {'. '.join(lacks)}",
                key="--require",
                file=remote.address,
                fix="measure it with `asrbuild evidence kit "
                f"{published.name}/{published.version} -o FOLDER`, and `asrbuild evidence add` it "
                "to the remote; or give --without-evidence and the reason, which is signed",
            )
        reason = without if lacks or policy is None else None
        digest = None if policy is None else policy.digest
        return Accepted(digest, tuple(sorted(used)), reason)

    return decide


def _described(remote: Remote, header: Header) -> tuple[Manifest, dict[str, str]]:
    """The manifest of an artifact on a remote, and the transcripts of its conformance kit."""
    with TemporaryDirectory(prefix="asrbuild-manifest-") as folder:
        directory = Path(folder)
        fetch_files(header, remote, directory, wanted=lambda file: file in (MANIFEST, _STEPS))
        manifest = read_manifest(directory)
        if not (directory / _STEPS).is_file():
            raise AsrbuildError(
                f"{header.name} {header.version} has no conformance kit, so that no words can be "
                "compared",
                file=remote.address,
                fix="build and ship it with this asrbuild",
            )
        book = json.loads((directory / _STEPS).read_text(encoding="utf-8"))
        return manifest, {one["name"]: one["text"] for one in book["recordings"]}
