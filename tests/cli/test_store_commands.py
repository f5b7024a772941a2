"""``asrbuild ls``, ``show``, ``cache ls`` and ``cache remove`` on a real store."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from asrbuild.artifact import store
from asrbuild.artifact.manifest import Manifest, to_json
from asrbuild.base import cache
from asrbuild.base.cache import StageKey
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.quantities import size_text
from asrbuild.builder.naming import plain_values
from tests.command import output, values
from tests.manifests import CONTENT, MANIFEST


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "artifacts"
    monkeypatch.setenv("ASRBUILD_ARTIFACTS", str(root))
    monkeypatch.setenv("ASRBUILD_CACHE", str(tmp_path / "cache"))
    return root


def publish(root: Path, manifest: dict[str, Any] = MANIFEST) -> Path:
    text = to_json(Manifest.model_validate_json(json.dumps(manifest)))
    with store.staging(root) as directory:
        for path, content in CONTENT.items():
            (directory / path).write_bytes(content)
        (directory / "manifest.json").write_text(text)
        return store.publish(root, manifest["name"], directory, manifest["version"])


def test_ls_reports_an_empty_store(root: Path) -> None:
    assert "nothing is published" in output("ls")
    assert values("ls") == []


def test_ls_shows_the_proof_in_a_word(root: Path) -> None:
    publish(root)
    failing = copy.deepcopy(MANIFEST)
    failing["version"] = "1.1.0+ffff"
    failing["verification"]["metrics"][0]["passed"] = False
    failing["verification"]["transcripts"][0]["match"] = False
    publish(root, failing)
    lines = [line for line in output("ls").splitlines() if "demo-dynamic" in line]
    for text in ("1.0.0+0123456789ab", "neuralnetwork", "fp32", "4.1 MB", "3/3 gates", "1/1 match"):
        assert text in lines[0]
    assert "1.1.0+ffff *" in lines[1]
    assert "2/3 gates" in lines[1]
    assert "0/1 match" in lines[1]


def test_ls_prints_json(root: Path) -> None:
    path = publish(root)
    (row,) = values("ls")
    assert row == {
        "name": "demo-dynamic",
        "version": "1.0.0+0123456789ab",
        "latest": True,
        "path": str(path),
        "format": "neuralnetwork",
        "precision": "fp32",
        "bytes": 4_100_329,
        "executed": True,
        "core_ml_executed": False,
        "passed": True,
        "gates": 3,
        "gates_passed": 3,
        "transcripts": 1,
        "transcripts_match": 1,
        "evidence": 0,
        "fit": None,
        "overrides": ["model=dynamic"],
        "created": "2024-05-01T10:00:00+00:00",
    }


@pytest.mark.parametrize("junk", ["", "{", "[]", '{"model": 3, "files": [1], "provenance": []}'])
def test_ls_lists_an_artifact_whose_manifest_is_damaged(root: Path, junk: str) -> None:
    path = publish(root)
    os.chmod(path / "manifest.json", 0o644)
    (path / "manifest.json").write_text(junk)
    assert "1.0.0+0123456789ab" in output("ls")
    (row,) = values("ls")
    assert row["format"] is None
    with pytest.raises(AsrbuildError):
        output("show", "demo-dynamic")


def test_show_has_the_facts_that_an_app_requires(root: Path) -> None:
    publish(root)
    shown = output("show", "demo-dynamic")
    squeezed = re.sub(r"[ \t]+", " ", shown)
    for text in (
        "A small [model] of English.",
        "neuralnetwork, specification 5, runs on iOS 14, macOS 11 and up",
        "in input_node float32 (batch 1, steps 1.., window 19) features as told",
        "out logits float32 (steps 16/32/64, class 29) probabilities as told",
        "audio 16000 Hz, 1 channel, int16, times 3.05176e-05",
        "32 ms (512 samples) every 20 ms (320)",
        "feeding the whole utterance in one call",
        "previous_state_c <- new_state_c, explicit",
        "beam 500 wide, cut off at 1 or 40",
        "hot words core +7.5",
        "Core ML did not execute it",
        "logits largest error 0.0005 sample ≤ 0.001 2 passed",
        "logits argmax agreement 1 sample ≥ 0.999 1 passed",
        "sample core a b same",
        "commit deadbeef, with changes",
        "source checkpoint: best_dev-1 343434343434",
        "model.mlmodel package 4.1 MB " + hashlib.sha256(CONTENT["model.mlmodel"]).hexdigest()[:12],
    ):
        assert text in squeezed, text


def test_show_names_failed_gates_and_packages_that_were_not_executed(root: Path) -> None:
    failing = copy.deepcopy(MANIFEST)
    proof = failing["verification"]
    proof["metrics"][2] |= {"value": 0.5, "passed": False}
    proof["transcripts"][0] |= {"package": "corr", "match": False}
    publish(root, failing)
    squeezed = re.sub(r"[ \t]+", " ", output("show", "demo-dynamic"))
    assert "logits argmax agreement 0.5 sample ≥ 0.999 1 FAILED" in squeezed
    assert "sample corr DIFFERS: core a b" in squeezed
    unproven = copy.deepcopy(MANIFEST)
    unproven["version"] = "2"
    unproven["verification"] |= {"executed": False, "executions": []}
    publish(root, unproven)
    assert "NOT EXECUTED" in output("show", "demo-dynamic/2")
    assert "not executed" in output("ls")


def test_show_prints_the_stored_manifest_as_json(root: Path) -> None:
    path = publish(root)
    assert output("show", str(path), "--json") == (path / "manifest.json").read_text()


def test_show_of_an_unknown_name_suggests(root: Path) -> None:
    publish(root)
    with pytest.raises(AsrbuildError, match="did you mean demo-dynamic"):
        output("show", "demo-dynamik")


def test_cache_entries_are_listed_and_removed(root: Path, tmp_path: Path) -> None:
    assert "nothing is cached" in output("cache", "ls")
    for stage in ("convert", "export"):
        cache.run_stage(
            tmp_path / "cache",
            StageKey(stage, 1, {}, {}, {}),
            lambda directory: (directory / "x").write_bytes(b"x" * 1500) and None,
            notify=print,
        )
    shown = output("cache", "ls")
    assert "1.5 kB" in shown
    sizes = [1500 + path.stat().st_size for path in tmp_path.glob(f"cache/*/*/{cache.RECORD}")]
    assert f"2 entries, {size_text(sum(sizes))} on the disk" in shown
    rows = values("cache", "ls", "--stage", "export")
    assert [(row["stage"], row["bytes"]) for row in rows] == [("export", 1500)]
    assert "freed 0 B" in output("cache", "remove", "--older-than", "1h")
    assert f"freed {size_text(sizes[1])}" in output("cache", "remove", "--stage", "export")
    assert f"freed {size_text(sizes[0])}" in output("cache", "remove")
    for age in ("soon", "", "5", "h", "-1h"):
        with pytest.raises(AsrbuildError, match="is not an age"):
            output("cache", "remove", "--older-than", age)


def test_sizes_and_ages_are_readable() -> None:
    from datetime import datetime, timezone

    from asrbuild.base.quantities import age_text, size_text

    sizes = {
        0: "0 B",
        999: "999 B",
        1000: "1.0 kB",
        99_949: "99.9 kB",
        123_456: "123 kB",
        999_499: "999 kB",
        999_500: "1.0 MB",
        188_916_323: "189 MB",
        5 * 10**13: "50.0 TB",
    }
    assert {count: size_text(count) for count in sizes} == sizes
    now = datetime(2024, 5, 1, 12, tzinfo=timezone.utc)
    ages = {
        "2024-05-01T11:59:30Z": "30 s",
        "2024-05-01T11:30:00+00:00": "30 min",
        "2024-05-01T02:00:00": "10 h",
        "2024-04-01T12:00:00+00:00": "30 d",
        "2031-01-01T00:00:00+00:00": "just now",
        "yesterday": "?",
    }
    assert {created: age_text(created, now) for created in ages} == ages


def test_a_channel_refuses_a_quick_proof(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``--allow-unproven`` permits it; shipping without a channel or after a whole proof works."""
    monkeypatch.setenv("ASRBUILD_CONFIG", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    whole, quick = (plain_values("verify", name) for name in ("default", "quick"))
    ungated = {**whole, "require_transcript": False}
    for number, (verify, passed, message) in enumerate(
        (
            (quick, True, "proven by verify=quick only: it was not run on second"),
            (ungated, True, "its words need not be those of the original"),
            (whole, False, "its gates did not pass"),
            (whole, True, None),
        )
    ):
        fields = copy.deepcopy(MANIFEST)
        fields["provenance"]["recipe"]["verify"] = verify
        fields["verification"]["passed"] = passed
        fields["version"] = f"{number}+abc"
        publish(root, fields)
        ship = ("ship", f"demo-dynamic/{fields['version']}", str(tmp_path / "remote"))
        for more in ((), ("--channel", "beta"), ("--channel", "beta", "--allow-unproven")):
            with pytest.raises(AsrbuildError) as caught:
                output(*ship, *more)
            refused = message is not None and more == ("--channel", "beta")
            # A permitted command fails later, for lack of a key.
            assert ("is proven" in caught.value.message) == refused, caught.value.message
            if refused:
                assert message in caught.value.message
                assert "--allow-unproven" in str(caught.value.fix)
                assert not (tmp_path / "remote").exists()


def test_ls_shows_overrides(root: Path) -> None:
    publish(root)
    assert "model=dynamic" in output("ls")
