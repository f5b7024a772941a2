"""A small scorer."""

from __future__ import annotations

from pathlib import Path

import pytest

from asrbuild.speech.scorer.build import write_scorer
from asrbuild.speech.scorer.ngrams import estimate
from tests.speech.ctc_cases import ENGLISH
from tests.speech.scorer.texts import SENTENCES


@pytest.fixture(scope="session")
def scorer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scorer") / "cats.scorer"
    write_scorer(estimate(SENTENCES, 3), ENGLISH, path, 0.75, 1.85)
    return path
