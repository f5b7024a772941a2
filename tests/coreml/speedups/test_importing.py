"""The import of coremltools leaves Python's collector as the caller had it."""

from __future__ import annotations

import subprocess
import sys

import pytest

IMPORTS = """
import gc
{before}
from asrbuild.coreml.speedups.importing import import_coremltools
import_coremltools()
print(gc.isenabled(), gc.get_freeze_count() > 100_000)
"""


@pytest.mark.parametrize(("before", "enabled"), [("", "True"), ("gc.disable()", "False")])
def test_the_collector_is_as_before_and_skips_the_modules(before: str, enabled: str) -> None:
    code = IMPORTS.format(before=before)
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == [enabled, "True"]
