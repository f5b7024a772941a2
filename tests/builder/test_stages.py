"""A stage runs again when a declared input changes, and can read no other input."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from asrbuild.base import code
from asrbuild.base.cache import StageKey
from asrbuild.base.places import PACKAGE
from asrbuild.builder import plan as planning
from asrbuild.builder.compose import compose_recipe
from asrbuild.builder.plan import STAGES, Plan, plan
from asrbuild.builder.recipe import Recipe
from asrbuild.builder.record import record
from asrbuild.builder.sources import settle
from asrbuild.builder.stage import Stage, UndeclaredError, View

DEMO = PACKAGE / "demo"
#: The stages of the package and all after it.
PACKAGE_ON = "convert execute vectors prove evaluate artifact"
#: Override -> the stages that run again. The base is model=dynamic_to_static with a set of
#: recordings; the artifact is made again for all that its manifest records.
SHARED = {
    "paths.artifacts=elsewhere": "",
    "tune.trials=1": "",
    "decoder.interpreter=python3.9": "",
    "export.n_hidden=256": "",  # equal to the source's fact
    "verify.compared_with=tensorflow": "",
    "coreml.frontend=mil": "artifact",  # equal to the meaning of auto
    "coreml.range_upper=100": "artifact",  # the model has no range
    "verify.thresholds.prune.psnr_db=61": "artifact",  # nothing is pruned
    "source.scorer=other.scorer": "artifact",
    "source.checkpoint_dir={at}/checkpoint": f"export reference {PACKAGE_ON}",
    "source.alphabet_config_path={at}/alphabet.txt": f"export reference {PACKAGE_ON}",
    "source.sample.text={at}/words.txt": "prove artifact",
    "source.sample.audio=demo:second.wav": "cases reference execute vectors prove artifact",
    "verify.inputs=[sample,noise]": "cases reference execute vectors prove artifact",
    "export.beam_width=100": "export reference prove evaluate artifact",
    "n_steps=17": PACKAGE_ON,
    "name=other": PACKAGE_ON,  # the label of the package
    "coreml.precision=fp32": PACKAGE_ON,
    "coreml.compress_layers.lstm=int8": PACKAGE_ON,
    "coreml.frontend=tensorflow": PACKAGE_ON,
    "coreml=neuralnetwork": PACKAGE_ON,
    "model=multifunction": PACKAGE_ON,
    "verify.max_steps=99": "execute prove artifact",
    "decoder=beam": "prove evaluate artifact",
    "decoder.hot_words.hello=3": "prove evaluate artifact",
    "decoder.scorer_path=demo:prompts.scorer": "prove evaluate artifact",
    "verify.thresholds.fp16.psnr_db=61": "prove artifact",
    "verify.count_unspelled=true": "prove evaluate artifact",
    "verify.allow_wrong_words=true": "prove artifact",
    "verify.max_wer=0.5": "evaluate artifact",
    "verify.max_per=0.5": "evaluate artifact",
    "verify.max_per_from_original=0.01": "prove artifact",
    "verify.witness=off": "",  # the runtime is not installed
    "verify.evaluation={at}/one.csv": "evaluate artifact",
}


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with inputs that differ from the demo's."""
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


def planned(at: Path, *overrides: str) -> Plan:
    base = "model=dynamic_to_static", f"verify.evaluation={at}/two.csv"
    recipe = compose_recipe([*base, *(override.replace("{at}", str(at)) for override in overrides)])
    return plan(*settle(recipe, at / "cache"))


@pytest.fixture(scope="module")
def before(at: Path) -> Plan:
    return planned(at)


def changed(before: Plan, after: Plan) -> set[str]:
    return {name for name, key in before.keys.items() if key != after.keys[name]}


@pytest.mark.parametrize(("override", "again"), SHARED.items())
def test_recipes_share_the_stages_that_they_do_not_change(
    override: str, again: str, before: Plan, at: Path
) -> None:
    assert changed(before, planned(at, override)) == set(again.split())


def test_compute_units_count_where_core_ml_runs_the_package(
    at: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for platform, again in (("linux", {"artifact"}), ("darwin", {"execute", "prove", "artifact"})):
        monkeypatch.setattr(sys, "platform", platform)
        assert changed(planned(at), planned(at, "coreml.compute_units=CPU_ONLY")) == again


def test_unneeded_stages_are_not_planned(at: Path) -> None:
    names = [step.stage.name for step in plan(*settle(compose_recipe([]), at / "cache")).steps]
    assert names == ["export", "cases", "reference", "convert", "execute", "vectors", "prove"]


def test_the_witness_is_a_stage_if_its_runtime_is_installed(
    at: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The witness affects only the proof, not the package nor the recipe in a manifest."""
    before = planned(at)
    for file in ("self-test-passed", "bin/python"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    monkeypatch.setenv("ASRBUILD_COREAI", str(tmp_path))
    after = planned(at)
    assert {*after.keys} - {*before.keys} == {"witness"}
    again = {name for name, key in before.keys.items() if key != after.keys[name]}
    assert again == {"prove", "artifact"}
    assert record(before.recipe) == record(after.recipe)
    assert changed(after, planned(at, "verify.witness=required")) == {"witness"} | again
    for override in ("verify.witness=off", "coreml=neuralnetwork"):
        assert "witness" not in planned(at, override).keys


def test_a_declared_key_reruns_its_stages_and_those_after_them(
    before: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No other stage runs again: facts that follow from a key are declared separately."""
    declared = {
        (step.stage.name, key) for step in before.steps for key in step.keys & {*step.key.keys}
    }
    for key in {key for _, key in declared}:
        again = {stage for stage, read in declared if read == key}
        for step in before.steps:
            if again & {*step.after}:
                again.add(step.stage.name)

        def edited(recipe: Recipe, key: str = key) -> dict[str, Any]:
            recorded = section = record(recipe)
            *sections, name = key.split(".")
            for part in sections:
                section = section[part]
            section[name] = "another value"
            return recorded

        monkeypatch.setattr(planning, "record", edited)
        assert changed(before, plan(before.recipe, before.source)) == again | {"artifact"}, key


READS: dict[str, Callable[[View], object]] = {
    "a key": lambda view: view.recipe.coreml.lstm,
    "a key with a default": lambda view: getattr(view.recipe.coreml, "lstm", None),
    "a key at the top": lambda view: view.recipe.name,
    "a section": lambda view: view.recipe.decoder,
    "a section that is declared in part": lambda view: asdict(view.recipe.coreml),
    "all keys of a section": lambda view: vars(view.recipe.coreml),
    "each key of a section": lambda view: [*view.recipe.coreml],  # type: ignore[misc,attr-defined]
    "a file": lambda view: view.source.scorer,
    "a file by its label": lambda view: view.source.files.get("scorer"),
    "whether there is a file": lambda view: "graph" in view.source.files,
    "where weights are": lambda view: view.source.checkpoint,
    "a digest": lambda view: view.source.digests["scorer"],
    "a fact": lambda view: view.fact(planning.record),
    "a function of the architecture": lambda view: view.architecture.convert,
    "another stage's folder": lambda view: view.folder("convert"),
}


def viewed(before: Plan, monkeypatch: pytest.MonkeyPatch, **declared: Any) -> View:
    """The view of a stage that declares only these names."""
    stage = Stage("alone", "a test", lambda view, at: None, **declared)
    monkeypatch.setattr(planning, "STAGES", (*STAGES, stage))
    monkeypatch.setattr(planning, "code_digest", lambda *modules, **settings: "0")
    again = plan(before.recipe, before.source)
    folders = dict.fromkeys(again.keys, Path)
    return again.view(again.steps[-1], folders, print)


@pytest.mark.parametrize("what", READS)
def test_a_stage_cannot_read_undeclared_keys(
    what: str, before: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = viewed(before, monkeypatch, reads=("coreml.precision",), files=("alphabet",))
    assert view.recipe.coreml.precision == "fp16"
    assert view.source.alphabet.size == 28
    with pytest.raises((UndeclaredError, TypeError, KeyError)):
        READS[what](view)


def test_a_stage_reads_sections_facts_and_earlier_declarations(
    before: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    def doubled(recipe: Recipe) -> int:
        return 2 * recipe.decoder.beam_width

    view = viewed(before, monkeypatch, reads=("decoder", "version", doubled), after=("convert",))
    assert asdict(view.recipe.decoder) == asdict(before.recipe.decoder)
    assert view.fact(doubled) == 1000
    assert view.recipe.coreml.precision == "fp16"
    assert view.folder("convert") == Path()
    with pytest.raises(UndeclaredError):
        view.folder("cases")


def test_a_plan_does_not_wait_for_the_imports_of_threads(
    before: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """These imports can take longer than the rest of a build with nothing to do."""
    view = viewed(before, monkeypatch, threaded=lambda recipe: pytest.fail("it was asked"))
    assert view.stage == "alone"


@pytest.mark.parametrize(
    ("changed_file", "again"),
    [
        ("coreml/executor/mil/linear.py", {"execute", "vectors", "prove", "evaluate", "artifact"}),
        ("coreml/convert.py", {"convert"}),
        ("architectures/deepspeech/landmarks.py", {"prove"}),
        ("proof/bisect.py", {"prove", "evaluate", "artifact"}),
        ("handover/report/templates/page.css", {"artifact"}),
        ("builder/run.py", set()),
        ("cli/ship.py", set()),
    ],
)
def test_a_stage_runs_again_when_code_that_it_imports_changes(
    changed_file: str, again: set[str], before: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = code._content_digest

    def edited(name: str) -> bytes:
        return b"other" if name == changed_file else content(name)

    def own(key: StageKey) -> int | str:
        return key.code_version

    monkeypatch.setattr(code, "_content_digest", edited)
    code.code_digest.cache_clear()
    after = plan(before.recipe, before.source)
    code.code_digest.cache_clear()
    assert {n for n, key in before.keys.items() if own(key) != own(after.keys[n])} == again
