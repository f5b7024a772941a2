"""The format ``asrbuild-evidence/1``: one JSON document of one run of one package on one device.

The kit writes it, see ``templates/measure.py`` and ``templates/ASRKitEvidence/``. It is strict: no
unknown or duplicate keys, no NaN, bounded lists and numbers. Whether it is true of the artifact is
for :mod:`asrbuild.handover.evidence.checks`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)

from asrbuild.artifact.manifest import Manifest
from asrbuild.base.digest import canonical_json, tree_digests
from asrbuild.base.errors import AsrbuildError
from asrbuild.coreml.choices import ComputeUnits

FORMAT = "asrbuild-evidence/1"
#: A run of a large package on four unit sets with 200 passes each takes less than 2 MB.
MAX_BYTES = 16 << 20

Unit = Literal["CPU", "GPU", "NE"]
Text = Annotated[str, Field(min_length=1, max_length=200)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Milliseconds = Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]
Seconds = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]
Bytes = Annotated[int, Field(ge=0, le=1 << 42)]
SmallCount = Annotated[int, Field(ge=0, le=1 << 31)]


class Part(BaseModel):
    """Base of every section: frozen, strict, no unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Measured(Part):
    """The package that ran. ``package_sha256`` is :func:`package_digest` of the bytes that ran."""

    name: Text
    version: Text
    package_sha256: Digest
    function: Text


class Runner(Part):
    """The program that measured. ``clock`` names what a time is of; ``core_ml`` what called it."""

    name: Literal["measure.py", "ASRKitEvidence", "ASRConformance"]
    version: Text
    core_ml: Text
    clock: Text


class Device(Part):
    """The device.

    ``identifier`` is Apple's name of the model, ``iPhone16,2``; ``chip`` null: not known.
    ``thermal`` is the state before and after the passes, ``unknown`` where it is not read.
    """

    kind: Literal["device", "simulator", "virtual machine"]
    identifier: Text
    chip: Text | None
    os: Literal["iOS", "macOS"]
    os_version: Annotated[str, Field(pattern=r"^\d{1,3}(\.\d{1,3}){0,2}$")]
    os_build: Annotated[str, Field(pattern=r"^\d{1,3}[A-Z]\d{1,5}[a-z]?$")]
    memory_bytes: Bytes
    low_power: bool | None
    power: Literal["battery", "mains"] | None
    thermal: Annotated[
        list[Literal["nominal", "fair", "serious", "critical", "unknown"]],
        Field(min_length=2, max_length=2),
    ]


class Hints(Part):
    """Core ML's optimization hints; null: not set."""

    reshape_frequency: Literal["Frequent", "Infrequent"] | None
    specialization_strategy: Literal["Default", "FastPrediction"] | None


class PlanOp(Part):
    """One operation of a compute plan.

    ``output`` is the name of its first output, or a layer's name. ``preferred`` null: Core ML gave
    no answer, which is not the CPU. ``weight`` is Core ML's estimate of its share of the cost.
    """

    operator: Text
    output: Annotated[str, Field(max_length=1000)]
    preferred: Unit | None
    supported: Annotated[list[Unit], Field(max_length=3)]
    weight: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None


class Plan(Part):
    """The compute plan for one set of units.

    ``answered``: Core ML named a device for one operation at least. ``absent``: operations of the
    package that the plan does not list; ``added``: operations of the plan that are not in the
    package; both null where the runner does not know the package's. Core ML's compiler may fuse,
    remove and add operations. ``error``: why there is none.
    """

    units: ComputeUnits
    answered: bool
    ops: Annotated[list[PlanOp], Field(max_length=100_000)]
    absent: Annotated[list[str], Field(max_length=100_000)] | None
    added: Annotated[list[str], Field(max_length=100_000)] | None
    error: Annotated[str, Field(max_length=2000)] | None


class Load(Part):
    """The time that loading took.

    ``cache``: whether Core ML's cache of compiled models was cleared before the first load;
    ``unknown`` where that is not stated.
    """

    units: ComputeUnits
    first_ms: Milliseconds
    cache: Literal["cleared", "unknown"]
    again_ms: Annotated[list[Milliseconds], Field(max_length=1000)]


class Pass(Part):
    """One pass of the timed recording through the package: every call, one after the other.

    ``at_s`` is its start, in seconds since the first pass began.
    """

    units: ComputeUnits
    at_s: Seconds
    calls_ms: Annotated[list[Milliseconds], Field(min_length=1, max_length=100_000)]


class Statistics(Part):
    """The statistics of the passes with these units, in milliseconds per second of audio.

    See ``figures`` for the formulas. The mean depends on each call, so no call can be changed
    without a change of the mean.
    """

    units: ComputeUnits
    passes: SmallCount
    mean_ms: Milliseconds
    p50_ms: Milliseconds
    p95_ms: Milliseconds
    max_ms: Milliseconds


class Memory(Part):
    """Memory of the measuring process, with every unit set loaded.

    ``counts`` is the system's figure; ``counts_neural_engine`` null: not known whether it has the
    Neural Engine's memory.
    """

    counts: Literal["phys_footprint", "max_rss"]
    counts_neural_engine: bool | None
    before_bytes: Bytes
    after_load_bytes: Bytes
    peak_bytes: Bytes


class Output(Part):
    """The probabilities (steps, classes) of one recording of the conformance kit.

    They are float32, little-endian, row-major, in base64. ``steps`` counts the output's rows,
    ``samples`` those of the recording; ``samples_sha256`` is the digest of these int16 values.
    """

    units: ComputeUnits
    recording: Text
    samples: SmallCount
    samples_sha256: Digest
    steps: SmallCount
    classes: Annotated[int, Field(ge=1, le=1 << 20)]
    probabilities: Annotated[str, Field(max_length=MAX_BYTES)]


class ComparedStep(Part):
    """The device's comparison of one step of a recording of the conformance kit, by one measure.

    ``limit`` is the least allowed agreement, or the largest allowed value of another measure.
    """

    units: ComputeUnits
    recording: Text
    step: Text
    measure: Text
    value: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    limit: Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
    passed: bool


class Document(Part):
    """The whole of an evidence file. ``measured`` is the start of the run, UTC, ISO 8601."""

    format: Literal["asrbuild-evidence/1"]
    measured: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00$")]
    artifact: Measured
    runner: Runner
    device: Device
    hints: Hints
    timed_recording: Text
    plans: Annotated[list[Plan], Field(max_length=4)]
    loads: Annotated[list[Load], Field(min_length=1, max_length=4)]
    passes: Annotated[list[Pass], Field(min_length=1, max_length=40_000)]
    statistics: Annotated[list[Statistics], Field(min_length=1, max_length=4)]
    memory: Memory
    outputs: Annotated[list[Output], Field(min_length=1, max_length=1000)]
    errors: Annotated[list[Annotated[str, Field(max_length=2000)]], Field(max_length=100)]
    #: Absent from what measure.py wrote, which compares outputs alone.
    conformance: Annotated[list[ComparedStep], Field(max_length=100_000)] | None = None

    @model_serializer(mode="wrap")
    def _without_absent_keys(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        found: dict[str, Any] = handler(self)
        return {key: value for key, value in found.items() if value is not None}

    @property
    def payload(self) -> bytes:
        """The one spelling of the document, which is signed."""
        return canonical_json(self.model_dump(mode="json")).encode()

    @property
    def units(self) -> list[str]:
        """The unit sets that were timed, in order."""
        return [one.units for one in self.statistics]


def read_document(raw: bytes, file: Path | str) -> Document:
    """Reads an evidence document; ``file`` is named in errors.

    Raises:
        AsrbuildError: it is too large, is not JSON, has a duplicate key, a NaN, or breaks the
            format.
    """
    value = read_json(raw, file)
    found = value.get("format") if isinstance(value, dict) else None
    if found != FORMAT:
        raise AsrbuildError(
            f"the evidence has the format {str(found)[:80]!r}, this asrbuild reads {FORMAT}",
            key="format",
            file=file,
            fix="measure with a kit of this asrbuild: `asrbuild evidence kit ARTIFACT -o FOLDER`",
        )
    try:
        return Document.model_validate_json(json.dumps(value))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise AsrbuildError(
            f"the evidence breaks its format at {where}: {first['msg']}",
            key=where or None,
            file=file,
            fix="give the file as the kit wrote it",
        ) from None


def read_json(raw: bytes, file: Path | str, limit: int = MAX_BYTES) -> Any:
    """The value of foreign JSON of at most ``limit`` bytes.

    Raises:
        AsrbuildError: it is too large, is not JSON, or has a duplicate key or a NaN.
    """
    if len(raw) > limit:
        raise AsrbuildError(
            f"the evidence has {len(raw):,} bytes, at most {limit:,} are read",
            file=file,
            fix="measure again with fewer passes",
        )
    try:
        return json.loads(raw, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise AsrbuildError(
            f"the evidence is not JSON: {str(error)[:200]}",
            file=file,
            fix="give the file as the kit wrote it",
        ) from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key[:80]!r} is there twice")
        found[key] = value
    return found


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"it has the number {name}, which is not finite")


def package_digest(package: Path) -> str:
    """SHA-256 of a package's bytes: of the lines ``<sha256>  <path>`` of its files, in order.

    ``path`` is relative to the package with forward slashes; ``.`` for a package of one file.
    """
    if package.is_dir():
        return _digest(tree_digests(package).items())
    return _digest([(".", hashlib.sha256(package.read_bytes()).hexdigest())])


def listed_digest(manifest: Manifest) -> str:
    """:func:`package_digest` of an artifact, by the digests that its manifest lists."""
    package = manifest.model.package
    files: Mapping[str, str] = {f.path: f.sha256 for f in manifest.files if f.role == "package"}
    return _digest(
        ("." if path == package else path.removeprefix(f"{package}/"), digest)
        for path, digest in files.items()
    )


def _digest(files: Iterable[tuple[str, str]]) -> str:
    lines = "".join(f"{digest}  {path}\n" for path, digest in sorted(files))
    return hashlib.sha256(lines.encode()).hexdigest()
