"""The DeepSpeech network in TensorFlow, and as packages, small enough for tests."""

from __future__ import annotations

from typing import Any

import numpy as np

from asrbuild.architectures.deepspeech.network import AcousticWeights


def reference(
    weights: AcousticWeights, windows: np.ndarray, length: int, c: np.ndarray, h: np.ndarray
) -> dict[str, np.ndarray]:
    """DeepSpeech 0.7's inference graph run by TensorFlow's own kernels, ``BlockLSTM`` above all.

    ``windows`` (1, T, 19, 26), ``c`` and ``h`` (1, H). Returns logits (T, 1, V) and the new states.
    """
    import tensorflow as tf

    hidden = weights.n_hidden

    def dense(y: Any, name: str, clip: bool = True) -> Any:
        y = tf.matmul(y, getattr(weights, f"{name}_weights")) + getattr(weights, f"{name}_bias")
        return tf.minimum(tf.nn.relu(y), 20.0) if clip else y

    y = tf.reshape(windows, [-1, 19 * 26])
    for name in ("layer_1", "layer_2", "layer_3"):
        y = dense(y, name)
    y = tf.reshape(y, [-1, 1, hidden])
    none = tf.zeros([hidden])
    lstm = tf.raw_ops.BlockLSTM(
        seq_len_max=tf.constant(length, tf.int64),
        x=y,
        cs_prev=c,
        h_prev=h,
        w=weights.lstm_kernel,
        wci=none,
        wcf=none,
        wco=none,
        b=weights.lstm_bias,
        forget_bias=0.0,
        cell_clip=-1.0,
        use_peephole=False,
    )
    mask = (np.arange(windows.shape[1]) < length).astype(np.float32)[:, None, None]
    outputs = lstm.h * mask
    y = dense(dense(tf.reshape(outputs, [-1, hidden]), "layer_5"), "layer_6", clip=False)
    logits = tf.nn.softmax(tf.reshape(y, [-1, 1, weights.n_output]))
    states_c = np.concatenate([c[None], lstm.cs.numpy()])
    states_h = np.concatenate([h[None], outputs.numpy()])
    return {
        "logits": logits.numpy(),
        "new_state_c": states_c[length],
        "new_state_h": states_h[length],
    }


def case(hidden: int, steps: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Random windows (1, steps, 19, 26) and states c, h (1, hidden)."""
    rng = np.random.default_rng((seed, hidden, steps))
    windows = rng.standard_normal((1, steps, 19, 26), dtype=np.float32)
    c = rng.standard_normal((1, hidden), dtype=np.float32)
    h = np.tanh(rng.standard_normal((1, hidden), dtype=np.float32))
    return windows, c, h
