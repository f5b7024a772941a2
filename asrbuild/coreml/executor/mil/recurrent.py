"""Recurrent layers: ``lstm``, ``gru``, ``rnn``.

Source: "recurrent" in the MIL reference. It does not define the order of the outputs of a layer of
direction ``reverse``; Apple's tests expect the order of processing, with the last time step first,
for all three, and the order of time only for the second half of a bidirectional LSTM.

The product of the input and its weights is one matrix product for all steps; a step is one
matrix-vector product, limited by the reading of the recurrent weights, and a dozen calls of numpy,
which write into existing arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from asrbuild.base.array import Array
from asrbuild.coreml.executor.products import LARGE, rows_times, shared
from asrbuild.coreml.executor.registry import mil_op
from asrbuild.coreml.halves import converted

Activation = Callable[[Array], Array]
_F32 = np.dtype(np.float32)
#: An array without axes: numpy needs half a microsecond to convert a scalar into one.
_ONE = np.ones((), np.float32)
#: Time steps whose input products are in memory at once: 128 x 4H floats, not T x 4H.
_STEPS_AT_ONCE = 128


def _sigmoid(x: Array, into: Array | None = None) -> Array:
    made: Array = np.negative(x, into)
    np.exp(made, made)
    made += _ONE
    return np.reciprocal(made, made)


#: Source: the activations' definitions and default parameters in the MIL reference. With those
#: ``scaled_tanh`` is ``tanh``, as Apple's tests expect for both formats; the comment on recurrent
#: layers in NeuralNetwork.proto has ``1.7159 * tanh(2 / 3 * x)``.
ACTIVATIONS: dict[str, Activation] = {
    "sigmoid": _sigmoid,
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, np.float32(0.0)),
    "linear": lambda x: x,
    "scaled_tanh": np.tanh,
    "sigmoid_hard": lambda x: np.clip(np.float32(0.2) * x + np.float32(0.5), np.float32(0), _ONE),
    "hard_sigmoid": lambda x: np.clip(np.float32(0.2) * x + np.float32(0.5), np.float32(0), _ONE),
}


def in_order(sequence: Array, direction: str) -> Array:
    """Reorders outputs in the order of time to the order of a layer with one direction."""
    return sequence[::-1] if direction == "reverse" else sequence


def input_products(x: Array, weight: Array, bias: Array | None) -> Array:
    """``x @ weight.T + bias`` for ``x (s, b, I)``, ``weight (G, I)``: ``(s, b, G)`` float32."""
    product = rows_times(x, weight)
    if bias is not None:
        product += bias
    return product


def _recurrent_product(weight: Array, product: Array) -> Callable[[Array], object]:
    """A function that writes ``h @ weight.T`` into ``product``, with the bits of ``rows_times``.

    ``h`` is ``(b, H)`` and ``product (b, G)``, or both are one row without the first axis.
    """
    alone = shared() is None or weight.size < LARGE
    if product.ndim == 1 and alone:
        return lambda h: np.dot(weight, h, product)
    if product.ndim > 1 and len(product) == 1 and alone:
        row = product[0]

        def write_row(h: Array) -> None:
            np.dot(weight, h[0], row)

        return write_row

    def write(h: Array) -> None:
        product[...] = rows_times(h, weight)

    return write


def run_lstm(
    x: Array,
    h: Array,
    c: Array,
    weight_ih: Array,
    weight_hh: Array,
    bias: Array | None,
    *,
    peephole: Array | None = None,
    recurrent_activation: Activation = _sigmoid,
    cell_activation: Activation = np.tanh,
    activation: Activation = np.tanh,
    clip: float | None = None,
    reverse: bool = False,
    coupled: bool = False,
    stored: np.dtype[Any] | None = None,
) -> tuple[Array, Array, Array]:
    """Runs one direction in float32: returns all ``h (s, b, H)``, the last ``h`` and ``c (b, H)``.

    All ``h`` are in the order of time; ``reverse`` starts at the last step.

    The order of gates is input, forget, output, cell; ``weight_ih (4H, I)``, ``weight_hh (4H, H)``.
    ``stored`` rounds h and c to that type after every step, as a program of that precision stores
    them; so chunks with carried state equal a single call.
    """
    steps, batch, _ = x.shape
    hidden = weight_hh.shape[1]
    outputs = np.empty((steps, batch, hidden), np.float32)
    gates = np.empty((batch, 4 * hidden), np.float32)
    multiply = _recurrent_product(weight_hh, gates)
    i_end, f_end, o_end = hidden, 2 * hidden, 3 * hidden
    i_gates, f_gates, o_gates = gates[:, :i_end], gates[:, i_end:f_end], gates[:, f_end:o_end]
    ifo_gates, new_cells = gates[:, :o_end], gates[:, o_end:]
    c = c.copy()
    order = range(steps - 1, -1, -1) if reverse else range(steps)
    ready: Array | None = None
    first = last = -1
    for step in order:
        if not first <= step < last:
            first = max(0, step - _STEPS_AT_ONCE + 1) if reverse else step
            last = step + 1 if reverse else min(steps, step + _STEPS_AT_ONCE)
            ready = input_products(x[first:last], weight_ih, bias)
        assert ready is not None
        multiply(h)
        gates += ready[step - first]
        if peephole is None:
            opened = recurrent_activation(ifo_gates)
            i_gate, f_gate, o_gate = (opened[:, :i_end], opened[:, i_end:f_end], opened[:, f_end:])
        else:
            i_gates += peephole[:i_end] * c
            f_gates += peephole[i_end:f_end] * c
            i_gate, f_gate = recurrent_activation(i_gates), recurrent_activation(f_gates)
        if coupled:
            f_gate = _ONE - i_gate
        new = cell_activation(new_cells) * i_gate
        c *= f_gate
        c += new
        if clip is not None:
            np.clip(c, -clip, clip, c)
        if stored is not None:
            c[...] = c.astype(stored)
        if peephole is not None:
            o_gate = recurrent_activation(o_gates + peephole[f_end:o_end] * c)
        h = np.multiply(o_gate, activation(c), outputs[step])
        if stored is not None:
            h[...] = h.astype(stored)
    return outputs, h, c


@mil_op("lstm", wide_constants=True)
def lstm(
    x: Array,
    initial_h: Array,
    initial_c: Array,
    weight_ih: Array,
    weight_hh: Array,
    bias: Array | None = None,
    peephole: Array | None = None,
    weight_ih_back: Array | None = None,
    weight_hh_back: Array | None = None,
    bias_back: Array | None = None,
    peephole_back: Array | None = None,
    direction: str = "forward",
    output_sequence: bool = False,
    recurrent_activation: str = "sigmoid",
    cell_activation: str = "tanh",
    activation: str = "tanh",
    clip: Array | None = None,
) -> list[Array]:
    """``x <s, b, I>, initial_h <b, D * H>, initial_c <b, D * H> -> <s or 1, b, D * H>, h, c``.

    Weights ``<4H, I>`` and ``<4H, H>``, gates input, forget, output, cell; peepholes ``<3H>``,
    input, forget, output. ``D`` is 2 when bidirectional; h and c then hold forward, backward.
    Without ``output_sequence`` only the final step remains.
    """
    dtype = x.dtype
    hidden = weight_hh.shape[1]
    options: dict[str, Any] = {
        "recurrent_activation": ACTIVATIONS[recurrent_activation],
        "cell_activation": ACTIVATIONS[cell_activation],
        "activation": ACTIVATIONS[activation],
        "clip": None if clip is None else np.float32(clip),
        "stored": dtype if dtype == np.float16 else None,
    }
    x, h, c = (converted(value, _F32) for value in (x, initial_h, initial_c))
    if direction != "bidirectional":
        sequence, h, c = run_lstm(
            x,
            h,
            c,
            weight_ih,
            weight_hh,
            bias,
            peephole=peephole,
            reverse=direction == "reverse",
            **options,
        )
        sequence = in_order(sequence, direction) if output_sequence else h[None]
    else:
        ahead = run_lstm(
            x,
            h[:, :hidden],
            c[:, :hidden],
            weight_ih,
            weight_hh,
            bias,
            peephole=peephole,
            **options,
        )
        assert weight_ih_back is not None
        assert weight_hh_back is not None
        back = run_lstm(
            x,
            h[:, hidden:],
            c[:, hidden:],
            weight_ih_back,
            weight_hh_back,
            bias_back,
            peephole=peephole_back,
            reverse=True,
            **options,
        )
        sequence, h, c = (np.concatenate(pair, axis=-1) for pair in zip(ahead, back, strict=True))
        if not output_sequence:
            sequence = h[None]
    return [converted(value, dtype) for value in (sequence, h, c)]


@mil_op("gru", wide_constants=True)
def gru(
    x: Array,
    initial_h: Array,
    weight_ih: Array,
    weight_hh: Array,
    bias: Array | None = None,
    input_bias: Array | None = None,
    direction: str = "forward",
    output_sequence: bool = False,
    recurrent_activation: str = "sigmoid",
    activation: str = "tanh",
    reset_after: bool = False,
) -> list[Array]:
    """``x <s, b, I>, initial_h <b, H> -> <s or 1, b, H>, <b, H>``.

    Weights ``<3H, I>`` and ``<3H, H>``, gates reset, output, update. The reset gate scales h before
    its product with the output gate's weights, or that product and its bias with ``reset_after``
    (iOS18); the reference's formula for iOS15 leaves the first of these open, the neural network
    format's GRU settles it.
    """
    dtype = x.dtype
    sequence, h = run_gru(
        converted(x, _F32),
        converted(initial_h, _F32),
        weight_ih,
        weight_hh,
        bias,
        input_bias,
        inner=ACTIVATIONS[recurrent_activation],
        outer=ACTIVATIONS[activation],
        reverse=direction == "reverse",
        reset_after=reset_after,
        stored=dtype,
    )
    sequence = in_order(sequence, direction) if output_sequence else h[None]
    return [converted(sequence, dtype), converted(h, dtype)]


def run_gru(
    x: Array,
    h: Array,
    weight_ih: Array,
    weight_hh: Array,
    bias: Array | None,
    input_bias: Array | None = None,
    *,
    inner: Activation,
    outer: Activation,
    reverse: bool,
    reset_after: bool = False,
    stored: Any = np.float32,
) -> tuple[Array, Array]:
    """Runs a GRU in float32: all ``h (s, b, H)`` in the order of time, and the last ``h``."""
    hidden, batch = weight_hh.shape[1], x.shape[1]
    ready = input_products(x, weight_ih, input_bias)
    outputs = np.empty((*x.shape[:2], hidden), np.float32)
    # A step of a small layer is as long as its calls of numpy, which are shorter without an axis.
    rows, made = (ready[:, 0], outputs[:, 0]) if batch == 1 else (ready, outputs)
    h = h[0] if batch == 1 else h
    of_reset, of_new, of_update = (slice(n * hidden, (n + 1) * hidden) for n in range(3))
    products = np.zeros(rows.shape[1:], np.float32)
    gates, scaled = np.empty_like(products), np.empty_like(h)
    candidate, reset, update = products[..., of_new], gates[..., of_reset], gates[..., of_update]
    before = slice(None) if reset_after else of_reset
    multiply = _recurrent_product(weight_hh[before], products[..., before])
    multiply_update = (
        None if reset_after else _recurrent_product(weight_hh[of_update], products[..., of_update])
    )
    multiply_reset = _recurrent_product(weight_hh[of_new], candidate)
    order, rounded, curved = -1 if reverse else 1, stored != np.float32, inner is _sigmoid
    add, times, subtract = np.add, np.multiply, np.subtract
    exp, reciprocal = np.exp, np.reciprocal
    # A sigmoid takes -(product + row), which is -row - product to the last bit.
    signed = np.negative(rows) if curved else rows
    for row, new_row, output in zip(
        signed[::order], rows[::order, ..., of_new], made[::order], strict=True
    ):
        multiply(h)
        if multiply_update is not None:
            multiply_update(h)
        if bias is not None:
            add(products, bias, products)
        if curved:
            exp(subtract(row, products, gates), gates)
            reciprocal(add(gates, _ONE, gates), gates)
        else:
            gates[...] = inner(add(products, row, gates))
        if reset_after:
            times(candidate, reset, candidate)
        else:
            multiply_reset(times(reset, h, scaled))
            if bias is not None:
                add(candidate, bias[of_new], candidate)
        add(candidate, new_row, candidate)
        new = outer(candidate)
        subtract(h, new, scaled)
        times(scaled, update, scaled)
        h = add(scaled, new, output)
        if rounded:
            h[...] = h.astype(stored)
    return outputs, h.reshape(batch, hidden)


@mil_op("rnn", wide_constants=True)
def rnn(
    x: Array,
    initial_h: Array,
    weight_ih: Array,
    weight_hh: Array,
    bias: Array | None = None,
    direction: str = "forward",
    output_sequence: bool = False,
    activation: str = "tanh",
) -> list[Array]:
    """``x <s, b, I>, initial_h <b, H> -> <s or 1, b, H>, <b, H>``; weights ``<H, I>``, ``<H, H>``."""  # noqa: E501
    dtype = x.dtype
    sequence, h = run_rnn(
        converted(x, _F32),
        converted(initial_h, _F32),
        weight_ih,
        weight_hh,
        bias,
        ACTIVATIONS[activation],
        reverse=direction == "reverse",
        stored=dtype,
    )
    sequence = in_order(sequence, direction) if output_sequence else h[None]
    return [converted(sequence, dtype), converted(h, dtype)]


def run_rnn(
    x: Array,
    h: Array,
    weight_ih: Array,
    weight_hh: Array,
    bias: Array | None,
    activation: Activation,
    *,
    reverse: bool,
    stored: Any = np.float32,
) -> tuple[Array, Array]:
    """Runs an RNN in float32: all ``h (s, b, H)`` in the order of time, and the last ``h``."""
    outputs = input_products(x, weight_ih, bias)
    product = np.empty(outputs.shape[1:], np.float32)
    multiply = _recurrent_product(weight_hh, product)
    for step in range(len(x) - 1, -1, -1) if reverse else range(len(x)):
        multiply(h)
        product += outputs[step]
        h = outputs[step]
        h[...] = activation(product)
        if stored != np.float32:
            h[...] = h.astype(stored)
    return outputs, h
