"""Sizes, configuration and signature of the network."""

from __future__ import annotations

from dataclasses import dataclass

from asrbuild.coreml.compression import Layers
from asrbuild.coreml.signature import STEPS, Axis, Port, Signature, StatePair

#: Rows that a convolution reads: the current one and those before it.
TAPS = 3
COEFFICIENTS, WIDTH = 13, 24
LAYERS = Layers(("first", "second", "classes"))


@dataclass
class Config:
    """``source.config``: the weights (.npz), and the labels in the order of the classes."""

    weights: str
    labels: str = "abc "
    sample_rate: int = 16_000


def signature(classes: int) -> Signature:
    """The two states are the last rows that each convolution has read."""
    frames = (Axis("batch", 1), Axis("row", TAPS - 1), Axis("coefficient", COEFFICIENTS))
    hidden = (Axis("batch", 1), Axis("row", TAPS - 1), Axis("channel", WIDTH))
    return Signature(
        inputs=(
            Port(
                "frames",
                (
                    Axis("batch", 1),
                    Axis(STEPS),
                    Axis("window", 1),
                    Axis("coefficient", COEFFICIENTS),
                ),
                "features",
                "MFCC, zeros past the last real frame",
            ),
            Port("count", (Axis("batch", 1),), "step_count", "number of real frames", "int32"),
            Port("past_frames", frames, "state", "zeros, then kept_frames"),
            Port("past_hidden", hidden, "state", "zeros, then kept_hidden"),
        ),
        outputs=(
            Port(
                "chances",
                (Axis(STEPS), Axis("batch", 1), Axis("class", classes)),
                "probabilities",
                "one row a frame, the blank is last",
            ),
            Port("kept_frames", frames, "state", "feed back as past_frames"),
            Port("kept_hidden", hidden, "state", "feed back as past_hidden"),
        ),
        states=(
            StatePair("past_frames", "kept_frames", "frame_cache"),
            StatePair("past_hidden", "kept_hidden", "hidden_cache"),
        ),
    )
