"""Default names differ between builds, are deterministic, and are legal on every system."""

from __future__ import annotations

import functools
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import yaml

from asrbuild.artifact.names import is_name, is_version
from asrbuild.base.errors import AsrbuildError
from asrbuild.builder.compose import compose_recipe
from asrbuild.builder.naming import LONGEST, default_name
from asrbuild.builder.overrides import varied_keys
from asrbuild.builder.recipe import Recipe, label
from asrbuild.builder.rules import check_keys
from asrbuild.handover.ship.names import check_name, check_version
from asrbuild.handover.ship.refusal import Refused
from asrbuild.handover.ship.remotes.oci import _REPOSITORY

MODELS = ("static", "dynamic", "dynamic_to_static", "enumerated", "multifunction")


@functools.cache
def composed(*overrides: str) -> Recipe:
    return compose_recipe(list(overrides))


@pytest.mark.parametrize("model", MODELS)
def test_a_recipe_without_overrides_is_named_after_its_groups(model: str) -> None:
    for coreml in ("mlprogram", "neuralnetwork"):
        recipe = compose_recipe([f"model={model}", f"coreml={coreml}"])
        assert recipe.name == f"demo-{model}-{coreml}"
    same = ("n_steps=16", "coreml.compress=none", "decoder=greedy", "verify=default")
    assert compose_recipe([f"model={model}", *same]).name == f"demo-{model}-mlprogram"


CHANGES = {
    "n_steps=32": "n32",
    "n_steps=64": "n64",
    "coreml.compress=int8": "int8",
    "coreml.compress=palettize_4": "palettize_4",
    "coreml.compress_layers.lstm=int8": "lstm-int8",
    "coreml.precision=fp32": "fp32",
    "coreml.minimum_deployment_target=iOS18": "ios18",
    "coreml.state=stateful": "stateful",
    "coreml.lstm=loop": "loop",
    "coreml.frontend=mil": "mil",
    "coreml.compute_units=CPU_ONLY": "cpu_only",
    "coreml.sparsity=0.25": "sparsity0.25",
    "decoder=beam": "beam",
    "decoder=beam decoder.beam_width=64": "beam-width64",
    "decoder=ds_ctcdecoder decoder.scorer_path=demo:prompts.scorer": "ds_ctcdecoder-prompts.scorer",
    "verify=quick": "quick",
    "n_steps=32 coreml.compress=int8 verify=quick": "n32-int8-quick",
    "export.relu_clip=6": "relu_clip6",
    "source.load_evaluate=last": "last",
}


def test_changed_keys_are_in_the_name() -> None:
    names = {}
    for changed, words in CHANGES.items():
        recipe = composed("model=static", *changed.split())
        assert recipe.name == f"demo-static-mlprogram-{words}"
        assert label(recipe) == "demo-static-mlprogram", "a package is shared between decoders"
        names[recipe.name] = changed
    assert len(names) == len(CHANGES)
    assert compose_recipe(["tune.output=x/${name}", "n_steps=32"]).tune.output.endswith("-n32")


@pytest.mark.parametrize(
    "changed",
    [
        "verify.thresholds.fp16.psnr_db=1",
        "verify.require_transcript=false",
        "verify.edge_lengths=false",
        "verify.inputs=[sample]",
        "verify.max_steps=10",
    ],
)
def test_a_weaker_proof_is_in_the_name_too(changed: str) -> None:
    name = compose_recipe([changed]).name
    assert name.startswith("demo-dynamic-mlprogram-verify-")
    assert name != composed("verify.max_steps=11").name


@pytest.mark.parametrize(
    "changed",
    [
        "verify.max_wer=0.1",
        "source.description=other",
        "export.export_license=MIT",
        "paths.cache=elsewhere",
        "decoder.interpreter=python3.9",
        "version=2.0.0",
        "source.sample.text=null",
        "verify.count_unspelled=true",
    ],
)
def test_labels_inputs_and_more_gates_are_not_in_the_name(changed: str) -> None:
    assert compose_recipe([changed]).name == "demo-dynamic-mlprogram"


def test_a_given_name_is_used(tmp_path: Path) -> None:
    recipe = compose_recipe(["name=Mine", "n_steps=32", "verify=quick"])
    assert recipe.name == label(recipe) == "Mine"
    (tmp_path / "model").mkdir()
    own = {"name": "own", "steps": {"kind": "fixed", "default": 24}}
    (tmp_path / "model" / "own.yaml").write_text(yaml.safe_dump(own))
    assert compose_recipe(["model=own"], str(tmp_path)).name == "demo-own-mlprogram"
    assert compose_recipe(["model=own", "n_steps=8"], str(tmp_path)).name.endswith("-n8")


def test_jobs_of_a_sweep_have_different_names() -> None:
    """Keys without a word in a default name count too; the same values give the same names."""
    argv = [
        "-m",
        "source.sample.audio=a/x.wav,b/x.wav",
        "verify.max_wer=null,0.5",
        "n_steps=16,32",
        "coreml=mlprogram",
        "hydra.verbose=true",
    ]
    varied = varied_keys(argv)
    assert varied == ["source.sample.audio", "verify.max_wer", "n_steps"]
    names = []
    for audio in ("a/x.wav", "b/x.wav"):
        for limit in ("null", "0.5"):
            for steps in ("16", "32"):
                values = (audio, limit, steps)
                recipe = compose_recipe([f"{k}={v}" for k, v in zip(varied, values, strict=True)])
                names.append(default_name(asdict(recipe), dict(zip(varied, values, strict=True))))
    assert len(set(names)) == 8
    assert all(map(is_name, names))
    assert "demo-dynamic-mlprogram-n32" in names[1]
    own = default_name(asdict(composed()), {"verify": "my gates"})
    assert own.startswith("demo-dynamic-mlprogram-verify")
    plain = default_name(asdict(composed()), {"verify": "default", "tune.trials": "9"})
    assert plain == "demo-dynamic-mlprogram"


def test_a_long_name_is_cut_and_stays_unique() -> None:
    layers = [f"coreml.compress_layers.{name}=int8" for name in ("layer_2", "layer_3", "layer_5")]
    names = {
        compose_recipe(["model=dynamic_to_static", "decoder=beam", f"n_steps={n}", *layers]).name
        for n in (20, 21, 22)
    }
    assert len(names) == 3
    assert {len(name) <= LONGEST and is_name(name) for name in names} == {True}


def test_default_names_are_legal_on_every_remote() -> None:
    for changed in CHANGES:
        name = composed("model=static", *changed.split()).name
        assert check_name(name) == name
        assert _REPOSITORY.fullmatch(name)
    for scorer in ("/data/My Scorer (2).scorer", "C:\\x\\..\\ü.scorer", "a" * 200):
        changes = ("decoder=ds_ctcdecoder", f"decoder.scorer_path={scorer}")
        name = compose_recipe(list(changes)).name
        assert is_name(name)
        assert _REPOSITORY.fullmatch(name)


@pytest.mark.parametrize("name", ["con", "NUL.x", "latest", "a.", "-a", "a" * 81, "a/b", "é", ""])
def test_recipe_store_and_remotes_refuse_the_same_names(name: str) -> None:
    assert not is_name(name)
    assert not is_version(name)
    for check in (check_name, check_version):
        with pytest.raises(Refused):
            check(name)
    recipe = replace(composed())
    for key in ("name", "version"):
        setattr(recipe, key, name)
        with pytest.raises(AsrbuildError, match="cannot name a folder"):
            check_keys(recipe)
        setattr(recipe, key, "a")


def test_a_version_ends_with_a_plus_and_a_digest() -> None:
    longest = f"{'1' * 80}+{'a' * 12}"
    assert is_version(longest)
    assert check_version(longest) == longest
    assert not is_version("1+")
    assert not is_version("1+a+b")
