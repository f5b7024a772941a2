"""Small CTC networks with random weights, in the forms that exporters write."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT32, INT64 = TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64


class Net:
    """Collects the nodes of a graph."""

    def __init__(self, opset: int = 17, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.opset = opset
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []

    def input(self, name: str, shape: Sequence[int | str], kind: int = FLOAT) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def op(self, op: str, *inputs: str, count: int = 1, name: str = "", **attributes: Any) -> Any:
        """Adds a node; returns the name of its output, or the names."""
        base = name or f"{op.lower()}_{len(self.nodes)}"
        made = [base] if count == 1 else [f"{base}_{at}" for at in range(count)]
        self.nodes.append(helper.make_node(op, inputs, made, f"/{base}", **attributes))
        return made[0] if count == 1 else made

    def const(self, value: Any, dtype: type = np.int64) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def weight(self, *shape: int, scale: float | None = None) -> str:
        fan_in = int(np.prod(shape[1:])) or 1
        scale = fan_in**-0.5 if scale is None else scale
        return self.const(scale * self.rng.standard_normal(shape), np.float32)

    def positive(self, *shape: int) -> str:
        return self.const(self.rng.uniform(0.5, 1.5, shape), np.float32)

    def dense(self, x: str, inputs: int, outputs: int, name: str = "") -> str:
        weight = self.const(self.rng.standard_normal((inputs, outputs)) * inputs**-0.5, np.float32)
        return self.op(
            "Add", self.op("MatMul", x, weight), self.weight(outputs, scale=0.1), name=name
        )

    def size(self, x: str, axis: int) -> str:
        """The size of an axis as a vector of length one, in the form of exporters."""
        size = self.op("Gather", self.op("Shape", x), self.const(axis), axis=0)
        return self.op("Unsqueeze", size, self.const([0]))

    def layer_norm(self, x: str, width: int) -> str:
        """Layer normalisation in single operations, in the form of older exporters."""
        mean = self.op("ReduceMean", x, axes=[-1])
        off = self.op("Sub", x, mean)
        square = self.op("Pow", off, self.const(2.0, np.float32))
        variance = self.op("ReduceMean", square, axes=[-1])
        floor = self.op("Add", variance, self.const(1e-5, np.float32))
        unit = self.op("Div", off, self.op("Sqrt", floor))
        scaled = self.op("Mul", unit, self.positive(width))
        return self.op("Add", scaled, self.weight(width, scale=0.1))

    def silu(self, x: str) -> str:
        return self.op("Mul", x, self.op("Sigmoid", x))

    def gelu(self, x: str) -> str:
        scaled = self.op("Div", x, self.const(2**0.5, np.float32))
        one = self.op("Add", self.op("Erf", scaled), self.const(1.0, np.float32))
        whole = self.op("Mul", x, one)
        return self.op("Mul", whole, self.const(0.5, np.float32))

    def heads(self, x: str, heads: int, width: int) -> str:
        """(1, T, heads * width) as (1, heads, T, width)."""
        shape = self.op(
            "Concat",
            self.const([1]),
            self.size(x, 1),
            self.const([heads]),
            self.const([width]),
            axis=0,
        )
        return self.op("Transpose", self.op("Reshape", x, shape), perm=[0, 2, 1, 3])

    def attention(self, x: str, width: int, heads: int, past: str | None = None) -> str:
        """Softmax of products; ``past``: rows before x that the attention includes."""
        kept = x if past is None else self.op("Concat", past, x, axis=1)
        each = width // heads
        q = self.heads(self.dense(x, width, width), heads, each)
        k, v = (self.heads(self.dense(kept, width, width), heads, each) for _ in range(2))
        scores = self.op("MatMul", q, self.op("Transpose", k, perm=[0, 1, 3, 2]))
        scaled = self.op("Mul", scores, self.const(each**-0.5, np.float32))
        mixed = self.op("MatMul", self.op("Softmax", scaled, axis=-1), v)
        rows = self.op("Transpose", mixed, perm=[0, 2, 1, 3])
        shape = self.op("Concat", self.const([1]), self.size(x, 1), self.const([width]), axis=0)
        return self.dense(self.op("Reshape", rows, shape), width, width)

    def batch_norm(self, x: str, width: int) -> str:
        given = self.positive(width), self.weight(width), self.weight(width), self.positive(width)
        return self.op("BatchNormalization", x, *given)

    def save(self, path: Path, *outputs: str) -> Path:
        infos = [helper.make_empty_tensor_value_info(name) for name in outputs]
        graph = helper.make_graph(self.nodes, "net", self.inputs, infos, self.weights)
        opsets = [helper.make_opsetid("", self.opset)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
        path.write_bytes(onnx.shape_inference.infer_shapes(model).SerializeToString())
        return path


def quartznet(path: Path, channels: int = 48, classes: int = 29) -> Path:
    """Separable convolutions with residuals; (1, 64, T) -> log probabilities at T / 2."""
    net = Net(opset=13, seed=1)

    def separable(x: str, inputs: int, outputs: int, taps: int, stride: int = 1) -> str:
        deep = net.op(
            "Conv",
            x,
            net.weight(inputs, 1, taps),
            group=inputs,
            strides=[stride],
            pads=[taps // 2] * 2,
        )
        wide = net.op("Conv", deep, net.weight(outputs, inputs, 1))
        return net.batch_norm(wide, outputs)

    x = net.op("Relu", separable(net.input("mel", ["batch", 64, "time"]), 64, channels, 11, 2))
    for taps in (11, 13):
        skipped = net.batch_norm(net.op("Conv", x, net.weight(channels, channels, 1)), channels)
        inner = net.op("Relu", separable(x, channels, channels, taps))
        x = net.op("Relu", net.op("Add", separable(inner, channels, channels, taps), skipped))
    scores = net.op("Conv", x, net.weight(classes, channels, 1), net.weight(classes))
    rows = net.op("Transpose", scores, perm=[0, 2, 1])
    return net.save(path, net.op("LogSoftmax", rows, axis=-1, name="logprobs"))


def subsampled(net: Net, mel: str, width: int) -> str:
    """Two strided 2-D convolutions; (1, T, 40) -> (1, T / 4, width)."""
    x = net.op("Unsqueeze", mel, net.const([1]))
    for inputs, groups in ((1, 1), (8, 8)):
        weight = net.weight(8, inputs // groups, 3, 3)
        x = net.op("Conv", x, weight, strides=[2, 2], pads=[1] * 4, group=groups)
        x = net.op("Relu", x)
    x = net.op("Transpose", x, perm=[0, 2, 1, 3])
    shape = net.op("Concat", net.const([1]), net.size(x, 1), net.const([80]), axis=0)
    return net.dense(net.op("Reshape", x, shape), 80, width)


def conformer(path: Path, width: int = 48, heads: int = 4, classes: int = 33) -> Path:
    """One block with every part of a conformer; (1, T, 40) -> log probabilities."""
    net = Net(seed=2)
    x = subsampled(net, net.input("mel", ["batch", "time", 40]), width)
    x = conformer_block(net, x, width, heads)
    scores = net.dense(x, width, classes)
    return net.save(path, net.op("LogSoftmax", scores, axis=-1, name="logprobs"))


def feed_forward(net: Net, x: str, width: int) -> str:
    inner = net.silu(net.dense(net.layer_norm(x, width), width, 2 * width))
    half = net.op("Mul", net.dense(inner, 2 * width, width), net.const(0.5, np.float32))
    return net.op("Add", x, half)


def conformer_block(
    net: Net, x: str, width: int, heads: int, past: str | None = None, cache: str | None = None
) -> Any:
    """``past``, ``cache``: rows of attention and of the convolution that a stream carries."""
    taps = 7
    x = feed_forward(net, x, width)
    normed = net.layer_norm(x, width)
    attended = net.op("Add", x, net.attention(normed, width, heads, past))
    turned = net.op("Transpose", net.layer_norm(attended, width), perm=[0, 2, 1])
    doubled = net.op("Conv", turned, net.weight(2 * width, width, 1), net.weight(2 * width))
    value, gate = net.op("Split", doubled, count=2, axis=1)
    gated = net.op("Mul", value, net.op("Sigmoid", gate))
    pads = [taps // 2] * 2
    if cache is not None:
        gated, pads = net.op("Concat", cache, gated, axis=2), [0, 0]
    deep = net.op("Conv", gated, net.weight(width, 1, taps), group=width, pads=pads)
    inner = net.silu(net.batch_norm(deep, width))
    back = net.op("Transpose", net.op("Conv", inner, net.weight(width, width, 1)), perm=[0, 2, 1])
    out = net.layer_norm(feed_forward(net, net.op("Add", attended, back), width), width)
    return out if cache is None else (out, normed, gated)


def streaming_conformer(path: Path, width: int = 48, left: int = 12, classes: int = 33) -> Path:
    """A chunk of 16 frames with the caches of attention and convolution as states."""
    net = Net(seed=3)
    mel = net.input("mel", [1, 16, 40])
    past = net.input("attn_cache", [1, left, width])
    cache = net.input("conv_cache", [1, width, 6])
    x = subsampled(net, mel, width)
    x, normed, gated = conformer_block(net, x, width, 4, past, cache)
    rows = net.op("Concat", past, normed, axis=1)
    big = net.const([np.iinfo(np.int64).max])
    net.op("Slice", rows, net.const([-left]), big, net.const([1]), name="attn_out")
    net.op("Slice", gated, net.const([-6]), big, net.const([2]), name="conv_out")
    scores = net.dense(x, width, classes)
    net.op("LogSoftmax", scores, axis=-1, name="logprobs")
    return net.save(path, "logprobs", "attn_out", "conv_out")


def bigru(path: Path, size: int = 24, classes: int = 31) -> Path:
    """A strided convolution and a GRU in both directions; (1, T, 40) -> log probabilities."""
    net = Net(opset=13, seed=4)
    x = net.op("Unsqueeze", net.input("mel", [1, "frames", 40]), net.const([1]))
    x = net.op("Conv", x, net.weight(4, 1, 5, 5), strides=[2, 2], pads=[2] * 4)
    x = net.op("Clip", x, net.const(0.0, np.float32), net.const(20.0, np.float32))
    x = net.op("Transpose", x, perm=[2, 0, 1, 3])
    shape = net.op("Concat", net.size(x, 0), net.const([1]), net.const([80]), axis=0)
    x = net.op("Reshape", x, shape)
    layer = net.op(
        "GRU",
        x,
        net.weight(2, 3 * size, 80, scale=0.1),
        net.weight(2, 3 * size, size, scale=min(0.2, size**-0.5)),
        net.weight(2, 6 * size, scale=0.1),
        count=2,
        hidden_size=size,
        direction="bidirectional",
        linear_before_reset=1,
    )
    both = net.op("Transpose", layer[0], perm=[2, 0, 1, 3])
    rows = net.op("Reshape", both, net.const([1, -1, 2 * size]))
    scores = net.dense(rows, 2 * size, classes)
    return net.save(path, net.op("LogSoftmax", scores, axis=-1, name="logprobs"))


def streaming_lstm(path: Path, size: int = 32, classes: int = 29) -> Path:
    """A causal convolution and an LSTM, whose rows and states go in and out; (1, T, 40) frames."""
    net = Net(seed=5)
    mel = net.input("mel", [1, "time", 40])
    past = net.input("cc", [1, 4, 40])
    states = net.input("h", [1, 1, size]), net.input("c", [1, 1, size])
    joined = net.op("Concat", past, mel, axis=1)
    big = net.const([np.iinfo(np.int64).max])
    net.op("Slice", joined, net.const([-4]), big, net.const([1]), name="cc_out")
    turned = net.op("Transpose", joined, perm=[0, 2, 1])
    x = net.op("Relu", net.op("Conv", turned, net.weight(size, 40, 5), net.weight(size)))
    x = net.op("Transpose", x, perm=[2, 0, 1])
    layer = net.op(
        "LSTM",
        x,
        *(net.weight(1, 4 * size, size, scale=0.2) for _ in range(2)),
        net.weight(1, 8 * size, scale=0.1),
        "",
        *states,
        count=3,
        hidden_size=size,
    )
    net.op("Identity", layer[1], name="hn")
    net.op("Identity", layer[2], name="cn")
    rows = net.op("Transpose", net.op("Squeeze", layer[0], net.const([1])), perm=[1, 0, 2])
    scores = net.dense(rows, size, classes)
    net.op("LogSoftmax", scores, axis=-1, name="logprobs")
    return net.save(path, "logprobs", "cc_out", "hn", "cn")


def wav2vec2(path: Path, width: int = 32, classes: int = 32) -> Path:
    """Samples through strided convolutions with GELU, then attention; logits every 160 samples."""
    net = Net(seed=6)
    wave = net.input("wave", ["batch", "samples"])
    mean = net.op("ReduceMean", wave, axes=[1])
    off = net.op("Sub", wave, mean)
    variance = net.op("ReduceMean", net.op("Mul", off, off), axes=[1])
    floor = net.op("Sqrt", net.op("Add", variance, net.const(1e-7, np.float32)))
    x = net.op("Unsqueeze", net.op("Div", off, floor), net.const([1]))
    for at, (taps, stride) in enumerate(((10, 5), (8, 8), (4, 4))):
        x = net.op("Conv", x, net.weight(width, width if at else 1, taps), strides=[stride])
        if at == 0:
            ones, zeros = net.positive(width), net.weight(width)
            x = net.op("InstanceNormalization", x, ones, zeros)
        x = net.gelu(x)
    x = net.layer_norm(net.op("Transpose", x, perm=[0, 2, 1]), width)
    x = net.op("Add", x, net.attention(net.layer_norm(x, width), width, 4))
    inner = net.gelu(net.dense(net.layer_norm(x, width), width, 2 * width))
    x = net.op("Add", x, net.dense(inner, 2 * width, width))
    return net.save(path, net.dense(x, width, classes, name="logits"))
