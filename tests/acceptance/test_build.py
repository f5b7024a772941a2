"""Builds from configs to proven, published artifacts."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import jsonschema
import pytest

from asrbuild.artifact import lookup
from asrbuild.artifact.reading import json_schema, read_manifest
from asrbuild.base.digest import file_digest
from tests.acceptance.conftest import FORMATS, MODELS, Workshop, run_asrbuild
from tests.imports import run_command
from tests.paths import SAMPLE_TEXT

CELLS = [(model, coreml) for model in MODELS for coreml in FORMATS]
#: Operations that read a graph's length at run time, or loop over it.
DYNAMIC_OPS = {"shape", "while_loop", "range_1d", "fill", "getShape", "rangeDynamic", "loop"}


def test_the_sweep_succeeds_with_one_row_a_job(workshop: Workshop) -> None:
    assert workshop.sweep.code == 0, workshop.sweep.err
    for model, coreml in CELLS:
        version = workshop.artifact(model, coreml).name
        (row,) = [
            line.split("\t")
            for line in workshop.sweep.out.splitlines()
            if f"demo-{model}-{coreml}/{version}" in line
        ]
        assert row[1:4] == ["built", model, coreml]


@pytest.mark.parametrize(("model", "coreml"), CELLS)
def test_every_artifact_transcribes_its_sample(workshop: Workshop, model: str, coreml: str) -> None:
    manifest = read_manifest(workshop.artifact(model, coreml))
    assert manifest.verification.passed
    assert manifest.verification.executed
    assert manifest.verification.core_ml_executed == (sys.platform == "darwin")
    transcripts = {t.input: t for t in manifest.verification.transcripts}
    assert transcripts["sample"].package == transcripts["sample"].reference == SAMPLE_TEXT
    assert all(metric.passed for metric in manifest.verification.metrics)
    steps = {entry.steps for entry in manifest.verification.inputs}
    assert {1, 15, 16, 17} <= steps


def test_the_page_of_a_sweep_links_to_the_page_of_each_artifact(workshop: Workshop) -> None:
    (line,) = [line for line in workshop.sweep.out.splitlines() if line.startswith("page: ")]
    page = workshop.folder / line.removeprefix("page: ")
    links = re.findall(r'href="([^"#]+html)"', page.read_text(encoding="utf-8"))
    assert len(links) == len(CELLS)
    found = {(page.parent / unquote(link)).resolve() for link in links}
    assert found == {
        workshop.artifact(model, coreml).resolve() / "report.html" for model, coreml in CELLS
    }


@pytest.mark.parametrize(("model", "coreml"), CELLS)
def test_manifests_follow_the_schema_and_list_every_file(
    workshop: Workshop, model: str, coreml: str
) -> None:
    artifact = workshop.artifact(model, coreml)
    jsonschema.validate(json.loads((artifact / "manifest.json").read_text()), json_schema())
    listed = {entry.path for entry in read_manifest(artifact).files}
    present = {p.relative_to(artifact).as_posix() for p in artifact.rglob("*") if p.is_file()}
    unlisted = {path.split("/")[0] for path in present - listed}
    assert unlisted == {
        "manifest.json",
        "report.md",
        "report.html",
        "SHA256SUMS",
        "README.md",
        "ASRKit",
        "conformance",
    }
    assert listed < present
    if shutil.which("sha256sum"):
        subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=artifact, check=True)


def _features_shape(artifact: Path) -> list[tuple[int, int | None, list[int] | None]]:
    tensors = {tensor.name: tensor for tensor in read_manifest(artifact).model.inputs}
    return [(axis.min, axis.max, axis.enumerated) for axis in tensors["input_node"].shape]


def test_shapes_are_those_of_the_recipe(workshop: Workshop) -> None:
    fixed = [(1, 1, None), (16, 16, None), (19, 19, None), (26, 26, None)]
    steps = {
        ("static", "mlprogram"): (16, 16, None),
        ("static", "neuralnetwork"): (16, 16, None),
        ("dynamic_to_static", "mlprogram"): (16, 16, None),
        ("dynamic_to_static", "neuralnetwork"): (16, 16, None),
        ("dynamic", "mlprogram"): (1, 3000, None),
        ("dynamic", "neuralnetwork"): (1, None, None),
        ("enumerated", "mlprogram"): (16, 64, [16, 32, 64]),
        ("enumerated", "neuralnetwork"): (16, 64, [16, 32, 64]),
    }
    for cell, axis in steps.items():
        shape = _features_shape(workshop.artifact(*cell))
        assert shape == [fixed[0], axis, *fixed[2:]], cell


@pytest.mark.parametrize("coreml", FORMATS)
def test_dynamic_to_static_has_no_dynamic_ops(workshop: Workshop, coreml: str) -> None:
    def ops(model: str) -> set[str]:
        package = next(workshop.artifact(model, coreml).glob("model.*"))
        done = run_asrbuild("inspect", "model", str(package), "--json", cwd=workshop.folder)
        assert done.code == 0, done.err
        (main,) = json.loads(done.out)["functions"]
        return set(main["ops"])

    assert not ops("dynamic_to_static") & DYNAMIC_OPS
    assert ops("dynamic") & DYNAMIC_OPS


def test_a_second_run_does_no_work_and_imports_no_heavy_library(workshop: Workshop) -> None:
    for _ in range(2):  # the first run composes this recipe and remembers it
        shown, modules = run_command("model=dynamic", cwd=workshop.folder)
    version = workshop.artifact("dynamic", "mlprogram").name
    assert f"demo-dynamic-mlprogram {version}" in shown
    assert "nothing to do" in shown
    assert SAMPLE_TEXT in shown
    assert not modules & {"tensorflow", "coremltools", "numpy", "hydra"}


def test_a_deleted_artifact_comes_back_from_the_cache_with_the_same_version(
    workshop: Workshop, tmp_path: Path
) -> None:
    done = run_asrbuild(
        "model=static",
        f"paths.artifacts={tmp_path / 'elsewhere'}",
        cwd=workshop.folder,
    )
    assert done.code == 0, done.err
    assert "Core ML package from the weights: already there" in done.err
    version = workshop.artifact("static", "mlprogram").name
    assert (tmp_path / "elsewhere" / "demo-static-mlprogram" / version).is_dir()


def test_a_failed_job_is_a_row_and_the_others_go_on(workshop: Workshop, tmp_path: Path) -> None:
    cache = f"paths.cache={workshop.folder}/.asrbuild/cache"
    done = run_asrbuild("-m", "model=static,dynamic", "coreml.range_upper=8", cache, cwd=tmp_path)
    assert done.code == 1
    assert "Traceback" not in done.err + done.out
    rows = [line for line in done.out.splitlines() if "model=" in line or "demo-" in line]
    assert any("failed" in row for row in rows)
    assert any("demo-static-mlprogram" in row and "failed" not in row for row in rows)
    assert "not in the range 1 to 8" in done.err


def test_latest_is_the_last_artifact_that_a_build_alone_made(workshop: Workshop) -> None:
    """A sweep or a build with nothing to do does not move ``latest``; each job has its own name."""
    root = workshop.folder / "latest"
    one, other = (
        ("model=static", "verify=quick", "name=a", decoder, f"paths.artifacts={root}")
        for decoder in ("decoder=greedy", "decoder.cutoff_top_n=9")
    )
    found = []
    for command in (one, other, one, ("-m", *one, "version=2.0.0,3.0.0")):
        done = run_asrbuild(*command, cwd=workshop.folder)
        assert done.code == 0, done.err
        found.append(lookup.read_latest(root, "a"))
    assert found[0] != found[1]
    assert found[1:] == [found[1]] * 3
    assert len([a for a in lookup.list_artifacts(root) if a.name == "a"]) == 4

    swept = run_asrbuild(
        "-m",
        "model=static",
        "verify=quick",
        "decoder=greedy,beam",
        "decoder.beam_width=9",
        f"paths.artifacts={root}",
        cwd=workshop.folder,
    )
    assert swept.code == 0, swept.err
    names = {a.name for a in lookup.list_artifacts(root)} - {"a"}
    assert names == {
        "demo-static-mlprogram-width9-quick",
        "demo-static-mlprogram-beam-width9-quick",
    }
    assert swept.err.count("Core ML package from the weights") == 2
    assert "Core ML package from the weights: already there" in swept.err


def test_n_steps_sweeps_static_shapes_from_one_export(workshop: Workshop) -> None:
    done = run_asrbuild(
        "-m",
        "model=dynamic_to_static",
        "n_steps=8,48",
        f"paths.artifacts={workshop.folder / 'sizes'}",
        cwd=workshop.folder,
    )
    assert done.code == 0, done.err
    assert done.err.count("frozen graph from the weights: already there") == 2
    assert done.err.count("TensorFlow on the frozen graph: already there") == 2
    found = sorted(
        _features_shape(path.parent)[1][0]
        for path in (workshop.folder / "sizes").glob("*/*/manifest.json")
    )
    assert found == [8, 48]
    # The weights are on the disk once, in the cache and both stores.
    first = workshop.artifact("dynamic_to_static", "mlprogram")
    roots = first, workshop.folder / "sizes", workshop.folder / ".asrbuild/cache/convert"
    weights = [path for root in roots for path in root.rglob("weight.bin")]
    digests = {path: file_digest(path) for path in weights}
    same = [p.stat() for p in weights if digests[p] == digests[weights[0]]]
    assert len(same) >= 6
    assert len({status.st_ino for status in same}) == 1
