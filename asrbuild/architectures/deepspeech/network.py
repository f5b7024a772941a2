"""The DeepSpeech acoustic network as data: its geometry, its weights and their variables' names.

Layers 1, 2, 3 and 5 are ``minimum(relu(x @ weights + bias), relu_clip)``; one LSTM stands between 3
and 5; layer 6 is linear, followed by a softmax. Shape source: DeepSpeech 0.7.1 ``create_model``.

A network trained with ``--layer_norm`` (DeepSpeech 0.9, Coqui STT) normalises the clipped values of
layers 1, 2, 3 and 5: ``gamma * (x - mean) / sqrt(variance + 1e-12) + beta`` over the units of a
step. Source: DeepSpeech 0.9.3 ``dense`` and ``tf.contrib.layers.layer_norm``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from asrbuild.base.array import Array
from asrbuild.base.errors import AsrbuildError

DENSE_LAYERS = ("layer_1", "layer_2", "layer_3", "layer_5", "layer_6")
LSTM_SCOPE = "cudnn_lstm/rnn/multi_rnn_cell/cell_0/cudnn_compatible_lstm_cell"
#: ``AcousticWeights`` field -> TensorFlow variable name, in graph order.
VARIABLES = {
    f"{layer}_{part}": f"{layer}/{part}" for layer in DENSE_LAYERS for part in ("weights", "bias")
} | {"lstm_kernel": f"{LSTM_SCOPE}/kernel", "lstm_bias": f"{LSTM_SCOPE}/bias"}
#: Layer that ``--layer_norm`` normalises -> the variables of its gamma and beta.
NORMALISED_LAYERS = ("layer_1", "layer_2", "layer_3", "layer_5")
NORM_PARTS = ("gamma", "beta")
NORM_VARIABLES = tuple(
    f"{layer}/LayerNorm/{part}" for layer in NORMALISED_LAYERS for part in NORM_PARTS
)
#: ``variance_epsilon`` of ``tf.contrib.layers.layer_norm`` in float32.
NORM_EPSILON = 1e-12
#: The variable with the LSTM's kernel and bias in one vector, in cuDNN's own order.
OPAQUE_KERNEL = "cudnn_lstm/opaque_kernel"
#: Names of optimizers' slots of a variable, and of its moving averages.
_SLOT = re.compile(
    r"adam|adagrad|adadelta|adafactor|rms_?prop|momentum|ftrl|novograd|yogi|optimi[sz]er|accumulator"
    r"|moving_?average|(?:^|_)(?:lamb|lars|sgd|ema|swa|vhat)(?:_|\d*$)",
    re.IGNORECASE,
)
#: Scalar variables of training.
_NUMBER = re.compile(
    r"(?:.*_)?(?:steps?|epochs?|iter(?:ations?)?|learning_rate|lr|beta_?[12](?:_power)?|loss|decay"
    r"|loss_scale|counter|count|momentum)(?:_\d+)?",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Geometry:
    """The sizes of the network.

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
    ``lstm_bias``: (4 * n_hidden,); it does not include the forget bias, which is 0 for DeepSpeech.
    ``norms``: layer -> gamma and beta, (n_hidden,) each; empty without ``--layer_norm``.
    """

    layer_1_weights: Array
    layer_1_bias: Array
    layer_2_weights: Array
    layer_2_bias: Array
    layer_3_weights: Array
    layer_3_bias: Array
    layer_5_weights: Array
    layer_5_bias: Array
    layer_6_weights: Array
    layer_6_bias: Array
    lstm_kernel: Array
    lstm_bias: Array
    norms: Mapping[str, tuple[Array, Array]] = field(default_factory=dict)

    @property
    def n_hidden(self) -> int:
        """Width of the dense layers and of the LSTM."""
        return int(self.layer_1_weights.shape[1])

    @property
    def n_output(self) -> int:
        """The number of classes, with the blank."""
        return int(self.layer_6_weights.shape[1])

    @property
    def n_features(self) -> int:
        """Values that layer 1 reads a step."""
        return int(self.layer_1_weights.shape[0])

    def named(self) -> dict[str, Array]:
        """TensorFlow variable name -> array, in graph order."""
        arrays = {variable: getattr(self, name) for name, variable in VARIABLES.items()}
        for layer, pair in self.norms.items():
            names = (f"{layer}/LayerNorm/{part}" for part in NORM_PARTS)
            arrays |= zip(names, pair, strict=True)
        return arrays


def network_variables(shapes: Mapping[str, Sequence[int]]) -> tuple[list[str], list[str]]:
    """The network's variables of a checkpoint, and its unknown variables.

    Records of training are in neither: an optimizer's slots and moving averages of the network's
    variables, and scalars such as step counters and learning rates.

    Args:
        shapes: every variable's shape by its name.
    """
    known = {*VARIABLES.values(), *NORM_VARIABLES}
    own = [name for name in shapes if name in known]
    owners = [*own, OPAQUE_KERNEL]
    others = [name for name in shapes if name not in known]
    return own, [name for name in others if not _is_record(name, shapes[name], owners)]


def _is_record(name: str, shape: Sequence[int], owners: Sequence[str]) -> bool:
    """Whether a variable is a record of training: ``layer_1/weights/Adam``, ``global_step``."""
    path = f"/{name}/"
    for owner in owners:
        before, found, after = path.partition(f"/{owner}/")
        if found and name != owner:
            return any(_SLOT.search(part) for part in f"{before}/{after}".split("/"))
    parts = name.split("/")
    scopes = {*DENSE_LAYERS, LSTM_SCOPE.partition("/")[0]}
    single = all(size == 1 for size in shape)
    return single and not scopes & set(parts) and _NUMBER.fullmatch(parts[-1]) is not None


def weights_from_named(arrays: dict[str, Array], *, file: str | None = None) -> AcousticWeights:
    """Makes weights of variables by their TensorFlow names, and checks that they fit together.

    Raises:
        AsrbuildError: a variable is missing, or the shapes do not fit together.
    """
    missing = [name for name in VARIABLES.values() if name not in arrays]
    if missing:
        raise AsrbuildError(
            f"not a DeepSpeech acoustic model: missing {', '.join(missing)}",
            file=file,
            fix=f"it has: {', '.join(sorted(arrays)[:20]) or 'no variables'}",
        )
    norms: dict[str, tuple[Array, Array]] = {}
    if any(name in arrays for name in NORM_VARIABLES):
        missing = [name for name in NORM_VARIABLES if name not in arrays]
        if missing:
            raise AsrbuildError(
                f"some layers are normalised, but the source has no {', '.join(missing)}",
                file=file,
                fix="--layer_norm normalises all of layers 1, 2, 3 and 5, or none",
            )
        gamma, beta = NORM_PARTS
        norms = {
            layer: (arrays[f"{layer}/LayerNorm/{gamma}"], arrays[f"{layer}/LayerNorm/{beta}"])
            for layer in NORMALISED_LAYERS
        }
    weights = AcousticWeights(**{own: arrays[name] for own, name in VARIABLES.items()}, norms=norms)
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
    wanted: dict[str, tuple[int, ...]] = {
        f"{layer}/weights": shape for layer, shape in expected.items()
    }
    wanted |= {f"{layer}/bias": (shape[1],) for layer, shape in expected.items()}
    wanted |= {
        f"{LSTM_SCOPE}/kernel": (2 * hidden, 4 * hidden),
        f"{LSTM_SCOPE}/bias": (4 * hidden,),
    }
    of_units: tuple[int, ...] = (hidden,)
    wanted |= dict.fromkeys(NORM_VARIABLES, of_units)
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
    """Random weights of a realistic scale, for benchmarks and tests.

    Biases are not zero, because coremltools removes the addition of zero biases.
    """
    rng = np.random.default_rng(seed)

    def dense(inputs: int, outputs: int) -> Array:
        scale = np.float32(np.sqrt(2.0 / inputs))
        return rng.standard_normal((inputs, outputs), dtype=np.float32) * scale

    def bias(outputs: int) -> Array:
        return rng.standard_normal(outputs, dtype=np.float32) * np.float32(0.1)

    arrays: dict[str, Array] = {}
    sizes = [(n_features, n_hidden)] + [(n_hidden, n_hidden)] * 3 + [(n_hidden, n_output)]
    for layer, (inputs, outputs) in zip(DENSE_LAYERS, sizes, strict=True):
        arrays[f"{layer}_weights"] = dense(inputs, outputs)
        arrays[f"{layer}_bias"] = bias(outputs)
    arrays["lstm_kernel"] = dense(2 * n_hidden, 4 * n_hidden) * np.float32(0.7)
    arrays["lstm_bias"] = bias(4 * n_hidden)
    return AcousticWeights(**arrays, norms={})
