"""TensorFlow's example of keyword spotting: from the bytes of a WAV file to twelve words.

The network of ``speech_commands`` as its ``conv`` model freezes it, with random weights.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

WORDS = (
    "_silence_",
    "_unknown_",
    "yes",
    "no",
    "up",
    "down",
    "left",
    "right",
    "on",
    "off",
    "stop",
    "go",
)
CLASSES = len(WORDS)
SAMPLES = 16_000


def write_keywords(path: Path) -> Path:
    """Writes the frozen graph; imports TensorFlow."""
    import tensorflow as tf

    v1, rng = tf.compat.v1, np.random.default_rng(0)

    def weight(*shape: int) -> object:
        scale = (2 / np.prod(shape[:-1])) ** 0.5
        return v1.constant((rng.standard_normal(shape) * scale).astype(np.float32))

    graph = v1.Graph()
    with graph.as_default():
        wav = v1.placeholder(tf.string, [], name="wav_data")
        decoded = tf.raw_ops.DecodeWav(
            contents=wav, desired_channels=1, desired_samples=SAMPLES, name="decoded_sample_data"
        )
        spectrogram = tf.raw_ops.AudioSpectrogram(
            input=decoded.audio,
            window_size=480,
            stride=320,
            magnitude_squared=True,
            name="AudioSpectrogram",
        )
        mfcc = tf.raw_ops.Mfcc(
            spectrogram=spectrogram,
            sample_rate=decoded.sample_rate,
            upper_frequency_limit=4000,
            lower_frequency_limit=20,
            filterbank_channel_count=40,
            dct_coefficient_count=40,
            name="Mfcc",
        )
        x = v1.reshape(mfcc, [-1, 49 * 40])
        x = v1.reshape(x, [-1, 49, 40, 1])
        x = v1.nn.conv2d(x, weight(20, 8, 1, 8), strides=[1, 1, 1, 1], padding="SAME")
        x = v1.nn.max_pool(v1.nn.relu(x), [1, 2, 2, 1], [1, 2, 2, 1], "SAME")
        x = v1.nn.relu(v1.nn.conv2d(x, weight(10, 4, 8, 8), strides=[1, 1, 1, 1], padding="SAME"))
        x = v1.matmul(v1.reshape(x, [-1, 25 * 20 * 8]), weight(25 * 20 * 8, CLASSES))
        v1.nn.softmax(x, name="labels_softmax")
    path.write_bytes(graph.as_graph_def().SerializeToString())
    return path
