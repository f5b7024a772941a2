"""The error that a user sees: what is wrong, where, and how to fix it."""

from __future__ import annotations

from pathlib import Path
from typing import Any


class AsrbuildError(Exception):
    """A problem that the user can solve; the command line prints it without a traceback.

    Args:
        message: what is wrong, in one sentence.
        key: the config key that is at fault, for instance ``coreml.precision``.
        file: the file that is at fault.
        fix: what to do next, in one sentence.
    """

    def __init__(
        self,
        message: str,
        *,
        key: str | None = None,
        file: str | Path | None = None,
        fix: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.key = key
        self.file = None if file is None else str(file)
        self.fix = fix

    @property
    def fields(self) -> dict[str, str | None]:
        """Its parts as JSON, for another process or program."""
        return {"message": self.message, "key": self.key, "file": self.file, "fix": self.fix}

    def __str__(self) -> str:
        lines = [self.message]
        lines += [
            f"  {label}: {value}"
            for label, value in (("key", self.key), ("file", self.file), ("fix", self.fix))
            if value is not None
        ]
        return "\n".join(lines)

    def __reduce__(self) -> tuple[object, ...]:
        # Keyword-only arguments do not survive the default pickling, and sweeps cross processes.
        return _rebuild, (self.message, self.key, self.file, self.fix)


class GatesError(AsrbuildError):
    """A package failed its gates; has its path and verification, for the table of a sweep."""

    package: Path | None = None
    verification: Any = None


class MisuseError(AsrbuildError):
    """A command line that a command does not accept; the exit code is 2, as everywhere."""


def _rebuild(message: str, key: str | None, file: str | None, fix: str | None) -> AsrbuildError:
    return AsrbuildError(message, key=key, file=file, fix=fix)
