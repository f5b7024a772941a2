"""``pip install`` of the wheel in new environments: its size, and the commands that work."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.conftest import PLAIN, Finished, Workshop, finish, run_asrbuild
from tests.paths import DEMO, ROOT, SAMPLE_TEXT

#: Megabytes that the wheel and its requirements may add to an empty environment.
LIGHT, BUILD = 300, 1700


def pip(environment: Path, *arguments: str) -> None:
    """Runs an environment's pip."""
    subprocess.run(
        [environment / "bin" / "python", "-m", "pip", "--disable-pip-version-check", *arguments],
        check=True,
        capture_output=True,
        timeout=900,
        cwd=environment,
    )


def new_environment(folder: Path) -> Path:
    """An empty environment with pip."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True, timeout=120)
    return folder


def megabytes(environment: Path) -> float:
    """The size of an environment without compiled sources, which Python creates."""
    files = (path for path in environment.rglob("*") if path.is_file() and not path.is_symlink())
    return sum(path.stat().st_size for path in files if path.suffix != ".pyc") / 1e6


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    environment = new_environment(folder / "environment")
    pip(environment, "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT))
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def constraints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The versions that the project pins, so that a new release of a library breaks no test."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    found = re.search(r"constraint-dependencies = \[\n(.*?)\]\n", text, re.DOTALL)
    assert found is not None
    path = tmp_path_factory.mktemp("constraints") / "constraints.txt"
    path.write_text(re.sub(r'^  "(.*)",$', r"\1", found[1], flags=re.M), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def light(tmp_path_factory: pytest.TempPathFactory, wheel: Path, constraints: Path) -> Path:
    """An environment with ``pip install asrbuild``."""
    environment = new_environment(tmp_path_factory.mktemp("light") / "environment")
    empty = megabytes(environment)
    pip(environment, "install", "--quiet", "--no-compile", "-c", str(constraints), str(wheel))
    assert megabytes(environment) - empty < LIGHT
    return environment


def in_light(environment: Path, *arguments: str, cwd: Path) -> Finished:
    """Runs ``asrbuild`` of an environment without the variables of this process."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    own = kept | PLAIN | {"ASRBUILD_CONFIG": str(cwd / "config")}
    return finish(environment / "bin" / "asrbuild", *arguments, cwd=cwd, env=own)


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory, workshop: Workshop) -> Iterator[Path]:
    """A folder with a signed artifact, and its public key."""
    folder = tmp_path_factory.mktemp("publisher")
    own = {"ASRBUILD_CONFIG": str(folder / "config")}
    artifact = str(workshop.artifact("dynamic_to_static", "mlprogram"))
    for arguments in (
        ["key", "new", "release"],
        ["ship", artifact, str(folder / "remote"), "--channel", "stable"],
    ):
        done = run_asrbuild(*arguments, cwd=folder, env=own)
        assert done.code == 0, done.err
    return folder


def test_all_commands_but_a_build_work_without_tensorflow(
    light: Path, remote: Path, tmp_path: Path
) -> None:
    """The commands of an app team run in order, in one folder."""
    name = "demo-dynamic_to_static-mlprogram"
    (tmp_path / "hear.csv").write_text(
        f"wav_filename,wav_filesize,transcript\n{DEMO / 'sample.wav'},0,{SAMPLE_TEXT}\n"
    )
    journey = [
        ["key", "trust", str(next(remote.rglob("*.pub")))],
        ["pull", name, "--remote", str(remote / "remote")],
        ["verify", name],
        ["transcribe", name, "demo:sample.wav"],
        ["evaluate", name, "hear.csv", "--decoder", "greedy,beam"],
        ["inspect", "model", name],
        ["inspect", "source", str(DEMO / "checkpoint")],
        ["app", name, "-o", "app"],
        ["show", name],
        ["report", name, "-o", "page.html"],
        ["ls", "--json"],
    ]
    outputs = {}
    for command in journey:
        done = in_light(light, *command, cwd=tmp_path)
        assert done.code == 0, f"{command}: {done.err}"
        outputs[command[0]] = done.out
    assert outputs["transcribe"].strip().endswith(SAMPLE_TEXT)
    assert [row["name"] for row in json.loads(outputs["ls"])] == [name]
    listed = {path.name.partition("-")[0] for path in light.rglob("*.dist-info")}
    assert not {"tensorflow", "tensorflow_cpu", "keras", "torch"} & listed


def test_a_build_without_tensorflow_names_the_extra(light: Path, tmp_path: Path) -> None:
    done = in_light(light, "model=static", cwd=tmp_path)
    assert done.code == 1
    assert "requires tensorflow, which is not installed" in done.err
    assert re.search(r"fix: .*pip install .*'asrbuild\[build\]'", done.err)
    assert "Traceback" not in done.err
    assert not (tmp_path / "artifacts").exists()


def test_a_build_works_with_the_extra(
    light: Path, wheel: Path, constraints: Path, tmp_path: Path
) -> None:
    """``pip install 'asrbuild[build]'`` in the light environment is all that a build requires."""
    pip(light, "install", "--quiet", "--no-compile", "-c", str(constraints), f"{wheel}[build]")
    assert megabytes(light) < BUILD
    done = in_light(light, "model=static", "verify=quick", cwd=tmp_path)
    assert done.code == 0, done.err
    assert "as spoken, word for word" in done.out


def test_the_wheel_holds_the_package_without_tests(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {"asrbuild/conf/config.yaml", "asrbuild/demo/sample.wav"} <= set(names)
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/", "tools/"))]
