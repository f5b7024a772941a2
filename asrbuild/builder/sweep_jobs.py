"""The facts of a sweep before its jobs run, and its progress."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

#: The variable with the folder of a sweep's records; every launcher's processes inherit it.
RECORDS = "ASRBUILD_SWEEP_RECORDS"
#: The file with the facts of the sweep, in the folder of its records.
_ABOUT = "about"


@dataclass(frozen=True)
class About:
    """The facts of a sweep.

    Args:
        varied: the keys and groups that have several values.
        jobs: number of its jobs; None: only Hydra's sweeper knows it.
        folder: ``hydra.sweep.dir``, the folder of its page.
        better: figure of ``tune.returns`` -> ``low`` or ``high``, by ``hydra.sweeper.direction``.
    """

    varied: tuple[str, ...]
    jobs: int | None
    folder: str
    better: Mapping[str, str]


def announce(hydra: Any, returns: Sequence[str]) -> None:
    """Writes the facts of a sweep to the folder of its records.

    Args:
        hydra: Hydra's section of the config.
        returns: the recipe's ``tune.returns``.
    """
    records = os.environ.get(RECORDS)
    if records is not None:
        Path(records, _ABOUT).write_text(
            json.dumps(asdict(_about(hydra, returns))), encoding="utf-8"
        )


def overrides_of(hydra: Any) -> list[Any]:
    """The parsed overrides of a sweep, those of ``hydra.sweeper.params`` first."""
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.override_parser.overrides_parser import OverridesParser

    params = hydra.sweeper.get("params") or {}
    given = [*(f"{key}={text}" for key, text in params.items()), *hydra.overrides.task]
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    return list(parser.parse_overrides(given))


def _about(hydra: Any, returns: Sequence[str]) -> About:
    overrides = {each.get_key_element(): each for each in overrides_of(hydra)}
    swept = [each for each in overrides.values() if each.is_sweep_override()]
    jobs = hydra.sweeper.get("n_trials")
    if jobs is None and all(each.is_discrete_sweep() for each in swept):
        jobs = math.prod(len(list(each.sweep_iterator())) for each in swept)
    varied = tuple(each.key_or_group for each in swept)
    direction = hydra.sweeper.get("direction") or ()
    directions = [direction] * len(returns) if isinstance(direction, str) else direction
    better = {
        name: "high" if each == "maximize" else "low"
        for name, each in zip(returns, directions, strict=False)
    }
    return About(varied, jobs, str(Path(hydra.sweep.dir).absolute()), better)


def about(records: Path) -> About:
    """The facts of the sweep with these records."""
    try:
        found = json.loads((records / _ABOUT).read_text("utf-8"))
    except FileNotFoundError:  # the user's configuration has no such callback
        return About((), None, str(records), {})
    return About(**found | {"varied": tuple(found["varied"])})


@dataclass(frozen=True)
class Done:
    """The progress of a sweep.

    Args:
        jobs: number of jobs that have ended.
        total: number of all jobs; None: not known.
        seconds_left: an estimate from the jobs that have ended; None: too few have ended.
    """

    jobs: int
    total: int | None
    seconds_left: float | None

    def __str__(self) -> str:
        text = f"{self.jobs} of {count(self.total)}" if self.total else count(self.jobs)
        return text if self.seconds_left is None else f"{text}, {_span(self.seconds_left)} left"


def done(records: Path) -> Done:
    """The progress of a sweep, from the records of its jobs.

    The first job runs the stages that all share, so the estimate uses the jobs after it.
    """
    ended = []
    for path in records.glob("*.json"):
        if json.loads(path.read_text("utf-8"))["status"] != "running":
            ended.append(path.stat().st_mtime)
    total = about(records).jobs
    if total is None or len(ended) < 2 or len(ended) >= total:
        return Done(len(ended), total, None)
    each = (max(ended) - min(ended)) / (len(ended) - 1)
    return Done(len(ended), total, each * (total - len(ended)))


def count(jobs: int) -> str:
    """``1 job``, ``2 jobs``."""
    return "1 job" if jobs == 1 else f"{jobs} jobs"


def _span(seconds: float) -> str:
    """A rounded duration: ``5 s``, ``3 min``, ``1 h 20 min``."""
    if seconds < 60:
        return f"about {max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"about {minutes} min" if minutes < 60 else f"about {minutes // 60} h {minutes % 60} min"
