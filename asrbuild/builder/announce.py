"""Hydra's callback of a sweep, in its own module: a build that is not a sweep imports no Hydra."""

from __future__ import annotations

from typing import Any

from hydra.experimental.callback import Callback

from asrbuild.builder.sweep_jobs import announce


class Announce(Callback):
    """Hydra's callback that records a sweep before its first job; see conf/config.yaml."""

    def on_multirun_start(self, config: Any, **_: Any) -> None:
        """Writes what is known of the sweep to the folder of its records."""
        announce(config.hydra)
