"""The front end inside the package of an ONNX network; see ``features.place``."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asrbuild.architectures.front_end.signature import in_package
from asrbuild.architectures.onnx.section import OnnxConfig, renamed_ports, signature_of
from asrbuild.coreml.signature import Signature

if TYPE_CHECKING:
    from asrbuild.architectures.original import OriginalRun


def settings_inside(config: OnnxConfig) -> Any:
    """The settings of the features that the package computes; None if it computes none.

    Raises:
        AsrbuildError: the features do not exist.
    """
    if place_of(config) == "app":
        return None
    return settings_of(config)


def place_of(config: OnnxConfig) -> str:
    """The place of the features; for a model that takes samples, ``app``."""
    if config.features.get("kind", "none") == "none":
        return "app"
    place: str = config.features.get("place", "app")
    return place


def settings_of(config: OnnxConfig) -> Any:
    """The settings of the features, or of samples."""
    from asrbuild.speech.features.kinds import make_settings

    own = {name: value for name, value in config.features.items() if name not in ("kind", "place")}
    values: dict[str, Any] = {"sample_rate": config.sample_rate} | own
    return make_settings(config.features.get("kind", "none"), **values)


def package_signature(config: OnnxConfig) -> Signature:
    """The signature of the package."""
    network, settings = signature_of(config), settings_inside(config)
    if settings is None:
        return network
    found = in_package(network, settings)
    if settings.kind.startswith("log_mel"):
        # The ends of a call would be padded, and most of these features depend on the whole call.
        context = replace(found.context, causal=False, padding="changes_output")
        return replace(found, context=context)
    return found


def start_calls(
    worker: str, runtime: str, model: Path, config: OnnxConfig, cases: Path, out: Path, *more: str
) -> OriginalRun:
    """Runs an original on a package's calls, in a process of its own.

    Args:
        worker: the architecture's module for its runtime; ``more``: further arguments of it.
        model: the original's file.
        cases: an npz of the calls.
    """
    from asrbuild.architectures.original import start

    cases = _calls_of_network(cases, config, out.with_name("network_calls.npz"))
    states, names = json.dumps(config.states), json.dumps(renamed_ports(config))
    given = ("--cases", str(cases), "--model", str(model), "--states", states, "--names", names)
    return start(worker, runtime, out, *given, *more)


def _calls_of_network(cases: Path, config: OnnxConfig, file: Path) -> Path:
    """Writes a package's calls as calls of the network, with features; returns the file."""
    import numpy as np

    from asrbuild.architectures.front_end.feed import features_of_calls
    from asrbuild.architectures.original import save_cases

    settings = settings_inside(config)
    if settings is None:
        return cases
    with np.load(cases, allow_pickle=False) as stored:
        save_cases(file, features_of_calls(dict(stored), signature_of(config), settings))
    return file
