"""Turns a network's output (logits, log probabilities) into probabilities."""

from __future__ import annotations

from typing import Literal

import numpy as np

from asrbuild.base.array import Array
from asrbuild.base.errors import AsrbuildError

#: The two classes of a network with one number a row: its own, and everything else.
FEWEST_CLASSES = 2

Output = Literal["probabilities", "log_probabilities", "logits"]


def to_probabilities(rows: Array, output: Output) -> Array:
    """Float32 probabilities of a network's output (..., classes), in the same shape.

    A single number, as of a voice detector, is the probability of one class against everything
    else: (..., 1) becomes (..., 2), and logits go through a sigmoid.

    Args:
        rows: the network's output.
        output: its kind: ``log_probabilities`` are natural logarithms, and ``logits`` go through a
            softmax over the last axis.

    Raises:
        AsrbuildError: the exponentials of log probabilities do not add up to 1 in each row.
    """
    if rows.shape[-1:] == (1,):
        wide = np.asarray(rows, np.float64)
        raised = wide if output == "probabilities" else np.exp(np.minimum(wide, 80.0))
        one = raised / (1.0 + raised) if output == "logits" else raised
        both: Array = np.concatenate([one, 1.0 - one], axis=-1)
        return both.astype(np.float32)
    if output == "probabilities":
        return np.asarray(rows, np.float32)
    wide = np.asarray(rows, np.float64)
    if output == "logits":
        wide = wide - wide.max(axis=-1, keepdims=True, initial=-np.inf)
        raised = np.exp(wide)
        softmax: Array = raised / raised.sum(axis=-1, keepdims=True)
        return softmax.astype(np.float32)
    raised = np.exp(np.minimum(wide, 80.0))
    sums = raised.sum(axis=-1)
    # In half precision the sum is off by a few per mille; that of logits is far off.
    if sums.size and not np.abs(sums - 1.0).max() <= 0.02:
        raise AsrbuildError(
            "these are not log probabilities: their exponentials do not add up to 1",
            key="outputs",
            fix="declare the output as logits, or as probabilities",
        )
    found: Array = raised.astype(np.float32)
    return found
