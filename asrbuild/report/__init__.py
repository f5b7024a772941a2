"""The pages a person reads: one for an artifact, one for a sweep."""

from __future__ import annotations

from asrbuild.report.page import write_report

__all__ = ["write_report"]
