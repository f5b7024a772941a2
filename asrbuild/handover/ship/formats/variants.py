"""A bundle of variants: several artifacts in one file, and the choice of one for a device.

    {"envelope": DSSE, "format": FORMAT, "headers": [a bundle's header, ...]}

Each header is that of a bundle of one artifact, with its signatures. The envelope holds the
variants: for each header, in the same order, its digest and the facts that an app chooses by. The
order is the publisher's preference: an app takes the first that the device's system can load.
Content that several artifacts share is stored once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from asrbuild.base.digest import canonical_json
from asrbuild.base.errors import AsrbuildError
from asrbuild.handover.ship.formats.bundle import OpenedBundle, unpack_bundle
from asrbuild.handover.ship.formats.frame import (
    START,
    check_size,
    copy_content,
    new_file,
    open_frame,
    read_raw_header,
    write_frame,
)
from asrbuild.handover.ship.formats.header import (
    MAX_HEADER,
    MAX_TOTAL,
    File,
    Header,
    check_header,
    check_manifest,
    header_fields,
    make_header,
    parse_header,
    strict_json,
)
from asrbuild.handover.ship.names import check_name, check_version
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

FORMAT = "asrbuild-bundle-of-variants/1"
PAYLOAD_TYPE = "application/vnd.asrbuild.variants+json"
MAX_VARIANTS = 32
_SYSTEM = re.compile(r"(iOS|macOS) ?(\d{1,3}(?:\.\d{1,3}){0,2})")
_OS_VERSION = re.compile(r"\d{1,3}(?:\.\d{1,3}){0,2}")
#: Fields that are shown to a person.
_WORD = re.compile(r"[A-Za-z0-9_.+-]{1,100}")
_KEYS = {
    "bytes",
    "compress",
    "compute_units",
    "format",
    "header",
    "minimum_os",
    "name",
    "precision",
    "version",
}


@dataclass(frozen=True)
class Variant:
    """The facts about an artifact that an app chooses by.

    ``header``: digest of its header; ``bytes``: of its Core ML package; ``compress``: how its
    weights are stored, ``none`` or methods joined by a plus; ``minimum_os``: system -> version.
    """

    header: str
    name: str
    version: str
    format: str
    precision: str
    compress: str
    compute_units: str
    minimum_os: dict[str, str]
    bytes: int

    def runs_on(self, system: str, version: tuple[int, ...]) -> bool:
        """Whether that system can load it."""
        least = self.minimum_os.get(system)
        return least is not None and _numbers(least) <= version


@dataclass(frozen=True)
class Variants:
    """A header of several artifacts whose shape is checked; ``raw`` is its one spelling."""

    variants: tuple[Variant, ...]
    headers: tuple[Header, ...]
    contents: tuple[File, ...]
    payload: bytes
    signatures: Signatures
    raw: bytes


def describe_variant(header: Header, manifest: Manifest) -> Variant:
    """The facts of a manifest that a choice depends on."""
    from asrbuild.coreml.compression import compression

    ways = sorted(set(compression(manifest.provenance.recipe.get("coreml", {})).values()))
    return Variant(
        header=header.digest,
        name=header.name,
        version=header.version,
        format=manifest.model.format,
        precision=manifest.model.compute_precision,
        compress="+".join(ways) or "none",
        compute_units=manifest.model.recommended_compute_units,
        minimum_os=manifest.model.minimum_os,
        bytes=sum(file.bytes for file in manifest.files if file.role == "package"),
    )


def write_variants(artifacts: Sequence[Path], target: Path, signer: AnySigner) -> Variants:
    """Writes artifacts, the preferred first, as one file, whole or not at all.

    The same artifacts, order and key give the same bytes.

    Raises:
        AsrbuildError: there are too many, one is there twice, or ``target`` has other bytes.
    """
    from asrbuild.artifact.reading import read_manifest

    described = []
    for artifact in artifacts:
        manifest = read_manifest(artifact)
        header = make_header(artifact, manifest, signer)
        check_manifest(header, manifest)
        described.append((header, describe_variant(header, manifest)))
    payload = canonical_json([asdict(variant) for _, variant in described]).encode()
    raw = canonical_json(
        {
            "envelope": sign(PAYLOAD_TYPE, payload, signer),
            "format": FORMAT,
            "headers": [
                strict_json(h.raw, MAX_HEADER, Refusal.HEADER_MALFORMED) for h, _ in described
            ],
        }
    ).encode()
    # Parsed as a reader parses it: a bundle that cannot be pulled is not written.
    parsed = parse_variants(raw)
    where = {
        file.sha256: artifact / file.path
        for artifact, (header, _) in zip(artifacts, described, strict=True)
        for file in header.files
    }
    write_frame(target, raw, ((file, where[file.sha256]) for file in parsed.contents))
    return parsed


def parse_variants(raw: bytes) -> Variants:
    """Checks shape, limits, and that headers and variants name the same artifacts.

    Signatures are not checked: :func:`check_variants` does that, before anything is unpacked.

    Raises:
        Refused: one of the reasons of docs/bundle-format.md.
    """
    value = header_fields(raw, FORMAT, {"envelope", "format", "headers"})
    if not isinstance(value["headers"], list):
        raise Refused(Refusal.HEADER_MALFORMED, "its headers are not a list")
    _require_count(value["headers"])
    headers = tuple(parse_header(canonical_json(header).encode()) for header in value["headers"])
    payload, signatures = open_envelope(value["envelope"], PAYLOAD_TYPE, Refusal.HEADER_MALFORMED)
    variants = parse_listed(strict_json(payload, MAX_HEADER, Refusal.HEADER_MALFORMED))
    listed = [(variant.header, variant.name, variant.version) for variant in variants]
    if listed != [(header.digest, header.name, header.version) for header in headers]:
        raise Refused(
            Refusal.STATEMENT_MISMATCH, "the signed variants are not the artifacts in the bundle"
        )
    return Variants(variants, headers, _contents(headers), payload, signatures, raw)


def parse_listed(listed: Any) -> tuple[Variant, ...]:
    """A signed list of variants; whether their artifacts are present is not checked.

    Raises:
        Refused: HEADER_MALFORMED, UNSAFE_NAME, DUPLICATE_PATH or TOO_MANY_FILES.
    """
    if not isinstance(listed, list):
        raise Refused(Refusal.HEADER_MALFORMED, "its variants are not a list")
    _require_count(listed)
    for entry in listed:
        if (
            not isinstance(entry, dict)
            or set(entry) != _KEYS
            or type(entry["bytes"]) is not int
            or entry["bytes"] < 0
            or not isinstance(entry["minimum_os"], dict)
            or not all(
                _is(_WORD, system) and _is(_OS_VERSION, version)
                for system, version in entry["minimum_os"].items()
            )
            or not all(_is(_WORD, entry[key]) for key in _KEYS - {"bytes", "minimum_os"})
        ):
            raise Refused(Refusal.HEADER_MALFORMED, f"{shown(entry)} is not a variant")
    artifacts = {(check_name(one["name"]), check_version(one["version"])) for one in listed}
    if len(artifacts) < len(listed):
        raise Refused(Refusal.DUPLICATE_PATH, "it has an artifact twice")
    return tuple(Variant(**entry) for entry in listed)


def _require_count(listed: list[Any]) -> None:
    if not 1 <= len(listed) <= MAX_VARIANTS:
        raise Refused(
            Refusal.TOO_MANY_FILES, f"it has {len(listed)} variants, 1 to {MAX_VARIANTS} are read"
        )


def _is(pattern: re.Pattern[str], text: object) -> bool:
    return isinstance(text, str) and pattern.fullmatch(text) is not None


def _contents(headers: Sequence[Header]) -> tuple[File, ...]:
    """Every content once, in the order in which the headers first name it."""
    once: dict[str, File] = {}
    for header in headers:
        for file in header.files:
            if once.setdefault(file.sha256, file).bytes != file.bytes:
                raise Refused(Refusal.HEADER_MALFORMED, f"{file.path} has two sizes and one digest")
    if sum(file.bytes for file in once.values()) > MAX_TOTAL:
        raise Refused(Refusal.TOO_LARGE, f"its files are larger than {MAX_TOTAL} bytes")
    return tuple(once.values())


def holds_variants(path: Path) -> bool:
    """Whether a bundle's format is that of variants; nothing else is checked."""
    with open_frame(path) as (stream, _):
        raw = read_raw_header(stream, path)
    value = strict_json(raw, MAX_HEADER, Refusal.HEADER_MALFORMED)
    return isinstance(value, dict) and value.get("format") == FORMAT


def check_variants(path: Path, trust: Trust) -> tuple[Variants, Trusted]:
    """Proves a bundle without unpacking it: shape, every signature and every digest.

    Returns:
        Its content, and the trusted signer of the variants.

    Raises:
        Refused: one of the reasons of docs/bundle-format.md.
    """
    with open_frame(path) as (stream, size):
        return _check(stream, size, path, trust)


def _check(stream: Any, size: int, path: Path, trust: Trust) -> tuple[Variants, Trusted]:
    bundle = parse_variants(read_raw_header(stream, path))
    check_size(size, bundle.raw, sum(file.bytes for file in bundle.contents), path)
    key = check_signatures(PAYLOAD_TYPE, bundle.payload, bundle.signatures, trust)
    for header in bundle.headers:
        check_header(header, trust)
    for file in bundle.contents:
        copy_content(stream, file, lambda _: None)
    return bundle, key


def list_variants(path: Path, trust: Trust) -> tuple[tuple[Variant, ...], Trusted]:
    """The variants of a bundle, once all of it is proven; a bundle of one artifact has one.

    Raises:
        Refused: one of the reasons of docs/bundle-format.md.
    """
    from asrbuild.artifact.reading import read_manifest

    if holds_variants(path):
        bundle, key = check_variants(path, trust)
        return bundle.variants, key
    with TemporaryDirectory(prefix="asrbuild-listed-") as folder:
        opened = unpack_bundle(path, Path(folder), trust)
        return (describe_variant(opened.header, read_manifest(Path(folder))),), opened.key


def unpack_variant(path: Path, variant: Variant, directory: Path, trust: Trust) -> OpenedBundle:
    """Proves the whole bundle, then writes one of its artifacts into an empty directory.

    Everything is proven before the first byte is written, and again as it is written.

    Raises:
        Refused: one of the reasons of docs/bundle-format.md.
    """
    from asrbuild.artifact.reading import read_manifest

    with open_frame(path) as (stream, size):
        bundle, _ = _check(stream, size, path, trust)
        header = _header_of(bundle, variant)
        stream.seek(START + len(bundle.raw))
        for file in bundle.contents:
            own = [each for each in header.files if each.sha256 == file.sha256]
            with ExitStack() as open_files:
                writes = [open_files.enter_context(new_file(directory, f.path)) for f in own]
                copy_content(stream, file, partial(_write_all, writes))
    manifest = read_manifest(directory)
    check_manifest(header, manifest)
    check_variant(variant, header, manifest)
    return OpenedBundle(header, check_header(header, trust))


def _write_all(writes: Sequence[Callable[[bytes], object]], block: bytes) -> None:
    for write in writes:
        write(block)


def check_variant(variant: Variant, header: Header, manifest: Manifest) -> None:
    """Refuses a variant that contradicts its artifact's manifest.

    Raises:
        Refused: MANIFEST_MISMATCH.
    """
    if describe_variant(header, manifest) != variant:
        raise Refused(
            Refusal.MANIFEST_MISMATCH,
            f"the manifest of {header.name} {header.version} contradicts its variant",
        )


def _header_of(bundle: Variants, variant: Variant) -> Header:
    for header in bundle.headers:
        if header.digest == variant.header:
            return header
    raise Refused(Refusal.FILE_MISSING, f"it no longer has {variant.name} {variant.version}")


def choose(variants: Sequence[Variant], system: str, max_bytes: int | None = None) -> Variant:
    """The variant for a device: the first that its system loads and that is small enough.

    Args:
        variants: in the publisher's order of preference.
        system: ``iOS17``, ``iOS17.4``, ``macOS14``.
        max_bytes: the largest Core ML package, in bytes; None: any.

    Raises:
        AsrbuildError: there is none, or no such system.
    """
    match = _SYSTEM.fullmatch(system)
    if match is None:
        raise AsrbuildError(
            f"{system} is not a system",
            key="--os",
            fix="give iOS or macOS with its version, for example iOS17 or macOS14.2",
        )
    version = _numbers(match[2])
    for variant in variants:
        if variant.runs_on(match[1], version) and variant.bytes <= (max_bytes or variant.bytes):
            return variant
    small = "" if max_bytes is None else f" with at most {max_bytes:,} bytes"
    offered = ", ".join(
        f"{v.name} {v.version} (from {match[1]} {v.minimum_os[match[1]]}, {v.bytes:,} bytes)"
        if match[1] in v.minimum_os
        else f"{v.name} {v.version} (not on {match[1]})"
        for v in variants
    )
    raise AsrbuildError(
        f"no variant{small} runs on {system}",
        key="--os",
        fix=f"name a device that one of these runs on: {offered}",
    )


def _numbers(version: str) -> tuple[int, ...]:
    """``17.0`` and ``17`` are one version."""
    numbers = [int(part) for part in version.split(".")]
    while len(numbers) > 1 and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)
