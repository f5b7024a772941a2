"""coremltools' MIL builder, imported when an op is written: the table of ops does without."""

from __future__ import annotations

from typing import Any

from asrbuild.coreml.speedups.importing import import_coremltools


class _Builder:
    def __getattr__(self, name: str) -> Any:
        return getattr(import_coremltools().converters.mil.Builder, name)


mb: Any = _Builder()
