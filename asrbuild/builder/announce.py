"""Hydra's callback for sweeps, in a module of its own: a single build must not import Hydra."""

from __future__ import annotations

from typing import Any

from hydra.experimental.callback import Callback

from asrbuild.builder import ahead
from asrbuild.builder.sweep_jobs import announce


class Announce(Callback):
    """The callback of Hydra that records a sweep before its first job; see conf/config.yaml."""

    def on_multirun_start(self, config: Any, **_: Any) -> None:
        """Writes the facts of the sweep to the folder of its records."""
        announce(config.hydra, config.tune.returns)
        ahead.announce(config)
