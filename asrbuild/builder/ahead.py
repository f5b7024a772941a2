"""A second process that makes, ahead of a sweep, what its later jobs are put together from.

The jobs of a sweep run one after the other in one process, and each leaves a processor idle for
most of its time. So when the first job is published, the process forks: the copy has its libraries
and its matrix products, and makes the stages of the later jobs in their order. It writes to the
cache alone, so the jobs, their order, their records and errors are those of a sweep without it;
what it did not get to, or fails to make, a job makes itself.

Linux only: the libraries of macOS do not outlive a fork. Other launchers have workers of their own.
``ASRBUILD_NO_SPEEDUPS=ahead`` turns it off.
"""

from __future__ import annotations

import copy
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from asrbuild.base import processes
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.processors import usable_processors
from asrbuild.coreml.speedups import enabled

#: A job with a smaller package takes about as long as a message.
LEAST_BYTES = 16 << 20
#: The share of jobs, the first ones, whose stages the sweep makes itself. It proves and publishes
#: all, which takes a quarter of the time of the stages, so both processes end at about the same
#: time.
_OWN_SHARE = 0.4
_HYDRAS_OWN = (
    "hydra._internal.core_plugins.basic_launcher.BasicLauncher",
    "hydra._internal.core_plugins.basic_sweeper.BasicSweeper",
)


@dataclass(frozen=True)
class _Sweep:
    """``config``: Hydra's, of all jobs; ``jobs``: the overrides of each."""

    config: Any
    jobs: Sequence[Sequence[str]]


_sweep: _Sweep | None = None
_process: int | None = None


def announce(config: Any) -> None:
    """Takes Hydra's configuration of a sweep whose jobs are known and run in this process."""
    global _sweep
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.global_hydra import GlobalHydra

    from asrbuild.builder.sweep_jobs import overrides_of

    hydra = config.hydra
    used = hydra.launcher._target_, hydra.sweeper._target_
    if used != _HYDRAS_OWN or not enabled("ahead"):
        return
    _compose_once(GlobalHydra.instance().config_loader())
    if sys.platform == "linux" and not hydra.job.chdir and not hydra.job.env_set:
        batches = BasicSweeper.split_arguments(overrides_of(hydra), None)
        _sweep = _Sweep(config, [job for batch in batches for job in batch])


def _compose_once(loader: Any) -> None:
    """Lets a job take the configuration that Hydra composes to check the job before the first.

    Hydra composes it a second time, which takes 0.1 s of each job.
    """
    compose = loader.load_sweep_config
    checked: dict[tuple[str, ...], Any] = {}

    def composed(master_config: Any, sweep_overrides: list[str]) -> Any:
        job = tuple(sweep_overrides)
        if job in checked:
            return checked.pop(job)  # the job changes it
        checked[job] = compose(master_config, sweep_overrides)
        return checked[job]

    loader.load_sweep_config = composed


def begin(after: int, package_bytes: int, varied: Sequence[str]) -> None:
    """Starts the process when the job ``after`` is published, once in a sweep of large packages."""
    global _process
    if _sweep is None or _process is not None or package_bytes < LEAST_BYTES:
        return
    if len(_sweep.jobs) < after + 3 or usable_processors() == 1:
        return
    ours, its = os.pipe()[::-1]
    _process = os.fork()
    if _process:
        os.close(its)  # ours stays open as long as this process lives
        return
    try:
        os.close(ours)
        os.dup2(its, 0)
        for stream in (1, 2):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
        processes.end_with_parent()
        # Only the sweep ends it, by SIGTERM: a second signal would interrupt its clean-up.
        for of_all in (signal.SIGINT, signal.SIGHUP):
            signal.signal(of_all, lambda *_: None)
        waiting = len(_sweep.jobs) - after - 1
        for number in range(after + 1 + int(waiting * _OWN_SHARE), len(_sweep.jobs)):
            with suppress(AsrbuildError):  # the job itself will report it
                _make(_sweep, number, varied)
    finally:
        os._exit(0)


def end() -> None:
    """Ends the process, if there is one, and what it has begun."""
    global _sweep, _process
    if _process is not None:
        with suppress(ProcessLookupError):
            os.kill(_process, signal.SIGTERM)
        os.waitpid(_process, 0)
    _sweep = _process = None


def _make(sweep: _Sweep, number: int, varied: Sequence[str]) -> None:
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import open_dict, read_write

    from asrbuild.builder import engine
    from asrbuild.builder.compose import to_recipe
    from asrbuild.builder.naming import told_apart

    loader = GlobalHydra.instance().config_loader()
    config = loader.load_sweep_config(sweep.config, list(sweep.jobs[number]))
    with open_dict(config):
        config.hydra.job.id = config.hydra.job.num = number
    HydraConfig.instance().set_config(config)
    own = copy.deepcopy(config)
    with read_write(own), open_dict(own):
        del own["hydra"]
    recipe = told_apart(to_recipe(own), list(config.hydra.overrides.task), varied)
    if recipe.tune.target == "none":
        engine.make_ahead(recipe)
