"""A network's output as probabilities, whatever it was trained to give."""

from __future__ import annotations

from typing import Literal

import numpy as np

from asrbuild.base.array import Array
from asrbuild.base.errors import AsrbuildError

#: Of a network of one number a row: its class, and that of everything else.
FEWEST_CLASSES = 2

Output = Literal["probabilities", "log_probabilities", "logits"]


def to_probabilities(rows: Array, output: Output) -> Array:
    """float (..., classes) to float32 probabilities of the same shape.

    A single number, as a detector of voice gives, is a class of its own against all else:
    (..., 1) becomes (..., 2), and logits go through a sigmoid.

    Args:
        rows: what the network gave.
        output: what that is: ``log_probabilities`` are natural logarithms, and ``logits`` go
            through a softmax over the last axis.

    Raises:
        AsrbuildError: log probabilities whose rows do not add up to 1.
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
    # Those of a network in half precision add up to within a few per mille; logits stray far.
    if sums.size and not np.abs(sums - 1.0).max() <= 0.02:
        raise AsrbuildError(
            "these are not log probabilities: their exponentials do not add up to 1",
            key="outputs",
            fix="declare the output as logits, or as probabilities",
        )
    found: Array = raised.astype(np.float32)
    return found
