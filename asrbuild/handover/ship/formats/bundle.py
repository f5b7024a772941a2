"""A bundle of one artifact, see docs/bundle-format.md: writing, proving and unpacking it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

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
    Header,
    check_header,
    check_manifest,
    make_header,
    parse_header,
)
from asrbuild.handover.ship.signing.signer import AnySigner
from asrbuild.handover.ship.signing.trust import Trust, Trusted


@dataclass(frozen=True)
class OpenedBundle:
    """A bundle whose header, signature and every digest are proven; ``key`` signed it."""

    header: Header
    key: Trusted


def write_bundle(artifact: Path, target: Path, signer: AnySigner) -> Header:
    """Writes an artifact as one file, whole or not at all; the same content gives the same bytes.

    Raises:
        AsrbuildError: ``target`` exists with other bytes, or a file changed while it was read.
    """
    from asrbuild.artifact.reading import read_manifest

    header = make_header(artifact, read_manifest(artifact), signer)
    write_frame(target, header.raw, ((file, artifact / file.path) for file in header.files))
    return header


def check_bundle(path: Path, trust: Trust) -> OpenedBundle:
    """Proves a bundle without unpacking it: its shape, signature and every digest.

    Raises:
        Refused: one of the reasons of docs/bundle-format.md.
    """
    with open_frame(path) as (stream, size):
        return _check(stream, size, path, trust)


def _check(stream: BinaryIO, size: int, path: Path, trust: Trust) -> OpenedBundle:
    header = parse_header(read_raw_header(stream, path))
    check_size(size, header.raw, header.total, path)
    key = check_header(header, trust)
    for file in header.files:
        copy_content(stream, file, lambda _: None)
    return OpenedBundle(header, key)


def unpack_bundle(path: Path, directory: Path, trust: Trust) -> OpenedBundle:
    """Proves a bundle, then writes its files into an empty directory.

    Everything is proven before the first byte is written. The bytes are proven again as they are
    written, so that a file that changes between the two readings is refused as well; the caller
    then removes the directory.

    Raises:
        Refused: one of the reasons of docs/bundle-format.md.
    """
    from asrbuild.artifact.reading import read_manifest

    with open_frame(path) as (stream, size):
        opened = _check(stream, size, path, trust)
        stream.seek(START + len(opened.header.raw))
        for file in opened.header.files:
            with new_file(directory, file.path) as write:
                copy_content(stream, file, write)
    check_manifest(opened.header, read_manifest(directory))
    return opened
