"""Recognises the kind of a file or folder, and raises where a place does not take it."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from asrbuild.base.errors import AsrbuildError
from asrbuild.base.kinds.places import KEYS, Place
from asrbuild.base.kinds.table import KINDS, Kind
from asrbuild.base.places import DEMO_PREFIX, named, resolve_file

#: Archives, pointers and failed downloads: the place's own fix does not help with them.
_UNUSED = frozenset(
    {
        "lfs-pointer",
        "annex-pointer",
        "html",
        "xml",
        "answer",
        "zeros",
        "gzip",
        "zip",
        "tar",
        "archive",
        "mlpackage-zip",
        "mp4",
        "film",
        "pipe",
        "device",
    }
)


def exists(path: str | os.PathLike[str]) -> bool:
    """Whether a path exists; False for a name that no file can have.

    Raises:
        OSError: the system gives no answer, for instance because the folder must not be read.
    """
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        return False
    return True


def similar_files(path: Path) -> str:
    """``; did you mean X?``, of files with a similar name in the same folder; may be empty."""
    import difflib

    prefix, colon, rest = str(path).partition(":")
    if colon and difflib.get_close_matches(f"{prefix}:", [DEMO_PREFIX]):
        return f"; did you mean {DEMO_PREFIX}{rest}?"
    try:
        names = sorted(os.listdir(path.parent))
    except (OSError, ValueError):
        return ""
    close = [path.parent / name for name in difflib.get_close_matches(path.name, names, cutoff=0.8)]
    return f"; did you mean {' or '.join(map(named, close))}?" if close else ""


def require(path: str | os.PathLike[str], place: Place, *, key: str | None = None) -> Kind:
    """Returns the kind of a file, if the place takes it.

    Args:
        path: the file or folder.
        place: what takes it.
        key: the config key or option that named it.

    Raises:
        AsrbuildError: it is missing, unreadable, or of another kind, which is named.
    """
    path = Path(path)
    # A name that no file can have (too long, a zero byte) is a missing file.
    if not exists(path):
        noun = place.wants.partition(" ")[2]
        raise AsrbuildError(
            f"no such {noun}{similar_files(path)}", key=key, file=path, fix=place.fix
        )
    kind = recognise(path, key=key)
    if kind.key in place.takes:
        return kind
    named = f" (its name ends in {path.suffix})" if _misnamed(path, kind) else ""
    why = f": {kind.why}" if kind.why else ""
    raise AsrbuildError(
        f"{key or 'this'} is {kind.what}{named}, not {place.wants}{why}",
        key=key,
        file=path,
        fix=advice(path, place, kind),
    )


def advice(path: Path, place: Place, kind: Kind) -> str:
    """The fix for a file of a kind that a place does not take."""
    import shlex

    text = place.instead.get(kind.key, kind.instead)
    text = text.replace("{file}", shlex.quote(str(path)))
    text = text.replace("{folder}", shlex.quote(str(path.parent)))
    if kind.key in place.instead:
        return text
    if kind.key == "empty":
        return f"{text}, or {place.fix}"
    if kind.key in _UNUSED:
        return text
    return f"{place.fix}; {text}" if text else place.fix


def _misnamed(path: Path, kind: Kind) -> bool:
    """Whether the file's suffix belongs to another kind; not for archives and failed downloads."""
    suffix = path.suffix.lower()
    if kind.key in _UNUSED | {"empty"} or suffix in kind.suffixes:
        return False
    return any(suffix in other.suffixes for other in KINDS.values())


def recognise(path: str | os.PathLike[str], *, key: str | None = None) -> Kind:
    """The kind of a file or folder.

    Raises:
        AsrbuildError: it is missing or unreadable.
    """
    path = Path(path)
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            return KINDS[_folder(path)]
        if stat.S_ISFIFO(mode):
            return KINDS["pipe"]
        if not stat.S_ISREG(mode):
            return KINDS["device"]
        from asrbuild.base.kinds.content import kind_of_content

        return kind_of_content(path)
    except FileNotFoundError:
        raise AsrbuildError(
            f"there is no such file{similar_files(path)}",
            key=key,
            file=path,
            fix="give a file that exists",
        ) from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise AsrbuildError(
            f"cannot be read: {reason}",
            key=key,
            file=path,
            fix="change its permissions, or give another file",
        ) from error
    except ValueError as error:  # a path with a NUL byte
        raise AsrbuildError(f"cannot be read: {error}", key=key, file=str(path)) from error


def _folder(path: Path) -> str:
    # By exact names: some file systems take manifest.json for Manifest.json.
    with os.scandir(path) as entries:
        names = {entry.name for entry in entries if entry.is_file()}
    if "Manifest.json" in names:
        return "mlpackage"
    if "manifest.json" in names and recognise(path / "manifest.json").key == "manifest":
        return "artifact"
    if names & {"saved_model.pb", "saved_model.pbtxt"}:
        return "saved-model"
    if "coremldata.bin" in names or {"model.espresso.net", "model.mil"} & names:
        return "mlmodelc"
    if "main.mlirb" in names:
        return "aimodel"
    if names & {"checkpoint", "best_dev_checkpoint"} or any(n.endswith(".index") for n in names):
        return "checkpoint"
    return "folder"


def existing_file(path: str | None, key: str) -> Path:
    """The file or folder that a key of the recipe names.

    Raises:
        AsrbuildError: it is missing, or of another kind than the key takes.
    """
    if not path:
        raise AsrbuildError(f"{key} has no value", key=key, fix=f"write {key}=FILE")
    file = resolve_file(path)
    if not os.path.exists(file):
        raise AsrbuildError(
            f"{key} names no file{similar_files(file)}",
            key=key,
            file=file,
            fix=f"set {key}= to a file that exists",
        )
    if key in KEYS:
        require(file, KEYS[key], key=key)
    return file
