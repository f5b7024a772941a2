"""Fixtures of packages, and the record of ops that conformance tests run (``tested.py``)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from asrbuild.architectures.deepspeech.from_weights import convert_weights
from asrbuild.coreai import environment
from asrbuild.coreml.request import ConversionRequest, FixedSteps
from tests.coreai import opinions
from tests.coreml.executor import tested
from tests.coreml.executor.damage import FORMS, STEPS, WEIGHTS
from tests.coreml.executor.harness import ct, mb
from tests.coreml.executor.networks import FRAMES, WEIGHT, WORDS, converted

_DESELECTED: set[str] = set()


def pytest_deselected(items: list[pytest.Item]) -> None:
    _DESELECTED.update(item.path.stem for item in items)


@pytest.fixture(scope="module", autouse=True)
def the_kept_ops_are_still_tested(request: pytest.FixtureRequest) -> Iterator[None]:
    """A module that ran completely must have run every op, type and target in its record."""
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


@pytest.fixture(scope="module", autouse=True)
def apples_runtime_agrees(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every program of one op in a module gives the same outputs in Apple's runtime."""
    if environment.unsupported() is not None:
        yield
        return
    folder = request.getfixturevalue("core_ai_folder")
    with opinions.recording() as recorded:
        yield
        with opinions.runtime(folder):
            found = opinions.check(recorded)
    assert not found.differing, "\n".join(found.differing)
    unexpected = {reason for reason in found.refused if not opinions.expected(reason)}
    assert not unexpected, f"without a lowering: {sorted(unexpected)}"


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The tiny network in every form of LSTM, state and format; tests change copies."""
    folder = tmp_path_factory.mktemp("packages")
    for name, options in FORMS.items():
        request = ConversionRequest(
            **{"format": "mlprogram", "steps": FixedSteps(STEPS), **options}
        )
        convert_weights(WEIGHTS, request, folder / name)
    return {name: folder / name for name in FORMS}


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A classifier with text labels in both formats, and one with numbers."""
    folder = tmp_path_factory.mktemp("classifiers")

    def build(frames: Any) -> Any:
        return mb.softmax(x=mb.linear(x=frames, weight=WEIGHT), axis=-1)

    paths = {}
    for name, labels in {
        "words.mlmodel": WORDS,
        "words.mlpackage": WORDS,
        "numbers.mlpackage": [7, 11, -1],
    }.items():
        config = ct.ClassifierConfig(labels)
        paths[name] = converted(build, {"frames": FRAMES}, folder / name, classifier_config=config)
    return paths
