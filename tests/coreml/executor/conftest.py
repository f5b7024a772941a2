"""Keeps account of which ops the conformance tests run; see ``tested.py``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.coreml.executor import tested

_DESELECTED: set[str] = set()


def pytest_deselected(items: list[pytest.Item]) -> None:
    _DESELECTED.update(item.path.stem for item in items)


@pytest.fixture(scope="module", autouse=True)
def the_kept_ops_are_still_tested(request: pytest.FixtureRequest) -> Iterator[None]:
    """A module that ran whole must have run every op, type and target that is kept of it."""
    tested.take_notes()
    failed = request.session.testsfailed
    yield
    notes = tested.take_notes()
    module = Path(str(request.node.path)).stem
    partly = any("::" in argument for argument in request.config.args)
    if partly or module in _DESELECTED or request.session.testsfailed > failed:
        return
    if os.environ.get("RECORD_TESTED_OPS"):
        tested.keep(module, notes)
        return
    kept = tested.read_kept().get(module, {})
    missing = {op: sorted(lost) for op, was in kept.items() if (lost := was - notes.get(op, set()))}
    assert not missing, f"{module} tests less than docs/executor-ops.md says: {missing}"
