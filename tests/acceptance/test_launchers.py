"""The same sweep through other launchers: the cores of this machine, and a cluster's engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.conftest import Workshop, run_asrbuild

LAUNCHERS = {
    "joblib": ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2"),
    "submitit_local": ("hydra/launcher=submitit_local", "hydra.launcher.timeout_min=10"),
}


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_sweep_through_a_launcher(workshop: Workshop, launcher: str, tmp_path: Path) -> None:
    done = run_asrbuild(
        "-m",
        "model=static,dynamic",
        "coreml.range_upper=3000,8",
        f"paths.cache={workshop.folder}/.asrbuild/cache",
        *LAUNCHERS[launcher],
        cwd=tmp_path,
    )
    # A range that ends below its default cannot be built: that job is a row, in any process.
    assert done.code == 1, done.err
    assert "Traceback" not in done.out + done.err
    assert "3 of 4 jobs succeeded" in done.out
    for model in ("static", "dynamic"):
        version = workshop.artifact(model, "mlprogram").name
        assert (tmp_path / "artifacts" / f"demo-{model}-mlprogram" / version).is_dir()
