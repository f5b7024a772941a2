"""Converts the network's weights to Core ML's layout and to the precision of the package."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from asrbuild.architectures.deepspeech.network import DENSE_LAYERS, AcousticWeights
from asrbuild.base.array import Array
from asrbuild.base.errors import AsrbuildError
from asrbuild.coreml.arrays import FP16_MAX, transpose_into, transposed
from asrbuild.coreml.choices import LstmForm

#: The value of the native LSTM's extra input column past the end of the input; before, it is 0. It
#: is exact in fp16, and far beyond the point where a sigmoid is exactly 0 (-104 in float32, -17.4
#: in fp16).
FREEZE = 16384.0
#: The weight of that column. Quantized weights of a row share one scale, and palettized ones a
#: palette, so a 1 among values of a third would cost the others precision: 12 dB of the cell.
FREEZE_WEIGHT = {"exact": 1.0, "compressed": 0.25}
#: The distance of a gate's other terms from the freeze, so that the freeze always decides.
FREEZE_MARGIN = 1024.0
#: Indices of BlockLSTM's gate columns i, c, f, o in the order of Core ML: i, f, o, c.
GATES = (0, 2, 3, 1)


@dataclass(frozen=True)
class NativeLstm:
    """Weights of an ``lstm`` op or of an unrolled LSTM; the order of gates is i, f, o, c.

    ``input``: (4H, H + 1), the last column freezes the cell. ``hidden``: (4H, H). ``bias``: (4H,).
    """

    input: Array
    hidden: Array
    bias: Array


@dataclass(frozen=True)
class LoopLstm:
    """Weights of the cell in a ``while_loop``; the order of gates is i, c, f, o.

    ``weight``: (4H, 2H), columns input then previous hidden. ``bias``: (4H,).
    """

    weight: Array
    bias: Array


@dataclass(frozen=True)
class Layout:
    """All constants of a program; ``dense``: layer -> weight (outputs, inputs) and bias (outputs,).

    ``norms``: layer -> gamma and beta (outputs,), always float32.
    """

    dense: dict[str, tuple[Array, Array]]
    lstm: NativeLstm | LoopLstm
    n_input: int
    n_hidden: int
    n_output: int
    norms: Mapping[str, tuple[Array, Array]]


@functools.lru_cache(maxsize=1)
def lay_out(
    weights: AcousticWeights,
    lstm: LstmForm,
    dense_dtype: type,
    lstm_dtype: type,
    relu_clip: float,
    precision: Literal["fp16", "fp32"],
    freeze_weight: float = FREEZE_WEIGHT["exact"],
) -> Layout:
    """Transposes, reorders gates and casts; keeps the last result for the next shape of a sweep.

    Raises:
        AsrbuildError: a weight does not fit fp16, or is not finite, or an LSTM gate could reach
            the value the native form freezes the cell with.
    """
    for name, array in weights.named().items():
        _check_range(array, name, precision)
    dense = {
        layer: (
            transposed(getattr(weights, f"{layer}_weights"), dense_dtype),
            getattr(weights, f"{layer}_bias").astype(dense_dtype),
        )
        for layer in DENSE_LAYERS
    }
    if lstm == "loop":
        cell: NativeLstm | LoopLstm = LoopLstm(
            transposed(weights.lstm_kernel, lstm_dtype), weights.lstm_bias.astype(lstm_dtype)
        )
    else:
        _check_freeze(weights, relu_clip, FREEZE * freeze_weight - FREEZE_MARGIN)
        cell = _native(weights, lstm_dtype, freeze_weight)
    parts = [array for pair in dense.values() for array in pair] + list(vars(cell).values())
    for array in parts:
        array.flags.writeable = False
    sizes = weights.n_features, weights.n_hidden, weights.n_output
    return Layout(dense, cell, *sizes, norms=weights.norms)


def _native(weights: AcousticWeights, dtype: type, freeze_weight: float) -> NativeLstm:
    kernel, hidden = weights.lstm_kernel, weights.n_hidden
    of_input: Array = np.empty((4 * hidden, hidden + 1), dtype)
    of_hidden: Array = np.empty((4 * hidden, hidden), dtype)
    bias: Array = np.empty(4 * hidden, dtype)
    for row, gate in enumerate(GATES):
        rows = slice(row * hidden, (row + 1) * hidden)
        columns = slice(gate * hidden, (gate + 1) * hidden)
        transpose_into(of_input[rows, :hidden], kernel[:hidden, columns])
        transpose_into(of_hidden[rows], kernel[hidden:, columns])
        bias[rows] = weights.lstm_bias[columns]
    # Frozen: i = sigmoid(-FREEZE * freeze_weight) = 0 and f = 1 exactly, so c does not change.
    of_input[:, hidden] = np.repeat(np.array([-1, 1, 0, 0]) * freeze_weight, hidden)
    return NativeLstm(of_input, of_hidden, bias)


def _check_range(array: Array, name: str, precision: str) -> None:
    # min and max also find NaN, without an array of booleans.
    low, high = float(np.min(array)), float(np.max(array))
    if not (np.isfinite(low) and np.isfinite(high)):
        raise AsrbuildError(f"{name} has values that are not finite")
    if precision == "fp16" and max(-low, high) > FP16_MAX:
        raise AsrbuildError(
            f"{name} reaches {max(-low, high):.6g}, above fp16's {FP16_MAX:g}",
            key="coreml.precision",
            fix="use coreml.precision=fp32",
        )


def _check_freeze(weights: AcousticWeights, relu_clip: float, limit: float) -> None:
    # |sum(w * x)| <= |w| * |x|, and |x| <= sqrt(n) * max|x|. Layer 3 ends in a ReLU clipped at
    # relu_clip, |h| <= 1. Normalised values have |x| <= sqrt(n) before gamma and beta.
    hidden = weights.n_hidden
    of_input, of_hidden = weights.lstm_kernel[:hidden], weights.lstm_kernel[hidden:]
    reach, bias = relu_clip, weights.lstm_bias
    if "layer_3" in weights.norms:
        gamma, beta = weights.norms["layer_3"]
        bias = bias + beta @ of_input
        reach, of_input = 1.0, of_input * gamma[:, None]
    norms = [
        np.sqrt(hidden * np.einsum("ij,ij->j", part, part, dtype=np.float32)) * largest
        for part, largest in ((of_input, reach), (of_hidden, 1.0))
    ]
    bound = float(np.max(norms[0] + norms[1] + np.abs(bias)))
    if bound > limit:
        raise AsrbuildError(
            f"an LSTM gate of this network may reach {bound:.6g}, so the native form could not "
            f"hold its state past the end of the input (limit {limit:g})",
            key="coreml.lstm",
            fix="use coreml.lstm=loop",
        )
