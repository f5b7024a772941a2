"""The Markdown report of an artifact is exact, readable and deterministic."""

from __future__ import annotations

import copy
import itertools
import json
import re
from pathlib import Path

import pytest

from asrbuild.architectures.deepspeech.network import random_weights
from asrbuild.artifact.manifest import Manifest, Metric, Transcript, Verification, VerifiedInput
from asrbuild.builder.naming import plain_values
from asrbuild.handover.report.anatomy import anatomy
from asrbuild.handover.report.page import marked_words, report, verdict, write_report
from tests.manifests import MANIFEST
from tests.proof import building


def metric(case: str, output: str, name: str, value: float, comparison: str, threshold: float):
    passed = value <= threshold if comparison == "<=" else value >= threshold
    return Metric(
        input=case,
        output=output,
        name=name,
        value=value,
        comparison=comparison,
        threshold=threshold,
        passed=passed,
    )


def said(case: str, package: str, reference: str | None = None, expected: str | None = None):
    reference = package if reference is None else reference
    return Transcript(
        input=case,
        expected=expected,
        reference=reference,
        package=package,
        match=package == reference,
    )


def proof(metrics: list[Metric], transcripts: list[Transcript]) -> Verification:
    passed = all(m.passed for m in metrics) and all(t.match for t in transcripts)
    return Verification(
        executed=True,
        core_ml_executed=False,
        reference="tensorflow",
        executions=[],
        inputs=[VerifiedInput(name="sample", steps=588, sha256="0" * 64)],
        metrics=metrics,
        transcripts=transcripts,
        evaluation=None,
        passed=passed,
    )


GOOD = [
    metric("sample", "logits", "argmax_agreement", 1.0, ">=", 0.999),
    metric("sample", "logits", "kl_divergence", 1.5e-5, "<=", 1e-3),
    metric("sample", "logits", "max_abs_error", 2.5e-3, "<=", 2e-2),
    metric("sample", "logits", "psnr_db", 80.0, ">=", 60.0),
]


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> tuple[Path, Manifest]:
    folder = tmp_path_factory.mktemp("report")
    return folder, building.build(folder, random_weights(32), "model=static")


def page(built, verification: Verification) -> str:
    folder, manifest = built
    manifest = manifest.model_copy(update={"verification": verification})
    return report(manifest, anatomy(folder / manifest.model.package).operations)


def test_a_quick_proof_is_not_called_proven() -> None:
    """Its verdict replaces ``Proven``; weaker gates are named, stricter ones are not."""
    whole = plain_values("verify", "default")
    fields = copy.deepcopy(MANIFEST)

    def told(**verify: object) -> str:
        fields["provenance"]["recipe"]["verify"] = {**whole, **verify}
        return verdict(Manifest.model_validate_json(json.dumps(fields)))

    assert told().startswith("**Proven**")
    assert told(max_wer=0.1, evaluation="set.csv").startswith("**Proven**")
    quick = told(inputs=["sample"], edge_lengths=False)
    assert quick.startswith("**Quick look, not a whole proof**")
    assert "not run on second, silence" in quick
    assert told(allow_wrong_words=True).startswith("**Not wholly proven**")
    gates = fields["model"]["compute_precision"]
    for limit, weaker in ((1e9, True), (1e-12, False)):
        thresholds = copy.deepcopy(whole["thresholds"])
        thresholds[gates]["kl_divergence"] = limit
        assert told(thresholds=thresholds).startswith("**Proven**") != weaker
        thresholds = copy.deepcopy(whole["thresholds"])
        thresholds[gates]["psnr_db"] = 1 / limit
        assert told(thresholds=thresholds).startswith("**Proven**") != weaker


def test_the_report_has_the_facts_of_the_manifest(built):
    _, manifest = built
    text = page(built, proof(GOOD, [said("sample", "hello world", expected="hello world")]))
    assert text.startswith(f"# {manifest.name} {manifest.version}\n")
    assert "**Proven**: the package was executed, passed 4 gates on 1 inputs" in text
    assert "word error rate 0.0 %; the package and TensorFlow give the same transcript" in text
    assert "> hello world" in text
    assert "Wrong words" not in text
    assert "Core ML has not run it." in text
    for tensor in manifest.model.inputs + manifest.model.outputs:
        assert f"| `{tensor.name}` | {tensor.dtype} |" in text
    assert f"asrbuild transcribe {manifest.name} recording.wav" in text
    assert "| chunk | 16 steps, 320 ms |" in text
    assert "1 lstm" in text


def test_tables_are_valid_markdown(built):
    """Every row of a table has as many cells as its heading, with empty lines around tables."""
    text = page(built, proof(GOOD, [said("sample", "a | b")]))
    for table in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        rows = table.splitlines()
        assert set(rows[1]) <= {"|", "-"}, rows[:2]
        assert len({row.count("|") for row in rows}) == 1, table
    lines = text.splitlines()
    for before, line in itertools.pairwise(lines):
        if line.startswith(("|", "#", ">")) and not before.startswith(("|", ">")):
            assert before == "", (before, line)
    assert "\n\n\n" not in text


def test_wrong_words_are_marked(built):
    transcript = said("sample", "helo world you", expected="hello world")
    text = page(built, proof(GOOD, [transcript]))
    assert "> ~~hello~~ **helo** world **you**" in text
    assert "word error rate 100.0 %" in text
    assert "Wrong words: ~~expected~~ **transcribed**." in text


@pytest.mark.parametrize(
    ("expected", "found", "text"),
    [
        ("a b c", "a b c", "a b c"),
        ("a b c", "a c", "a ~~b~~ c"),
        ("a c", "a b c", "a **b** c"),
        ("a b c d", "a x y d", "a ~~b c~~ **x y** d"),
        ("a b", "", "~~a b~~"),
        ("", "a b", "**a b**"),
        ("", "", ""),
    ],
)
def test_marked_words_are_escaped(expected, found, text):
    assert marked_words(expected, found) == text


def test_only_ways_with_the_same_words_share_a_line(built):
    transcripts = [said("sample", "a"), said("sample@whole", "a"), said("sample@32", "b", "a")]
    text = page(built, proof(GOOD, transcripts))
    assert "**sample, sample@whole**; the package and TensorFlow give the same transcript" in text
    assert "**sample@32**; THE PACKAGE AND TENSORFLOW DIFFER" in text
    assert "TensorFlow:\n\n> a\n" in text


def test_a_failed_gate_is_shown_in_the_verdict(built):
    bad = [*GOOD[:3], metric("sample", "logits", "psnr_db", 12.0, ">=", 60.0)]
    text = page(built, proof(bad, [said("sample", "a", "b")]))
    assert "**Not proven**: 1 of 4 gates on 1 inputs failed, and the package gives other" in text
    assert "| 1 FAILED |" in text
    assert "12 **FAILED**" in text


def test_a_package_that_was_not_executed_is_reported(built):
    from asrbuild.proof.verdict import unproven

    text = page(built, unproven("tensorflow"))
    assert "**Not executed**: this package has not been run." in text
    assert "No recording was decoded." in text


def test_the_text_is_deterministic(built):
    folder, manifest = built
    verification = proof(GOOD, [said("sample", "a", expected="a")])
    manifest = manifest.model_copy(update={"verification": verification})
    operations = anatomy(folder / manifest.model.package).operations
    write_report(folder, manifest, operations)
    first = (folder / "report.md").read_bytes()
    write_report(folder, manifest, operations)
    assert (folder / "report.md").read_bytes() == first
    assert first.endswith(b"\n")
    assert b"\r" not in first
