"""measure.py end to end against a stand-in of coremltools, and the Swift target's syntax."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from asrbuild.handover.app.checking import check_syntax


def test_the_kit_measures(document: dict[str, Any]) -> None:
    assert document["device"]["identifier"] == "Mac16,1"
    assert [row["passes"] for row in document["statistics"]] == [3, 3, 3, 3]


def test_the_swift_target_parses(kit: Path) -> None:
    check = check_syntax(kit / "ASRKit")
    assert check.passed, check.detail
