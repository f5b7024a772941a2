"""The schema of a recipe and the packaged configuration have the same defaults and choices."""

from __future__ import annotations

from typing import Any

import pytest

from asrbuild.base.choices import conf_dir, packaged
from asrbuild.base.errors import AsrbuildError
from asrbuild.builder.compose import compose_recipe
from asrbuild.builder.recipe import Recipe, StepsConfig, chosen, lookup, package_steps
from asrbuild.builder.rules import check_keys, check_recipe
from asrbuild.proof.cases import INPUTS

DEFAULT_FILES = (
    "export/deepspeech",
    "coreml/mlprogram",
    "decoder/greedy",
    "decoder/beam",
    "decoder/ds_ctcdecoder",
    "tune/none",
    "verify/default",
)
#: Keys whose packaged default differs from the schema's, with the reason.
OTHER = {
    "coreml.range_upper": "a neuralnetwork has no bound, an mlprogram must have one",
    "decoder.type": "each file is the choice of one decoder",
    "verify.inputs": "the file explains them one by one; compared with proof.cases below",
    "verify.thresholds": "the file has the reasons beside the numbers",
}


def leaves(values: dict[str, Any], prefix: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        key = f"{prefix}.{name}"
        nested = isinstance(value, dict) and value and key not in OTHER
        found |= leaves(value, key) if nested else {key: value}
    return found


@pytest.mark.parametrize("file", DEFAULT_FILES)
def test_a_packaged_default_equals_that_of_the_schema(file: str) -> None:
    group, name = file.split("/")
    for key, value in leaves(packaged(group, name) or {}, group).items():
        if key not in OTHER and not str(value).startswith("${"):
            assert value == lookup(Recipe(), key), key
    assert (packaged("verify", "default") or {})["inputs"] == list(INPUTS)


def test_the_comment_of_a_packaged_key_lists_its_choices() -> None:
    for key, _, choices in chosen(Recipe()):
        section, _, name = key.partition(".")
        for path in (conf_dir() / section).glob("*.yaml"):
            for line in path.read_text("utf-8").splitlines():
                if line.startswith(f"{name}:") and " | " in line and "(" not in line:
                    listed = line.partition("#")[2].split(" | ")
                    names = {each.partition(":")[0].strip() for each in listed}
                    assert names == set(choices), f"{path.name}: {line}"


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("model.functions.chunk_16.default=0", "model.functions.chunk_16"),
        ("model.functions.chunk_16.kind=enumerated", "model.functions.chunk_16.sizes"),
        ("model.functions.chunk_16.kind=open", "model.functions.chunk_16.kind"),
        ("verify.inputs=[sample,song]", "verify.inputs"),
        ("verify.thresholds.fp16.kl_divergence=5", "verify.thresholds.fp16.kl_divergence"),
        ("decoder.cutoff_prob=2", "decoder.cutoff_prob"),
        ("verify.max_steps=0", "verify.max_steps"),
    ],
)
def test_a_rule_names_its_key(override: str, key: str) -> None:
    recipe = compose_recipe(["model=multifunction", "n_steps=16", "export.n_steps=-1", override])
    with pytest.raises(AsrbuildError) as caught:
        check_recipe(recipe)
    assert caught.value.key == key
    assert caught.value.fix


def test_the_newest_target_is_a_choice() -> None:
    check_keys(compose_recipe(["coreml.minimum_deployment_target=iOS26"]))


def test_steps_of_a_recipe_become_those_of_a_package() -> None:
    assert str(package_steps(StepsConfig("range", 16, 1, 3000))) == (
        "RangeSteps(lower=1, default=16, upper=3000)"
    )
    assert str(package_steps(StepsConfig("enumerated", 16, sizes=[16, 32]))) == (
        "EnumeratedSteps(sizes=(16, 32), default=16)"
    )
    assert str(package_steps(StepsConfig("fixed", 32))) == "FixedSteps(steps=32)"
