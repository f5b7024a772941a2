"""Settings of every test process."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from asrbuild.coreai import environment

if TYPE_CHECKING:
    from tests.acceptance.shared import Sweep

# Test processes share the cores, and their BLAS threads would compete. Set before numpy is
# imported; commands that tests start inherit it.
for _variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")
# The kernels that the reference requests; a process that has imported TensorFlow keeps its own.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

# A busy machine is not a failure: tests check results, not durations.
settings.register_profile("asrbuild", deadline=None)
settings.load_profile("asrbuild")

# Memos of digests and proofs last only as long as the tests; other test processes inherit theirs.
_MADE = None if "ASRBUILD_STATE" in os.environ else tempfile.mkdtemp(prefix="asrbuild-tests-state-")
if _MADE:
    os.environ["ASRBUILD_STATE"] = _MADE

# Only tests that request it run Apple's Core AI runtime, which adds a second to every build.
_CORE_AI = "ASRBUILD_COREAI"
# The processes of pytest-xdist inherit the variables of this one and keep the first value.
_INSTALLED = os.environ.setdefault("ASRBUILD_TESTS_COREAI", os.environ.get(_CORE_AI, ""))
os.environ[_CORE_AI] = os.path.join(os.environ["ASRBUILD_STATE"], "no-core-ai")


#: No sandbox, as CI runs as root, and no background services of the browser.
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
#: Slow files come first, so that no process runs alone at the end.
_LONG = (
    "acceptance/test_readme.py",
    "acceptance/test_install.py",
    "handover/app/",
    "acceptance/test_habits.py",
    "acceptance/test_tensorflow_models.py",
    "coreml/peer/",
    "acceptance/test_disks.py",
    "handover/ship/test_killed.py",
    "handover/ship/test_whole_way.py",
    "acceptance/test_killed_sweep.py",
)


def pytest_unconfigure() -> None:
    """Removes the memos of the tests."""
    if _MADE:
        shutil.rmtree(_MADE, ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the slow files first, in this order; the others keep theirs."""

    def place(item: pytest.Item) -> int:
        path = item.path.as_posix()
        return next((n for n, long in enumerate(_LONG) if f"/tests/{long}" in path), len(_LONG))

    items.sort(key=place)


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
    """Makes a test's builds use Core AI's runtime as the witness."""
    monkeypatch.setenv(_CORE_AI, str(core_ai_folder))
    return core_ai_folder


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published artifact with random weights, alone in its store."""
    from asrbuild.architectures.deepspeech.network import random_weights
    from tests.proof import building

    root = tmp_path_factory.mktemp("published")
    weights = random_weights(32, seed=3)
    return building.publish(root / "artifacts", root / "work", weights, "model=static")


@pytest.fixture(scope="session")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """Four networks in two shapes and formats, built once."""
    from tests.acceptance.shared import network_sweep

    return network_sweep(tmp_path_factory)


@pytest.fixture(scope="session")
def of_samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """DeepSpeech with its front end in the package, built once."""
    from tests.acceptance.shared import deepspeech_of_samples

    return deepspeech_of_samples(tmp_path_factory)


@pytest.fixture(scope="session")
def conv(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The second demo model by the place of its front end, built once."""
    from tests.acceptance.shared import demo_conv

    return demo_conv(tmp_path_factory)


@pytest.fixture(scope="session")
def keywords(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """TensorFlow's keyword graph and its artifacts by cut, built once."""
    from tests.acceptance.shared import keyword_folder

    return keyword_folder(tmp_path_factory)


@pytest.fixture(scope="session")
def chromium() -> Iterator[object]:
    """A headless browser with a profile of its own, the one of this process.

    Playwright starts once in a process.
    """
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium on this machine; pages are not looked at in a browser")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program, headless=True, args=list(FLAGS)
        )
        yield browser
        browser.close()
