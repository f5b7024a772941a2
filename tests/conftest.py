"""Settings of every test process."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

from asrbuild.coreai import environment

# Test processes share the cores; BLAS threads of each would spin on the others'. Set before numpy
# is imported, and inherited by the commands that tests start.
for _variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")
# The kernels that the reference asks for; a process that has TensorFlow already keeps its own.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

# A busy machine is no failure: what is tested is what comes out, never how long it takes.
settings.register_profile("asrbuild", deadline=None)
settings.load_profile("asrbuild")

# What was made and proven is remembered for the time of the tests only.
os.environ.setdefault("ASRBUILD_STATE", tempfile.mkdtemp(prefix="asrbuild-tests-state-"))

# Only tests that ask for it run Apple's Core AI runtime: it takes a second of every build.
_CORE_AI = "ASRBUILD_COREAI"
# The processes of pytest-xdist inherit what this one sets; they take the first value on.
_INSTALLED = os.environ.setdefault("ASRBUILD_TESTS_COREAI", os.environ.get(_CORE_AI, ""))
os.environ[_CORE_AI] = os.path.join(os.environ["ASRBUILD_STATE"], "no-core-ai")


@pytest.fixture(scope="session")
def core_ai_folder() -> Path:
    """The environment of Core AI's runtime, installed once on a machine."""
    with pytest.MonkeyPatch.context() as patch:
        if _INSTALLED:
            patch.setenv(_CORE_AI, _INSTALLED)
        else:
            patch.delenv(_CORE_AI)
        environment.install()
        return environment.environment_dir()


@pytest.fixture
def core_ai(core_ai_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Lets a test's builds be witnessed by Core AI's runtime."""
    monkeypatch.setenv(_CORE_AI, str(core_ai_folder))
    return core_ai_folder
