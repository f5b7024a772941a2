"""``hydra/sweeper=optuna``: a sweep that searches for the best results of jobs with Optuna.

Hydra looks for sweepers in the namespace ``hydra_plugins`` and nowhere else. Its own plugin for
Optuna requires Optuna 2, which cannot be installed together with the one that ``tune=scorer``
uses, so this one uses Optuna directly. Its settings have the names of Hydra's plugin.
"""

# No `from __future__ import annotations`: Hydra runs this module before it is in sys.modules, where
# dataclasses look the names in such annotations up.

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from asrbuild.base import terminal
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.libraries import import_extra

#: Name of a sampler -> Optuna's class.
SAMPLERS = {"tpe": "TPESampler", "random": "RandomSampler", "nsga2": "NSGAIISampler"}
DIRECTIONS = ("minimize", "maximize")
#: The trials that no other one is better than, in the folder of the sweep.
RESULTS = "optimization_results.yaml"


@dataclass
class OptunaConf:
    """The settings of ``hydra.sweeper``.

    Args:
        direction: ``minimize`` or ``maximize``, or a list with one for each of ``tune.returns``.
        n_trials: how many jobs are run.
        n_jobs: how many of them the launcher gets at a time; Optuna chooses these together.
        sampler: one of ``tpe``, ``random``, ``nsga2``.
        seed: seed of the sampler: one seed and one job at a time give the same trials again.
        storage: where Optuna keeps the study, such as ``sqlite:///study.db``; null: nowhere.
        study_name: name of the study in the storage; an existing study continues.
        params: key -> values, in Hydra's grammar: ``a,b``, ``range(1,9)``, ``interval(0.1,0.9)``,
            ``int(interval(8,512))``, with ``tag(log, ...)`` around for a logarithmic scale.
    """

    _target_: str = "hydra_plugins.asrbuild_optuna_sweeper.OptunaSweeper"
    direction: Any = "minimize"
    n_trials: int = 20
    n_jobs: int = 1
    sampler: str = "tpe"
    seed: int = 1
    storage: str | None = None
    study_name: str | None = None
    params: dict[str, str] = field(default_factory=dict)


ConfigStore.instance().store(
    group="hydra/sweeper", name="optuna", node=OptunaConf, provider="asrbuild"
)


class OptunaSweeper(Sweeper):
    """Runs the jobs that Optuna suggests; arguments as in :class:`OptunaConf`."""

    def __init__(self, **settings: Any) -> None:
        plain: dict[str, Any] = {
            k: OmegaConf.to_object(v) if OmegaConf.is_config(v) else v for k, v in settings.items()
        }
        self.settings = OptunaConf(**plain)
        self.config: DictConfig | None = None
        self.launcher: Any = None
        self.hydra_context: HydraContext | None = None

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Takes the settings that Hydra gives a sweeper before the sweep."""
        self.hydra_context, self.config = hydra_context, config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Runs the trials, and writes the best ones to ``optimization_results.yaml``.

        Raises:
            AsrbuildError: Optuna is not installed, a setting is wrong, or there is nothing to
                search for.
        """
        assert self.config is not None
        assert self.hydra_context is not None
        optuna = _import_optuna()
        figures = list(self.config.tune.returns)
        directions = _directions(self.settings.direction, figures)
        given = [*(f"{key}={text}" for key, text in self.settings.params.items()), *arguments]
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        overrides = {each.get_key_element(): each for each in parser.parse_overrides(given)}
        space = {
            key: _distribution(optuna, each)
            for key, each in overrides.items()
            if each.is_sweep_override()
        }
        if not space:
            raise AsrbuildError(
                "there is no key to search",
                key="hydra.sweeper.params",
                fix="give a key several values, such as coreml.compress=none,int8",
            )
        fixed = [
            f"{key}={each.get_value_element_as_str()}"
            for key, each in overrides.items()
            if key not in space
        ]
        study = _study(optuna, self.settings, directions)
        folder = Path(self.config.hydra.sweep.dir)
        folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self.config, folder / "multirun.yaml")
        done = 0
        while done < self.settings.n_trials:
            count = min(max(1, self.settings.n_jobs), self.settings.n_trials - done)
            trials = [study.ask(space) for _ in range(count)]
            jobs = [[*fixed, *_overrides(trial.params)] for trial in trials]
            self.validate_batch_is_legal(jobs)
            for trial, job in zip(trials, self.launcher.launch(jobs, done), strict=True):
                values = _values(job, len(figures))
                failed = optuna.trial.TrialState.FAIL if values is None else None
                study.tell(trial, values, state=failed)
            done += count
        _write_results(study, figures, folder)


def _import_optuna() -> Any:
    bars = os.environ.get("TQDM_DISABLE")
    os.environ["TQDM_DISABLE"] = "1"  # tqdm reads it at its import, for coremltools
    try:
        use = "hydra/sweeper=optuna requires Optuna"
        optuna = import_extra("optuna", "tune", use, "hydra/sweeper")
    finally:
        os.environ.pop("TQDM_DISABLE")
        if bars is not None:
            os.environ["TQDM_DISABLE"] = bars
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _directions(asked: Any, figures: Sequence[str]) -> list[str]:
    """One direction a figure.

    Raises:
        AsrbuildError: there is no figure, or a direction is unknown or missing.
    """
    if not figures:
        raise AsrbuildError(
            "a search has no figure to optimise",
            key="tune.returns",
            fix="name what a job returns: tune.returns=[wer,package_bytes]",
        )
    found = [asked] * len(figures) if isinstance(asked, str) else list(asked)
    if len(found) != len(figures) or not set(found) <= set(DIRECTIONS):
        raise AsrbuildError(
            f"{', '.join(map(str, found))} are no directions of {', '.join(figures)}",
            key="hydra.sweeper.direction",
            fix=f"give minimize or maximize for each: [{','.join(['minimize'] * len(figures))}]",
        )
    return found


def _distribution(optuna: Any, override: Override) -> Any:
    """The distribution from which Optuna chooses a key's value."""
    kinds = optuna.distributions
    value = override.value()
    if isinstance(value, RangeSweep):
        every = list(value.range())
        if not every:
            raise _empty(override)
        kind = kinds.IntDistribution if isinstance(every[0], int) else kinds.FloatDistribution
        low, high = min(every[0], every[-1]), max(every[0], every[-1])
        if "log" in value.tags:  # Optuna has no steps on a logarithmic scale
            return kind(low, high, log=True)
        return kind(low, high, step=abs(value.step))
    if isinstance(value, IntervalSweep):
        assert value.start is not None
        assert value.end is not None
        if value.start > value.end:
            raise _empty(override)
        whole = isinstance(value.start, int) and isinstance(value.end, int)
        kind = kinds.IntDistribution if whole else kinds.FloatDistribution
        return kind(value.start, value.end, log="log" in value.tags)
    return kinds.CategoricalDistribution(list(override.sweep_string_iterator()))


def _empty(override: Override) -> AsrbuildError:
    return AsrbuildError(
        f"{override.input_line} has no value",
        key=override.key_or_group,
        fix="give the lower end first",
    )


def _study(optuna: Any, settings: OptunaConf, directions: list[str]) -> Any:
    name = SAMPLERS.get(settings.sampler)
    if name is None:
        raise AsrbuildError(
            f"there is no sampler {settings.sampler}",
            key="hydra.sweeper.sampler",
            fix=f"choose one of {', '.join(SAMPLERS)}",
        )
    try:
        return optuna.create_study(
            study_name=settings.study_name,
            storage=settings.storage,
            sampler=getattr(optuna.samplers, name)(seed=settings.seed),
            directions=directions,
            load_if_exists=True,
        )
    except Exception as error:  # errors of many kinds, of SQLAlchemy and Optuna
        raise AsrbuildError(
            f"the study cannot be opened: {str(error).splitlines()[0]}",
            key="hydra.sweeper.storage",
            fix="give an address such as sqlite:///study.db, and a study_name of the same search",
        ) from error


def _overrides(params: dict[str, Any]) -> list[str]:
    """A trial's values as Hydra reads them; a float without the rounding errors of its steps."""
    return [
        f"{key}={round(value, 10) if isinstance(value, float) else value}"
        for key, value in params.items()
    ]


def _values(job: JobReturn, count: int) -> list[float] | None:
    """The values that a job returned; None if it failed."""
    if job.status != JobStatus.COMPLETED or job.return_value is None:
        return None
    value = job.return_value
    values = [float(each) for each in (value if isinstance(value, Sequence) else [value])]
    return values if len(values) == count and all(map(math.isfinite, values)) else None


def _write_results(study: Any, figures: Sequence[str], folder: Path) -> None:
    """The trials that no other one is better than, on standard error and as a file."""
    found: list[dict[str, Any]] = []
    for trial in study.best_trials:
        values = dict(zip(figures, trial.values, strict=True))
        if trial.params not in [each["params"] for each in found]:  # Optuna may suggest one twice
            found.append({"trial": trial.number, "params": trial.params, "values": values})
    OmegaConf.save(OmegaConf.create({"name": "optuna", "solutions": found}), folder / RESULTS)
    for each in found:
        shown = ", ".join(f"{name} {value:.4g}" for name, value in each["values"].items())
        params = " ".join(_overrides(each["params"]))
        terminal.say(f"best       {shown}  ({params})", err=True)
