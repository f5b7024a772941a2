"""The artifact store: published directories that appear whole, are read-only and never rewritten.

    artifacts/<name>/<version>/             the artifact, with SHA256SUMS over every other file
    artifacts/<name>/latest                 a text file naming the version published last
    artifacts/.signed/<name>/<version>.json the signed header that a pulled version came with
    artifacts/.staging-*                    an artifact being put together, or taken away

A store may be shared by any number of processes and machines. A version is put in place, pointed
to and taken away under a lock of its own; readers need none, for every step is one rename. The same
version made twice is the same artifact.
"""

from __future__ import annotations

import difflib
import math
import os
import re
import secrets
import stat
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from asrbuild.artifact.layout import LATEST, MANIFEST, SIGNED, STAGING, SUMS, is_volatile
from asrbuild.artifact.names import NAME_RULE, is_name, is_version
from asrbuild.base import locks
from asrbuild.base.digest import canonical_json, file_digest, text_digest, tree_digests
from asrbuild.base.disk import (
    disk_errors,
    exchange_paths,
    files_in,
    remove_tree,
    rename_directory,
    require_own,
    stays_inside,
    sync_path,
    sync_tree,
    write_atomically,
)
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.kinds import ARTIFACT, require
from asrbuild.base.places import memo_root, state_root

_DIGITS = re.compile(r"([0-9]+)")
_SUM_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")
_WRITE = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH


@dataclass(frozen=True)
class Artifact:
    """One published artifact; ``latest``: the pointer of its name names it."""

    name: str
    version: str
    path: Path
    latest: bool


@dataclass(frozen=True)
class Problem:
    """One file that is not as it was published; ``what`` is changed, missing, added or invalid."""

    path: str
    what: str

    def __str__(self) -> str:
        return f"{self.path}: {self.what}"


def content_digest(files: Mapping[str, str], manifest_core: Mapping[str, Any]) -> str:
    """SHA-256 over the files' paths and digests and the manifest without the facts of one run."""
    return text_digest(canonical_json({"files": files, "manifest": manifest_core}))


@contextmanager
def staging(root: Path) -> Iterator[Path]:
    """An empty directory inside the store to put an artifact together in, removed at the end.

    What killed builds left is removed first; another process's live staging is let be.
    """
    sweep(root)
    nonce = secrets.token_hex(6)
    directory = root / f"{STAGING}{nonce}"
    lock = _lock_of(directory)
    with locks.hold(lock, waiting=lambda _: None, doing="preparing an artifact"):
        try:
            with disk_errors("preparing an artifact", root):
                directory.mkdir(parents=True)
            yield directory
        finally:
            with disk_errors("removing an unfinished artifact", directory):
                remove_tree(directory)


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

    Publishing a version that is there already keeps the published one, byte for byte, when both
    have the same files; those of ``layout.VOLATILE`` may differ.

    Args:
        staging_dir: a directory inside ``root``, from :func:`staging`; it is consumed.
        digests: path -> SHA-256 of files that were copied from elsewhere, as they were there.
        known: path -> SHA-256 of files that were read back from ``staging_dir`` already.
        move_latest: False: ``latest`` is written only where there is none.

    Raises:
        AsrbuildError: another artifact has this version, the disk refused, or gave back other bytes
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
        with _kept_still(root, name, version, doing):
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists():
                # Of an earlier artifact of this version, whose other bytes may have differed.
                signature_path(target).unlink(missing_ok=True)
            if rename_directory(staging_dir, target):
                sync_path(root)
            else:
                _require_same(target, sums)
            # The directory itself was writable until it is in place: moving it needs that.
            os.chmod(target, stat.S_IMODE(target.stat().st_mode) & ~_WRITE)
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
    """Makes a version have exactly the signed files, and keeps the signature beside it.

    A version that is there with other bytes (another build of the same content, or a changed one)
    is swapped as a whole, in one step where the file system can do that.

    Args:
        staging_dir: a directory inside ``root``, from :func:`staging`, that holds exactly these
            files; it is consumed.
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
        with _kept_still(root, name, version, doing) as away:
            target.parent.mkdir(parents=True, exist_ok=True)
            if not _holds(target, files):
                # Never beside other bytes than its own, at whatever moment the process is killed.
                signature_path(target).unlink(missing_ok=True)
                if os.path.lexists(target) or not rename_directory(staging_dir, target):
                    _swap(staging_dir, target, away)
                sync_path(root)
            keep_signature(target, signature)
            os.chmod(target, stat.S_IMODE(target.stat().st_mode) & ~_WRITE)
            _write_latest(root, name, version)
        for left in (staging_dir, away):
            remove_tree(left)
    remember_proven(target)
    return target


def keep_signed(
    root: Path, name: str, version: str, files: Mapping[str, str], signature: bytes
) -> bool:
    """Keeps the signature of a version that has exactly the signed files already, and points
    ``latest`` at it.

    Returns:
        False, and no change, where the version is not there or has other files.
    """
    target = root / name / version
    doing = "pointing to the latest version"
    if not _holds(target, files):
        return False
    with _kept_still(root, name, version, doing), disk_errors(doing, root):
        if not target.is_dir():
            return False
        keep_signature(target, signature)
        _write_latest(root, name, version)
    remember_proven(target)
    return True


def signature_path(artifact: Path) -> Path:
    """Where the signed header of an artifact in a store is, if it has one."""
    version = Path(os.path.abspath(artifact))
    return version.parents[1] / SIGNED / version.parent.name / f"{version.name}.json"


def read_signature(artifact: Path, limit: int) -> bytes | None:
    """The signed header that an artifact came with; None where there is none.

    Raises:
        AsrbuildError: it is no plain file, or is larger than ``limit`` bytes.
    """
    path = signature_path(artifact)
    if not os.path.lexists(path):
        return None
    with disk_errors("reading a signature", path):
        if path.is_symlink() or not path.is_file() or path.stat().st_size > limit:
            raise AsrbuildError(
                "the signature is not a plain file of a signature's size",
                file=path,
                fix="remove it, and pull the artifact again",
            )
        return path.read_bytes()


def keep_signature(artifact: Path, signature: bytes) -> None:
    """Writes the signed header beside an artifact; what is there already is not written again."""
    path = signature_path(artifact)
    if path.is_symlink() or not path.is_file() or path.read_bytes() != signature:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, signature.decode("ascii"))


def _holds(directory: Path, files: Mapping[str, str]) -> bool:
    """Whether a directory has exactly these files, byte for byte; every byte is read."""
    if directory.is_symlink() or not directory.is_dir():
        return False
    try:
        return tree_digests(directory) == dict(files)
    except AsrbuildError:
        return False  # a link, a device, or a file that cannot be read


def _swap(staging_dir: Path, target: Path, away: Path) -> None:
    """Puts a directory in the place of another one, which is at its place or ``away`` then."""
    remove_tree(away)
    if not target.is_symlink() and target.is_dir():
        # A directory is moved to another folder only where it may be written to.
        os.chmod(target, stat.S_IMODE(target.stat().st_mode) | stat.S_IWUSR)
    if not exchange_paths(staging_dir, target):
        os.rename(target, away)
        os.rename(staging_dir, target)
    sync_path(target.parent)


def remember_proven(artifact_dir: Path) -> None:
    """Keeps, outside of the artifact, that these bytes were made, pulled or proven on this machine.

    Whoever can write to the artifact can write what it claims of itself, but not to the user's own
    state folder. The record is named by the digest of ``SHA256SUMS``, so a copy has it too.
    """
    with suppress(OSError):  # it is proven again then
        if (record := _proven_record(artifact_dir)) is not None and not record.exists():
            record.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_atomically(record, f"{artifact_dir.parent.name}/{artifact_dir.name}\n")


def is_proven_here(artifact_dir: Path) -> bool:
    """Whether :func:`remember_proven` was called for these bytes; its files are compared first."""
    with suppress(OSError):
        record = _proven_record(artifact_dir)
        if record is not None and record.is_file():
            require_own(record.parent, record, sharable=False)
            return not verify_files(artifact_dir, memo_root())
    return False


def _proven_record(artifact_dir: Path) -> Path | None:
    root = state_root()
    return None if root is None else root / "proven" / file_digest(artifact_dir / SUMS)


def point_latest(root: Path, name: str, version: str, *, move: bool = True) -> bool:
    """Makes ``latest`` name this version; nothing is written when it does already.

    Args:
        move: False: only where there is no ``latest``.

    Returns:
        Whether the version is there. No clean-up removes it while ``latest`` names it.
    """
    doing = "pointing to the latest version"
    named = read_latest(root, name)
    if named is None or (move and named != version):
        with _kept_still(root, name, version, doing), disk_errors(doing, root):
            if not (root / name / version).is_dir():
                return False
            _write_latest(root, name, version, move)
    return (root / name / version).is_dir()


def _write_latest(root: Path, name: str, version: str, move: bool = True) -> None:
    named = read_latest(root, name)
    if named is None or (move and named != version):
        write_atomically(root / name / LATEST, version + "\n")


def remove(root: Path, name: str, version: str, unless_after: float = math.inf) -> bool:
    """Removes an artifact, which is whole until it is gone.

    It is moved out of sight first, so a kill leaves no half of it: what is out of sight is swept.

    Args:
        unless_after: the POSIX time of a look at the store; what was published later stays.

    Returns:
        False when it stays, for it is the latest or too new, or is not there.
    """
    path = root / name / version
    doing = "removing an artifact"
    with _kept_still(root, name, version, doing) as away, disk_errors(doing, path):
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
    """The POSIX time an artifact came into this store: its list of digests is written last."""
    for path in (artifact / SUMS, artifact):
        with suppress(OSError):
            return path.stat().st_mtime
    return time.time()


@contextmanager
def _kept_still(root: Path, name: str, version: str, doing: str) -> Iterator[Path]:
    """One process at a time puts a version in place or takes it away; to where, out of sight."""
    away = root / f"{STAGING}{text_digest(f'{name}/{version}')[:12]}"
    with locks.hold(_lock_of(away), waiting=lambda _: None, doing=doing):
        yield away


def write_sums(directory: Path, known: Mapping[str, str] = MappingProxyType({})) -> dict[str, str]:
    """Writes ``SHA256SUMS`` over every other file; path -> digest, ``known`` or read.

    Raises:
        AsrbuildError: there is no manifest, or a file's name cannot stand in the list.
    """
    (directory / SUMS).unlink(missing_ok=True)
    sums = tree_digests(directory, known=known)
    if MANIFEST not in sums:
        raise AsrbuildError(f"an artifact without {MANIFEST} cannot be published", file=directory)
    for path in sums:
        if "\\" in path or "\n" in path or "\r" in path:
            raise AsrbuildError(f"the file name {path!r} cannot be published", file=directory)
    lines = [f"{digest}  {path}\n" for path, digest in sums.items()]
    (directory / SUMS).write_text("".join(lines), encoding="utf-8", newline="")
    return sums


def _make_read_only(directory: Path) -> None:
    """Everything inside, not the directory itself."""
    for folder, folders, names in os.walk(directory):
        for name in [*folders, *names]:
            path = os.path.join(folder, name)
            os.chmod(path, stat.S_IMODE(os.stat(path).st_mode) & ~_WRITE)


def _require_same(target: Path, sums: Mapping[str, str]) -> None:
    published = _read_sums(target)
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
            f"(chmod -R u+w {target} && rm -r {target}) and build again",
        )


def read_latest(root: Path, name: str) -> str | None:
    """The version that ``latest`` of ``name`` names, None when there is no such pointer."""
    try:
        version = (root / name / LATEST).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return version if is_version(version) else None


def list_artifacts(root: Path) -> list[Artifact]:
    """Everything published, by name and then by version; an absent store is empty."""
    if not root.is_dir():
        return []
    found: list[Artifact] = []
    with disk_errors("listing the artifacts", root):
        for folder in sorted(path for path in root.iterdir() if is_name(path.name)):
            if not folder.is_dir():
                continue
            latest = read_latest(root, folder.name)
            found += [
                Artifact(folder.name, path.name, path, path.name == latest)
                for path in sorted(folder.iterdir(), key=_in_order)
                if is_version(path.name) and path.is_dir()
            ]
    return found


def _in_order(path: Path) -> list[tuple[int, str]]:
    """Sorts 1.9 before 1.10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in _DIGITS.split(path.name)]


def resolve(root: Path, spec: str) -> Path:
    """The artifact that a person means.

    Args:
        spec: a name (its latest version), ``name/latest``, ``name/version``, ``name/`` with the
            start of a version or of the digest after its ``+``, or a path to an artifact's
            directory or its ``manifest.json``.

    Raises:
        AsrbuildError: nothing or more than one fits; it lists what is there. Or the store is not
            the user's own, see :func:`asrbuild.base.disk.require_own`.
    """
    if not spec:
        raise AsrbuildError("no artifact is named", fix="give a name that `asrbuild ls` lists")
    if "/" not in spec and os.sep not in spec:
        fitting = [a for a in list_artifacts(root) if a.name == spec]
        if fitting:
            return _own(root, _latest_of(root, spec, fitting).path)
    path = Path(spec).expanduser()
    if path.name == MANIFEST and path.is_file():
        return path.parent
    if (path / MANIFEST).is_file():
        return path
    artifacts = list_artifacts(root)
    name, _, version = spec.strip("/").partition("/")
    fitting = [a for a in artifacts if a.name == name]
    if not fitting:
        raise _nothing_fits(root, spec, artifacts, path)
    if version in ("", LATEST):
        return _own(root, _latest_of(root, name, fitting).path)
    for artifact in fitting:
        if artifact.version == version:
            return _own(root, artifact.path)
    meant = versions_meant([a.version for a in fitting], version)
    starts = [a for a in fitting if a.version in meant]
    if len(starts) == 1:
        return _own(root, starts[0].path)
    if not starts:
        raise _nothing_fits(root, spec, fitting, path)
    raise AsrbuildError(
        f"{spec!r} fits {len(starts)} artifacts: {_names(starts)}",
        file=root,
        fix="write more of the version",
    )


def _own(root: Path, artifact: Path) -> Path:
    require_own(root, artifact.parent, artifact)
    return artifact


def versions_meant(versions: Collection[str], start: str) -> list[str]:
    """Those that begin with ``start``, or whose digest after the ``+`` does.

    A recipe's whole version goes first: 1.0.1 is not the start of 1.0.10 to whoever types it.
    """
    whole = [v for v in versions if v.partition("+")[0] == start]
    return whole or [
        v for v in versions if v.startswith(start) or v.partition("+")[2].startswith(start)
    ]


def _latest_of(root: Path, name: str, fitting: list[Artifact]) -> Artifact:
    for artifact in fitting:
        if artifact.latest:
            return artifact
    if len(fitting) == 1:
        return fitting[0]
    raise AsrbuildError(
        f"{name} has no latest version: {_names(fitting)} are there, but {name}/{LATEST} names "
        "none of them",
        file=root / name / LATEST,
        fix="name the version",
    )


def _nothing_fits(root: Path, spec: str, artifacts: list[Artifact], path: Path) -> AsrbuildError:
    if path.exists():
        require(path, ARTIFACT)
        return AsrbuildError(
            f"{spec} is there, but not under the name {MANIFEST}",
            file=path,
            fix="give the artifact's directory",
        )
    if not artifacts:
        return AsrbuildError(
            f"there is no artifact {spec!r}: nothing is published here yet",
            file=root,
            fix="build one with `asrbuild model=dynamic`",
        )
    known = sorted({a.name for a in artifacts} | {f"{a.name}/{a.version}" for a in artifacts})
    close = difflib.get_close_matches(spec, known, n=3, cutoff=0.6)
    hint = f"; did you mean {' or '.join(close)}?" if close else ""
    return AsrbuildError(
        f"there is no artifact {spec!r}{hint}",
        file=root,
        fix=f"choose one of {_names(artifacts)}",
    )


def _names(artifacts: list[Artifact]) -> str:
    names = [f"{a.name}/{a.version}" for a in artifacts]
    shown = ", ".join(names[:10])
    return f"{shown} and {len(names) - 10} more" if len(names) > 10 else shown


def is_published(artifact_dir: Path, cache_root: Path | None = None) -> bool:
    """Whether the artifact is there and whole, so that building it again would be no work."""
    return artifact_dir.is_dir() and not verify_files(artifact_dir, cache_root)


def verify_files(artifact_dir: Path, cache_root: Path | None = None) -> list[Problem]:
    """Compares every file with ``SHA256SUMS``; an empty list is a whole artifact.

    Every byte is read. With a ``cache_root``, a large file that the file system says is unchanged
    since it was last read is not read again; see :func:`asrbuild.base.digest.file_digest`.
    """
    with disk_errors("verifying an artifact", artifact_dir):
        sums = _read_sums(artifact_dir)
        if sums is None:
            return [Problem(SUMS, "missing or malformed, so nothing can be verified")]
        try:
            present = {*files_in(artifact_dir)} - {SUMS}
        except AsrbuildError as error:
            return [Problem(str(error.file), f"invalid: {error.message}")]
        problems = [Problem(path, "missing") for path in sums if path not in present]
        problems += [Problem(path, "added") for path in present if path not in sums]
        problems += [
            Problem(path, "changed")
            for path, digest in sums.items()
            if path in present and file_digest(artifact_dir / path, cache_root) != digest
        ]
    return sorted(problems, key=lambda problem: problem.path)


def require_whole(artifact_dir: Path, memo_root: Path | None = None) -> dict[str, str]:
    """Checks the bytes of all that a use of an artifact reads: its manifest, and what that lists.

    What only a person reads (README, report, kit) is left to ``asrbuild verify``.

    Args:
        artifact_dir: the artifact.
        memo_root: where the digests of large files are remembered, see
            :func:`asrbuild.base.digest.file_digest`: an unchanged file is read once.

    Returns:
        Path -> SHA-256 of each file that the manifest lists, as it is on the disk.

    Raises:
        AsrbuildError: a file is missing, or is not as it was published, or the package holds a file
            that the manifest does not list.
    """
    # Not at the top: a build with nothing to do is over before pydantic would be there.
    from asrbuild.artifact.manifest import package_path, read_manifest, require_listed

    sums = _read_sums(artifact_dir)
    if sums is None:
        raise _damaged(artifact_dir, SUMS, "is missing or malformed, so nothing can be checked")
    with disk_errors("checking an artifact", artifact_dir):
        if file_digest(artifact_dir / MANIFEST) != sums.get(MANIFEST):
            raise _damaged(artifact_dir, MANIFEST, "is not as it was published")
        manifest = read_manifest(artifact_dir)
        require_listed(manifest)
        found: dict[str, str] = {}
        for entry in manifest.files:
            path = artifact_dir / entry.path
            if not path.is_file():
                raise _damaged(artifact_dir, entry.path, "is missing")
            found[entry.path] = file_digest(path, memo_root)
            if not found[entry.path] == entry.sha256 == sums.get(entry.path):
                raise _damaged(artifact_dir, entry.path, "is not as it was published")
        package = package_path(artifact_dir, manifest)
        for name in files_in(package) if package.is_dir() else ():
            if f"{manifest.model.package}/{name}" not in found:
                raise _damaged(artifact_dir, f"{manifest.model.package}/{name}", "was added")
    return found


def _damaged(artifact_dir: Path, path: str, what: str) -> AsrbuildError:
    return AsrbuildError(
        f"the artifact is damaged: {path} {what}",
        file=artifact_dir / path,
        fix=f"remove it (chmod -R u+w {artifact_dir} && rm -r {artifact_dir}), then pull it again "
        "from where it came, or build it again; `asrbuild verify` says all that is wrong",
    )


def _read_sums(directory: Path) -> dict[str, str] | None:
    path = directory / SUMS
    if os.path.lexists(path) and not path.is_file():
        return None  # a pipe would be waited for
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, NotADirectoryError, UnicodeDecodeError):
        return None
    sums: dict[str, str] = {}
    for line in lines:
        match = _SUM_LINE.fullmatch(line)
        if match is None or not stays_inside(match[2]) or match[2] in sums:
            return None
        sums[match[2]] = match[1]
    return sums


def _lock_of(directory: Path) -> Path:
    return directory.with_name(directory.name + ".lock")


def sweep(root: Path) -> None:
    """Removes the staging directories of processes that are dead, and their locks."""
    if not root.is_dir():
        return
    # A lock may be left without its directory, or the other way round.
    owners = {path.name.split(".")[1] for path in root.glob(f"{STAGING}*")}
    for owner in owners:
        directory = root / f".{owner}"
        with locks.try_hold(_lock_of(directory)) as dead:
            if dead:
                with disk_errors("removing an unfinished artifact", directory):
                    remove_tree(directory)
