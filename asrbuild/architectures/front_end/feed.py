"""Feeds the original of a package that contains its front end, with features from numpy.

The package has calls of samples; its original reads features, so the features of each call are
computed here, by the code that an app's front end is compared with.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from asrbuild.architectures.front_end.signature import INPUT
from asrbuild.base.array import Array
from asrbuild.coreml.signature import Port, Signature
from asrbuild.speech.features.kinds import Settings, compute


def features_of_calls(
    calls: Mapping[str, Array], network: Signature, settings: Settings
) -> dict[str, Array]:
    """Converts calls of the package to calls of the network.

    Args:
        calls: ``<sequence>/<number>/<input>`` -> value; samples (1, N), and counts of samples.
        network: the signature of the network, with features.
        settings: the settings of the features.
    """
    counted = {port.name for port in network.inputs if port.meaning == "step_count"}
    made: dict[str, Array] = {}
    for key, value in calls.items():
        call, _, name = key.rpartition("/")
        if name == INPUT:
            found = compute(np.asarray(value, np.float32).reshape(-1), settings)
            made[f"{call}/{network.features.name}"] = laid_out(found, network.features)
        elif name in counted:
            frames = [settings.steps(int(count)) for count in np.atleast_1d(value).ravel()]
            made[key] = np.array(frames, value.dtype).reshape(value.shape)
        else:
            made[key] = value
    return made


def laid_out(features: Array, port: Port) -> Array:
    """(F, C) in the order of the port's axes, whose other axes have size 1."""
    shape = [len(features) if axis.open else axis.size or 1 for axis in port.axes]
    others = [axis.size or 1 for axis in port.axes if not axis.open]
    before = [axis.size or 1 for axis in port.axes[: port.time]]
    wide_first = bool(before) and max(before) == max(others) > 1
    return np.ascontiguousarray(features.T if wide_first else features).reshape(shape)
