"""Recurrent layers: blobs (sequence, batch, channels, 1, 1).

``NeuralNetwork.proto`` clips the input of a gate's activation to ±50. The outputs of a layer with
``reverseInput`` have the order of processing, as in MIL.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from asrbuild.base.array import Array
from asrbuild.coreml.executor.mil.recurrent import ACTIVATIONS, in_order, run_gru, run_lstm, run_rnn
from asrbuild.coreml.executor.nn.activation import activation_function
from asrbuild.coreml.executor.nnweights import NnWeights
from asrbuild.coreml.executor.registry import nn_layer

#: The gates in the order of ``run_lstm``; the message has fields by name.
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
    order = "reverse" if params.reverseInput else "forward"

    def run(x: Array, *states: Array) -> list[Array]:
        steps, batch = x.shape[:2]
        h, c = _states(states, batch, hidden)
        sequence, h, c = direction(x.reshape(steps, batch, -1), h, c)
        sequence = in_order(sequence, order) if whole else h[None]
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

    def run(x: Array, *states: Array) -> list[Array]:
        steps, batch = x.shape[:2]
        rows = x.reshape(steps, batch, -1)
        ahead = forward(rows, *_states(states[:2], batch, hidden))
        back = backward(rows, *_states(states[2:], batch, hidden))
        parts = (ahead[0], back[0]) if whole else (ahead[1][None], back[1][None])
        ends = [ahead[1], ahead[2], back[1], back[2]]
        return [_five(np.concatenate(parts, axis=-1)), *(_five(end[None]) for end in ends)]

    return run


@nn_layer("gru")
def gru(layer: Any, weights: NnWeights) -> Any:
    """x (s, b, I, 1, 1) and h (1, b, H, 1, 1), zero if not given, to all or the last h
    (s or 1, b, H, 1, 1), and h; the reset gate scales h before its product."""
    params = layer.gru
    # The gates in the order of run_gru.
    gates = ("resetGate", "outputGate", "updateGate")
    inner, outer = map(_gate, params.activations)

    def run(x: Array, h: Array) -> tuple[Array, Array]:
        return run_gru(
            x, h, weight_ih, weight_hh, bias, inner=inner, outer=outer, reverse=params.reverseInput
        )

    weight_ih = _joined(weights, params, gates, "WeightMatrix", int(params.inputVectorSize))
    weight_hh = _joined(weights, params, gates, "RecursionMatrix", int(params.outputVectorSize))
    bias = _joined(weights, params, gates, "BiasVector") if params.hasBiasVectors else None
    return _one_state(params, run)


@nn_layer("simpleRecurrent")
def simple_recurrent(layer: Any, weights: NnWeights) -> Any:
    """x (s, b, I, 1, 1) and h (1, b, H, 1, 1), zero if not given, to all or the last h
    (s or 1, b, H, 1, 1), and h: ``f(W x + R h + b)``."""
    params = layer.simpleRecurrent
    hidden = int(params.outputVectorSize)
    weight_ih = weights.read(params.weightMatrix, (hidden, int(params.inputVectorSize)))
    weight_hh = weights.read(params.recursionMatrix, (hidden, hidden))
    bias = weights.read(params.biasVector) if params.hasBiasVector else None
    function = _gate(params.activation)

    def run(x: Array, h: Array) -> tuple[Array, Array]:
        return run_rnn(x, h, weight_ih, weight_hh, bias, function, reverse=params.reverseInput)

    return _one_state(params, run)


def _one_state(params: Any, cell: Any) -> Any:
    """Makes a layer whose state is its last output."""
    hidden, whole = int(params.outputVectorSize), params.sequenceOutput
    order = "reverse" if params.reverseInput else "forward"

    def run(x: Array, initial: Array | None = None) -> list[Array]:
        steps, batch = x.shape[:2]
        h = np.zeros((batch, hidden), np.float32) if initial is None else initial
        sequence, h = cell(x.reshape(steps, batch, -1), h.reshape(batch, hidden))
        sequence = in_order(sequence, order) if whole else h[None]
        return [_five(sequence), _five(h[None])]

    return run


def _joined(
    weights: NnWeights, message: Any, names: tuple[str, ...], suffix: str, width: int = 0
) -> Array:
    """The parameters of all gates in one array, ``(gates * H, width)`` or ``(gates * H,)``."""
    parts = np.concatenate([weights.read(getattr(message, f"{name}{suffix}")) for name in names])
    return parts.reshape(-1, width) if width else parts


_FIXED = {"linear": "linear", "sigmoidHard": "sigmoid_hard", "scaledTanh": "scaled_tanh"}


def _function(message: Any) -> Any:
    """The activation of a recurrent layer.

    coremltools writes three kinds without parameters, which would be zero; they have MIL's then.
    """
    kind = message.WhichOneof("NonlinearityType")
    if kind in _FIXED and not getattr(message, kind).ListFields():
        return ACTIVATIONS[_FIXED[kind]]
    return activation_function(message, None)


def _gate(message: Any) -> Any:
    """A gate's activation, with its input clipped to ±50, where sigmoid and tanh saturate."""
    function = _function(message)
    if message.WhichOneof("NonlinearityType") in ("sigmoid", "tanh", "sigmoidHard"):
        return function
    return lambda x: function(np.clip(x, np.float32(-50), np.float32(50)))


def _direction(params: Any, gates: Any, activations: Any, weights: NnWeights, reverse: bool) -> Any:
    """``run_lstm`` with the weights of one direction."""
    hidden, width = int(params.outputVectorSize), int(params.inputVectorSize)
    options = params.params

    weight_ih = _joined(weights, gates, _GATES, "WeightMatrix", width)
    weight_hh = _joined(weights, gates, _GATES, "RecursionMatrix", hidden)
    bias = _joined(weights, gates, _GATES, "BiasVector") if options.hasBiasVectors else None
    if options.forgetBias:
        bias = np.zeros(4 * hidden, np.float32) if bias is None else bias
        bias[hidden : 2 * hidden] += 1
    peephole = (
        _joined(weights, gates, _GATES[:3], "PeepholeVector")
        if options.hasPeepholeVectors
        else None
    )
    inner, cell, outer = *map(_gate, activations[:2]), _function(activations[2])
    clip = float(options.cellClipThreshold) or None

    def run(x: Array, h: Array, c: Array) -> Any:
        return run_lstm(
            x,
            h,
            c,
            weight_ih,
            weight_hh,
            bias,
            peephole=peephole,
            recurrent_activation=inner,
            cell_activation=cell,
            activation=outer,
            clip=clip,
            reverse=reverse,
            coupled=options.coupledInputAndForgetGate,
        )

    return run


def _states(states: tuple[Array, ...], batch: int, hidden: int) -> tuple[Array, Array]:
    if not states:
        return np.zeros((batch, hidden), np.float32), np.zeros((batch, hidden), np.float32)
    h, c = (state.reshape(batch, hidden) for state in states)
    return h, c


def _five(value: Array) -> Array:
    return value[..., None, None]
