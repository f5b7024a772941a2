"""File permissions: asrbuild makes, and accepts, only files that no other user can change."""

from __future__ import annotations

import functools
import os
import stat
from pathlib import Path

from asrbuild.base.errors import AsrbuildError

#: The environment variable that makes asrbuild accept caches and stores of other users.
SHARED = "ASRBUILD_TRUST_SHARED"


def keep_to_oneself() -> None:
    """From now on, only this user can change the files that this process makes."""
    if not trusts_shared():
        os.umask(os.umask(0o077) | 0o022)


def trusts_shared() -> bool:
    """Whether the user trusts everyone who can write to the cache and the store."""
    return os.environ.get(SHARED, "").lower() not in ("", "0", "false", "no")


def require_own(*paths: Path, sharable: bool = True) -> None:
    """Raises if another user could have made or changed a file or folder; missing paths are fine.

    The administrator (user 0) is trusted, and a group that has the user's name and no other member.

    Args:
        paths: files and folders to check.
        sharable: whether the user may choose to share them with others; keys are never shared.

    Raises:
        AsrbuildError: a path belongs to another user, or another user can write to it.
    """
    if sharable and trusts_shared():
        return
    for path in paths:
        try:
            status = os.stat(path)
        except OSError:
            continue  # an absent file is fine
        if (problem := others_power(status)) is not None:
            fix = (
                f"see what is there, then take it from them: chown -R $USER {path}; chmod -R go-w "
            )
            fix += f"{path}"
            if sharable:
                fix += (
                    "; or name another place; or, if you trust all who can write there, set "
                    f"paths.trust_shared=true, or {SHARED}=1 for commands"
                )
            raise AsrbuildError(
                f"{path} {problem}, who could have put anything there",
                key="paths.trust_shared" if sharable else None,
                file=path,
                fix=fix,
            )


def others_power(status: os.stat_result) -> str | None:
    """Describes how another user can change a file or folder; None if no other user can."""
    if not hasattr(os, "geteuid"):
        return None
    if status.st_uid not in (0, os.geteuid()):
        return f"belongs to another user (number {status.st_uid})"
    if status.st_mode & stat.S_IWOTH:
        return "can be written by every user"
    if status.st_mode & stat.S_IWGRP and not _is_own_group(status.st_gid):
        return f"can be written by all of the group {status.st_gid}"
    return None


@functools.cache
def _is_own_group(gid: int) -> bool:
    import grp
    import pwd

    try:
        group, user = grp.getgrgid(gid), pwd.getpwuid(os.geteuid())
    except KeyError:
        return False
    return group.gr_name == user.pw_name and not {*group.gr_mem} - {user.pw_name}
