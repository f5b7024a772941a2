"""A remembered recipe is the one that Hydra composes, and is used only if nothing changed."""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path

import pytest

from asrbuild.base.cache import RECIPES
from asrbuild.base.cache_cleanup import clear
from asrbuild.builder import composed as module
from asrbuild.builder.compose import compose_recipe
from asrbuild.builder.composed import composed, remember

LINES = [
    ["model=dynamic"],
    ["model=multifunction", "coreml.precision=fp32", "version=2.0.0"],
    ["decoder=beam", "decoder.hot_words.tea=3.5", "decoder.lm_alpha=1", "source.second=null"],
    ["source=onnx", "source.path=model.onnx", "features.place=package", "coreai=preview"],
    ["verify=quick", "verify.thresholds.fp16.psnr_db=40", "coreml.fp32=[a,b]", "n_steps=32"],
]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ASRBUILD_CACHE", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("line", LINES, ids=" ".join)
def test_a_remembered_recipe_equals_the_composed_one(line: list[str]) -> None:
    recipe = compose_recipe(line)
    assert composed(line) is None
    remember(line, recipe)
    known = composed(line)
    assert known == recipe
    assert repr(known) == repr(recipe)  # 1 equals 1.0 in Python, but not in a recipe


def test_every_input_of_a_recipe_changes_its_memo(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = ["model=static"]
    remember(line, compose_recipe(line))
    assert composed(line) is not None
    assert composed([*line, "n_steps=8"]) is None
    conf = tmp_path / "conf"
    plugin = tmp_path / "path" / "hydra_plugins" / "own.py"
    plugin.parent.mkdir(parents=True)
    plugin.write_text("class Other: ...")
    changes = [
        lambda patch: patch.setenv("ASRBUILD_ARTIFACTS", "elsewhere"),
        lambda patch: patch.setenv("HOME", str(tmp_path)),
        lambda patch: patch.setattr(module, "installed", lambda: {"hydra_core": "1.4"}),
        lambda patch: patch.setattr(module, "code_digest", lambda _: "other code"),
        lambda patch: patch.setattr(module, "conf_dir", lambda: conf),
        lambda patch: patch.syspath_prepend(str(plugin.parents[1])),
    ]
    for change in changes:
        with monkeypatch.context() as patch:
            change(patch)
            assert composed(line) is None
        assert composed(line) is not None


def test_recipes_that_depend_on_more_than_their_overrides_are_not_remembered(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = compose_recipe(["model=static"])
    for given in ("paths.cache=other", "++paths.env=[USER]", "source.name=${oc.env:USER}"):
        remember([given], recipe)
    for value in ({1: "not a text"}, {"day": date(2026, 1, 1)}, {"limit": float("nan")}):
        recipe.source.config = value
        remember(["model=static"], recipe)
    plugin = tmp_path / "path" / "hydra_plugins" / "own.py"
    plugin.parent.mkdir(parents=True)
    plugin.write_text("class Own(SearchPathPlugin): ...")
    monkeypatch.syspath_prepend(str(plugin.parents[1]))
    remember(["model=dynamic"], compose_recipe(["model=dynamic"]))
    assert not list(cache.glob(f"{RECIPES}/*"))


def test_a_damaged_or_foreign_memo_is_composed_again(cache: Path) -> None:
    line = ["model=static"]
    recipe = compose_recipe(line)
    remember(line, recipe)
    (memo,) = cache.glob(f"{RECIPES}/*")
    whole = memo.read_text()
    for text in ("", "[]", "{}", whole[:-9], whole.replace("fp16", "fp32")):
        memo.write_text(text)
        assert composed(line) is None
    memo.write_text(whole)
    assert composed(line) == recipe
    os.chmod(memo, 0o666)
    assert composed(line) is None
    clear(cache)
    assert not (cache / RECIPES).exists()
