"""Lowers recurrent layers: unrolled if the steps are few and known, else as a loop.

Source: "recurrent" in the MIL reference; the outputs of a layer of direction ``reverse`` have the
order of processing, those of a bidirectional LSTM the order of time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import values
from ..apple import raw
from ..call import Call, op
from ..values import add, dims, ints, like, mul, rank
from .control import as_list
from .elementwise import hard_sigmoid
from .products import transposed

CellStep = Callable[[Any, Sequence[Any]], Sequence[Any]]
#: Limit of unrolled steps; each has some twenty operations.
_UNROLLED = 64
_ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "sigmoid": raw.sigmoid,
    "tanh": raw.tanh,
    "scaled_tanh": raw.tanh,
    "relu": raw.relu,
    "linear": lambda x: x,
    "sigmoid_hard": lambda x: hard_sigmoid(x, like(x, 0.2), like(x, 0.5)),
    "hard_sigmoid": lambda x: hard_sigmoid(x, like(x, 0.2), like(x, 0.5)),
}


def _activation(call: Call, name: str, otherwise: str) -> Callable[[Any], Any]:
    return _ACTIVATIONS[call.array(name, otherwise)]


def _turned(call: Call, name: str) -> Any:
    """A weight matrix (out, in), transposed to (in, out)."""
    if call.is_constant(name):
        return values.const(call.array(name).T)
    return transposed(call.value(name))


def _gates(call: Call, x: Any, weight: str, bias: str) -> Any:
    """The input's part of the gates for all steps, ``(s, b, G)`` of ``x (s, b, I)``."""
    product = raw.broadcasting_batch_matmul(*values.same_rank(x, _turned(call, weight)))
    return add(product, call.value(bias)) if call.has(bias) else product


def _run(
    ready: Any, states: Sequence[Any], step: CellStep, *, reverse: bool
) -> tuple[Any, list[Any]]:
    """Runs all steps; returns all outputs (s, b, H) in the order of time, and the last states.

    Args:
        ready: the input's part of the gates, (s, b, G).
        states: before the first step, (b, H) each; the first one is the output.
        step: computes the next states from a step's (b, G) and the states.
    """
    count = dims(ready)[0]
    if count is not None and count <= _UNROLLED:
        rows = as_list(raw.split(ready, values.unsigned(*[1] * count), values.index(0)))
        kept, outputs = list(states), []
        for row in reversed(rows) if reverse else rows:
            kept = list(step(raw.shrink_dims(row, ints(0)), kept))
            outputs.append(raw.expand_dims(kept[0], ints(0)))
        if reverse:
            outputs.reverse()
        return raw.concat(values.index(0), outputs), kept
    return _looped(ready, states, step, reverse=reverse)


def _looped(
    ready: Any, states: Sequence[Any], step: CellStep, *, reverse: bool
) -> tuple[Any, list[Any]]:
    if reverse:
        ready = raw.reverse(ready, ints(0))
    batch, hidden = dims(states[0])
    steps = values.size_of(ready, 0)
    one = values.const(np.zeros((1, batch, hidden), values.dtype_of(states[0])))
    whole = raw.concat(values.index(0), [steps, ints(batch or 0, hidden or 0)])
    outputs = raw.broadcast_to(one, raw.cast(whole, np.uint32))
    outputs = values.reshaped(outputs, [dims(ready)[0], batch, hidden])
    outputs = values.of_unknown_length(outputs, values.hidden_zero(ready))
    inits = [ints(0), outputs, *states]
    results, (before, after) = raw.while_(results=[v.type for v in inits], inits=inits)
    with before:
        more = raw.broadcasting_greater(steps, before.arguments[0])
        raw.condition(raw.shrink_dims(more, ints(0)), *before.arguments)
    with after:
        at, held, *kept = after.arguments
        place = raw.expand_dims(at, ints(0))
        row = raw.shrink_dims(raw.gather_nd(ready, place), ints(0))
        kept = list(step(row, kept))
        held = raw.scatter_nd(held, place, raw.expand_dims(kept[0], ints(0)))
        raw.yield_([add(at, ints(1)), held, *kept])
    _, outputs, *kept = results
    outputs = values.reshaped(outputs, [dims(ready)[0], batch, hidden])
    return (raw.reverse(outputs, ints(0)) if reverse else outputs), kept


def _sequence(call: Call, outputs: Any, last: Any, *, turn: bool) -> Any:
    """All outputs, or only the last one."""
    if not call.number("output_sequence", False):
        return raw.expand_dims(last, ints(0))
    return raw.reverse(outputs, ints(0)) if turn else outputs


def _parts(value: Any, count: int) -> list[Any]:
    """Splits the last axis into equal parts."""
    axis = rank(value) - 1
    size = (dims(value)[axis] or 0) // count
    return list(raw.split(value, values.unsigned(*[size] * count), values.index(axis)))


def _lstm_step(call: Call, suffix: str) -> CellStep:
    """One step of an LSTM; the order of gates is input, forget, output, cell."""
    inner = _activation(call, "recurrent_activation", "sigmoid")
    cell = _activation(call, "cell_activation", "tanh")
    outer = _activation(call, "activation", "tanh")
    weight = _turned(call, f"weight_hh{suffix}")
    peephole = call.array(f"peephole{suffix}")
    clip = call.number("clip")

    def step(row: Any, states: Sequence[Any]) -> Sequence[Any]:
        h, c = states
        gates = _parts(add(row, raw.broadcasting_batch_matmul(h, weight)), 4)
        if peephole is not None:
            peeps = [values.const(part[None]) for part in np.split(peephole, 3)]
            gates[0] = add(gates[0], mul(peeps[0], c))
            gates[1] = add(gates[1], mul(peeps[1], c))
        c = add(mul(inner(gates[1]), c), mul(inner(gates[0]), cell(gates[3])))
        if clip is not None:
            c = raw.broadcasting_maximum(*values.same_rank(c, like(c, -clip)))
            c = raw.broadcasting_minimum(*values.same_rank(c, like(c, clip)))
        if peephole is not None:
            gates[2] = add(gates[2], mul(peeps[2], c))
        return mul(inner(gates[2]), outer(c)), c

    return step


@op("lstm")
def lstm(call: Call) -> Any:
    x, direction = call.value("x"), call.array("direction", "forward")
    states = [call.value("initial_h"), call.value("initial_c")]
    if direction != "bidirectional":
        ready = _gates(call, x, "weight_ih", "bias")
        back = direction == "reverse"
        outputs, (h, c) = _run(ready, states, _lstm_step(call, ""), reverse=back)
        return [_sequence(call, outputs, h, turn=back), h, c]
    halves = [_parts(state, 2) for state in states]
    found = []
    for number, suffix in enumerate(("", "_back")):
        ready = _gates(call, x, f"weight_ih{suffix}", f"bias{suffix}")
        start = [half[number] for half in halves]
        outputs, kept = _run(ready, start, _lstm_step(call, suffix), reverse=bool(number))
        found.append((outputs, *kept))
    outputs, h, c = (
        raw.concat(values.index(rank(pair[0]) - 1), list(pair)) for pair in zip(*found, strict=True)
    )
    return [_sequence(call, outputs, h, turn=False), h, c]


@op("gru")
def gru(call: Call) -> Any:
    """Lowers a GRU; the order of gates is reset, output, update."""
    x = call.value("x")
    inner = _activation(call, "recurrent_activation", "sigmoid")
    outer = _activation(call, "activation", "tanh")
    after = bool(call.number("reset_after", False))
    hidden = dims(call.value("initial_h"))[1] or 0
    weight = _turned(call, "weight_hh")
    weights = _parts(weight, 3)
    bias = None
    if call.has("bias"):
        bias = _parts(raw.expand_dims(call.value("bias"), ints(0)), 3)

    def part(h: Any, number: int) -> Any:
        product = raw.broadcasting_batch_matmul(h, weights[number])
        return product if bias is None else add(product, bias[number])

    def step(row: Any, states: Sequence[Any]) -> Sequence[Any]:
        (h,) = states
        rows = _parts(row, 3)
        reset, update = (inner(add(rows[n], part(h, n))) for n in (0, 2))
        candidate = mul(reset, part(h, 1)) if after else part(mul(reset, h), 1)
        new = outer(add(rows[1], candidate))
        kept = values.sub(like(update, np.ones((1, hidden))), update)
        return (add(mul(kept, new), mul(update, h)),)

    back = call.array("direction", "forward") == "reverse"
    ready = _gates(call, x, "weight_ih", "input_bias")
    outputs, (h,) = _run(ready, [call.value("initial_h")], step, reverse=back)
    return [_sequence(call, outputs, h, turn=back), h]


@op("rnn")
def rnn(call: Call) -> Any:
    activation = _activation(call, "activation", "tanh")
    weight = _turned(call, "weight_hh")

    def step(row: Any, states: Sequence[Any]) -> Sequence[Any]:
        (h,) = states
        return (activation(add(row, raw.broadcasting_batch_matmul(h, weight))),)

    back = call.array("direction", "forward") == "reverse"
    ready = _gates(call, call.value("x"), "weight_ih", "bias")
    outputs, (h,) = _run(ready, [call.value("initial_h")], step, reverse=back)
    return [_sequence(call, outputs, h, turn=back), h]
