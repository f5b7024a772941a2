"""Lowers recurrent layers, a MIL op a direction; for shapes see :mod:`recurrent_layer`."""

from __future__ import annotations

from typing import Any

import numpy as np

from asrbuild.architectures.onnx.lowering.builder import mb
from asrbuild.architectures.onnx.lowering.recurrent_layer import Layer
from asrbuild.architectures.onnx.lowering.table import NodeCall, Var, lowers
from asrbuild.architectures.onnx.lowering.values import Value
from asrbuild.base.array import Array

#: Indices of ONNX's gates in MIL's order: i o f c -> i f o c, z r h -> r h z.
_LSTM_GATES, _GRU_GATES, _RNN_GATES = (0, 2, 1, 3), (1, 2, 0), (0,)


@lowers("LSTM")
def lstm(
    call: NodeCall,
    x: Value,
    w: Value,
    r: Value,
    b: Value = None,
    lengths: Value = None,
    h: Value = None,
    c: Value = None,
    peepholes: Value = None,
) -> tuple[Var, ...]:
    """One op for both directions."""
    if peepholes is not None:
        raise call.no_form("peepholes")
    layer = Layer(call, x, (w, r, b), lengths, _LSTM_GATES)
    weights: dict[str, Array] = {}
    for direction, end in zip(range(layer.count), ("", "_back"), strict=False):
        own = layer.weights(direction)
        own["bias"] = layer.of(layer.input_bias + layer.state_bias, direction)
        weights |= {f"{name}{end}": array for name, array in own.items()}
    first = [
        _joined([layer.state(value, direction) for direction in range(layer.count)])
        for value in (h, c)
    ]
    given = weights | {"initial_h": first[0], "initial_c": first[1]}
    if layer.count == 1:
        return layer.outputs(*([value] for value in layer.run(mb.lstm, 0, **given)))
    made = mb.lstm(x=layer.x, output_sequence=True, direction="bidirectional", **given)
    return layer.outputs(*(list(mb.split(x=value, num_splits=2, axis=-1)) for value in made))


def _joined(states: list[Any]) -> Any:
    if len(states) == 1:
        return states[0]
    if all(isinstance(state, np.ndarray) for state in states):
        return np.concatenate(states, axis=-1)
    return mb.concat(values=states, axis=-1)


@lowers("GRU")
def gru(
    call: NodeCall,
    x: Value,
    w: Value,
    r: Value,
    b: Value = None,
    lengths: Value = None,
    h: Value = None,
) -> tuple[Var, ...]:
    """An op for each direction."""
    from coremltools.converters.mil._deployment_compatibility import AvailableTarget
    from coremltools.converters.mil.mil.block import is_current_opset_version_compatible_with

    layer = Layer(call, x, (w, r, b), lengths, _GRU_GATES)
    after = bool(call.attribute("linear_before_reset", 0))
    if after and not is_current_opset_version_compatible_with(AvailableTarget.iOS18):
        raise call.no_form("linear_before_reset before iOS18")
    made = []
    for direction in range(layer.count):
        biases: dict[str, Any] = {"bias": layer.of(layer.input_bias + layer.state_bias, direction)}
        if after:
            biases = {
                "input_bias": layer.of(layer.input_bias, direction),
                "bias": layer.of(layer.state_bias, direction),
                "reset_after": True,
            }
        given = biases | layer.weights(direction) | {"initial_h": layer.state(h, direction)}
        made.append(layer.run(mb.gru, direction, **given))
    return layer.outputs(*(list(part) for part in zip(*made, strict=True)))


@lowers("RNN")
def rnn(
    call: NodeCall,
    x: Value,
    w: Value,
    r: Value,
    b: Value = None,
    lengths: Value = None,
    h: Value = None,
) -> tuple[Var, ...]:
    """An op for each direction."""
    layer = Layer(call, x, (w, r, b), lengths, _RNN_GATES)
    made = []
    for direction in range(layer.count):
        given = layer.weights(direction) | {
            "initial_h": layer.state(h, direction),
            "bias": layer.of(layer.input_bias + layer.state_bias, direction),
            "activation": layer.activation[0].lower(),
        }
        made.append(layer.run(mb.rnn, direction, **given))
    return layer.outputs(*(list(part) for part in zip(*made, strict=True)))
