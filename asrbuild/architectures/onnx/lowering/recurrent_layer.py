"""The common parts of LSTM, GRU and RNN nodes: weights in MIL's order of gates, states, directions.

Shapes of ONNX: x (T, N, input), W (directions, gates H, input), R (directions, gates H, H), B
(directions, 2 gates H), states (directions, N, H), output (T, directions, N, H). MIL's ops have one
direction, and ``lstm`` can have both. The order of the rows of a backward op is not documented, so
here the rows are reversed before and after a forward op.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from asrbuild.architectures.onnx.lowering.builder import mb
from asrbuild.architectures.onnx.lowering.table import NodeCall, Var, shape_of
from asrbuild.architectures.onnx.lowering.values import Value, is_known, narrow
from asrbuild.base.array import Array

_ACTIVATIONS = {
    "LSTM": [["Sigmoid", "Tanh", "Tanh"]],
    "GRU": [["Sigmoid", "Tanh"]],
    "RNN": [["Tanh"], ["Relu"]],
}


class Layer:
    """The weights and the inputs of one recurrent node."""

    def __init__(
        self,
        call: NodeCall,
        x: Value,
        weights: tuple[Value, Value, Value],
        lengths: Value,
        gates: tuple[int, ...],
    ) -> None:
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
        """The rows of an array for one direction, in MIL's order."""
        return np.ascontiguousarray(array[direction][self.order])

    def run(self, write: Callable[..., list[Var]], direction: int, **given: Any) -> list[Var]:
        """Runs one direction; returns its rows (T, N, H) in the order of time, and last states."""
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
        """The initial state (N, H) of one direction."""
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
        """ONNX's outputs, from the rows (T, N, H) and last states (N, H) of the directions."""
        at_rows, at_states = (2, 1) if self.batch_first else (1, 0)
        if self.batch_first:
            rows = [mb.transpose(x=row, perm=[1, 0, 2]) for row in rows]
        whole = _stacked(rows, at_rows)
        return (whole, *(_stacked(state, at_states) for state in states))


def _stacked(values: list[Var], axis: int) -> Var:
    wide = [mb.expand_dims(x=value, axes=[axis]) for value in values]
    return wide[0] if len(wide) == 1 else mb.concat(values=wide, axis=axis)
