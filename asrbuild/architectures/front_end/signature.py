"""The signature of a network with its front end in the package: samples instead of features.

This module does not import numpy.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from asrbuild.base.errors import AsrbuildError
from asrbuild.coreml.signature import SAMPLES, Axis, Context, Port, Rows, Signature

#: The name of the input with samples.
INPUT = "samples"
FILL = "samples of the recording in [-1, 1]; zeros past its end"


class Frames(Protocol):
    """The settings that decide the number of frames: see :mod:`asrbuild.speech.frames`."""

    @property
    def window(self) -> int: ...

    @property
    def stride(self) -> int: ...

    def steps(self, samples: int) -> int: ...


def samples_port() -> Port:
    """The input with samples, (1, samples) float32."""
    return Port(INPUT, (Axis("batch", 1), Axis(SAMPLES)), "samples", FILL)


def centred(settings: Frames) -> bool:
    """Whether frames are centred around their first sample, so that n samples make n // stride."""
    return settings.steps(settings.stride) == 1 and settings.window > settings.stride


def in_package(signature: Signature, settings: Frames) -> Signature:
    """The signature of a network with the front end of its features before it.

    The steps of its rows, its context and its step count become samples.

    Raises:
        AsrbuildError: the features of a chunk differ from those of the recording.
    """
    stride, rows, context = settings.stride, signature.rows, signature.context
    # Frames of n samples: n // stride if they are centred, else (n - window) // stride + 1.
    add = 0 if centred(settings) else stride - settings.window
    if centred(settings) and signature.states:
        raise AsrbuildError(
            "these features look at the whole recording, so a network that carries states from "
            "chunk to chunk cannot have them in the package",
            key="features.place",
            fix="leave features.place=app",
        )
    inputs = [samples_port() if p is signature.features else p for p in signature.inputs]
    return replace(
        signature,
        inputs=tuple(inputs),
        rows=Rows(rows.steps * stride, rows.add * stride + add),
        context=Context(
            context.causal,
            context.left * stride,
            context.right * stride,
            context.padding,
        ),
        steps=None if signature.steps is None else signature.steps * stride - add,
    )
