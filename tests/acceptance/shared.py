"""Builds that several test files share: made once for all test processes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from asrbuild.artifact.reading import read_manifest
from tests.acceptance.conftest import Finished, run_asrbuild
from tests.architectures.recipes import write_recipe

#: Only real speech, because the whole proof takes a minute.
SHORT = ("verify.inputs=[sample,second]", "verify.edge_lengths=false")
ENVIRONMENT = {"ASRBUILD_ARTIFACTS": "a", "ASRBUILD_CACHE": "c", "OPENBLAS_NUM_THREADS": "1"}
NETWORKS = ("hama", "quartznet", "silero", "streaming")


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder of all test processes, which the first one fills."""
    base = factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder = shared / name
    with FileLock(shared / f"{name}.lock"):
        # An unfinished folder belongs to a failed process, so the build fails here as well.
        if not (folder / "complete").exists():
            folder.mkdir(exist_ok=True)
            make(folder)
            (folder / "complete").touch()
    return folder


@dataclass(frozen=True)
class Sweep:
    """The finished sweep: its folder, and the record of each cell."""

    folder: Path
    done: Finished
    cells: dict[tuple[str, str, str], dict[str, Any]]

    def artifact(self, source: str, shape: str) -> Path:
        return Path(self.cells[source, shape, "mlprogram"]["path"])


def network_sweep(factory: pytest.TempPathFactory) -> Sweep:
    """Four models, whose recipes are drafts with their blanks filled, in two shapes and formats."""

    def make(folder: Path) -> None:
        for source in NETWORKS:
            write_recipe(source, folder / "recipes")
        done = run_asrbuild(
            "--config-dir",
            "recipes",
            "-m",
            f"source={','.join(NETWORKS)}",
            "model=static,dynamic",
            "coreml=mlprogram,neuralnetwork",
            "coreml.precision=fp32",
            *SHORT,
            cwd=folder,
            env=ENVIRONMENT,
        )
        (folder / "done.json").write_text(json.dumps([done.code, done.out, done.err]))

    folder = once(factory, "networks", make)
    cells = {}
    for path in folder.glob(".asrbuild/sweeps/*/*.json"):
        cell = json.loads(path.read_text("utf-8"))
        given = dict(text.split("=", 1) for text in cell["overrides"])
        cells[given["source"], given["model"], given["coreml"]] = cell
    return Sweep(folder, Finished(*json.loads((folder / "done.json").read_text())), cells)


def deepspeech_of_samples(factory: pytest.TempPathFactory) -> Path:
    """DeepSpeech with its front end in the package, in calls of 16 rows, proven on every length."""

    def make(folder: Path) -> None:
        done = run_asrbuild(
            "model=static", "features.place=package", "verify.inputs=[sample,silence]", cwd=folder
        )
        assert done.code == 0, done.err

    folder = once(factory, "deepspeech-of-samples", make)
    (found,) = (folder / "artifacts").glob("demo-static-mlprogram-features-package-*/1*")
    return found


def demo_conv(factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The second demo model by the place of its front end: calls of 16 rows."""

    def make(folder: Path) -> None:
        done = run_asrbuild(
            "-m",
            "source=demo_conv",
            "model=static",
            "features.place=app,package",
            "verify.inputs=[sample,silence,random]",
            "verify.edge_lengths=false",
            cwd=folder,
        )
        assert done.code == 0, done.err

    folder = once(factory, "demo_conv", make)
    made: dict[str, Path] = {}
    for path in (folder / "artifacts").glob("*/1*"):
        manifest: Any = read_manifest(path)
        made[manifest.features.place] = path
    assert set(made) == {"app", "package"}
    return made


#: A proof of three seconds of speech.
SECOND = (
    "verify.inputs=[sample]",
    "source.sample.audio=demo:second.wav",
    "verify.edge_lengths=false",
)
#: The keyword graph is cut before its front end, or behind it.
KEYWORDS: dict[str, tuple[str, ...]] = {
    "at-samples": (),
    "at-mfcc": (
        "source.config.cut=[Mfcc]",
        "~source.config.pin",
        "~source.config.rows",
        "~source.config.inputs.decoded_sample_data",
        "+source.config.inputs.Mfcc={meaning: features, axes: [1, steps, 40], steps: 49}",
        "source.config.features.kind=mfcc_tf",
        "+source.config.features.window=480",
        "+source.config.features.upper_hz=4000",
        "+source.config.features.n_input=40",
        "+source.config.features.n_context=0",
    ),
}


def keyword_folder(factory: pytest.TempPathFactory) -> Path:
    """A folder with ``recipes/keywords.pb``, and its artifacts ``a/<name>/<version>`` by cut."""

    def make(folder: Path) -> None:
        write_recipe("keywords", folder / "recipes")
        for name, overrides in KEYWORDS.items():
            done = run_asrbuild(
                "--config-dir",
                "recipes",
                f"name={name}",
                "source=keywords",
                "coreml.precision=fp32",
                *SECOND,
                *overrides,
                cwd=folder,
                env={"ASRBUILD_ARTIFACTS": "a", "ASRBUILD_CACHE": "c"},
            )
            assert done.code == 0, done.err

    return once(factory, "keywords", make)


def keyword_artifact(folder: Path, name: str) -> Path:
    """The artifact of a cut, in ``keyword_folder``."""
    (found,) = (path for path in (folder / "a" / name).iterdir() if path.name.startswith("1."))
    return found
