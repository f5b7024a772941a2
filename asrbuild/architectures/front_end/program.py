"""Puts the front end before a network's program."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from asrbuild.architectures.front_end.signature import INPUT, centred
from asrbuild.architectures.front_end.spectra import PREFIX, frames, mb
from asrbuild.coreml.convert import Body
from asrbuild.coreml.signature import Port, Signature
from asrbuild.speech.features.kinds import Settings


def with_front_end(body: Body, network: Signature, settings: Settings) -> Body:
    """Makes a body that takes samples from a body that takes features.

    Args:
        body: the body of the network.
        network: the signature of the network, with features.
        settings: the settings of the features; a frame is (C,), without context.
    """

    def whole(fixed: int | None, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        found = frames(inputs[INPUT], settings)
        given = {name: value for name, value in inputs.items() if name != INPUT}
        given[network.features.name] = _laid_out(found, network.features)
        for port in network.inputs:
            if port.meaning == "step_count":
                given[port.name] = _frame_count(given[port.name], settings)
        return body(None if fixed is None else settings.steps(fixed), given)

    return whole


def _laid_out(found: Any, port: Port) -> Any:
    """(1, F, C) in the order of the port's axes, which may have more axes of size 1."""
    at = port.time or 0
    others = [place for place in range(len(port.axes)) if place != at]
    wide = max(others, key=lambda place: port.axes[place].size or 0)
    if wide < at:
        found = mb.transpose(x=found, perm=[0, 2, 1], name=f"{PREFIX}by_band")
    batch = next(place for place in others if place != wide)
    more = [place for place in others if place not in (wide, batch)]
    if batch > min(at, wide):
        # The batch is not the first axis, so all three axes are transposed.
        found = mb.squeeze(x=found, axes=[0], name=f"{PREFIX}frames")
        more = [*more, batch]
    if more:
        found = mb.expand_dims(x=found, axes=sorted(more), name=f"{PREFIX}laid_out")
    return found


def _frame_count(samples: Any, settings: Settings) -> Any:
    """The number of frames of a number of samples; int32 of any shape."""
    more = 0 if centred(settings) else settings.window - settings.stride
    rest = mb.sub(x=samples, y=np.int32(more), name=f"{PREFIX}samples_of_hops")
    count = mb.floor_div(x=rest, y=np.int32(settings.stride), name=f"{PREFIX}hops")
    return mb.maximum(x=count, y=np.int32(0), name=f"{PREFIX}frames_of_call")
