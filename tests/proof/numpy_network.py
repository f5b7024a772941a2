"""The acoustic network in plain numpy, as an independent reference, and versions with faults.

Written from the equations of the DeepSpeech paper and TensorFlow's BlockLSTM documentation; it
shares no code with the executor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from asrbuild.architectures.deepspeech.network import AcousticWeights

Outputs = dict[str, np.ndarray]


def run(
    weights: AcousticWeights,
    features: np.ndarray,
    rounded: Callable[[np.ndarray], np.ndarray] = lambda array: array,
    relu_clip: float = 20.0,
    state: tuple[np.ndarray, np.ndarray] | None = None,
) -> Outputs:
    """One shot over features (T, n_window, n_input), float32; ``state``: c and h (1, H), or zeros.

    ``rounded`` is applied to the weights and to every operation's result.
    """
    w = {name: rounded(array.astype(np.float32)) for name, array in weights.named().items()}

    def dense(x: np.ndarray, layer: str) -> np.ndarray:
        return rounded(rounded(x @ w[f"{layer}/weights"]) + w[f"{layer}/bias"])

    def clipped(x: np.ndarray, layer: str) -> np.ndarray:
        return np.minimum(np.maximum(dense(x, layer), 0.0), np.float32(relu_clip))

    x = rounded(features.reshape(len(features), -1).astype(np.float32))
    for layer in ("layer_1", "layer_2", "layer_3"):
        x = clipped(x, layer)
    kernel, bias = rounded(weights.lstm_kernel), rounded(weights.lstm_bias)
    hidden = weights.n_hidden
    zeros = np.zeros((1, hidden), np.float32)
    c, h = state or (zeros, zeros)
    rows = []
    for step in x:
        gates = rounded(np.concatenate([step[None], h], axis=1) @ kernel + bias)
        i, g, f, o = np.split(gates, 4, axis=1)
        c = rounded(_sigmoid(f) * c + _sigmoid(i) * np.tanh(g))
        h = rounded(_sigmoid(o) * np.tanh(c))
        rows.append(h[0])
    logits = dense(clipped(np.array(rows), "layer_5"), "layer_6")
    exponents = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probabilities = rounded(exponents / exponents.sum(axis=-1, keepdims=True))
    return {"logits": probabilities, "new_state_c": c, "new_state_h": h}


def half(array: np.ndarray) -> np.ndarray:
    """Rounded to half precision, still float32."""
    with np.errstate(over="ignore"):
        return array.astype(np.float16).astype(np.float32)


def swap_layers(weights: AcousticWeights) -> AcousticWeights:
    """Exchanges layers 2 and 3: every shape still fits."""
    return replace(
        weights,
        layer_2_weights=weights.layer_3_weights,
        layer_2_bias=weights.layer_3_bias,
        layer_3_weights=weights.layer_2_weights,
        layer_3_bias=weights.layer_2_bias,
    )


def permute_gates(weights: AcousticWeights) -> AcousticWeights:
    """Exchanges the LSTM's forget and output gates."""
    order = [0, 1, 3, 2]
    return replace(
        weights,
        lstm_kernel=np.concatenate([np.split(weights.lstm_kernel, 4, axis=1)[i] for i in order], 1),
        lstm_bias=np.concatenate([np.split(weights.lstm_bias, 4)[i] for i in order]),
    )


def shift_classes(weights: AcousticWeights) -> AcousticWeights:
    """Moves every class by one column: a is b, b is c, the blank is the space."""
    return replace(
        weights,
        layer_6_weights=np.roll(weights.layer_6_weights, 1, axis=1),
        layer_6_bias=np.roll(weights.layer_6_bias, 1),
    )


def overflow(weights: AcousticWeights) -> AcousticWeights:
    """Class scores beyond half precision, from weights that each fit in it."""
    return replace(weights, layer_6_weights=weights.layer_6_weights * np.float32(2e4))


def uniform(weights: AcousticWeights) -> AcousticWeights:
    """A network without information: all classes are equally likely."""
    return replace(
        weights,
        layer_6_weights=np.zeros_like(weights.layer_6_weights),
        layer_6_bias=np.zeros_like(weights.layer_6_bias),
    )


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return np.float32(0.5) * (np.tanh(np.float32(0.5) * x) + np.float32(1.0))
