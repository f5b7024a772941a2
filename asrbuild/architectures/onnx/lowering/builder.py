"""coremltools' MIL builder, imported at first use, because the table of ops does not require it."""

from __future__ import annotations

from typing import Any

from asrbuild.coreml.speedups.importing import import_coremltools


class _Builder:
    def __getattr__(self, name: str) -> Any:
        return getattr(import_coremltools().converters.mil.Builder, name)


mb: Any = _Builder()
