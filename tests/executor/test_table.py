"""The published table of ops: up to date, and every op in it tested."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from asrbuild.executor import supported_ops
from asrbuild.executor.page import render

ROOT = Path(__file__).parents[2]
CONFORMANCE = {f"test_{name}.py" for name in (
    "constexpr", "control", "elementwise", "indexing", "layers", "linear", "movement", "recurrent",
    "reduction",
)}  # fmt: skip


def test_the_page_is_up_to_date() -> None:
    page = ROOT / "docs" / "executor-ops.md"
    assert page.read_text(encoding="utf-8") == render(), (
        "write it again: python -m asrbuild.executor.page docs/executor-ops.md"
    )


def test_every_op_has_a_line_that_says_what_it_does() -> None:
    for op in supported_ops():
        assert op.summary, op


def test_every_op_is_tested(request: pytest.FixtureRequest) -> None:
    """Looks at what the conformance tests, which run before this file, really built and ran."""
    if os.environ.get("PYTEST_XDIST_WORKER"):
        pytest.skip("the conformance tests are spread over processes; run tests/executor in one")
    ran = {item.path.name for item in request.session.items}
    if not ran >= CONFORMANCE or request.config.option.keyword:
        pytest.skip("run the whole of tests/executor to see what is tested")
    from tests.executor import harness, layers

    tested = {"mlprogram": harness.TESTED, "neuralnetwork": layers.TESTED}
    missing = [op.name for op in supported_ops() if op.name not in tested[op.format]]
    assert not missing
