"""Recurrent layers: one MIL op a direction, the weights in Core ML's order of the gates.

Shapes of ONNX: x (T, N, input), W (directions, gates H, input), R (directions, gates H, H), B
(directions, 2 gates H), states (directions, N, H), output (T, directions, N, H). MIL's ops take one
direction, or, as ``lstm``, both side by side. The order in which one that runs backwards gives its
rows is not documented: here the rows are reversed before and after an op that runs forwards.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from asrbuild.architectures.onnx.lowering.builder import mb
from asrbuild.architectures.onnx.lowering.table import Call, Var, lowers, shape_of
from asrbuild.architectures.onnx.lowering.values import Value, is_known, narrow
from asrbuild.base.array import Array

#: The place in ONNX's order of each gate in MIL's: i o f c -> i f o c, z r h -> r h z.
_LSTM_GATES, _GRU_GATES, _RNN_GATES = (0, 2, 1, 3), (1, 2, 0), (0,)
_ACTIVATIONS = {
    "LSTM": [["Sigmoid", "Tanh", "Tanh"]],
    "GRU": [["Sigmoid", "Tanh"]],
    "RNN": [["Tanh"], ["Relu"]],
}


class _Layer:
    """The weights and the inputs of one recurrent node."""

    def __init__(
        self, call: Call, x: Value, weights: tuple[Value, Value, Value], lengths: Value,
        gates: tuple[int, ...],
    ) -> None:  # fmt: skip
        self.call, self.size = call, int(call.attribute("hidden_size"))
        self.batch_first = bool(call.attribute("layout", 0))
        x = call.var(x)
        self.x = mb.transpose(x=x, perm=[1, 0, 2]) if self.batch_first else x
        steps = shape_of(self.x)[0]
        if lengths is not None and not (is_known(lengths) and (lengths == steps).all()):
            raise call.no_form("sequence_lens")
        if call.attribute("clip") or call.attribute("input_forget", 0):
            raise call.no_form("a clipped cell or coupled gates")
        w, r, b = weights
        self.w, self.r = call.constant(w, "a weight"), call.constant(r, "a weight")
        self.count = len(self.w)
        width = len(gates) * self.size
        zeros = np.zeros((self.count, 2 * width), np.float32)
        b = zeros if b is None else call.constant(b, "a bias")
        self.order = np.concatenate([np.arange(g * self.size, (g + 1) * self.size) for g in gates])
        self.input_bias, self.state_bias = b[:, :width], b[:, width:]
        asked = call.attribute("activations")
        once = len(_ACTIVATIONS[call.node.op][0])
        self.activation = asked[:once] if asked else _ACTIVATIONS[call.node.op][0]
        if self.activation not in _ACTIVATIONS[call.node.op] or (
            asked and asked != self.activation * self.count
        ):
            raise call.no_form(f"the activations {', '.join(asked)}")

    def of(self, array: Array, direction: int) -> Array:
        """The rows of one direction in MIL's order."""
        return np.ascontiguousarray(array[direction][self.order])

    def run(self, write: Callable[..., list[Var]], direction: int, **given: Any) -> list[Var]:
        """The rows (T, N, H) in the order of time and the last states of one direction."""
        backwards = direction == 1 or self.call.attribute("direction") == "reverse"
        x = mb.reverse(x=self.x, axes=[0]) if backwards else self.x
        rows, *last = write(x=x, output_sequence=True, **given)
        return [mb.reverse(x=rows, axes=[0]) if backwards else rows, *last]

    def weights(self, direction: int) -> dict[str, Array]:
        """The matrices of one direction, by MIL's names."""
        return {
            "weight_ih": self.of(self.w, direction),
            "weight_hh": self.of(self.r, direction),
        }

    def state(self, value: Value, direction: int) -> Any:
        """The first state (N, H) of one direction."""
        if value is None:
            return self._zeros()
        if is_known(value):
            whole = narrow(value)
            return (whole.swapaxes(0, 1) if self.batch_first else whole)[direction]
        axis = 1 if self.batch_first else 0
        return mb.gather(x=value, indices=np.int32(direction), axis=axis)

    def _zeros(self) -> Any:
        batch = self.call.size_ops.number(shape_of(self.x)[1])
        if isinstance(batch, np.integer):
            return np.zeros((batch, self.size), np.float32)
        shape = [mb.expand_dims(x=batch, axes=[0]), np.array([self.size], np.int32)]
        return mb.fill(shape=mb.concat(values=shape, axis=0), value=np.float32(0))

    def outputs(self, rows: list[Var], *states: list[Var]) -> tuple[Var, ...]:
        """ONNX's outputs of the directions' rows (T, N, H) and last states (N, H)."""
        at_rows, at_states = (2, 1) if self.batch_first else (1, 0)
        if self.batch_first:
            rows = [mb.transpose(x=row, perm=[1, 0, 2]) for row in rows]
        whole = _stacked(rows, at_rows)
        return (whole, *(_stacked(state, at_states) for state in states))


def _stacked(values: list[Var], axis: int) -> Var:
    wide = [mb.expand_dims(x=value, axes=[axis]) for value in values]
    return wide[0] if len(wide) == 1 else mb.concat(values=wide, axis=axis)


@lowers("LSTM")
def lstm(
    call: Call, x: Value, w: Value, r: Value, b: Value = None, lengths: Value = None,
    h: Value = None, c: Value = None, peepholes: Value = None,
) -> tuple[Var, ...]:  # fmt: skip
    """One op for both directions."""
    if peepholes is not None:
        raise call.no_form("peepholes")
    layer = _Layer(call, x, (w, r, b), lengths, _LSTM_GATES)
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
    call: Call, x: Value, w: Value, r: Value, b: Value = None, lengths: Value = None,
    h: Value = None,
) -> tuple[Var, ...]:  # fmt: skip
    """An op for each direction."""
    from coremltools.converters.mil._deployment_compatibility import AvailableTarget
    from coremltools.converters.mil.mil.block import is_current_opset_version_compatible_with

    layer = _Layer(call, x, (w, r, b), lengths, _GRU_GATES)
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
    call: Call, x: Value, w: Value, r: Value, b: Value = None, lengths: Value = None,
    h: Value = None,
) -> tuple[Var, ...]:  # fmt: skip
    """An op for each direction."""
    layer = _Layer(call, x, (w, r, b), lengths, _RNN_GATES)
    made = []
    for direction in range(layer.count):
        given = layer.weights(direction) | {
            "initial_h": layer.state(h, direction),
            "bias": layer.of(layer.input_bias + layer.state_bias, direction),
            "activation": layer.activation[0].lower(),
        }
        made.append(layer.run(mb.rnn, direction, **given))
    return layer.outputs(*(list(part) for part in zip(*made, strict=True)))
