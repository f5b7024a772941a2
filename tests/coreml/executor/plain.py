"""Operations in plain Python, value by value: the reference for the executor."""

from __future__ import annotations

import itertools
import math

import numpy as np

from tests.coreml.executor.harness import floats


def each(function, *arrays: np.ndarray) -> np.ndarray:
    """Applies ``function`` to every value, in Python."""
    wide = np.broadcast_arrays(*[np.asarray(array, np.float64) for array in arrays])
    columns = [array.reshape(-1).tolist() for array in wide]
    values = [function(*row) for row in zip(*columns, strict=True)]
    return np.array(values, np.float64).reshape(wide[0].shape)


def convolved(x, weight, bias, strides, pads, dilations, groups):
    """A convolution place by place."""
    x = np.pad(x.astype(float), [(0, 0), (0, 0), *pads])
    kernel = weight.shape[2:]
    out = [
        (size - (k - 1) * d - 1) // s + 1
        for size, k, d, s in zip(x.shape[2:], kernel, dilations, strides, strict=True)
    ]
    result = np.zeros((x.shape[0], weight.shape[0], *out))
    per_group_in, per_group_out = weight.shape[1], weight.shape[0] // groups
    for n, c in itertools.product(range(x.shape[0]), range(weight.shape[0])):
        first = c // per_group_out * per_group_in
        for place in itertools.product(*map(range, out)):
            total = float(bias[c])
            for i in range(per_group_in):
                for tap in itertools.product(*map(range, kernel)):
                    at = tuple(
                        p * s + t * d
                        for p, s, t, d in zip(place, strides, tap, dilations, strict=True)
                    )
                    total += x[(n, first + i, *at)] * float(weight[(c, i, *tap)])
            result[(n, c, *place)] = total
    return result


def turned_round(x, weight, bias, strides, dilations, groups):
    """A transposed convolution, uncropped: each value adds its multiple of the kernel."""
    kernel, outputs = weight.shape[2:], weight.shape[1]
    sizes = [
        (size - 1) * s + (k - 1) * d + 1
        for size, s, k, d in zip(x.shape[2:], strides, kernel, dilations, strict=True)
    ]
    result = np.zeros((x.shape[0], outputs * groups, *sizes))
    for n, c, *place in itertools.product(*map(range, x.shape)):
        first = c // (x.shape[1] // groups) * outputs
        for out, *at in itertools.product(range(outputs), *map(range, kernel)):
            where = [
                p * s + a * d for p, s, a, d in zip(place, strides, at, dilations, strict=True)
            ]
            result[(n, first + out, *where)] += float(x[(n, c, *place)]) * float(
                weight[(c, out, *at)]
            )
    return result + bias.reshape(1, -1, *[1] * len(kernel))


def pooled(x, kernel, strides, pads, function, fill):
    padded = np.pad(x.astype(float), [(0, 0), (0, 0), *pads], constant_values=fill)
    out = [
        (size - k) // s + 1 for size, k, s in zip(padded.shape[2:], kernel, strides, strict=True)
    ]
    result = np.zeros((*x.shape[:2], *out))
    for n, c, *place in itertools.product(*map(range, result.shape)):
        window = padded[
            (
                n,
                c,
                *[slice(p * s, p * s + k) for p, s, k in zip(place, strides, kernel, strict=True)],
            )
        ]
        result[(n, c, *place)] = function(window[~np.isnan(window)])
    return result


def volume(x: np.ndarray, weight: np.ndarray, steps: tuple[int, ...]) -> np.ndarray:
    """A convolution of (n, C, D, H, W), place by place."""
    sizes = [
        (s - w) // step + 1 for s, w, step in zip(x.shape[2:], weight.shape[2:], steps, strict=True)
    ]
    result = np.empty((len(x), len(weight), *sizes))
    for place in np.ndindex(*sizes):
        part = tuple(
            slice(p * s, p * s + w) for p, s, w in zip(place, steps, weight.shape[2:], strict=True)
        )
        window = x[(slice(None), slice(None), *part)].astype(float)
        result[(slice(None), slice(None), *place)] = np.tensordot(
            window, weight, ([1, 2, 3, 4], [1, 2, 3, 4])
        )
    return result


REDUCTIONS = {
    "reduce_sum": sum,
    "reduce_mean": lambda v: sum(v) / len(v),
    "reduce_max": max,
    "reduce_min": min,
    "reduce_prod": math.prod,
    "reduce_l1_norm": lambda v: sum(map(abs, v)),
    "reduce_l2_norm": lambda v: math.sqrt(sum(x * x for x in v)),
    "reduce_log_sum": lambda v: math.log(sum(v)),
    "reduce_log_sum_exp": lambda v: math.log(sum(map(math.exp, v))),
    "reduce_sum_square": lambda v: sum(x * x for x in v),
}


def reduced(function, x: np.ndarray, axes: tuple[int, ...] | None, keep: bool) -> np.ndarray:
    """``function`` of the list of values along ``axes``, place by place."""
    over = tuple(range(x.ndim)) if axes is None else tuple(axis % x.ndim for axis in axes)
    kept = [size if axis not in over else 1 for axis, size in enumerate(x.shape)]
    result = np.empty(kept)
    for place in itertools.product(*map(range, kept)):
        index = tuple(slice(None) if axis in over else at for axis, at in enumerate(place))
        result[place] = function(np.asarray(x[index], float).reshape(-1).tolist())
    return result if keep else result.reshape([s for a, s in enumerate(x.shape) if a not in over])


ACTIVATIONS = {
    "sigmoid": lambda v: 1 / (1 + math.exp(-v)),
    "tanh": math.tanh,
    "relu": lambda v: max(v, 0.0),
    "linear": lambda v: v,
}


def dot(left, right) -> float:
    return sum(float(a) * float(b) for a, b in zip(left, right, strict=True))


def lstm_steps(x, h, c, w_x, w_h, bias, peephole=None, clip=None, acts=("sigmoid", "tanh", "tanh")):
    """One batch entry: x (s, I), h and c (H,); every h, then the last c."""
    inner, cell, outer = (ACTIVATIONS[name] for name in acts)
    size = len(h)
    h, c = [float(v) for v in h], [float(v) for v in c]
    peep = [0.0] * (3 * size) if peephole is None else [float(v) for v in peephole]
    outputs = []
    for row in x:
        z = [dot(row, w_x[g]) + dot(h, w_h[g]) + float(bias[g]) for g in range(4 * size)]
        new_h, new_c = [], []
        for u in range(size):
            i = inner(z[u] + peep[u] * c[u])
            f = inner(z[size + u] + peep[size + u] * c[u])
            value = f * c[u] + i * cell(z[3 * size + u])
            if clip is not None:
                value = min(max(value, -clip), clip)
            o = inner(z[2 * size + u] + peep[2 * size + u] * value)
            new_c.append(value)
            new_h.append(o * outer(value))
        h, c = new_h, new_c
        outputs.append(h)
    return np.array(outputs), np.array(c)


def processed(outputs: np.ndarray, direction: str) -> np.ndarray:
    """Outputs in the order of processing, as Apple's own tests expect them of one direction."""
    return outputs[::-1] if direction == "reverse" else outputs


def over_batch(x, h, c, *weights, reverse=False, **options):
    sequences, states = [], []
    for b in range(x.shape[1]):
        rows = x[::-1, b] if reverse else x[:, b]
        outputs, last = lstm_steps(rows, h[b], c[b], *weights, **options)
        sequences.append(outputs[::-1] if reverse else outputs)
        states.append((outputs[-1], last))
    last_h, last_c = (np.array(part) for part in zip(*states, strict=True))
    return np.stack(sequences, 1), last_h, last_c


def weights(hidden: int, width: int, dtype=np.float32, seed=0):
    return (
        floats((4 * hidden, width), dtype, -0.6, 0.6, seed),
        floats((4 * hidden, hidden), dtype, -0.6, 0.6, seed + 1),
        floats((4 * hidden,), dtype, seed=seed + 2),
    )
