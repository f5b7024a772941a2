"""Writes a frozen inference graph from weights, as DeepSpeech 0.7.1 does, without TensorFlow.

Node names, operations, shapes and metadata are those of DeepSpeech's ``create_inference_graph`` run
under TensorFlow 1.15 (with layer normalisation, that of 0.9.3): the LSTM is the ``BlockLSTM`` of
``LSTMBlockFusedCell`` with a sequence mask, and its final state is gathered at ``input_lengths``.
Attributes newer than TensorFlow 1.15 are not written: the native client's TensorFlow does not know
them, and would return an empty text without an error.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from asrbuild.architectures.deepspeech.flags import GRAPH_VERSION, ExportFlags, check_flags
from asrbuild.architectures.deepspeech.network import LSTM_SCOPE, NORM_EPSILON, AcousticWeights
from asrbuild.architectures.tensorflow.proto import (
    BOOL,
    FLOAT,
    INT32,
    INT64,
    AttrValue,
    DType,
    Graph,
    Node,
    Shape,
    constant,
    write_graph,
)
from asrbuild.base.array import Array

#: ``TF_GRAPH_DEF_VERSION`` of TensorFlow 1.15, whose operations the graph has.
PRODUCER = 134
#: TensorFlow 1.15 stores fewer zeros than this as a constant, others as a ``Fill``.
_SMALL_ZEROS = 1000


class _Builder:
    """Collects nodes; each method adds one operation and returns its name."""

    def __init__(self, scope: str = "", nodes: list[Node] | None = None) -> None:
        self.scope = scope
        self.nodes: list[Node] = [] if nodes is None else nodes

    def within(self, scope: str) -> _Builder:
        return _Builder(f"{self.scope}{scope}/", self.nodes)

    def add(self, op: str, name: str, *inputs: str, **attrs: AttrValue) -> str:
        full = self.scope + name
        self.nodes.append(Node(full, op, inputs, attrs))
        return full

    def placeholder(self, name: str, dtype: DType, dims: Sequence[int | None]) -> str:
        return self.add("Placeholder", name, dtype=dtype, shape=Shape(tuple(dims)))

    def const(self, name: str, value: Array) -> str:
        tensor = constant(value)
        return self.add("Const", name, dtype=tensor.dtype, value=tensor)

    def ints(self, name: str, value: int | Sequence[int]) -> str:
        return self.const(name, np.array(value, np.int32))

    def text(self, name: str, value: bytes) -> str:
        array = np.empty(1, object)
        array[0] = value
        return self.const(name, array)

    def variable(self, name: str, value: Array) -> str:
        """Adds a frozen variable: its value, and the read."""
        return self.add("Identity", f"{name}/read", self.const(name, value), T=FLOAT)

    def reshape(self, name: str, value: str, shape: Sequence[int]) -> str:
        target = self.ints(f"{name}/shape", shape)
        return self.add("Reshape", name, value, target, T=FLOAT, Tshape=INT32)

    def transpose(self, name: str, value: str, axes: Sequence[int]) -> str:
        order = self.ints(f"{name}/perm", axes)
        return self.add("Transpose", name, value, order, T=FLOAT, Tperm=INT32)

    def expand(self, name: str, value: str, axis: int, dtype: DType) -> str:
        where = self.ints(f"{name}/dim", axis)
        return self.add("ExpandDims", name, value, where, T=dtype, Tdim=INT32)


def write_frozen_graph(
    weights: AcousticWeights,
    flags: ExportFlags,
    alphabet_labels: Sequence[str | bytes],
    destination: Path,
) -> None:
    """Writes ``output_graph.pb``; the same arguments give the same bytes.

    Args:
        weights: the weights, which are never copied.
        flags: the settings of the graph, checked against the weights.
        alphabet_labels: text of each class but the blank, in order.
        destination: the file to write.

    Raises:
        AsrbuildError: flags, weights and alphabet do not fit together, or the file cannot be
        written.
    """
    check_flags(flags, weights, len(alphabet_labels))
    write_graph(build_graph(weights, flags, alphabet_labels), destination)


def build_graph(
    weights: AcousticWeights, flags: ExportFlags, alphabet_labels: Sequence[str | bytes]
) -> Graph:
    """The frozen graph as data, with references to the weights."""
    build = _Builder()
    _features(build, flags)
    batch, width = flags.batch_size, flags.n_hidden
    window = 2 * flags.n_context + 1
    node = build.placeholder(
        "input_node", FLOAT, [batch, flags.static_steps, window, flags.n_input]
    )
    lengths = build.placeholder("input_lengths", INT32, [batch])
    state_c = build.placeholder("previous_state_c", FLOAT, [batch, width])
    state_h = build.placeholder("previous_state_h", FLOAT, [batch, width])

    # Time first: [n_steps * batch, features] for the dense layers.
    x = build.transpose("transpose", node, [1, 0, 2, 3])
    x = build.reshape("Reshape_1", x, [-1, window * flags.n_input])
    x = _dense(build, "layer_1", "", x, weights, flags.relu_clip)
    x = _dense(build, "layer_2", "_1", x, weights, flags.relu_clip)
    x = _dense(build, "layer_3", "_2", x, weights, flags.relu_clip)
    x = build.reshape("Reshape_2", x, [-1, batch, width])
    x, new_c, new_h = _lstm(build, x, lengths, state_c, state_h, weights, flags)
    x = build.reshape("Reshape_3", x, [-1, width])
    x = _dense(build, "layer_5", "_3", x, weights, flags.relu_clip)
    x = _dense(build, "layer_6", "_4", x, weights, None)
    x = build.reshape("raw_logits", x, [-1, batch, weights.n_output])
    build.add("Softmax", "logits", x, T=FLOAT)
    build.add("Identity", "new_state_c", new_c, T=FLOAT)
    build.add("Identity", "new_state_h", new_h, T=FLOAT)
    _metadata(build, flags, alphabet_labels)
    return Graph(tuple(build.nodes), PRODUCER)


def _features(build: _Builder, flags: ExportFlags) -> None:
    """Adds the features: one window of samples [window_samples] to ``mfccs`` [1, n_input]."""
    samples = build.placeholder("input_samples", FLOAT, [flags.window_samples])
    column = build.expand("ExpandDims", samples, -1, FLOAT)
    spectrogram = build.add(
        "AudioSpectrogram",
        "AudioSpectrogram",
        column,
        window_size=flags.window_samples,
        stride=flags.step_samples,
        magnitude_squared=True,
    )
    rate = build.ints("Mfcc/sample_rate", flags.audio_sample_rate)
    mfcc = build.add(
        "Mfcc",
        "Mfcc",
        spectrogram,
        rate,
        upper_frequency_limit=flags.upper_hz,
        lower_frequency_limit=20.0,
        filterbank_channel_count=40,
        dct_coefficient_count=flags.n_input,
    )
    build.add("Identity", "mfccs", build.reshape("Reshape", mfcc, [-1, flags.n_input]), T=FLOAT)


def _dense(
    build: _Builder,
    layer: str,
    suffix: str,
    x: str,
    weights: AcousticWeights,
    relu_clip: float | None,
) -> str:
    """Adds a dense layer: ``x @ weights + bias``.

    Unless ``relu_clip`` is None, ``minimum(relu(...), relu_clip)`` follows, and the layer's
    normalisation if it has one.
    """
    bias = build.variable(f"{layer}/bias", getattr(weights, f"{layer}_bias"))
    kernel = build.variable(f"{layer}/weights", getattr(weights, f"{layer}_weights"))
    x = build.add(
        "MatMul", f"MatMul{suffix}", x, kernel, T=FLOAT, transpose_a=False, transpose_b=False
    )
    x = build.add("BiasAdd", f"BiasAdd{suffix}", x, bias, T=FLOAT, data_format=b"NHWC")
    if relu_clip is None:
        return x
    x = build.add("Relu", f"Relu{suffix}", x, T=FLOAT)
    limit = build.const(f"Minimum{suffix}/y", np.array(relu_clip, np.float32))
    x = build.add("Minimum", f"Minimum{suffix}", x, limit, T=FLOAT)
    return _normalised(build, layer, x, *weights.norms[layer]) if layer in weights.norms else x


def _normalised(build: _Builder, layer: str, x: str, gamma: Array, beta: Array) -> str:
    """Adds ``gamma * (x - mean) / sqrt(variance + epsilon) + beta`` over a step's units.

    Source: ``tf.contrib.layers.layer_norm``, with ``tf.nn.moments`` and ``batch_normalization``.
    """
    offset = build.variable(f"{layer}/LayerNorm/beta", beta)
    scale = build.variable(f"{layer}/LayerNorm/gamma", gamma)
    # The scope of the variables is opened a second time, so TensorFlow numbers that of the
    # operations.
    norm = build.within(f"{layer}_1/LayerNorm")
    mean = _mean(norm, "moments/mean", x)
    still = norm.add("StopGradient", "moments/StopGradient", mean, T=FLOAT)
    squares = norm.add("SquaredDifference", "moments/SquaredDifference", x, still, T=FLOAT)
    variance = _mean(norm, "moments/variance", squares)
    epsilon = norm.const("batchnorm/add/y", np.array(NORM_EPSILON, np.float32))
    variance = norm.add("AddV2", "batchnorm/add", variance, epsilon, T=FLOAT)
    factor = norm.add("Rsqrt", "batchnorm/Rsqrt", variance, T=FLOAT)
    factor = norm.add("Mul", "batchnorm/mul", factor, scale, T=FLOAT)
    scaled = norm.add("Mul", "batchnorm/mul_1", x, factor, T=FLOAT)
    shift = norm.add("Mul", "batchnorm/mul_2", mean, factor, T=FLOAT)
    shift = norm.add("Sub", "batchnorm/sub", offset, shift, T=FLOAT)
    return norm.add("AddV2", "batchnorm/add_1", scaled, shift, T=FLOAT)


def _mean(build: _Builder, name: str, x: str) -> str:
    axes = build.ints(f"{name}/reduction_indices", [1])
    return build.add("Mean", name, x, axes, T=FLOAT, Tidx=INT32, keep_dims=True)


def _lstm(
    build: _Builder,
    x: str,
    lengths: str,
    state_c: str,
    state_h: str,
    weights: AcousticWeights,
    flags: ExportFlags,
) -> tuple[str, str, str]:
    """Adds the LSTM; returns masked outputs [n_steps, batch, n_hidden] and the final states."""
    kernel = build.variable(f"{LSTM_SCOPE}/kernel", weights.lstm_kernel)
    bias = build.variable(f"{LSTM_SCOPE}/bias", weights.lstm_bias)
    cell = build.within(LSTM_SCOPE)
    steps = _time_length(cell, x, flags.static_steps)
    peephole = _zeros(cell, flags.n_hidden)
    longest = cell.add(
        "Max", "Max", lengths, cell.ints("Const", [0]), T=INT32, Tidx=INT32, keep_dims=False
    )
    longest = cell.add("Cast", "Cast", longest, SrcT=INT32, DstT=INT64, Truncate=False)
    block = cell.add(
        "BlockLSTM",
        "BlockLSTM",
        longest,
        x,
        state_c,
        state_h,
        kernel,
        peephole,
        peephole,
        peephole,
        bias,
        T=FLOAT,
        forget_bias=0.0,
        cell_clip=-1.0,
        use_peephole=False,
    )
    cells, outputs = f"{block}:1", f"{block}:6"
    outputs = _mask(cell, outputs, lengths, steps, flags.n_hidden)
    # With the previous state in front, index n is the state after n steps, also for n = 0.
    before_c = cell.expand("ExpandDims_1", state_c, 0, FLOAT)
    all_c = _concat(cell, "concat", before_c, cells)
    before_h = cell.expand("ExpandDims_2", state_h, 0, FLOAT)
    all_h = _concat(cell, "concat_1", before_h, outputs)
    new_c = _state_at(cell, "", all_c, lengths, flags.batch_size)
    new_h = _state_at(cell, "_1", all_h, lengths, flags.batch_size)
    return outputs, new_c, new_h


def _time_length(cell: _Builder, x: str, steps: int | None) -> str:
    """The length of x's time axis: a constant, or read from x at run time."""
    if steps is not None:
        return cell.ints("SequenceMask/maxlen", steps)
    shape = cell.add("Shape", "Shape", x, T=FLOAT, out_type=INT32)
    ends = [cell.ints("strided_slice/stack", [0]), cell.ints("strided_slice/stack_1", [1])]
    stride = cell.ints("strided_slice/stack_2", [1])
    masks = dict.fromkeys(("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask"), 0)
    return cell.add(
        "StridedSlice",
        "strided_slice",
        shape,
        *ends,
        stride,
        T=INT32,
        Index=INT32,
        shrink_axis_mask=1,
        **masks,
    )


def _zeros(cell: _Builder, width: int) -> str:
    """The peephole weights that DeepSpeech does not use."""
    if width < _SMALL_ZEROS:
        return cell.const("zeros", np.zeros(width, np.float32))
    dims = cell.ints("zeros/shape_as_tensor", [width])
    zero = cell.const("zeros/Const", np.array(0, np.float32))
    return cell.add("Fill", "zeros", dims, zero, T=FLOAT, index_type=INT32)


def _mask(cell: _Builder, outputs: str, lengths: str, steps: str, width: int) -> str:
    """The outputs with zeros from each utterance's length on."""
    mask = cell.within("SequenceMask")
    times = mask.add(
        "Range", "Range", mask.ints("Const", 0), steps, mask.ints("Const_1", 1), Tidx=INT32
    )
    ends = mask.expand("ExpandDims", lengths, -1, INT32)
    ends = mask.add("Cast", "Cast", ends, SrcT=INT32, DstT=INT32, Truncate=False)
    valid = mask.add("Less", "Less", times, ends, T=INT32)
    valid = mask.add("Cast", "Cast_1", valid, SrcT=BOOL, DstT=FLOAT, Truncate=False)
    valid = cell.transpose("transpose", valid, [1, 0])
    # TensorFlow writes this axis as a vector of one element.
    axis = cell.ints("ExpandDims/dim", [-1])
    valid = cell.add("ExpandDims", "ExpandDims", valid, axis, T=FLOAT, Tdim=INT32)
    multiples = cell.ints("Tile/multiples", [1, 1, width])
    valid = cell.add("Tile", "Tile", valid, multiples, T=FLOAT, Tmultiples=INT32)
    return cell.add("Mul", "mul", outputs, valid, T=FLOAT)


def _concat(cell: _Builder, name: str, first: str, rest: str) -> str:
    axis = cell.ints(f"{name}/axis", 0)
    return cell.add("ConcatV2", name, first, rest, axis, N=2, T=FLOAT, Tidx=INT32)


def _state_at(cell: _Builder, suffix: str, states: str, lengths: str, batch: int) -> str:
    """states [1 + n_steps, batch, n_hidden] at each utterance's length: [batch, n_hidden]."""
    span = cell.within(f"range{suffix}")
    limits = [span.ints("start", 0), span.ints("limit", batch), span.ints("delta", 1)]
    rows = cell.add("Range", f"range{suffix}", *limits, Tidx=INT32)
    index = cell.add("Pack", f"stack{suffix}", lengths, rows, N=2, T=INT32, axis=1)
    return cell.add("GatherNd", f"GatherNd{suffix}", states, index, Tindices=INT32, Tparams=FLOAT)


def _metadata(build: _Builder, flags: ExportFlags, labels: Sequence[str | bytes]) -> None:
    """Metadata for the native client: one-element vectors, durations in ms."""
    build.ints("metadata_version", [GRAPH_VERSION])
    build.ints("metadata_sample_rate", [flags.audio_sample_rate])
    build.ints("metadata_feature_win_len", [flags.feature_win_len])
    build.ints("metadata_feature_win_step", [flags.feature_win_step])
    build.ints("metadata_beam_width", [flags.beam_width])
    build.text("metadata_alphabet", pack_alphabet(labels))
    if flags.export_language:
        build.text("metadata_language", flags.export_language.encode())


def pack_alphabet(labels: Sequence[str | bytes]) -> bytes:
    """The client's form of an alphabet: the count, then index, size and UTF-8 of each label."""
    packed = struct.pack("<H", len(labels))
    for index, label in enumerate(labels):
        text = label.encode() if isinstance(label, str) else label
        packed += struct.pack("<HH", index, len(text)) + text
    return packed
