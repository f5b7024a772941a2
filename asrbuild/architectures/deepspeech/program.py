"""The DeepSpeech acoustic network as MIL operations, written with coremltools' builder.

Shapes: T steps, W window frames, F coefficients, H hidden, V classes. Time is the first axis, as in
the TensorFlow graph. Dense operations are named as coremltools names the TensorFlow ones
(``layer_1_BiasAdd``, ``layer_1_Relu``...), so that the two graphs can be compared node by node.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from asrbuild.architectures.deepspeech.layout import FREEZE, Layout, LoopLstm, NativeLstm
from asrbuild.architectures.deepspeech.network import NORM_EPSILON
from asrbuild.base.array import Array
from asrbuild.coreml.speedups.importing import import_coremltools

ct = import_coremltools()
mb = ct.converters.mil.Builder

Var = Any


@dataclass
class Network:
    """The settings of the program of a DeepSpeech network.

    Args:
        layout: the constants.
        relu_clip: upper limit of the clipped ReLU.
        steps: T if it is fixed, else None.
        dtype: numpy type of the computation.
        lstm_dtype: numpy type of the ``lstm`` op; the stored type of its weights may be narrower.
        cell_clip: limit of a native LSTM's cell; None: no limit.
        share_weights: whether constants are stored once for all functions of the package.
        unrolled: whether the steps of a native LSTM are unrolled, which requires fixed steps.
    """

    layout: Layout
    relu_clip: float
    steps: int | None
    dtype: type
    lstm_dtype: type
    cell_clip: float | None = None
    share_weights: bool = False
    unrolled: bool = False
    constants: dict[str, Var] = field(default_factory=dict)

    def constant(self, name: str, array: Array) -> Var:
        """A named constant, made once in a function."""
        if name not in self.constants:
            var = mb.const(val=array, name=name)
            if self.share_weights:
                var.op.weight_id = name
            self.constants[name] = var
        return self.constants[name]

    def scalar(self, value: float) -> np.generic:
        """A number in the type of the computation."""
        scalar: np.generic = self.dtype(value)
        return scalar

    @property
    def type_name(self) -> str:
        """MIL's name of the type of the computation."""
        return _type_name(self.dtype)


def probabilities_and_state(
    network: Network, input_node: Var, input_lengths: Var, state_c: Var, state_h: Var
) -> tuple[Var, Var, Var]:
    """Adds the operations of the whole network.

    Args:
        input_node: (1, T, W, F) of the computation's type.
        input_lengths: (1,) int32, number of steps without padding.
        state_c: (1, H) float32 or the computation's type.
        state_h: likewise.

    Returns:
        probabilities (T, 1, V), and the state after ``input_lengths`` steps, c and h: (1, H).
    """
    layout = network.layout
    x = mb.transpose(x=input_node, perm=[1, 0, 2, 3], name="time_major")
    x = mb.reshape(x=x, shape=[-1, layout.n_input], name="Reshape")
    for layer in ("layer_1", "layer_2", "layer_3"):
        x = _dense(network, x, layer)
    x = mb.reshape(x=x, shape=[-1, 1, layout.n_hidden], name="Reshape_1")
    recurrent = _native if isinstance(layout.lstm, NativeLstm) else _loop
    if network.unrolled:
        recurrent = _unrolled
    x, new_c, new_h = recurrent(network, x, input_lengths, state_c, state_h)
    x = mb.reshape(x=x, shape=[-1, layout.n_hidden], name="Reshape_2")
    x = _dense(network, x, "layer_5")
    x = _dense(network, x, "layer_6", relu=False)
    x = mb.reshape(x=x, shape=[-1, 1, layout.n_output], name="raw_logits")
    return mb.softmax(x=x, axis=-1, name="probabilities"), new_c, new_h


def _dense(network: Network, x: Var, layer: str, relu: bool = True) -> Var:
    """A dense layer: (T, inputs) to (T, outputs).

    It is ``min(relu(x @ weight.T + bias), relu_clip)``, then normalised if the layer is.
    """
    weight, bias = network.layout.dense[layer]
    x = mb.linear(
        x=x,
        weight=network.constant(f"{layer}_weights", weight),
        bias=network.constant(f"{layer}_bias", bias),
        name=f"{layer}_BiasAdd",
    )
    if not relu:
        return x
    x = mb.relu(x=x, name=f"{layer}_Relu")
    x = mb.minimum(x=x, y=network.scalar(network.relu_clip), name=f"{layer}_Minimum")
    return _normalised(network, x, layer) if layer in network.layout.norms else x


def _normalised(network: Network, x: Var, layer: str) -> Var:
    """``gamma * (x - mean) / sqrt(variance + epsilon) + beta`` over a step's units, in fp32.

    In fp16 the epsilon is 0, so a step with equal units would be NaN; and the sum of 2048 squares
    of up to 400 exceeds the range of fp16.
    """
    name = f"{layer}_LayerNorm"
    gamma, beta = network.layout.norms[layer]
    found = mb.layer_norm(
        x=_as(x, "fp32", name),
        axes=[-1],
        gamma=network.constant(f"{name}_gamma", gamma),
        beta=network.constant(f"{name}_beta", beta),
        epsilon=np.float32(NORM_EPSILON),
        name=name,
    )
    return _as(found, network.type_name, name)


def _native(
    network: Network, x: Var, input_lengths: Var, state_c: Var, state_h: Var
) -> tuple[Var, Var, Var]:
    """One ``lstm`` op; the state it returns is exact for every ``input_lengths``.

        x (T,1,H) ── concat ── (T,1,H+1) ── lstm ── h (T,1,H) ── * mask ── to layer 5
                       │                     └───── c after the last step = new_state_c
        (1 - mask) * FREEZE                         new_state_h = [h0, h][input_lengths]

    The extra column has weight -1 for the input gate and +1 for the forget gate, so past the end
    i = 0 and f = 1, and c does not change until the last step.
    """
    mask = _mask(network, x, input_lengths)
    steps = _with_past_end(network, x, mask)
    type_name = _type_name(network.lstm_dtype)
    lstm = network.layout.lstm
    assert isinstance(lstm, NativeLstm)
    clip = {} if network.cell_clip is None else {"clip": network.lstm_dtype(network.cell_clip)}
    h_all, _, c = mb.lstm(
        x=_as(steps, type_name, "lstm_input"),
        initial_h=_as(state_h, type_name, "initial_h"),
        initial_c=_as(state_c, type_name, "initial_c"),
        weight_ih=_widened(network, "lstm_input_weights", lstm.input),
        weight_hh=_widened(network, "lstm_hidden_weights", lstm.hidden),
        bias=_widened(network, "lstm_bias", lstm.bias),
        output_sequence=True,
        name="lstm",
        **clip,
    )
    h_all = mb.mul(x=_as(h_all, network.type_name, "lstm_h"), y=mask, name="masked_h")
    h_before = mb.expand_dims(x=_as(state_h, network.type_name, "h0"), axes=[0], name="h_before")
    h_list = mb.concat(values=(h_before, h_all), axis=0, name="h_list")
    return h_all, c, mb.gather_nd(x=h_list, indices=_last_step(input_lengths), name="last_h")


def _unrolled(
    network: Network, x: Var, input_lengths: Var, state_c: Var, state_h: Var
) -> tuple[Var, Var, Var]:
    """The unrolled steps of ``_native``, with operations that no rule of ``fit`` blocks.

    The only exception is the cast of ``input_lengths`` from int32. Positions have the type of the
    computation, which is exact for all steps of an unrolled LSTM. The cell is frozen past the end
    as in ``_native``; the last h is a product with 1 at ``input_lengths``, else 0::

        [h0, h] (T+1,1,H) ── reshape ── (T+1,H) ─┐
        relu(1 - |input_lengths - (0...T)|) (1,T+1) ── matmul ── new_state_h
    """
    lstm, name, hidden, steps = network.layout.lstm, network.type_name, *_sizes(network)
    assert isinstance(lstm, NativeLstm)
    length = mb.cast(x=input_lengths, dtype=name, name="length")
    before_end = mb.sub(x=length, y=_positions(network, steps, (steps, 1, 1)), name="before_end")
    mask = mb.clip(x=before_end, alpha=network.scalar(0), beta=network.scalar(1), name="mask")
    products = mb.linear(
        x=_with_past_end(network, x, mask),
        weight=network.constant("lstm_input_weights", lstm.input),
        bias=network.constant("lstm_bias", lstm.bias),
        name="lstm_input_products",
    )
    rows = mb.split(x=products, num_splits=steps, axis=0, name="step") if steps > 1 else [products]
    weight = network.constant("lstm_hidden_weights", lstm.hidden)
    h_before = mb.expand_dims(x=_as(state_h, name, "h0"), axes=[0], name="h_before")
    h, c = h_before, mb.expand_dims(x=_as(state_c, name, "c0"), axes=[0], name="c_before")
    h_steps = []
    for step, row in enumerate(rows):
        of_h = mb.linear(x=h, weight=weight, name=f"h_products_{step}")
        gates = mb.add(x=row, y=of_h, name=f"gates_{step}")
        ifo, g = mb.split(x=gates, split_sizes=[3 * hidden, hidden], axis=-1, name=f"cell_{step}")
        ifo, g = mb.sigmoid(x=ifo, name=f"gates_ifo_{step}"), mb.tanh(x=g, name=f"gate_g_{step}")
        i, f, o = mb.split(x=ifo, num_splits=3, axis=-1, name=f"gate_{step}")
        kept, written = mb.mul(x=f, y=c, name=f"kept_{step}"), mb.mul(x=i, y=g, name=f"new_{step}")
        c = mb.add(x=kept, y=written, name=f"c_{step}")
        h = mb.mul(x=o, y=mb.tanh(x=c, name=f"c_tanh_{step}"), name=f"h_{step}")
        h_steps.append(h)
    h_all = mb.concat(values=h_steps, axis=0, name="lstm") if steps > 1 else h
    h_all = mb.mul(x=h_all, y=mask, name="masked_h")
    h_list = mb.concat(values=(h_before, h_all), axis=0, name="h_list")
    h_rows = mb.reshape(x=h_list, shape=[steps + 1, hidden], name="h_rows")
    apart = mb.sub(x=length, y=_positions(network, steps + 1, (1, steps + 1)), name="from_end")
    apart = mb.abs(x=apart, name="from_end_abs")
    at_end = mb.relu(x=mb.sub(x=network.scalar(1), y=apart, name="near_end"), name="at_end")
    last_c = mb.squeeze(x=c, axes=[0], name="last_c")
    return h_all, last_c, mb.matmul(x=at_end, y=h_rows, name="last_h")


def _sizes(network: Network) -> tuple[int, int]:
    assert network.steps is not None
    return network.layout.n_hidden, network.steps


def _positions(network: Network, count: int, shape: tuple[int, ...]) -> Array:
    return np.arange(count).astype(network.dtype).reshape(shape)


def _with_past_end(network: Network, x: Var, mask: Var) -> Var:
    """(T, 1, H + 1): ``x``, and a column with FREEZE past the end, else 0."""
    past = mb.mul(x=mask, y=network.scalar(-FREEZE), name="past_end_minus_one")
    past = mb.add(x=past, y=network.scalar(FREEZE), name="past_end")
    return mb.concat(values=(x, past), axis=-1, name="lstm_input")


def _loop(
    network: Network, x: Var, input_lengths: Var, state_c: Var, state_h: Var
) -> tuple[Var, Var, Var]:
    """coremltools' own form of TensorFlow's ``BlockLSTM``: a ``while_loop`` over time.

    The lists of c and h are (T + 1, 1, H) with the initial state first; they are carried in fp32
    even if the cell is fp16, as in plain conversion.
    """
    dtype, name, hidden = network.dtype, network.type_name, network.layout.n_hidden
    before = {
        part: mb.expand_dims(x=_as(state, name, f"{part}0"), axes=[0], name=f"{part}_before")
        for part, state in (("c", state_c), ("h", state_h))
    }
    if network.steps is None:
        shape = mb.shape(x=x, name="step_shape")
        length = mb.slice_by_index(x=shape, begin=[0], end=[1], name="step_count")
        tail = np.array([1, hidden], np.int32)
        list_shape = mb.concat(values=(length, tail), axis=0, name="list_shape")
        zeros = mb.fill(shape=list_shape, value=dtype(0), name="empty_list")
    else:
        length = np.array([network.steps], np.int32)
        zeros = mb.const(val=np.zeros((network.steps, 1, hidden), dtype), name="empty_list")
    lists = {
        part: mb.concat(values=(before[part], zeros), axis=0, name=f"{part}_list")
        for part in ("c", "h")
    }
    body = _loop_body(network, x)
    _, c_list, h_list = mb.while_loop(
        _cond=lambda step, c, h: mb.less(x=step, y=length, name="more_steps"),
        _body=body,
        loop_vars=(
            mb.const(val=np.array([0], np.int32), name="first_step"),
            _as(lists["c"], "fp32", "c_list"),
            _as(lists["h"], "fp32", "h_list"),
        ),
        name="while_loop",
    )
    after = {"begin": [1, 0, 0], "end": [0, 0, 0]}
    after |= {"begin_mask": [False, True, True], "end_mask": [True, True, True]}
    c_all = mb.slice_by_index(x=_as(c_list, name, "c_done"), name="c_all", **after)
    h_all = mb.slice_by_index(x=_as(h_list, name, "h_done"), name="h_all", **after)
    mask = mb.tile(x=_mask(network, x, input_lengths), reps=[1, 1, hidden], name="Tile")
    h_all = mb.mul(x=h_all, y=mask, name="masked_h")
    index = _last_step(input_lengths)
    last = {
        part: mb.gather_nd(
            x=mb.concat(values=(before[part], steps), axis=0, name=f"{part}_states"),
            indices=index,
            name=f"last_{part}",
        )
        for part, steps in (("c", c_all), ("h", h_all))
    }
    return h_all, last["c"], last["h"]


def _loop_body(network: Network, x: Var) -> Any:
    """One step: reads c and h at ``step``, writes them at ``step + 1``. Gate order i, c, f, o."""
    lstm = network.layout.lstm
    assert isinstance(lstm, LoopLstm)
    weight = network.constant("lstm_kernel", lstm.weight)
    bias = network.constant("lstm_bias", lstm.bias)
    name = network.type_name

    def body(step: Var, c_list: Var, h_list: Var) -> tuple[Var, Var, Var]:
        c_list = _as(c_list, name, "c_list_in")
        h_list = _as(h_list, name, "h_list_in")
        x_now = mb.gather(x=x, indices=step, axis=0, name="x_now")
        h = mb.gather(x=h_list, indices=step, axis=0, name="h_now")
        c = mb.gather(x=c_list, indices=step, axis=0, name="c_now")
        joined = mb.concat(values=(x_now, h), axis=-1, name="x_and_h")
        gates = mb.linear(x=joined, weight=weight, bias=bias, name="gates")
        i, g, f, o = mb.split(x=gates, num_splits=4, axis=-1, name="gate")
        i, f = mb.sigmoid(x=i, name="gate_i"), mb.sigmoid(x=f, name="gate_f")
        g = mb.tanh(x=g, name="gate_g")
        written = mb.mul(x=g, y=i, name="written")
        c = mb.add(x=written, y=mb.mul(x=c, y=f, name="kept"), name="c_next")
        o = mb.sigmoid(x=o, name="gate_o")
        h = mb.mul(x=mb.tanh(x=c, name="c_tanh"), y=o, name="h_next")
        following = mb.add(x=step, y=np.int32(1), name="next_step")
        c_list = mb.scatter(data=c_list, indices=following, updates=c, name="c_list_next")
        h_list = mb.scatter(data=h_list, indices=following, updates=h, name="h_list_next")
        return following, _as(c_list, "fp32", "c_list_out"), _as(h_list, "fp32", "h_list_out")

    return body


def _mask(network: Network, x: Var, input_lengths: Var) -> Var:
    """(T, 1, 1): 1 for the steps before ``input_lengths``, else 0."""
    if network.steps is None:
        shape = mb.shape(x=x, name="mask_shape")
        count = mb.slice_by_index(
            x=shape,
            begin=[0],
            end=[1],
            stride=[1],
            begin_mask=[False],
            end_mask=[False],
            squeeze_mask=[True],
            name="mask_count",
        )
        positions = mb.range_1d(end=count, start=0, step=1, name="SequenceMask_Range")
    else:
        positions = np.arange(network.steps, dtype=np.int32)
    lengths = mb.expand_dims(x=input_lengths, axes=[-1], name="SequenceMask_ExpandDims")
    valid = mb.less(x=positions, y=lengths, name="SequenceMask_Less")
    mask = mb.cast(x=valid, dtype=network.type_name, name="SequenceMask_Cast")
    mask = mb.transpose(x=mask, perm=[1, 0], name="mask_time_major")
    return mb.expand_dims(x=mask, axes=[-1], name="mask")


def _last_step(input_lengths: Var) -> Var:
    """(1, 2): ``[[input_lengths, 0]]``, a row of a (T + 1, 1, H) list."""
    return mb.stack(values=(input_lengths, np.array([0], np.int32)), axis=1, name="last_step")


def _widened(network: Network, name: str, array: Array) -> Var:
    """A constant of the lstm's type, stored in its own type and cast when the package is loaded."""
    if array.dtype == network.lstm_dtype:
        return network.constant(name, array)
    if name not in network.constants:
        network.constants[name] = mb.constexpr_cast(
            source_val=array, output_dtype=_type_name(network.lstm_dtype), name=name
        )
    return network.constants[name]


def as_type(x: Var, dtype: type, name: str) -> Var:
    """``x`` cast to a numpy type, if necessary."""
    return _as(x, _type_name(dtype), name)


def _as(x: Var, type_name: str, name: str) -> Var:
    """``x`` cast to a MIL type, if necessary."""
    current = ct.converters.mil.mil.types.builtin_to_string(x.dtype)
    if current == type_name:
        return x
    return mb.cast(x=x, dtype=type_name, name=f"{name}_to_{type_name}")


def _type_name(dtype: type) -> str:
    return "fp16" if dtype is np.float16 else "fp32"
