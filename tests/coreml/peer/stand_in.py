"""A pytest plugin that runs coremltools' predictions in asrbuild's executor instead of Core ML.

coremltools calls Core ML through one class, ``_MLModelProxy`` of its compiled module
``libcoremlpython``, which exists on macOS only. This plugin puts a module of that name in its
place, whose class runs the executor, and makes coremltools treat the machine as a Mac. So
coremltools' own tests run unchanged: their conversions, inputs, expected outputs, tolerances and
comparisons.

    python -m pytest -p tests.coreml.peer.stand_in -n 0 .../coremltools/converters/mil/mil/ops/tests
"""

from __future__ import annotations

import builtins
import importlib.util
import json
import random
import sys
import zlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from asrbuild.base.errors import AsrbuildError
from asrbuild.coreml.executor import load
from tests.paths import ROOT

#: The table of tests that fail.
PAGE = ROOT / "docs" / "executor-peer.md"
#: The macOS version that coremltools believes it runs on: the first with every op of iOS 18.
MACOS = (15, 5)
#: coremltools 9's newest model version (iOS 18 with Int8 features).
_NEWEST_SPECIFICATION = 10
_UNITS = ("CPU", "GPU", "NeuralEngine")


class Proxy:
    """The interface of ``_MLModelProxy``, which calls Core ML, answered by the executor.

    Raises:
        RuntimeError: the executor refuses the package; coremltools keeps it until ``predict``.
    """

    def __init__(
        self, path: str, compute_units: str, function: str, hints: dict[str, str], asset: Any
    ) -> None:
        self._path = path
        with _as_core_ml():
            self._model = load(path, function or None)

    @staticmethod
    def maximum_supported_specification_version() -> int:
        return _NEWEST_SPECIFICATION

    #: The number of predictions since the test began.
    predictions = 0

    def predict(self, data: dict[str, Any], state: Any = None) -> dict[str, Any]:
        """Predicts; casts arrays of any number type to that of the feature, as Core ML does."""
        inputs = self._model.inputs
        feeds = {name: _cast(value, inputs.get(name)) for name, value in data.items()}
        Proxy.predictions += 1
        with _as_core_ml():
            return self._model.predict(feeds, *(() if state is None else (state.state,)))

    def batchPredict(self, data: list[dict[str, Any]]) -> list[dict[str, Any]]:  # noqa: N802
        return [self.predict(one) for one in data]

    def newState(self) -> ProxyState:  # noqa: N802
        return ProxyState(self._model.make_state())

    def get_compiled_model_path(self) -> str:
        return self._path


class ProxyState:
    """The state that ``MLState`` holds."""

    def __init__(self, state: Any) -> None:
        self.state = state

    def read_state(self, name: str) -> np.ndarray:
        return self.state.read(name)

    def write_state(self, name: str, value: np.ndarray) -> None:
        self.state.write(name, value)


@contextmanager
def _as_core_ml() -> Iterator[None]:
    """Raises refusals as coremltools' own module raises those of Core ML."""
    try:
        yield
    except AsrbuildError as error:
        raise RuntimeError(f"{error.message}; fix: {error.fix}") from error


def _cast(value: Any, feature: Any) -> Any:
    dtype = getattr(feature, "dtype", None)
    if dtype is None or not isinstance(value, np.ndarray | np.generic | int | float | list):
        return value
    with np.errstate(all="ignore"):
        return np.asarray(value).astype(dtype)


def _stand_in() -> None:
    module = ModuleType("coremltools.libcoremlpython")
    module._MLModelProxy = Proxy  # type: ignore[attr-defined]
    for name in ("ModelAsset", "ComputePlan", *(f"{u}ComputeDevice" for u in _UNITS)):
        setattr(module, f"_ML{name}Proxy", None)
    sys.modules[module.__name__] = module
    import coremltools
    from coremltools import _deps
    from coremltools.models import model

    _deps._IS_MACOS = True
    for name, one in list(sys.modules.items()):
        if name.startswith("coremltools.") and hasattr(one, "_is_macos"):
            one._is_macos = lambda: True
        if name.startswith("coremltools.") and hasattr(one, "_macos_version"):
            one._macos_version = lambda: MACOS
    model._MLModelProxy = Proxy
    coremltools.models.compute_device._MLModelProxy = None
    if importlib.util.find_spec("torch") is None:
        # Imported after coremltools, which looks for it. One module uses it without importing it.
        sys.modules["torch"] = builtins.torch = _NoTorch("torch")  # type: ignore[attr-defined]


class _NoTorch(ModuleType):
    """A stand-in for torch, which some modules import for a few tests; those skip."""

    Tensor = type("Tensor", (), {})

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        pytest.skip("torch is not installed", allow_module_level=True)


_stand_in()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("peer")
    group.addoption("--peer-sample", type=int, help="Run one case each of so many test functions.")
    group.addoption("--peer-seed", type=int, default=0, help="Which sample.")
    group.addoption("--peer-results", help="Write a line of JSON per test to this file.")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    listed = read_listed()
    for item in items:
        for entry in listed:
            if entry.covers(name_of(item)):
                item.add_marker(pytest.mark.xfail(reason=entry.reason, strict=entry.always))
    size = config.getoption("--peer-sample")
    if size is not None:
        kept = _sample(items, size, random.Random(config.getoption("--peer-seed")), listed)
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = [item for item in items if item in kept]


def _sample(
    items: list[pytest.Item], size: int, chance: random.Random, listed: list[Listed]
) -> set[pytest.Item]:
    """One case of each of so many functions, and one of every line of the list."""
    functions: dict[str, list[pytest.Item]] = {}
    for item in items:
        functions.setdefault(name_of(item).partition("[")[0], []).append(item)
    chosen = chance.sample(sorted(functions), min(size, len(functions)))
    kept = {chance.choice(functions[name]) for name in chosen}
    for entry in listed:
        covered = [item for item in items if entry.always and entry.covers(name_of(item))]
        kept |= set(covered[:1])
    return kept


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Seeds numpy's global generator, from which tests draw inputs, by the test's name."""
    np.random.seed(zlib.crc32(item.name.encode()))
    Proxy.predictions = 0


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    results = item.config.getoption("--peer-results")
    if results and (report.when == "call" or not report.passed):
        error = call.excinfo.value if call.excinfo is not None else None
        line = {
            "test": name_of(item),
            "outcome": "xfailed" if hasattr(report, "wasxfail") else report.outcome,
            "predictions": Proxy.predictions,
            "error": None if error is None else f"{type(error).__name__}: {error}"[:2000],
        }
        with Path(results).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
    return report


def name_of(item: pytest.Item) -> str:
    """``iOS14/test_conv.py::TestConv::test_builder[...]``: the file, in a folder that makes it
    unique, and the rest of the name."""
    path, _, rest = item.nodeid.partition("::")
    parts = [part for part in Path(path).parts if part != "test"]
    return f"{'/'.join(parts[-2:])}::{rest}"


@dataclass(frozen=True)
class Listed:
    """A line of the page's table: tests that fail, and why.

    ``test`` is the beginning of their names; the rest has all ``words``. ``always``: each of them
    fails; else that depends on the numbers drawn.
    """

    test: str
    words: tuple[str, ...]
    always: bool
    reason: str

    def covers(self, name: str) -> bool:
        rest = name.removeprefix(self.test)
        return rest != name and all(word in rest for word in self.words)


def read_listed() -> list[Listed]:
    """The table in docs/executor-peer.md: test, words, ``always`` or ``at times``, reason."""
    found = []
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if len(cells) == 4 and cells[0].startswith("`"):
            test, words = cells[0].strip("`"), tuple(cells[1].replace("`", "").split())
            found.append(Listed(test, words, cells[2] == "always", cells[3]))
    return found
