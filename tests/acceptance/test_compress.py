"""Recipes with compressed weights: builds, gates, comparison and verification."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from asrbuild.artifact.reading import read_manifest
from asrbuild.coreml.compression import compression
from tests import golden
from tests.acceptance.conftest import Finished, Workshop, run_asrbuild

WAYS = ("none", "int8", "palettize_6", "palettize_4", "prune")
#: The advice of conf/coreml/mlprogram.yaml for 4 bits on the demo.
MIXED = (
    "coreml.compress=palettize_4",
    "coreml.compress_layers.layer_2=int8",
    "coreml.compress_layers.layer_3=int8",
    "coreml.compress_layers.lstm=palettize_6",
)


@pytest.fixture(scope="module")
def folder(workshop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder whose builds share the workshop's cache."""
    folder = tmp_path_factory.mktemp("compressed")
    (folder / ".asrbuild").mkdir()
    (folder / ".asrbuild" / "cache").symlink_to(workshop.folder / ".asrbuild" / "cache")
    return folder


@pytest.fixture(scope="module")
def sweep(folder: Path) -> Finished:
    ways = f"coreml.compress={','.join(WAYS)}"
    return run_asrbuild("-m", "model=static", ways, cwd=folder, env={"COLUMNS": "220"})


def records(folder: Path) -> dict[str, dict]:
    (run,) = [p for p in (folder / ".asrbuild" / "sweeps").iterdir() if list(p.glob("0*.json"))]
    jobs = [json.loads(path.read_text()) for path in sorted(run.glob("0*.json"))]
    return dict(zip(WAYS, jobs, strict=True))


def test_a_sweep_shows_size_and_figures_of_refused_packages_too(sweep: Finished, folder: Path):
    assert sweep.code == 1
    assert "4 of 5 jobs succeeded" in sweep.out
    rows = records(folder)
    for way, row in rows.items():
        assert row["compress"] == way
        assert row["wer"] == 0.0
        assert {"argmax_agreement", "kl_divergence", "psnr_db"} <= set(row["figures"])
        (line,) = [line for line in sweep.out.splitlines() if f"\t{way}\t" in line]
        assert f"{row['package_bytes'] / 1e6:.2f}" in line
    sizes = {way: row["package_bytes"] for way, row in rows.items()}
    assert sizes["palettize_4"] < sizes["palettize_6"] < sizes["int8"] < sizes["prune"]
    assert sizes["prune"] < sizes["none"]
    closeness = [rows[way]["figures"]["psnr_db"] for way in WAYS[:4]]
    assert closeness == sorted(closeness, reverse=True)


def test_a_package_with_other_words_or_large_errors_is_not_published(sweep: Finished, folder: Path):
    refused = records(folder)["palettize_4"]
    assert refused["status"] == "failed"
    assert "logits kl_divergence" in refused["error"]
    assert "key: verify.thresholds.palettize_4" in refused["error"]
    assert "compress_layers.lstm=int8" in refused["error"]
    names = {path.parent.name for path in (folder / "artifacts").glob("demo-*/1.*")}
    ways = ("int8", "palettize_6", "prune")
    assert names == {"demo-static-mlprogram", *(f"demo-static-mlprogram-{way}" for way in ways)}
    golden.check_error("coreml.compress=palettize_4", 1, f"error: {refused['error']}", folder)


@pytest.mark.parametrize("way", ["int8", "palettize_6", "prune"])
def test_a_compressed_package_equals_its_golden_record(way: str, sweep: Finished, folder: Path):
    (path,) = (folder / "artifacts" / f"demo-static-mlprogram-{way}").glob("1.*")
    golden.check_artifact(path.parent.name, path)


def test_a_choice_for_each_layer_passes_and_is_proven_again(sweep: Finished, folder: Path):
    done = run_asrbuild("model=static", "name=mixed", *MIXED, cwd=folder)
    assert done.code == 0, done.err
    again = run_asrbuild("verify", "mixed", "--json", cwd=folder)
    assert again.code == 0, again.out
    assert json.loads(again.out)["passed"]
    (artifact,) = (folder / "artifacts" / "mixed").glob("1.*")
    manifest = read_manifest(artifact)
    chosen = compression(manifest.provenance.recipe["coreml"])
    assert chosen == {
        "layer_2": "int8",
        "layer_3": "int8",
        "lstm": "palettize_6",
        "layer_5": "palettize_4",
        "layer_6": "palettize_4",
    }
    inspected = run_asrbuild(
        "inspect", "model", str(artifact / manifest.model.package), "--json", cwd=folder
    )
    (main,) = json.loads(inspected.out)["functions"]
    expanding = {op: count for op, count in main["ops"].items() if op.startswith("constexpr_")}
    assert expanding == {"constexpr_affine_dequantize": 2, "constexpr_lut_to_dense": 4}
    # The gates are the loosest of the methods in use; the fp16 of layer 1 counts too.
    gates = {m.name: m.threshold for m in manifest.verification.metrics if m.output == "logits"}
    assert gates["kl_divergence"] == 0.3
    assert gates["argmax_agreement"] == 0.97
    golden.check_artifact("demo-static-mlprogram mixed", artifact)
