"""The artifact store: a folder of published, read-only artifacts that are never rewritten.

    artifacts/<name>/<version>/             the artifact, with SHA256SUMS over every other file
    artifacts/<name>/latest                 a text file naming the version published last
    artifacts/.signed/<name>/<version>.json the signed header that a pulled version came with
    artifacts/.evidence/<name>/<version>/   signed evidence of devices, see artifact/evidence.py
    artifacts/.staging-*                    an artifact being assembled or removed

Any number of processes and machines may share a store. A version is published, pointed to and
removed under a lock of its own; readers need no lock, because every step is one rename. A version
that is made twice is the same artifact.
"""

from __future__ import annotations

import math
import os
import shutil
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from types import MappingProxyType

from asrbuild.artifact.integrity import read_sums, removal, verify_files, write_sums
from asrbuild.artifact.layout import LATEST, STAGING, SUMS, is_volatile
from asrbuild.artifact.lookup import list_artifacts, read_latest
from asrbuild.artifact.names import NAME_RULE, is_name, is_version
from asrbuild.artifact.proven import remember_proven
from asrbuild.artifact.signatures import keep_signature, signature_path
from asrbuild.base import locks
from asrbuild.base.digest import file_digest, text_digest, tree_digests
from asrbuild.base.disk import (
    disk_errors,
    exchange_paths,
    remove_tree,
    rename_directory,
    sync_path,
    sync_tree,
    write_atomically,
)
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.links import is_large, link_first, make_read_only


@contextmanager
def staging(root: Path) -> Iterator[Path]:
    """Yields an empty directory inside the store for assembling an artifact; removes it at the end.

    Leftovers of killed builds are removed first; live staging directories are not touched.
    """
    sweep(root)
    directory = root / f"{STAGING}{locks.unfinished_name()}"
    lock = _lock_of(directory)
    with locks.hold(lock, waiting=lambda _: None, doing="preparing an artifact"):
        try:
            with disk_errors("preparing an artifact", root):
                directory.mkdir(parents=True)
            yield directory
        finally:
            with disk_errors("removing an unfinished artifact", directory):
                remove_tree(directory)


def put(
    source: Path, staging_dir: Path, name: str, digest: str, cache: Path, *, cached: bool = True
) -> None:
    """Copies or links a file into a directory from :func:`staging`, and reads it back.

    A large file becomes a hard link to a file with the same bytes, in a published artifact or the
    cache; see :mod:`asrbuild.base.links`.

    Args:
        name: its path, relative to ``staging_dir``.
        digest: its SHA-256.
        cached: whether ``source`` is in the cache; other files are copied, never linked.

    Raises:
        AsrbuildError: the disk returned other bytes.
    """
    target = staging_dir / name
    target.parent.mkdir(parents=True, exist_ok=True)
    twins = chain(_files_of(staging_dir.parent, digest), [source] if cached else [])
    if not is_large(source) or not link_first(twins, target, digest, cache):
        shutil.copyfile(source, target)
    sync_path(target)
    if file_digest(target, cache) != digest:
        raise AsrbuildError(
            f"{name} was not copied as it is",
            file=target,
            fix="check the disk, then build again",
        )


def _files_of(root: Path, digest: str) -> Iterator[Path]:
    """The files of published artifacts with this digest in their lists, newest artifact first."""
    artifacts = [artifact.path for artifact in list_artifacts(root)]
    for path in sorted(artifacts, key=came, reverse=True):
        sums = read_sums(path) or {}
        yield from (path / name for name, each in sums.items() if each == digest)


def publish(
    root: Path,
    name: str,
    staging_dir: Path,
    version: str,
    *,
    digests: Mapping[str, str] = MappingProxyType({}),
    known: Mapping[str, str] = MappingProxyType({}),
    move_latest: bool = True,
) -> Path:
    """Moves a finished directory to ``root/name/version`` and points ``latest`` at it.

    Publishing an existing version again keeps the published one, byte for byte, if both have the
    same files; those of ``layout.VOLATILE`` may differ.

    Args:
        staging_dir: a directory inside ``root``, from :func:`staging`; it is consumed.
        digests: path -> SHA-256 of copied files, computed from their sources.
        known: path -> SHA-256 of files that were already read back from ``staging_dir``.
        move_latest: False: ``latest`` is written only if there is none.

    Raises:
        AsrbuildError: another artifact has this version, the disk refused, or returned other bytes
        than were copied.
    """
    _check_names(name, version)
    target = root / name / version
    doing = "publishing an artifact"
    with disk_errors(doing, root):
        sums = write_sums(staging_dir, known)
        for path, digest in digests.items():
            if sums.get(path) != digest:
                raise AsrbuildError(
                    f"{path} was not copied as it is",
                    file=target / path,
                    fix="check the disk, then build again",
                )
        _make_read_only(staging_dir)
        sync_tree(staging_dir)
        with _locked(root, name, version, doing):
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists():
                # The signature of an earlier artifact of this version, which may have had other
                # bytes.
                signature_path(target).unlink(missing_ok=True)
            if rename_directory(staging_dir, target):
                sync_path(root)
            else:
                _require_same(target, sums)
            # The directory itself stays writable until it is in place, because moving requires it.
            make_read_only(target)
            _write_latest(root, name, version, move_latest)
        remove_tree(staging_dir)
    remember_proven(target)
    return target


def _check_names(name: str, version: str) -> None:
    for text, fits, what in ((name, is_name, "name"), (version, is_version, "version")):
        if not fits(text):
            raise AsrbuildError(f"{text!r} cannot be an artifact's {what}", key=what, fix=NAME_RULE)


def publish_signed(
    root: Path,
    name: str,
    staging_dir: Path,
    version: str,
    files: Mapping[str, str],
    signature: bytes,
) -> Path:
    """Publishes exactly the signed files as a version, and keeps their signature.

    An existing version with other bytes (another build of the same content, or a changed one) is
    replaced as a whole, in one step if the file system supports it.

    Args:
        staging_dir: a directory inside ``root``, from :func:`staging`, with exactly these files; it
            is consumed.
        files: path -> SHA-256 of every file, ``SHA256SUMS`` among them.
        signature: the signed header, see :func:`read_signature`.

    Raises:
        AsrbuildError: the disk refused.
    """
    _check_names(name, version)
    target = root / name / version
    doing = "publishing an artifact"
    with disk_errors(doing, root):
        _make_read_only(staging_dir)
        sync_tree(staging_dir)
        with _locked(root, name, version, doing) as away:
            target.parent.mkdir(parents=True, exist_ok=True)
            if not _holds(target, files):
                # A kill at any moment must not leave a signature next to other bytes.
                signature_path(target).unlink(missing_ok=True)
                if os.path.lexists(target) or not rename_directory(staging_dir, target):
                    _swap(staging_dir, target, away)
                sync_path(root)
            keep_signature(target, signature)
            make_read_only(target)
            _write_latest(root, name, version)
        for left in (staging_dir, away):
            remove_tree(left)
    remember_proven(target)
    return target


def keep_signed(
    root: Path, name: str, version: str, files: Mapping[str, str], signature: bytes
) -> bool:
    """Keeps the signature of an existing version with exactly the signed files.

    It also points ``latest`` to the version.

    Returns:
        False, without a change, if the version does not exist or has other files.
    """
    target = root / name / version
    doing = "pointing to the latest version"
    if not _holds(target, files):
        return False
    with _locked(root, name, version, doing), disk_errors(doing, root):
        if not target.is_dir():
            return False
        keep_signature(target, signature)
        _write_latest(root, name, version)
    remember_proven(target)
    return True


def _holds(directory: Path, files: Mapping[str, str]) -> bool:
    """Whether a directory has exactly these files, byte for byte; every byte is read."""
    if directory.is_symlink() or not directory.is_dir():
        return False
    try:
        return tree_digests(directory) == dict(files)
    except AsrbuildError:
        return False  # a link, a device, or an unreadable file


def _swap(staging_dir: Path, target: Path, away: Path) -> None:
    """Replaces ``target`` with a directory; the old one moves to its place or to ``away``."""
    remove_tree(away)
    if not target.is_symlink() and target.is_dir():
        # Moving a directory to another folder requires write permission for it.
        os.chmod(target, stat.S_IMODE(target.stat().st_mode) | stat.S_IWUSR)
    if not exchange_paths(staging_dir, target):
        os.rename(target, away)
        os.rename(staging_dir, target)
    sync_path(target.parent)


def point_latest(root: Path, name: str, version: str, *, move: bool = True) -> bool:
    """Makes ``latest`` name this version; writes nothing if it does already.

    Args:
        move: False: only if there is no ``latest``.

    Returns:
        Whether the version exists. No clean-up removes it while ``latest`` names it.
    """
    doing = "pointing to the latest version"
    named = read_latest(root, name)
    if named is None or (move and named != version):
        with _locked(root, name, version, doing), disk_errors(doing, root):
            if not (root / name / version).is_dir():
                return False
            _write_latest(root, name, version, move)
    return (root / name / version).is_dir()


def _write_latest(root: Path, name: str, version: str, move: bool = True) -> None:
    named = read_latest(root, name)
    if named is None or (move and named != version):
        write_atomically(root / name / LATEST, version + "\n")


def remove(root: Path, name: str, version: str, unless_after: float = math.inf) -> bool:
    """Removes an artifact in one step.

    It is moved to a hidden directory first, so that a kill leaves no part of it visible.

    Args:
        unless_after: the POSIX time of a survey; an artifact published later stays.

    Returns:
        False if it stays, as the latest or as too new, or does not exist.
    """
    path = root / name / version
    doing = "removing an artifact"
    with _locked(root, name, version, doing) as away, disk_errors(doing, path):
        if not path.is_dir() or read_latest(root, name) == version or came(path) > unless_after:
            return False
        remove_tree(away)
        os.chmod(path, stat.S_IMODE(path.stat().st_mode) | stat.S_IWUSR)
        signature_path(path).unlink(missing_ok=True)
        os.rename(path, away)
        sync_path(path.parent)
        remove_tree(away)
    return True


def came(artifact: Path) -> float:
    """The POSIX time when an artifact came into this store: that of its list, written last."""
    for path in (artifact / SUMS, artifact):
        with suppress(OSError):
            return path.stat().st_mtime
    return time.time()


@contextmanager
def _locked(root: Path, name: str, version: str, doing: str) -> Iterator[Path]:
    """Holds the lock of a version; yields the hidden directory for its removal."""
    away = root / f"{STAGING}{text_digest(f'{name}/{version}')[:12]}"
    with locks.hold(_lock_of(away), waiting=lambda _: None, doing=doing):
        yield away


def _make_read_only(directory: Path) -> None:
    """Makes all files and folders inside read-only, but not the directory itself."""
    for folder, folders, names in os.walk(directory):
        for name in [*folders, *names]:
            make_read_only(Path(folder, name))


def _require_same(target: Path, sums: Mapping[str, str]) -> None:
    published = read_sums(target)
    if published is None:
        differing = [SUMS]
    else:
        differing = sorted(
            path
            for path in {*published, *sums}
            if published.get(path) != sums.get(path) and not is_volatile(path)
        )
    differing = differing or [p.path for p in verify_files(target)]
    if differing:
        raise AsrbuildError(
            f"another artifact is already published as {target.parent.name}/{target.name}; "
            f"it differs in {', '.join(differing)}",
            file=target,
            fix="raise the recipe's version; or, if the published one was damaged, remove it "
            f"({removal(target)}) and build again",
        )


def _lock_of(directory: Path) -> Path:
    return directory.with_name(directory.name + ".lock")


def sweep(root: Path) -> None:
    """Removes the staging directories of dead processes, and their locks."""
    if not root.is_dir():
        return
    # A lock may remain without its directory, or a directory without its lock.
    owners = {path.name.split(".")[1] for path in root.glob(f"{STAGING}*")}
    for owner in owners:
        directory = root / f".{owner}"
        with locks.try_hold(_lock_of(directory)) as free:
            if free is not False and locks.is_abandoned(directory, exact=free is True):
                with disk_errors("removing an unfinished artifact", directory):
                    remove_tree(directory)
