"""The DeepSpeech 0.7 acoustic network as data: its geometry and its weights.

Layers 1, 2, 3 and 5 are ``minimum(relu(x @ weights + bias), relu_clip)``; one LSTM stands between 3
and 5; layer 6 is linear, followed by a softmax. Shape source: DeepSpeech 0.7.1 ``create_model``.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from asrbuild.errors import AsrbuildError

DENSE_LAYERS = ("layer_1", "layer_2", "layer_3", "layer_5", "layer_6")
LSTM_SCOPE = "cudnn_lstm/rnn/multi_rnn_cell/cell_0/cudnn_compatible_lstm_cell"
#: ``AcousticWeights`` field -> TensorFlow variable name, in graph order.
VARIABLES = {
    f"{layer}_{part}": f"{layer}/{part}" for layer in DENSE_LAYERS for part in ("weights", "bias")
} | {"lstm_kernel": f"{LSTM_SCOPE}/kernel", "lstm_bias": f"{LSTM_SCOPE}/bias"}


@dataclass(frozen=True)
class Geometry:
    """Sizes that shape the network.

    Args:
        n_input: MFCC coefficients a frame.
        n_context: frames on each side of the current one; a window has ``2 * n_context + 1``.
        n_hidden: width of the dense layers and of the LSTM.
        n_output: classes, alphabet size + 1 (the CTC blank is last).
        relu_clip: upper limit of the clipped ReLU.
    """

    n_input: int
    n_context: int
    n_hidden: int
    n_output: int
    relu_clip: float = 20.0

    @property
    def n_window(self) -> int:
        """Frames in one input window, the current one in the middle."""
        return 2 * self.n_context + 1

    @property
    def n_features(self) -> int:
        """Width of the flattened input window."""
        return self.n_window * self.n_input


@dataclass(frozen=True, eq=False)
class AcousticWeights:
    """Weights as TensorFlow stores them, float32.

    Dense ``weights``: (inputs, outputs), ``bias``: (outputs,). ``lstm_kernel``: (2 * n_hidden,
    4 * n_hidden), rows input then previous hidden; columns in BlockLSTM's gate order i, c, f, o.
    ``lstm_bias``: (4 * n_hidden,); the forget bias is not in it and is 0 for DeepSpeech.
    """

    layer_1_weights: np.ndarray
    layer_1_bias: np.ndarray
    layer_2_weights: np.ndarray
    layer_2_bias: np.ndarray
    layer_3_weights: np.ndarray
    layer_3_bias: np.ndarray
    layer_5_weights: np.ndarray
    layer_5_bias: np.ndarray
    layer_6_weights: np.ndarray
    layer_6_bias: np.ndarray
    lstm_kernel: np.ndarray
    lstm_bias: np.ndarray

    @property
    def n_hidden(self) -> int:
        return int(self.layer_1_weights.shape[1])

    @property
    def n_output(self) -> int:
        return int(self.layer_6_weights.shape[1])

    @property
    def n_features(self) -> int:
        return int(self.layer_1_weights.shape[0])

    def named(self) -> dict[str, np.ndarray]:
        """TensorFlow variable name -> array, in graph order."""
        return {VARIABLES[field.name]: getattr(self, field.name) for field in fields(self)}


def weights_from_named(
    arrays: dict[str, np.ndarray], *, file: str | None = None
) -> AcousticWeights:
    """Builds weights from variables by their TensorFlow names, and checks that they fit together.

    Raises:
        AsrbuildError: a variable is missing, or the shapes do not make one network.
    """
    missing = [name for name in VARIABLES.values() if name not in arrays]
    if missing:
        raise AsrbuildError(
            f"not a DeepSpeech acoustic model: missing {', '.join(missing)}",
            file=file,
            fix=f"it has: {', '.join(sorted(arrays)[:20]) or 'no variables'}",
        )
    weights = AcousticWeights(**{field: arrays[name] for field, name in VARIABLES.items()})
    _check_shapes(weights, file)
    return weights


def _check_shapes(weights: AcousticWeights, file: str | None) -> None:
    hidden, output, features = weights.n_hidden, weights.n_output, weights.n_features
    hidden_in_5 = weights.layer_5_weights.shape[0] if weights.layer_5_weights.ndim == 2 else -1
    expected = {
        "layer_1": (features, hidden),
        "layer_2": (hidden, hidden),
        "layer_3": (hidden, hidden),
        "layer_5": (hidden, hidden),
        "layer_6": (hidden, output),
    }
    wanted = {f"{layer}/weights": shape for layer, shape in expected.items()}
    wanted |= {f"{layer}/bias": (shape[1],) for layer, shape in expected.items()}
    wanted |= {
        f"{LSTM_SCOPE}/kernel": (2 * hidden, 4 * hidden),
        f"{LSTM_SCOPE}/bias": (4 * hidden,),
    }
    for name, array in weights.named().items():
        if tuple(array.shape) != wanted[name] or array.dtype != np.float32:
            raise AsrbuildError(
                f"{name} is {array.dtype} {tuple(array.shape)}, expected float32 {wanted[name]} "
                f"for n_hidden {hidden} (layer 5 reads {hidden_in_5})",
                file=file,
                fix="only single-LSTM DeepSpeech 0.6 to 0.9 networks of one width are supported",
            )


def random_weights(
    n_hidden: int, seed: int = 0, *, n_output: int = 29, n_features: int = 494
) -> AcousticWeights:
    """Untrained weights at a realistic scale, biases not zero: for benchmarks and tests.

    With zero biases coremltools deletes the adds, and the graph is no longer like a trained one.
    """
    rng = np.random.default_rng(seed)

    def dense(inputs: int, outputs: int) -> np.ndarray:
        scale = np.float32(np.sqrt(2.0 / inputs))
        return rng.standard_normal((inputs, outputs), dtype=np.float32) * scale

    def bias(outputs: int) -> np.ndarray:
        return rng.standard_normal(outputs, dtype=np.float32) * np.float32(0.1)

    arrays: dict[str, np.ndarray] = {}
    sizes = [(n_features, n_hidden)] + [(n_hidden, n_hidden)] * 3 + [(n_hidden, n_output)]
    for layer, (inputs, outputs) in zip(DENSE_LAYERS, sizes, strict=True):
        arrays[f"{layer}_weights"] = dense(inputs, outputs)
        arrays[f"{layer}_bias"] = bias(outputs)
    arrays["lstm_kernel"] = dense(2 * n_hidden, 4 * n_hidden) * np.float32(0.7)
    arrays["lstm_bias"] = bias(4 * n_hidden)
    return AcousticWeights(**arrays)
