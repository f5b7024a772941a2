"""The rules of fit: the table, verdicts on labelled packages, and advice."""

from __future__ import annotations

import itertools
import re
import shutil
from pathlib import Path

import pytest

from asrbuild.base.errors import AsrbuildError
from asrbuild.builder.rules import check_keys, check_recipe
from asrbuild.handover.fit.operations import walk
from asrbuild.handover.fit.page import advice, content, remarks, report_rows
from asrbuild.handover.fit.planned import Planned, PlannedOp
from asrbuild.handover.fit.predicates import PackageFacts
from asrbuild.handover.fit.rules import RULES, VERDICTS
from asrbuild.handover.fit.verdict import fit_of, fit_of_artifact, read_package, summary
from tests import command
from tests.handover.fit.labels import CASES, save
from tests.proof.building import recipe_of

#: A labelled package for each rule, and one next to each limit.
LABELLED = (
    "lstm",
    "add of int32",
    "range_1d",
    "slice from a computed place",
    "matmul over 32768",
    "matmul over 40000",
    "conv 1x15",
    "conv 1x16",
    "conv 16x16",
    "max_pool 8x8",
    "max_pool 9x9",
    "relu of (1, 1, 1, 65536)",
    "relu of (1, 1, 1, 65537)",
    "tan",
    "atan",
    "cumsum",
    "topk",
    "gather",
    "gather of a table",
    "relu of fp32",
    "linear",
    "softmax of axis 3",
)


@pytest.mark.parametrize("name", LABELLED)
def test_verdicts_equal_measured_labels(name: str, tmp_path: Path) -> None:
    (case,) = (case for case in CASES if case.name == name)
    fit = fit_of(read_package(save(case, tmp_path)))
    assert ("blocked" in fit.verdicts.values()) == case.blocked
    assert "not known" not in fit.verdicts.values()


def test_every_rule_names_its_sources() -> None:
    ids = [rule.id for rule in RULES]
    assert len(set(ids)) == len(ids)
    for rule in RULES:
        assert rule.verdict in VERDICTS
        assert rule.sources
        assert rule.levels
        assert rule.scope
        assert rule.predicate
        assert rule.refuted_by
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", rule.date)
        assert (rule.names_operation is None) != (rule.names_package is None)
        assert ("Apple" in rule.levels) <= any(
            "ppl" in s or "ct" in s or "coreai" in s for s in rule.sources
        )


@pytest.mark.parametrize("choice", sorted({c for rule in RULES for c in rule.advice}))
def test_advised_recipes_are_valid(choice: str) -> None:
    keys = [override.split("=", 1) for override in choice.split()]
    for values in itertools.product(*(value.split(",") for _, value in keys)):
        overrides = [f"{key}={value}" for (key, _), value in zip(keys, values, strict=True)]
        recipe = recipe_of("n_steps=16", *overrides)
        check_keys(recipe)
        check_recipe(recipe)


def test_the_default_recipe_is_reported_as_blocked(forms) -> None:
    form = forms["range"]
    fit = fit_of_artifact(form.folder, form.manifest)
    assert summary(fit) == "blocked R01 R03 R04, contested R05 R12"
    assert fit.paths("main", "blocked") >= {"lstm", "SequenceMask_Range"}
    (line,) = remarks(fit)
    assert "model=dynamic_to_static" in line
    assert "R04 (bounded at run time), R05 (range input)" in line
    fixed = fit_of_artifact(forms["fixed"].folder, forms["fixed"].manifest)
    assert summary(fixed) == "blocked R01 R03, contested R12"
    assert remarks(fixed) == []


def test_an_unrolled_package_is_blocked_only_by_the_cast_of_lengths(forms) -> None:
    fit = fit_of(read_package(forms["unrolled"].package))
    assert summary(fit) == "blocked R03"
    (finding,) = [f for f in fit.findings if f.rule.verdict == "blocked"]
    assert finding.subject == "cast"
    assert set(fit.verdicts.values()) == {"blocked", "eligible"}


def test_summaries_differ_between_forms(forms) -> None:
    found = {name: summary(fit_of(read_package(form.package))) for name, form in forms.items()}
    assert found["loop"] == "blocked R02 R03 R21 R23"
    assert found["network"] == "blocked R01 R04, contested R05"
    assert found["stateful"] == "blocked R01 R03, contested R08 R14"


def test_a_large_value_is_reported() -> None:
    fit = fit_of(PackageFacts((), 9, large=(("layer_1_BiasAdd", 40000.5),)))
    assert summary(fit) == "contested R11"
    (line,) = remarks(fit)
    assert line.startswith("layer_1_BiasAdd reaches 40,000 in float16")


def plan(**preferred: str | None) -> Planned:
    ops = tuple(
        PlannedOp(output, "", device, (device,) if device else ())  # type: ignore[arg-type]
        for output, device in preferred.items()
    )
    return Planned("Mac16,12", "macOS 27.0.1", "CPU_AND_NE", True, ops, 3.0, 4.0, 100, None)


def test_measured_plans_confirm_or_refute_rules(forms) -> None:
    package = read_package(forms["fixed"].package)
    outputs = {op.path: op.results[0].name for op in walk(package.functions[0].operations)}
    rows = {outputs["lstm"]: "CPU", outputs["layer_2_BiasAdd"]: "NE"}
    fit = fit_of(package, [plan(**rows, **{outputs["layer_3_BiasAdd"]: None})])
    assert fit.borne_out["R01"].hits == 1
    assert (fit.borne_out["R24"].hits, fit.borne_out["R24"].misses) == (1, 0)
    fit = fit_of(package, [plan(**{outputs["lstm"]: "NE"})])
    assert fit.borne_out["R01"].misses == 1
    assert "R03" not in fit.borne_out
    values = content(fit, {}, {}, [])
    assert values["neural_engine"] == "planned"
    assert values["latency"][0]["p50_ms"] == 3.0


def test_times_are_given_only_with_a_device(forms) -> None:
    fit = fit_of(read_package(forms["fixed"].package))
    values = content(fit, {}, {}, [])
    assert values["latency"] is None
    assert "no published measurement" in values["why_no_latency"]
    words = " ".join(text for row in report_rows(fit) for text in row)
    assert not re.search(r"\d ?ms\b|runs on|score|faster", words)


def test_advice_for_a_neural_network_has_no_keys_of_programs(forms) -> None:
    fit = fit_of(read_package(forms["network"].package))
    choices = [choice for _, choice in advice(fit, "neuralnetwork", "native")]
    assert choices
    assert not any("unrolled" in choice for choice in choices)
    package = fit_of(read_package(forms["fixed"].package))
    assert "unrolled" in str(advice(package, "mlprogram", "native"))
    assert "unrolled" not in str(advice(package, "mlprogram", None))


def test_sizes_of_deepspeech_are_advised_for_deepspeech_only(forms) -> None:
    package = fit_of(read_package(forms["range"].package))
    assert "n_steps=16,64,150: rules" in remarks(package)[0]
    choices = [choice for _, choice in advice(package, "mlprogram", None)]
    assert "model=dynamic_to_static" in choices
    assert not any("n_steps" in choice for choice in choices)
    assert "prefer fixed sizes, model=static: rules" in remarks(package, "model=static")[0]


def test_the_command_prints_findings_and_advice(forms) -> None:
    for form in forms.values():
        shown = command.values("fit", form.package)
        assert shown["not_counted"] == {}
        found = {op["verdict"] for f in shown["functions"].values() for op in f["verdicts"]}
        assert found <= set(VERDICTS)
        text = command.output("fit", form.package, "--steps", "5")
        assert "not known: no device has run these bytes" in text
        assert "latency" in text
        assert not re.search(r"\d ms\b|[Rr]uns on|score", text)
    table = command.values("fit", "--rules")
    assert [row["id"] for row in table] == [rule.id for rule in RULES]
    assert "refuted by" in command.output("fit", "--rules")


def test_a_damaged_package_is_one_error(forms, tmp_path: Path) -> None:
    shutil.copytree(forms["fixed"].package, tmp_path / "model.mlpackage")
    spec = tmp_path / "model.mlpackage/Data/com.apple.CoreML/model.mlmodel"
    spec.write_bytes(spec.read_bytes()[:4000])
    with pytest.raises(AsrbuildError):
        command.output("fit", tmp_path / "model.mlpackage")
