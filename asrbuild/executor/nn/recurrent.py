"""``uniDirectionalLSTM`` and ``biDirectionalLSTM``: blobs (sequence, batch, channels, 1, 1)."""

from __future__ import annotations

from typing import Any

import numpy as np

from asrbuild.executor.mil.recurrent import run_lstm
from asrbuild.executor.nn.activation import activation_function
from asrbuild.executor.nnweights import NnWeights
from asrbuild.executor.registry import nn_layer

#: The order that ``run_lstm`` wants; the message has fields by name.
_GATES = ("inputGate", "forgetGate", "outputGate", "blockInput")


@nn_layer("uniDirectionalLSTM")
def uni_directional_lstm(layer: Any, weights: NnWeights) -> Any:
    """x (s, b, I, 1, 1), h and c (1, b, H, 1, 1), zero if not given, to all or the last h
    (s or 1, b, H, 1, 1), h and c."""
    params = layer.uniDirectionalLSTM
    hidden = int(params.outputVectorSize)
    direction = _direction(
        params, params.weightParams, params.activations, weights, params.reverseInput
    )
    whole = params.params.sequenceOutput

    def run(x: np.ndarray, *states: np.ndarray) -> list[np.ndarray]:
        steps, batch = x.shape[:2]
        h, c = _states(states, batch, hidden)
        sequence, h, c = direction(x.reshape(steps, batch, -1), h, c)
        if not whole:
            sequence = h[None]
        return [_five(value) for value in (sequence, h[None], c[None])]

    return run


@nn_layer("biDirectionalLSTM")
def bi_directional_lstm(layer: Any, weights: NnWeights) -> Any:
    """x (s, b, I, 1, 1) and forward h, c, backward h, c (1, b, H, 1, 1), zero if not given, to
    (s or 1, b, 2H, 1, 1) and the four states."""
    params = layer.biDirectionalLSTM
    hidden = int(params.outputVectorSize)
    forward = _direction(
        params, params.weightParams[0], params.activationsForwardLSTM, weights, False
    )
    backward = _direction(
        params, params.weightParams[1], params.activationsBackwardLSTM, weights, True
    )
    whole = params.params.sequenceOutput

    def run(x: np.ndarray, *states: np.ndarray) -> list[np.ndarray]:
        steps, batch = x.shape[:2]
        rows = x.reshape(steps, batch, -1)
        ahead = forward(rows, *_states(states[:2], batch, hidden))
        back = backward(rows, *_states(states[2:], batch, hidden))
        parts = (ahead[0], back[0]) if whole else (ahead[1][None], back[1][None])
        ends = [ahead[1], ahead[2], back[1], back[2]]
        return [_five(np.concatenate(parts, axis=-1)), *(_five(end[None]) for end in ends)]

    return run


def _direction(params: Any, gates: Any, activations: Any, weights: NnWeights, reverse: bool) -> Any:
    """``run_lstm`` with one direction's weights."""
    hidden, width = int(params.outputVectorSize), int(params.inputVectorSize)
    options = params.params

    def joined(suffix: str, names: tuple[str, ...] = _GATES) -> np.ndarray:
        parts = [weights.read(getattr(gates, f"{name}{suffix}")) for name in names]
        return np.concatenate(parts)

    weight_ih = joined("WeightMatrix").reshape(4 * hidden, width)
    weight_hh = joined("RecursionMatrix").reshape(4 * hidden, hidden)
    bias = joined("BiasVector").copy() if options.hasBiasVectors else None
    if options.forgetBias:
        bias = np.zeros(4 * hidden, np.float32) if bias is None else bias
        bias[hidden : 2 * hidden] += 1
    peephole = joined("PeepholeVector", _GATES[:3]) if options.hasPeepholeVectors else None
    inner, cell, outer = (activation_function(message, None) for message in activations)
    clip = float(options.cellClipThreshold) or None

    def run(x: np.ndarray, h: np.ndarray, c: np.ndarray) -> Any:
        return run_lstm(
            x, h, c, weight_ih, weight_hh, bias,
            peephole=peephole, recurrent_activation=inner, cell_activation=cell, activation=outer,
            clip=clip, reverse=reverse, coupled=options.coupledInputAndForgetGate,
        )  # fmt: skip

    return run


def _states(
    states: tuple[np.ndarray, ...], batch: int, hidden: int
) -> tuple[np.ndarray, np.ndarray]:
    if not states:
        return np.zeros((batch, hidden), np.float32), np.zeros((batch, hidden), np.float32)
    h, c = (state.reshape(batch, hidden) for state in states)
    return h, c


def _five(value: np.ndarray) -> np.ndarray:
    return value[..., None, None]
