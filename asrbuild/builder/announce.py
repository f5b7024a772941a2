"""Hydra's callback of a sweep; apart, so that a build which is no sweep does not import Hydra."""

from __future__ import annotations

from typing import Any

from hydra.experimental.callback import Callback

from asrbuild.builder.sweep_jobs import announce


class Announce(Callback):
    """Hydra's callback that records a sweep before its first job; see conf/config.yaml."""

    def on_multirun_start(self, config: Any, **_: Any) -> None:
        """Writes what is known of the sweep to the folder of its records."""
        announce(config.hydra)
