"""The multiply-adds of one run of an op or layer, from the shapes of its inputs and outputs.

Each is a closed formula; ops without matrix products, such as sums and activations, count 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from asrbuild.handover.fit.operations import Operation
from asrbuild.handover.fit.predicates import is_true, scalars

Sizes = tuple[int, ...]


@dataclass(frozen=True)
class Shapes:
    """The shapes in one run: those of each argument's values, and of the results.

    All blobs of a layer are the argument ``input``.
    """

    operands: Mapping[str, list[Sizes]]
    results: tuple[Sizes, ...]

    def one(self, name: str) -> Sizes:
        """The shape of an argument with one value."""
        return self.operands[name][0]


Formula = Callable[[Operation, Shapes], int]


def multiply_adds(operation: Operation, shapes: Shapes) -> int | None:
    """The multiply-adds of one run, without those in blocks; None if the kind is not counted."""
    if operation.kind in UNCOUNTED:
        return None
    formula = (OPS if operation.message is None else LAYERS).get(operation.kind)
    return 0 if formula is None else formula(operation, shapes)


def _linear(operation: Operation, shapes: Shapes) -> int:
    return math.prod(shapes.results[0]) * shapes.one("weight")[1]


def _matmul(operation: Operation, shapes: Shapes) -> int:
    x = shapes.one("x")
    turned = is_true(operation.operand("transpose_x")) and len(x) > 1
    return math.prod(shapes.results[0]) * x[-2 if turned else -1]


def _conv(operation: Operation, shapes: Shapes) -> int:
    return math.prod(shapes.results[0]) * math.prod(shapes.one("weight")[1:])


def _conv_transpose(operation: Operation, shapes: Shapes) -> int:
    # Every value of the input is multiplied with the whole kernel of its group.
    return math.prod(shapes.one("x")) * math.prod(shapes.one("weight")[1:])


def _einsum(operation: Operation, shapes: Shapes) -> int:
    (equation,) = scalars(operation.operand("equation"))
    sizes: dict[str, int] = {}
    for term, shape in zip(
        equation.replace(" ", "").split("->")[0].split(","), shapes.operands["values"], strict=True
    ):
        for letter, size in zip(term, shape, strict=True):
            sizes[letter] = max(size, sizes.get(letter, 1))
    return math.prod(sizes.values())


def _attention(operation: Operation, shapes: Shapes) -> int:
    query, key, value = (shapes.one(name) for name in ("query", "key", "value"))
    return math.prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


def _recurrent(operation: Operation, shapes: Shapes) -> int:
    """Steps x batch x weights, for one or both directions."""
    steps, batch = shapes.one("x")[:2]
    names = ("weight_ih", "weight_hh", "weight_ih_back", "weight_hh_back")
    given = (shapes.one(name) for name in names if name in operation.operands)
    return steps * batch * sum(map(math.prod, given))


def _inner_product(operation: Operation, shapes: Shapes) -> int:
    params = operation.message.innerProduct
    values = math.prod(shapes.one("input"))
    return values // int(params.inputChannels) * int(params.inputChannels * params.outputChannels)


def _batched_product(operation: Operation, shapes: Shapes) -> int:
    params, given = operation.message.batchedMatmul, shapes.operands["input"]
    x = given[0]
    if len(given) == 1:
        return math.prod(x) * int(params.weightMatrixSecondDimension)
    return math.prod(shapes.results[0]) * x[-2 if params.transposeA and len(x) > 1 else -1]


def _convolution(operation: Operation, shapes: Shapes) -> int:
    params = operation.message.convolution
    kernel = math.prod(params.kernelSize or (3, 3)) * int(params.kernelChannels)
    if params.isDeconvolution:
        per_group = int(params.outputChannels) // max(1, int(params.nGroups))
        size = math.prod(params.kernelSize or (3, 3)) * per_group
        return math.prod(shapes.one("input")) * size
    return math.prod(shapes.results[0]) * kernel


def _recurrent_layer(operation: Operation, shapes: Shapes) -> int:
    steps, batch = shapes.one("input")[:2]
    width = int(getattr(operation.message, operation.kind).inputVectorSize)
    hidden, rows = _hidden_rows(operation)
    return steps * batch * rows * (width + hidden)


def _hidden_rows(operation: Operation) -> tuple[int, int]:
    """Units of a recurrent layer, and rows of its weights: one a unit, gate and direction."""
    hidden = int(getattr(operation.message, operation.kind).outputVectorSize)
    return hidden, _GATES[operation.kind] * hidden


def _dot(operation: Operation, shapes: Shapes) -> int:
    return math.prod(shapes.one("input"))


#: Recurrent layer -> number of its gates in all directions.
_GATES = {"uniDirectionalLSTM": 4, "biDirectionalLSTM": 8, "gru": 3, "simpleRecurrent": 1}
#: Op of an ML program -> its formula.
OPS: dict[str, Formula] = {
    "linear": _linear,
    "matmul": _matmul,
    "conv": _conv,
    "conv_transpose": _conv_transpose,
    "einsum": _einsum,
    "scaled_dot_product_attention": _attention,
    "lstm": _recurrent,
    "gru": _recurrent,
    "rnn": _recurrent,
}
#: Layer of a neural network -> its formula.
LAYERS: dict[str, Formula] = {
    "innerProduct": _inner_product,
    "batchedMatmul": _batched_product,
    "convolution": _convolution,
    "dot": _dot,
    **dict.fromkeys(_GATES, _recurrent_layer),
}
#: Kinds with products that no formula here counts.
UNCOUNTED = ("conv_quantized", "custom", "custom_layer", "convolution3d")


def hidden_weights(operation: Operation, shapes: Shapes) -> tuple[int, int]:
    """The number of products of a recurrent op with its hidden weights, and of these weights.

    Returns:
        steps of the run, and elements of the hidden weights; (1, 0) for any other op.
    """
    if operation.message is not None and operation.kind in _GATES:
        hidden, rows = _hidden_rows(operation)
        return shapes.one("input")[0], rows * hidden
    if operation.message is None and operation.kind in ("lstm", "gru", "rnn"):
        names = ("weight_hh", "weight_hh_back")
        given = (shapes.one(name) for name in names if name in operation.operands)
        return shapes.one("x")[0], sum(map(math.prod, given))
    return 1, 0
