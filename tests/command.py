"""``asrbuild`` command lines in the process of the tests; its errors are raised."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Iterable
from typing import Any

import pytest

from asrbuild.cli.main import dispatch, main


def run(*arguments: object) -> int:
    """The exit code of a command."""
    return dispatch([str(argument) for argument in arguments])


def run_main(
    arguments: Iterable[object], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> tuple[int, str, str]:
    """Exit code, output and errors of ``asrbuild`` as a user runs it: errors are printed."""
    monkeypatch.setattr(sys, "argv", ["asrbuild", *map(str, arguments)])
    with pytest.raises(SystemExit) as left:
        main()
    written = capfd.readouterr()
    return int(left.value.code or 0), written.out, written.err


def output(*arguments: object) -> str:
    """The standard output of a command that succeeds, 200 columns wide."""
    written = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(written):
        patch.setenv("COLUMNS", "200")
        code = run(*arguments)
    assert code == 0, written.getvalue()
    return written.getvalue()


def values(*arguments: object) -> Any:
    """The values that a command prints with ``--json``."""
    return json.loads(output(*arguments, "--json"))
