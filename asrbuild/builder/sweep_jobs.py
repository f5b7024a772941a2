"""Facts of a sweep before its jobs run, and the number of those that are done."""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

#: Where the jobs of a sweep leave their records; inherited by every launcher's processes.
RECORDS = "ASRBUILD_SWEEP_RECORDS"
#: The sweep itself, in the folder of its records.
_ABOUT = "about"


@dataclass(frozen=True)
class About:
    """A sweep.

    Args:
        varied: the keys and groups that have several values.
        jobs: how many jobs it has; None: Hydra's sweeper alone knows.
        folder: ``hydra.sweep.dir``, where its page goes.
    """

    varied: tuple[str, ...]
    jobs: int | None
    folder: str


def announce(hydra: Any) -> None:
    """Writes what is known of a sweep to the folder of its records, from Hydra's own section."""
    records = os.environ.get(RECORDS)
    if records is not None:
        Path(records, _ABOUT).write_text(json.dumps(asdict(_about(hydra))), encoding="utf-8")


def _about(hydra: Any) -> About:
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.override_parser.overrides_parser import OverridesParser

    params = hydra.sweeper.get("params") or {}
    given = [*(f"{key}={text}" for key, text in params.items()), *hydra.overrides.task]
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    overrides = {each.get_key_element(): each for each in parser.parse_overrides(given)}
    swept = [each for each in overrides.values() if each.is_sweep_override()]
    jobs = hydra.sweeper.get("n_trials")
    if jobs is None and all(each.is_discrete_sweep() for each in swept):
        jobs = math.prod(len(list(each.sweep_iterator())) for each in swept)
    varied = tuple(each.key_or_group for each in swept)
    return About(varied, jobs, str(Path(hydra.sweep.dir).absolute()))


def about(records: Path) -> About:
    """The sweep of these records."""
    try:
        found = json.loads((records / _ABOUT).read_text("utf-8"))
    except FileNotFoundError:  # the callback was taken out of the configuration
        return About((), None, str(records))
    return About(tuple(found["varied"]), found["jobs"], found["folder"])


@dataclass(frozen=True)
class Done:
    """The progress of a sweep.

    Args:
        jobs: how many jobs have ended.
        total: of how many; None: not known.
        seconds_left: an estimate from the jobs that have ended; None: too few have.
    """

    jobs: int
    total: int | None
    seconds_left: float | None

    def __str__(self) -> str:
        count = f"{self.jobs} of {self.total} jobs" if self.total else f"{self.jobs} jobs"
        return count if self.seconds_left is None else f"{count}, {_span(self.seconds_left)} left"


def done(records: Path) -> Done:
    """The number of jobs with a record of their end, and the time that the others may take.

    The first job does what the others share, so the estimate is made from those after it.
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


def _span(seconds: float) -> str:
    """A time that a person estimates with: ``5 s``, ``3 min``, ``1 h 20 min``."""
    if seconds < 60:
        return f"about {max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"about {minutes} min" if minutes < 60 else f"about {minutes // 60} h {minutes % 60} min"
