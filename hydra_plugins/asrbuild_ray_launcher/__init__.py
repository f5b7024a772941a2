"""``hydra/launcher=ray``: the jobs of a sweep as tasks of a Ray cluster.

Hydra looks for launchers in the namespace ``hydra_plugins`` and nowhere else. Its own plugin for
Ray requires a Ray and a cloudpickle of 2021, so this one uses Ray directly.

Every node needs asrbuild installed and sees the folder the sweep was started in under the same
path: the cache, the artifacts and the jobs' records are there.
"""

# No `from __future__ import annotations`: Hydra runs this module before it is in sys.modules, where
# dataclasses look the names in such annotations up.

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from asrbuild.base.errors import AsrbuildError
from asrbuild.base.libraries import import_extra

#: Jobs pass no objects through Ray, so its object store is as small as Ray allows.
_OBJECT_STORE_BYTES = 80 << 20
_KNOCK_SECONDS = 10.0
#: Turns off defaults of Ray that builds do not need: usage reports, copies of the working directory
#: and `uv` on the nodes, and the merging of equal lines of two jobs.
_RAY_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_COLOR_PREFIX": "0",
}


@dataclass
class RayConf:
    """The settings of ``hydra.launcher``.

    Args:
        address: of a running cluster (``auto``, ``host:6379``, ``ray://host:10001``); null: what
            ``RAY_ADDRESS`` names, or a cluster on this machine for the time of the sweep.
        n_cpus: processors of the cluster on this machine; null: all.
        cpus_per_job: processors that Ray sets aside for a job.
        memory_per_job: bytes that Ray sets aside for a job; null: none.
        resources_per_job: the cluster's own resources, name to amount.
        retries: how often a job is started again after its process or node died.
        runtime_env: Ray's description of the environment of a job's process.
    """

    _target_: str = "hydra_plugins.asrbuild_ray_launcher.RayLauncher"
    address: str | None = None
    n_cpus: int | None = None
    cpus_per_job: float = 1.0
    memory_per_job: int | None = None
    resources_per_job: dict[str, float] = field(default_factory=dict)
    retries: int = 1
    runtime_env: dict[str, Any] = field(default_factory=dict)


ConfigStore.instance().store(group="hydra/launcher", name="ray", node=RayConf, provider="asrbuild")


class RayLauncher(Launcher):
    """Runs a sweep's jobs on Ray; arguments as in :class:`RayConf`."""

    def __init__(self, **settings: Any) -> None:
        plain: dict[str, Any] = {
            name: OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
            for name, value in settings.items()
        }
        self.settings = RayConf(**plain)
        self.config: DictConfig | None = None
        self.hydra_context: HydraContext | None = None
        self.task_function: TaskFunction | None = None

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Takes the settings that Hydra gives a launcher before the first batch."""
        self.hydra_context = hydra_context
        self.task_function = task_function
        self.config = config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Runs a batch and waits for all of it; a job that died is a failed result.

        Raises:
            AsrbuildError: Ray is not installed, or its cluster cannot be reached.
        """
        ray = _import_ray()
        _connect(ray, self.settings)
        settings = self.settings
        try:
            remote = ray.remote(
                num_cpus=settings.cpus_per_job,
                memory=settings.memory_per_job,
                resources=settings.resources_per_job,
                max_retries=settings.retries,
            )(_run_job)
            common = ray.put(
                (
                    self.hydra_context,
                    self.config,
                    self.task_function,
                    Singleton.get_state(),
                    os.getcwd(),
                    {k: v for k, v in os.environ.items() if k.startswith("ASRBUILD_")},
                )
            )
            jobs = [
                remote.remote(initial_job_idx + index, list(overrides), common)
                for index, overrides in enumerate(job_overrides)
            ]
            return [_result(ray, job) for job in jobs]
        finally:
            # Also after Ctrl-C: Ray ends the tasks of a driver that leaves.
            ray.shutdown()


def _import_ray() -> Any:
    for name, value in _RAY_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    return import_extra("ray", "ray", "hydra/launcher=ray requires Ray", "hydra/launcher")


def _connect(ray: Any, settings: RayConf) -> None:
    common: dict[str, Any] = {"logging_level": "ERROR", "runtime_env": settings.runtime_env or None}
    address = settings.address or os.environ.get("RAY_ADDRESS")
    try:
        if address:
            _knock(address)
            ray.init(address=address, **common)
        else:
            ray.init(
                address="local",
                num_cpus=settings.n_cpus,
                include_dashboard=False,
                object_store_memory=_OBJECT_STORE_BYTES,
                **common,
            )
    except (ConnectionError, ValueError, RuntimeError, TimeoutError, OSError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise AsrbuildError(
            f"no Ray cluster at {address}: {reason}" if address else f"Ray did not start: {reason}",
            key="hydra.launcher.address" if address else "hydra/launcher",
            fix="start one with `ray start --head`, or leave the address out to use this machine"
            if address
            else "use hydra/launcher=joblib on one machine",
        ) from error


def _knock(address: str) -> None:
    """Connects to the address once: Ray itself would retry for minutes without a cluster."""
    host, separator, port = address.rpartition("://")[2].rpartition(":")
    if separator and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_SECONDS).close()


def _result(ray: Any, job: Any) -> JobReturn:
    try:
        result: JobReturn = ray.get(job)
        return result
    except ray.exceptions.RayError as error:
        lost = JobReturn()
        lost.status = JobStatus.FAILED
        lost.return_value = AsrbuildError(_reason(error))
        return lost


def _reason(error: Exception) -> str:
    cause = getattr(error, "cause", None)
    if isinstance(cause, AsrbuildError):
        return str(cause)
    return f"a job was lost: {str(error).strip().splitlines()[0]}"


def _run_job(number: int, overrides: list[str], common: tuple[Any, ...]) -> JobReturn:
    """Runs one job in a process of the cluster."""
    hydra_context, config, task_function, singletons, folder, environment = common
    if not Path(folder).is_dir():
        raise AsrbuildError(
            "a node of the Ray cluster does not see the folder the sweep was started in",
            file=folder,
            fix="start the sweep in a folder that every node mounts under the same path",
        )
    os.chdir(folder)
    os.environ.update(environment)
    setup_globals()
    Singleton.set_state(singletons)
    job = hydra_context.config_loader.load_sweep_config(config, overrides)
    with open_dict(job):
        job.hydra.job.id = f"{job.hydra.job.name}_{number}"
        job.hydra.job.num = number
    HydraConfig.instance().set_config(job)
    return run_job(
        hydra_context=hydra_context,
        config=job,
        task_function=task_function,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )
