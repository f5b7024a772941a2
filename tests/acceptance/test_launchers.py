"""A sweep with other launchers: processes on this machine, and Slurm."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from asrbuild.architectures.deepspeech import WORKER
from asrbuild.base.libraries import install_fix
from tests.acceptance import slurm_stand_in
from tests.acceptance.conftest import Finished, Workshop, run_asrbuild

LAUNCHERS = {
    "joblib": ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2"),
    "submitit_local": ("hydra/launcher=submitit_local", "hydra.launcher.timeout_min=10"),
    "ray": ("hydra/launcher=ray", "hydra.launcher.n_cpus=2"),
}


def sweep(
    workshop: Workshop, at: Path, *launcher: str, env: Mapping[str, str] | None = None
) -> Finished:
    """Four jobs, of which the last cannot be built, with the cache of the workshop."""
    return run_asrbuild(
        "-m",
        "model=static,dynamic",
        "coreml.range_upper=3000,8",
        f"paths.cache={workshop.folder}/.asrbuild/cache",
        *launcher,
        cwd=at,
        env=env,
        fresh=True,  # launchers start processes in the way that this one was started
    )


def assert_three_of_four(done: Finished, workshop: Workshop, at: Path) -> None:
    # A range that ends below its default cannot be built: any launcher reports that job as a row.
    assert done.code == 1, done.err
    assert "Traceback" not in done.out + done.err
    assert "3 of 4 jobs succeeded" in done.out
    assert "the default of 16 steps is not in the range 1 to 8" in done.out
    for model in ("static", "dynamic"):
        version = workshop.artifact(model, "mlprogram").name
        assert (at / "artifacts" / f"demo-{model}-mlprogram" / version).is_dir()


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_sweep_through_a_launcher(workshop: Workshop, launcher: str, tmp_path: Path) -> None:
    done = sweep(workshop, tmp_path, *LAUNCHERS[launcher])
    assert_three_of_four(done, workshop, tmp_path)


def test_a_sweep_through_slurm_requests_the_resources_of_its_settings(
    workshop: Workshop, tmp_path: Path
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("sbatch", "srun", "sacct"):
        program = programs / name
        source = Path(slurm_stand_in.__file__).read_text()
        program.write_text(f"#!{sys.executable}\n{source}")
        program.chmod(0o755)
    done = sweep(
        workshop,
        tmp_path,
        "hydra/launcher=submitit_slurm",
        "hydra.launcher.partition=speech",
        "hydra.launcher.cpus_per_task=2",
        "hydra.launcher.mem_gb=4",
        "hydra.launcher.timeout_min=30",
        "hydra.launcher.array_parallelism=2",
        env={"PATH": f"{programs}:{os.environ['PATH']}", "SLURM_STAND_IN": str(tmp_path)},
    )
    assert_three_of_four(done, workshop, tmp_path)
    asked = json.loads((tmp_path / "batch.json").read_text())
    assert asked["partition"] == "speech"
    assert asked["cpus-per-task"] == "2"
    assert asked["mem"] == "4GB"
    assert asked["time"] == "30"
    assert asked["array"] == "0-3%2"


def test_a_missing_ray_cluster_is_refused(tmp_path: Path) -> None:
    # No server listens on port 9 (`discard`).
    done = run_asrbuild(
        "-m", "hydra/launcher=ray", "hydra.launcher.address=127.0.0.1:9", cwd=tmp_path, fresh=True
    )
    assert done.code == 1
    assert "no Ray cluster at 127.0.0.1:9" in done.err
    assert "ray start --head" in done.err
    assert "Traceback" not in done.err


def test_without_ray_the_extra_is_named() -> None:
    code = (
        "import sys; sys.modules['ray'] = None\n"
        "sys.argv = ['asrbuild', '-m', 'hydra/launcher=ray']\n"
        "from asrbuild.cli.main import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"key: hydra/launcher\n  fix: {install_fix('ray')}\n" in done.stderr


def _waiting_for_tensorflow(folder: Path) -> list[int]:
    """The processes of jobs, of the sweep in ``folder``, that have started a reference."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_text()
            environment = (process / "environ").read_text(errors="replace")
            parent = (process / "stat").read_text().rpartition(")")[2].split()[1]
        except OSError:  # the process ended meanwhile
            continue
        if WORKER in command and f"SWEEP={folder}" in environment.split("\0"):
            found.append(int(parent))
    return found


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds a job's process in /proc")
@pytest.mark.parametrize("launcher", ["joblib", "ray"])
def test_a_job_that_is_killed_is_a_failed_row_or_starts_again(
    launcher: str, tmp_path: Path
) -> None:
    """The kill is that of a machine without memory. Ray starts the job again; joblib cannot."""
    sweep = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "asrbuild.cli.main",
            "-m",
            "model=static,dynamic",
            "verify=quick",
            f"paths.cache={tmp_path}/.asrbuild/cache",
            *LAUNCHERS[launcher],
        ],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"COLUMNS": "160", "NO_COLOR": "1", "SWEEP": str(tmp_path)},
    )
    building = tmp_path / ".asrbuild" / "cache" / ".building"
    deadline = time.monotonic() + 120
    while not (jobs := _waiting_for_tensorflow(tmp_path)):
        assert time.monotonic() < deadline
        assert sweep.poll() is None, sweep.communicate()
        time.sleep(0.02)
    os.kill(jobs[0], signal.SIGKILL)
    out, err = sweep.communicate(timeout=240)
    assert "Traceback" not in out + err
    if launcher == "ray":
        assert sweep.returncode == 0, err
        assert "2 of 2 jobs succeeded" in out
    else:
        assert sweep.returncode == 1
        assert "its process ended without a word" in out
        assert "the launcher lost jobs" in err
        done = run_asrbuild("-m", "model=static,dynamic", "verify=quick", cwd=tmp_path)
        assert done.code == 0, done.err
    assert not list(building.iterdir())
