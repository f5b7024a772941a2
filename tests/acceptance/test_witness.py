"""Builds with a second runtime: publications and refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from asrbuild.artifact.manifest import Manifest
from asrbuild.artifact.reading import read_manifest
from asrbuild.base.errors import AsrbuildError, GatesError
from asrbuild.builder.compose import compose_recipe
from asrbuild.builder.rules import check_keys, check_recipe
from asrbuild.builder.sources import settle
from asrbuild.cli.tree import run_command
from asrbuild.handover.report.witness import witness_rows, witness_text
from tests.acceptance.building import built
from tests.acceptance.conftest import Workshop
from tests.coreai.handover import hand_over_with
from tests.marks import needs_core_ai


def without_witness(manifest: Manifest) -> dict[str, object]:
    fields = manifest.model_dump(mode="json")
    fields["verification"].pop("witness", None)
    fields["provenance"].pop("created")
    fields["files"] = [f for f in fields["files"] if f["role"] == "package"]
    return fields | {"schema_version": ""}


@needs_core_ai
@pytest.mark.usefixtures("core_ai")
def test_a_witness_does_not_change_the_version(
    workshop: Workshop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, notes = built(workshop, tmp_path / "plain", "verify.witness=off")
    assert not [line for line in notes if "witness" in line]
    first = read_manifest(plain)
    # The published artifact is unchanged, and each build prints a line about that.
    for _ in range(2):
        again, notes = built(workshop, tmp_path / "plain", "verify.witness=required")
        assert (again, read_manifest(again)) == (plain, first)
        assert "was published before, without a witness" in " ".join(notes)
    seen, _ = built(workshop, tmp_path / "witnessed", "verify.witness=required")
    second = read_manifest(seen)
    assert first.version == second.version
    assert (first.schema_version, second.schema_version) == ("1.1", "1.2")
    assert "witness" not in json.loads((plain / "manifest.json").read_text())["verification"]
    assert without_witness(first) == without_witness(second)
    found = second.verification.witness
    assert found is not None
    assert found.passed
    assert found.version == "1.0.0b3"
    assert {m.compared_with for m in found.metrics} == {"executor", "original"}
    # The witness runs every input once, and the package's other ways on one recording.
    inputs = {m.input for m in found.metrics}
    every = {m.input for m in second.verification.metrics}
    assert inputs <= every
    assert {label.partition("@")[0] for label in every} == {i for i in inputs if "@" not in i}
    # Apple's fp32 on the package's fp16 constants: nearer to TensorFlow than fp16 arithmetic is.
    errors = {
        m.input: m.value
        for m in found.metrics
        if m.compared_with == "original" and (m.output, m.name) == ("logits", "max_abs_error")
    }
    assert max(errors.values()) < 1e-2
    for page in ("report.md", "report.html"):
        text = (seen / page).read_text(encoding="utf-8")
        assert "how a device rounds fp16 arithmetic is not" in text
        assert text.replace('data-label="one against', "").count("one against the other") == 1
        assert "No second runtime ran this package." in (plain / page).read_text(encoding="utf-8")
    assert len(witness_rows(second)) == 8
    assert run_command(["show", str(seen)]) == 0
    assert "Two runtimes" in capsys.readouterr().out
    assert run_command(["verify", str(plain)]) == 0  # witnessed now, as the runtime is installed
    assert "ran the same program and passed" in capsys.readouterr().out


@needs_core_ai
@pytest.mark.usefixtures("core_ai")
def test_a_disagreement_refuses_the_build_and_names_the_node(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hand_over_with(monkeypatch, '"type": "minimum"', '"type": "maximum"')
    monkeypatch.setattr("asrbuild.builder.stages.witness.VERSION", "another")  # no cached result
    with pytest.raises(GatesError) as caught:
        built(workshop, tmp_path)
    assert caught.value.key == "verify.witness"
    assert "Core AI's runtime against the executor: sample: logits" in caught.value.message
    assert "first difference: layer_1_Minimum, steps 0 to 15" in caught.value.message
    assert caught.value.verification.witness is not None
    assert not list(tmp_path.glob("*/*"))


@needs_core_ai
@pytest.mark.usefixtures("core_ai")
def test_an_operation_without_a_lowering_is_noted_or_refused(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hand_over_with(monkeypatch, '"type": "softmax"', '"type": "hardmax"')
    monkeypatch.setattr("asrbuild.builder.stages.witness.VERSION", "a third")
    path, notes = built(workshop, tmp_path)
    assert "the package is not witnessed: " in " ".join(notes)
    manifest = read_manifest(path)
    found = manifest.verification.witness
    assert found is not None
    assert (found.missing_ops, found.metrics) == (["hardmax"], [])
    assert "cannot be given its hardmax" in witness_text(manifest)
    with pytest.raises(AsrbuildError, match="hardmax") as caught:
        built(workshop, tmp_path / "more", "verify.witness=required")
    assert caught.value.key == "verify.witness"
    assert not list((tmp_path / "more").glob("*/*"))


def test_a_missing_witness_is_noted_or_refused(tmp_path: Path) -> None:
    why = {
        "model=static": "Core AI's runtime is not installed",
        "coreml=neuralnetwork": "Core AI has no lowering of a neuralnetwork package",
    }
    for override, reason in why.items():
        recipe, _ = settle(compose_recipe([override]), tmp_path)
        assert [line for line in check_recipe(recipe) if reason in line]
        recipe, _ = settle(compose_recipe([override, "verify.witness=off"]), tmp_path)
        assert not [line for line in check_recipe(recipe) if "witness" in line]
        with pytest.raises(AsrbuildError, match=reason) as caught:
            check_keys(compose_recipe([override, "verify.witness=required"]))
        assert caught.value.key == "verify.witness"
        assert caught.value.fix in ("run `asrbuild coreai install`", "set coreml=mlprogram")
