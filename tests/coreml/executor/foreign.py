"""Keras models, converted by coremltools; a program for a separate process.

``python foreign.py folder``: each Keras model of ``MODELS`` becomes ``<name>-<kind>.mlpackage`` or
``.mlmodel``, and ``<name>.npz`` with an input ``x`` and TensorFlow's output ``y``.

It imports TensorFlow before coremltools, which a shared test process cannot guarantee.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["TQDM_DISABLE"] = "1"

import numpy as np
import tensorflow as tf

layers = tf.keras.layers
Shape = tuple[int, ...]


def stacked(shape: Shape, *chain: Any) -> Any:
    x = given = tf.keras.Input(shape[1:], batch_size=shape[0])
    for layer in chain:
        x = layer(x)
    return tf.keras.Model(given, x)


def images(shape: Shape) -> Any:
    """Convolutions of every kind, pools, normalisation: a classifier."""
    return stacked(
        shape,
        layers.Conv2D(8, 3, strides=2, padding="same"),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.DepthwiseConv2D(3),
        layers.MaxPool2D(),
        layers.SeparableConv2D(12, 3, padding="same"),
        layers.LeakyReLU(),
        layers.Conv2DTranspose(6, 3, strides=2, padding="same"),
        layers.GlobalAveragePooling2D(),
        layers.Dense(10, activation="softmax"),
    )


def attention(shape: Shape) -> Any:
    """A transformer's encoder block."""
    given = tf.keras.Input(shape[1:], batch_size=shape[0])
    x = layers.MultiHeadAttention(4, 8)(given, given)
    x = layers.LayerNormalization()(x + given)
    y = layers.Dense(shape[-1])(layers.Dense(64, activation="swish")(x))
    return tf.keras.Model(given, layers.LayerNormalization()(x + y))


def recurrent(shape: Shape) -> Any:
    """Keras' LSTM and GRU, unrolled: single ops split and join the gates."""
    return stacked(
        shape,
        layers.Bidirectional(layers.LSTM(8, return_sequences=True, unroll=True)),
        layers.GRU(8, return_sequences=True, reset_after=True, unroll=True),
        layers.GRU(6, reset_after=False, unroll=True),
        layers.Dense(4, activation="softmax"),
    )


def causal(shape: Shape) -> Any:
    """Dilated convolutions over time, as in a keyword spotter."""
    return stacked(
        shape,
        layers.Conv1D(8, 3, dilation_rate=2, padding="causal", activation="relu"),
        layers.Conv1D(8, 3, dilation_rate=4, padding="causal"),
        layers.GlobalMaxPooling1D(),
        layers.Dense(3),
    )


MODELS: dict[str, tuple[Callable[[Shape], Any], Shape]] = {
    "images": (images, (1, 32, 32, 3)),
    "attention": (attention, (1, 12, 32)),
    "recurrent": (recurrent, (2, 7, 6)),
    "causal": (causal, (1, 40, 5)),
}


def main(folder: Path) -> None:
    import coremltools as ct

    kinds: dict[str, dict[str, Any]] = {
        "fp32": {"convert_to": "mlprogram", "compute_precision": ct.precision.FLOAT32},
        "fp16": {"convert_to": "mlprogram", "compute_precision": ct.precision.FLOAT16},
        "network": {"convert_to": "neuralnetwork"},
    }
    for name, (build, shape) in MODELS.items():
        tf.keras.utils.set_random_seed(7)
        model = build(shape)
        for weight in model.weights:  # not the initial ones: biases 0, variances 1
            noise = tf.random.normal(weight.shape, stddev=0.1, seed=3)
            weight.assign(weight + (tf.abs(noise) if "variance" in weight.path else noise))
        spec = tf.TensorSpec(shape, tf.float32, name="x")
        call = tf.function(lambda x, m=model: m(x, training=False), input_signature=[spec])
        concrete = call.get_concrete_function()
        x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        y = concrete(tf.constant(x))
        np.savez(folder / f"{name}.npz", x=x, y=(y[0] if isinstance(y, list) else y).numpy())
        for kind, options in kinds.items():
            converted = ct.convert([concrete], source="tensorflow", skip_model_load=True, **options)
            suffix = "mlmodel" if kind == "network" else "mlpackage"
            converted.save(str(folder / f"{name}-{kind}.{suffix}"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
