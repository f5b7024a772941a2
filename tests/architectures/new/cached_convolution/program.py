"""The network as MIL operations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from asrbuild.architectures.cached_convolution.signature import COEFFICIENTS, TAPS, WIDTH

from asrbuild.base.array import Array
from asrbuild.coreml.speedups.importing import import_coremltools


def body(weights: Mapping[str, Array], half: bool, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Outputs by name; ``half``: computed in fp16."""
    mb = import_coremltools().converters.mil.Builder
    stored = {n: a.astype(np.float16 if half else np.float32) for n, a in weights.items()}

    def narrow(value: Any) -> Any:
        return mb.cast(x=value, dtype="fp16") if half and value.dtype.__name__ == "fp32" else value

    def convolve(rows: Any, past: Any, name: str, width: int) -> tuple[Any, Any]:
        past = mb.reshape(x=narrow(past), shape=[TAPS - 1, width])
        padded = mb.concat(values=[past, rows], axis=0)
        taps = [
            mb.slice_by_index(
                x=padded,
                begin=[at, 0],
                end=[at + 1 - TAPS, width],
                end_mask=[at == TAPS - 1, True],
            )
            for at in range(TAPS)
        ]
        made = mb.linear(
            x=mb.concat(values=taps, axis=1),
            weight=stored[name],
            bias=stored[f"{name}_bias"],
            name=name,
        )
        begin = mb.concat(values=[inputs["count"], np.array([0], np.int32)], axis=0)
        kept = mb.slice_by_size(x=padded, begin=begin, size=[TAPS - 1, width])
        return mb.relu(x=made), mb.expand_dims(x=kept, axes=[0])

    rows = mb.reshape(x=inputs["frames"], shape=[-1, COEFFICIENTS])
    hidden, kept_frames = convolve(rows, inputs["past_frames"], "first", COEFFICIENTS)
    wide, kept_hidden = convolve(hidden, inputs["past_hidden"], "second", WIDTH)
    scores = mb.linear(
        x=wide, weight=stored["classes"], bias=stored["classes_bias"], name="classes"
    )
    chances = mb.expand_dims(x=mb.softmax(x=scores, axis=-1), axes=[1])
    return {"chances": chances, "kept_frames": kept_frames, "kept_hidden": kept_hidden}
