"""Recurrent ops, compared with their equations, gate by gate, in double precision."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.coreml.executor.harness import check, floats, run_op
from tests.coreml.executor.plain import ACTIVATIONS, dot, over_batch, processed, weights


@pytest.mark.parametrize("direction", ["forward", "reverse"])
@pytest.mark.parametrize(("steps", "batch"), [(1, 1), (5, 1), (4, 3), (300, 1)])
def test_lstm(direction: str, steps: int, batch: int) -> None:
    x, h, c = floats((steps, batch, 2)), floats((batch, 3)), floats((batch, 3), seed=1)
    w_x, w_h, bias = weights(3, 2)
    expected = over_batch(x, h, c, w_x, w_h, bias, reverse=direction == "reverse")
    expected = (processed(expected[0], direction), *expected[1:])
    tensors = {"x": x, "initial_h": h, "initial_c": c}
    given = {"weight_ih": w_x, "weight_hh": w_h, "bias": bias, "direction": direction}
    check("lstm", expected, tensors, **given, output_sequence=True, atol=3e-6)
    last = (expected[1][None], *expected[1:])
    check("lstm", last, tensors, **given, output_sequence=False, atol=3e-6)


def test_lstm_with_peepholes_clip_and_other_activations() -> None:
    x, h, c = floats((4, 2, 2), low=-3, high=3), floats((2, 3)), floats((2, 3), seed=1)
    w_x, w_h, bias = weights(3, 2)
    peephole = floats((9,), seed=9)
    acts = ("sigmoid", "linear", "relu")
    expected = over_batch(x, h, c, w_x, w_h, bias, peephole=peephole, clip=0.75, acts=acts)
    check(
        "lstm",
        expected,
        {"x": x, "initial_h": h, "initial_c": c},
        weight_ih=w_x,
        weight_hh=w_h,
        bias=bias,
        peephole=peephole,
        clip=np.float32(0.75),
        output_sequence=True,
        recurrent_activation=acts[0],
        cell_activation=acts[1],
        activation=acts[2],
        atol=3e-6,
    )


@pytest.mark.parametrize("sequence", [True, False])
def test_lstm_in_both_directions(sequence: bool) -> None:
    x, h, c = floats((4, 2, 2)), floats((2, 6)), floats((2, 6), seed=1)
    ahead_weights, back_weights = weights(3, 2), weights(3, 2, seed=7)
    ahead = over_batch(x, h[:, :3], c[:, :3], *ahead_weights)
    back = over_batch(x, h[:, 3:], c[:, 3:], *back_weights, reverse=True)
    joined = tuple(np.concatenate(pair, -1) for pair in zip(ahead, back, strict=True))
    expected = joined if sequence else (joined[1][None], *joined[1:])
    names = ("weight_ih", "weight_hh", "bias")
    given = dict(zip(names, ahead_weights, strict=True))
    given |= {f"{n}_back": w for n, w in zip(names, back_weights, strict=True)}
    check(
        "lstm",
        expected,
        {"x": x, "initial_h": h, "initial_c": c},
        **given,
        direction="bidirectional",
        output_sequence=sequence,
        atol=3e-6,
    )


def test_lstm_in_float16_rounds_its_state_at_every_step() -> None:
    """Therefore chunks with carried state give exactly the outputs of one shot."""
    x = floats((12, 1, 4), np.float16)
    h, c = floats((1, 5), np.float16), floats((1, 5), np.float16, seed=1)
    w_x, w_h, bias = weights(5, 4, np.float16)
    given = {"weight_ih": w_x, "weight_hh": w_h, "bias": bias, "output_sequence": True}
    whole = run_op("lstm", {"x": x, "initial_h": h, "initial_c": c}, "iOS17", **given).outputs
    parts = []
    for start in range(0, 12, 4):
        tensors = {"x": x[start : start + 4], "initial_h": h, "initial_c": c}
        part, h, c = run_op("lstm", tensors, "iOS17", **given).outputs
        parts.append(part)
    np.testing.assert_array_equal(np.concatenate(parts), whole[0])
    np.testing.assert_array_equal(c, whole[2])
    exact = over_batch(
        x, floats((1, 5), np.float16), floats((1, 5), np.float16, seed=1), w_x, w_h, bias
    )
    np.testing.assert_allclose(whole[0].astype(float), exact[0], atol=3e-3)


@pytest.mark.parametrize("reset_after", [False, True])
@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_gru(direction: str, reset_after: bool) -> None:
    x, h = floats((4, 2, 2)), floats((2, 3))
    w_x, w_h = floats((9, 2), seed=1), floats((9, 3), seed=2)
    bias, input_bias = floats((9,), seed=3), floats((9,), seed=4)
    sigmoid = ACTIVATIONS["sigmoid"]
    rows = x[::-1] if direction == "reverse" else x
    outputs = []
    state = h.astype(float)
    for row in rows:
        new = np.empty_like(state)
        for b in range(2):
            z = [dot(row[b], w_x[g]) + float(input_bias[g]) for g in range(9)]
            y = [dot(state[b], w_h[g]) + float(bias[g]) for g in range(9)]
            r = [sigmoid(z[u] + y[u]) for u in range(3)]
            k = [sigmoid(z[6 + u] + y[6 + u]) for u in range(3)]
            for u in range(3):
                if reset_after:
                    inner = r[u] * (dot(state[b], w_h[3 + u]) + float(bias[3 + u]))
                else:
                    scaled = [r[v] * state[b, v] for v in range(3)]
                    inner = dot(scaled, w_h[3 + u]) + float(bias[3 + u])
                candidate = math.tanh(z[3 + u] + inner)
                new[b, u] = (1 - k[u]) * candidate + k[u] * state[b, u]
        state = new
        outputs.append(new)
    tensors = {"x": x, "initial_h": h}
    check(
        "gru",
        (np.array(outputs), state),
        tensors,
        "iOS18",
        weight_ih=w_x,
        weight_hh=w_h,
        bias=bias,
        input_bias=input_bias,
        direction=direction,
        output_sequence=True,
        reset_after=reset_after,
        atol=2e-6,
    )


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_rnn(direction: str) -> None:
    x, h = floats((4, 2, 2)), floats((2, 3))
    w_x, w_h, bias = floats((3, 2), seed=1), floats((3, 3), seed=2), floats((3,), seed=3)
    state, outputs = h.astype(float), []
    for row in processed(x, direction):
        state = np.array(
            [
                [
                    math.tanh(dot(row[b], w_x[u]) + dot(state[b], w_h[u]) + float(bias[u]))
                    for u in range(3)
                ]
                for b in range(2)
            ]
        )
        outputs.append(state)
    given = {"weight_ih": w_x, "weight_hh": w_h, "bias": bias, "direction": direction}
    tensors = {"x": x, "initial_h": h}
    check("rnn", (np.array(outputs), state), tensors, **given, output_sequence=True, atol=2e-6)
    check("rnn", (state[None], state), tensors, **given, output_sequence=False, atol=2e-6)
