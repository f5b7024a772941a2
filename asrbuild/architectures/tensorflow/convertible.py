"""Finds the operations of a frozen graph that ``coremltools.convert`` does not support.

The table is that of coremltools 9.0's TensorFlow front end (``tf_op_registry``), which a test
compares, so that neither coremltools nor TensorFlow is imported.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from asrbuild.architectures.tensorflow.proto import DType, Graph, Node, called_function, input_name

#: Operations with a translation of their own.
_TRANSLATED = """
    Abs Acos Add AddN AddV2 Addons>Resampler All Any ArgMax ArgMin Asin Atan Atanh
    AudioSpectrogram AvgPool AvgPool3D BatchMatMul BatchMatMulV2 BatchToSpaceND BiasAdd
    BlockLSTM BlockLSTMV2 BroadcastTo Cast Ceil ClipByValue Complex Concat ConcatV2 Const Conv2D
    Conv2DBackpropInput Conv3D Conv3DBackpropInputV2 Cos Cosh CropAndResize Cross Cumsum
    DepthToSpace DepthwiseConv2dNative DivNoNan ELU ERF Einsum Elu Equal Erf EuclideanNorm Exp
    ExpandDims ExtractImagePatches FFT FakeQuantWithMinMaxVars Fill Floor FloorDiv FloorMod
    FusedBatchNorm FusedBatchNormV3 Gather GatherNd GatherV2 Greater GreaterEqual IFFT IRFFT
    Identity IdentityN If Imag ImageProjectiveTransformV2 ImageProjectiveTransformV3 InTopK
    InTopKV2 IsFinite LRN LSTMBlockCell LeakyReLU LeakyRelu Less LessEqual Log Log1p LogSoftmax
    LogicalAnd LogicalNot LogicalOr LogicalXor MatMul MatrixBandPart MatrixDiag Max MaxPool
    MaxPool3D Maximum Mean Mfcc Min Minimum MirrorPad Mul Multinomial Neg NonMaxSuppression
    NonMaxSuppressionV3 NonMaxSuppressionV5 NotEqual OneHot Pack Pad PadV2 Placeholder Pow Print
    Prod RFFT RandomStandardNormal RandomUniform Range Real RealDiv Reciprocal Relu Relu6
    Resampler Reshape ResizeBilinear ResizeNearestNeighbor Reverse ReverseSequence ReverseV2
    Round Rsqrt ScatterNd Select SelectV2 Selu Shape Sigmoid Sign Sin Sinh Size Slice Softmax
    SoftmaxCrossEntropyWithLogits Softplus Softsign SpaceToBatchND SpaceToDepth
    SparseSoftmaxCrossEntropyWithLogits Split SplitV Sqrt Square SquaredDifference Squeeze
    StatelessIf StatelessWhile StopGradient StridedSlice Sub Sum Tan Tanh TensorArrayGatherV3
    TensorArrayReadV3 TensorArrayScatterV3 TensorArraySizeV3 TensorArrayV3 TensorArrayWriteV3
    TensorListFromTensor TensorListGather TensorListGetItem TensorListLength TensorListReserve
    TensorListScatterIntoExistingList TensorListSetItem TensorListStack TensorScatterAdd Tile
    TopK TopKV2 Transpose Unpack Where While ZerosLike
"""
TRANSLATED = frozenset(_TRANSLATED.split())
#: Operations that coremltools rewrites or removes before it translates: TF1 control flow (its
#: ``functionalize_loops`` and ``cond_to_where``), assertions, and placeholders with a default.
_REWRITTEN = """
    Assert CheckNumerics Enter Exit LoopCond Merge NextIteration NoOp PlaceholderWithDefault Switch
"""
REWRITTEN = frozenset(_REWRITTEN.split())
#: Operations that draw random numbers, such as dropout: runs differ, so there is no proof.
RANDOM = frozenset(
    """
    Multinomial RandomShuffle RandomStandardNormal RandomUniform RandomUniformInt TruncatedNormal
    """.split()
)
#: Element types of TensorFlow's quantised tensors (types.proto), which coremltools does not know.
_QUANTISED = {11: "qint8", 12: "quint8", 13: "qint32", 15: "qint16", 16: "quint16"}
#: Operations with a variable; a graph with one is not frozen.
VARIABLES = frozenset(
    ["AutoReloadVariable", "TemporaryVariable", "VarHandleOp", "Variable", "VariableV2"]
)


@dataclass(frozen=True)
class Unconvertible:
    """An operation without a Core ML form.

    Args:
        op: its kind.
        count: number of nodes of this kind, including those in functions.
        node: the first of them; ``function/node`` inside a function.
        outputs: the outputs of the graph that depend on one of them.
    """

    op: str
    count: int
    node: str
    outputs: tuple[str, ...]


def unconvertible(graph: Graph, outputs: Iterable[str]) -> tuple[Unconvertible, ...]:
    """The operations between inputs and ``outputs`` that cannot be converted.

    Operations on constants alone do not count, because coremltools computes them. Constants of a
    quantised type count, because coremltools cannot read them.
    """
    found: dict[str, list[str]] = {}
    needed_by: dict[str, list[str]] = {}
    varying = _varying(graph)
    for output in outputs:
        for place, op in _operations(graph, output, varying):
            if op in TRANSLATED or op in REWRITTEN:
                continue
            places, needing = found.setdefault(op, []), needed_by.setdefault(op, [])
            if place not in places:
                places.append(place)
            if output not in needing:
                needing.append(output)
    return tuple(
        Unconvertible(op, len(places), places[0], tuple(needed_by[op]))
        for op, places in sorted(found.items())
    )


def random_nodes(graph: Graph, outputs: Iterable[str]) -> list[str]:
    """The nodes behind ``outputs`` that draw random numbers, each with its operation."""
    varying = _varying(graph)
    found = (each for output in outputs for each in _operations(graph, output, varying))
    return sorted({f"{place} ({op})" for place, op in found if op in RANDOM})


def other_front_end(graph: Graph, outputs: Iterable[str]) -> str | None:
    """The keys that let coremltools convert a graph, or None if it cannot."""
    here = [name for name in outputs if name in graph.by_name]
    if not here or unconvertible(graph, here) or random_nodes(graph, here):
        return None
    return "coreml.frontend=tensorflow coreml.lstm=loop"


def _varying(graph: Graph) -> set[str]:
    """The nodes whose value is known only at run time."""
    readers: dict[str, list[str]] = {}
    for node in graph.nodes:
        for reference in node.inputs:
            readers.setdefault(input_name(reference), []).append(node.name)
    # A node without inputs that is not a constant: a placeholder, a variable, a random number.
    waiting = [node.name for node in graph.nodes if not node.inputs and node.op != "Const"]
    more = RANDOM | {"PlaceholderWithDefault"}
    waiting += [node.name for node in graph.nodes if node.op in more]
    varying: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in varying:
            varying.add(name)
            waiting += readers.get(name, ())
    return varying


def _operations(graph: Graph, output: str, varying: set[str]) -> Iterator[tuple[str, str]]:
    """Yields (place, kind) of every operation behind ``output``, including called functions."""
    waiting, seen = [output], set()
    called: list[str] = []
    while waiting:
        name = waiting.pop()
        node = graph.by_name.get(name)
        if name in seen or node is None:
            continue
        seen.add(name)
        if name not in varying:
            waiting += [input_name(reference) for reference in node.inputs]
            dtype = node.attrs.get("dtype")
            if node.op == "Const" and isinstance(dtype, DType) and dtype.number in _QUANTISED:
                yield name, f"Const of {_QUANTISED[dtype.number]}"
            continue
        waiting += [input_name(reference) for reference in node.inputs]
        called += [f for f in _called(node) if f in graph.functions]
        yield name, node.op
    done: set[str] = set()
    while called:
        function = called.pop()
        if function in done:
            continue
        done.add(function)
        for node in graph.functions[function]:
            called += [f for f in _called(node) if f in graph.functions]
            yield f"{function}/{node.name}", node.op


def _called(node: Node) -> Iterator[str]:
    for value in node.attrs.values():
        if (name := called_function(value)) is not None:
            yield name
