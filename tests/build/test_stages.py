"""What makes a stage run again: each key of the recipe by hand, the code by watching it run."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest

import asrbuild
from asrbuild.base.cache import StageKey, StageResult, run_stage
from asrbuild.build import assembly, engine, stages
from asrbuild.build.compose import compose_recipe
from asrbuild.build.recipe import lookup, recipe_keys
from asrbuild.build.sources import settle
from asrbuild.build.stages import chain
from tests.paths import DEMO

ROOT = Path(asrbuild.__file__).parent
#: Stage -> the stages whose results it reads, as drawn in stages.py.
READS = {
    "export": (),
    "cases": (),
    "reference": ("export", "cases"),
    "convert": (),
    "execute": ("convert", "cases"),
    "prove": ("execute", "reference"),
    "evaluate": ("convert", "export"),
    "artifact": ("prove", "evaluate"),
}
#: Override -> the stages that read its key themselves. The base is model=dynamic_to_static.
OVERRIDES = {
    "name=other": "convert artifact",
    "version=2.0.0": "convert artifact",
    "n_steps=17": "convert execute artifact",
    "paths.artifacts=elsewhere": "",
    "paths.env=[HOME]": "",
    "paths.trust_shared=true": "",
    "source.name=other": "convert artifact",  # through the package's name
    "source.kind=checkpoint": "artifact",
    "source.checkpoint_dir={at}/checkpoint": "export convert artifact",
    "source.load_evaluate=best": "artifact",
    "source.path=other.pb": "artifact",
    "source.alphabet_config_path={at}/alphabet.txt": "export convert artifact",
    "source.bytes_output_mode=true": "artifact",  # the labels are those of the bytes
    "source.description=other": "convert artifact",
    "source.author=other": "convert artifact",
    "source.license=MIT": "convert artifact",
    "source.sample.audio=demo:second.wav": "cases artifact",
    "source.sample.text={at}/words.txt": "prove artifact",
    "source.second.audio=demo:sample.wav": "cases artifact",
    "source.second.text={at}/words.txt": "prove artifact",
    "source.scorer=other.scorer": "artifact",
    "source.development=other.csv": "artifact",
    "export.n_steps=16": "export artifact",
    "export.n_hidden=256": "",  # as the source states it
    "export.n_context=8": "export cases convert artifact",
    "export.n_input=25": "export cases convert artifact",
    "export.batch_size=2": "export artifact",
    "export.audio_sample_rate=8000": "export cases convert artifact",
    "export.feature_win_len=30": "export cases convert artifact",
    "export.feature_win_step=10": "export cases convert artifact",
    "export.upper_frequency_limit=4000": "export cases convert artifact",
    "export.relu_clip=6": "export convert artifact",
    "export.beam_width=100": "export artifact",
    "export.export_language=cy": "export artifact",
    "export.export_author_id=other": "convert artifact",
    "export.export_license=MIT": "convert artifact",
    "export.export_description=other": "convert artifact",
    "model.name=other": "convert artifact",  # through the package's name
    "model.export_n_steps=16": "export artifact",
    "model.streaming=whole": "convert artifact",
    "model.steps.kind=enumerated": "convert artifact",
    "model.steps.default=17": "convert artifact",
    "model.steps.lower=2": "convert artifact",
    "model.steps.upper=9": "convert artifact",
    "model.steps.sizes=[16,32]": "convert artifact",
    "model=multifunction": "convert artifact",
    "coreml.name=other": "convert artifact",  # through the package's name
    "coreml.format=neuralnetwork": "convert artifact",
    "coreml.precision=fp32": "convert prove artifact",
    "coreml.minimum_deployment_target=iOS18": "convert artifact",
    "coreml.compute_units=CPU_ONLY": "artifact" + " execute" * (sys.platform == "darwin"),
    "coreml.lstm=loop": "convert artifact",
    "coreml.state=stateful": "convert artifact",
    "coreml.frontend=tensorflow": "convert artifact",
    "coreml.frontend=mil": "artifact",  # as the base's auto
    "coreml.outputs=[logits]": "convert artifact",
    "coreml.range_upper=100": "artifact",  # through model.steps, which has no range here
    "coreml.compress=int8": "convert prove artifact",
    **{
        f"coreml.compress_layers.{layer}=int8": "convert prove artifact"
        for layer in ("layer_1", "layer_2", "layer_3", "lstm", "layer_5", "layer_6")
    },
    "coreml.sparsity=0.2": "convert artifact",
    "decoder.type=beam": "prove evaluate artifact",
    "decoder.beam_width=9": "prove evaluate artifact",
    "decoder.cutoff_prob=0.9": "prove evaluate artifact",
    "decoder.cutoff_top_n=9": "prove evaluate artifact",
    "decoder.scorer_path=demo:prompts.scorer": "prove evaluate artifact",
    "decoder.lm_alpha=1": "prove evaluate artifact",
    "decoder.lm_beta=1": "prove evaluate artifact",
    "decoder.hot_words.hello=3": "prove evaluate artifact",
    "decoder.interpreter=python3.9": "",
    "tune.target=scorer": "",
    "tune.data=dev.csv": "",
    "tune.trials=1": "",
    "tune.seed=1": "",
    "tune.lm_alpha=[0,1]": "",
    "tune.lm_beta=[0,1]": "",
    "tune.beam_width=[1,2]": "",
    "tune.output=other": "",
    "verify.inputs=[sample,noise]": "cases prove artifact",
    "verify.edge_lengths=false": "execute prove artifact",
    "verify.max_steps=99": "execute prove artifact",
    "verify.require_transcript=false": "prove artifact",
    "verify.allow_wrong_words=true": "prove artifact",
    "verify.max_wer=0.5": "evaluate artifact",
    "verify.max_wer_increase=0.5": "evaluate artifact",
    "verify.count_unspelled=true": "prove evaluate artifact",
    "verify.evaluation={at}/one.csv": "evaluate artifact",
    "verify.compared_with=tensorflow": "",  # as it is; another artifact's name is its digest
    "verify.thresholds.fp16.psnr_db=61": "prove artifact",
    "verify.thresholds.prune.psnr_db=61": "artifact",
}  # fmt: skip
#: Not in the table: the cache is where the keys are; functions come with a model and what was tuned
#: comes with a decoder, neither takes an override of its own.
UNTRIED = {"paths.cache", "model.functions", "decoder.tuned"}


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with other inputs than the demo's."""
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "checkpoint").mkdir()
    for part in (DEMO / "checkpoint").iterdir():
        content = part.read_bytes()
        longer = content + b"\0" if ".data-" in part.name else content
        (folder / "checkpoint" / part.name).write_bytes(longer)
    (folder / "alphabet.txt").write_bytes(b"# another\n" + (DEMO / "alphabet.txt").read_bytes())
    (folder / "words.txt").write_text("other words\n")
    lines = (DEMO / "dev" / "dev.csv").read_text().splitlines()
    for name, count in (("two.csv", 2), ("one.csv", 1)):
        rows = [DEMO.as_posix() + "/dev/" + line for line in lines[1 : 1 + count]]
        (folder / name).write_text("\n".join([lines[0], *rows]) + "\n")
    return folder


#: Keys whose other value the demo's facts contradict: they are changed after it was questioned.
STATED = {
    "source.bytes_output_mode", "export.n_context", "export.n_input", "export.audio_sample_rate",
    "export.feature_win_len", "export.feature_win_step", "export.upper_frequency_limit",
    "export.relu_clip", "export.export_language",
}  # fmt: skip


def keys(at: Path, *overrides: str) -> dict[str, StageKey]:
    base = "model=dynamic_to_static", f"verify.evaluation={at}/two.csv"
    given = [override.replace("{at}", str(at)) for override in overrides]
    stated = [override for override in given if override.partition("=")[0] in STATED]
    recipe, source = settle(
        compose_recipe([*base, *(o for o in given if o not in stated)]), at / "cache"
    )
    for override in stated:
        section, _, name = override.partition("=")[0].partition(".")
        value = lookup(compose_recipe([override]), f"{section}.{name}")
        recipe = replace(recipe, **{section: replace(getattr(recipe, section), **{name: value})})
    return {key.stage: key for key in chain(recipe, source).ordered()}


@pytest.fixture(scope="module")
def before(at: Path) -> dict[str, StageKey]:
    return keys(at)


@pytest.mark.parametrize(("override", "read_by"), OVERRIDES.items())
def test_only_what_reads_a_key_runs_again(
    override: str, read_by: str, before: dict[str, StageKey], at: Path
) -> None:
    """And what reads its results; stages.py draws which."""
    expected = set(read_by.split())
    for stage, earlier in READS.items():  # earlier stages stand first
        if expected & {*earlier}:
            expected.add(stage)
    after = keys(at, override)
    assert {stage for stage in before if before[stage] != after[stage]} == expected


def test_every_key_of_the_recipe_is_in_the_table() -> None:
    recipe = compose_recipe([])
    sections = {key.rpartition(".")[0] for key in recipe_keys()}
    tried = {override.partition("=")[0] for override in OVERRIDES}
    for key in set(recipe_keys()) - sections - UNTRIED:
        free = isinstance(lookup(recipe, key), dict)
        assert key in tried or (free and any(name.startswith(f"{key}.") for name in tried)), key


#: Code that any stage may run and that shapes no result.
NEUTRAL = {"base", "build/engine.py", "build/stages.py"}


def covered(stage: str) -> set[str]:
    """Modules whose change is a change of the stage's key, directly or through what it reads."""
    named = {*stages._BODIES, *stages._CODE[stage]}
    return named.union(*(covered(earlier) for earlier in READS[stage]))


def test_code_that_runs_in_a_stage_is_part_of_its_key(
    at: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: defaultdict[str, set[CodeType]] = defaultdict(set)

    def watch(stage: str, body: Callable[..., Any]) -> Callable[..., Any]:
        def called(frame: FrameType, event: str, argument: object) -> None:
            ran[stage].add(frame.f_code)

        def watched(*arguments: Any, **named: Any) -> Any:
            before = sys.gettrace()
            sys.settrace(called)
            try:
                return body(*arguments, **named)
            finally:
                sys.settrace(before)

        return watched

    def run(
        root: Path, key: StageKey, build: Callable[[Path], None], **settings: Any
    ) -> StageResult:
        return run_stage(root, key, watch(key.stage, build), **settings)

    monkeypatch.setattr(engine, "run_stage", run)
    monkeypatch.setattr(assembly, "assemble", watch("artifact", assembly.assemble))
    for overrides in (
        ["coreml.compress=int8", f"verify.evaluation={at}/one.csv", "verify.max_wer_increase=1"],
        ["coreml=neuralnetwork"],
    ):  # fmt: skip
        paths = f"paths.cache={tmp_path}/cache", f"paths.artifacts={tmp_path}/store"
        static = compose_recipe(["model=static", "verify.inputs=[sample]", *overrides, *paths])
        engine.build(static)
    assert set(ran) == set(READS)
    for stage, codes in ran.items():
        # A module that is only imported is used for nothing that is known here.
        files = {Path(code.co_filename) for code in codes if code.co_name != "<module>"}
        modules = {file.relative_to(ROOT) for file in files if file.is_relative_to(ROOT)}
        named = {Path(entry) for entry in covered(stage) | NEUTRAL}
        unnamed = {module for module in modules if not {module, *module.parents} & named}
        assert not unnamed, f"{stage} runs code that its key does not name"
