"""Lowers products of matrices."""

from __future__ import annotations

import numpy as np

from asrbuild.architectures.onnx.lowering.builder import mb
from asrbuild.architectures.onnx.lowering.table import NodeCall, Var, lowers, rank_of
from asrbuild.architectures.onnx.lowering.values import Value, is_known, narrow

#: Limit of axes of Core ML's ``linear``.
_LINEAR_RANK = 3


@lowers("MatMul")
def matmul(call: NodeCall, x: Value, y: Value) -> Var:
    """A product; a ``linear`` layer if the second factor is a known matrix."""
    if is_known(y) and y.ndim == 2 and 2 <= rank_of(x) <= _LINEAR_RANK:
        return mb.linear(x=call.var(x), weight=np.ascontiguousarray(narrow(y).T))
    x, y = call.var(x), call.var(y)
    if rank_of(x) == 1 and rank_of(y) == 1:
        return mb.reduce_sum(x=mb.mul(x=x, y=y), axes=[0], keep_dims=False)
    if rank_of(x) == 1:
        made = mb.matmul(x=mb.expand_dims(x=x, axes=[0]), y=y)
        return mb.squeeze(x=made, axes=[rank_of(made) - 2])
    if rank_of(y) == 1:
        made = mb.matmul(x=x, y=mb.expand_dims(x=y, axes=[1]))
        return mb.squeeze(x=made, axes=[rank_of(made) - 1])
    return mb.matmul(x=x, y=y)


@lowers("Gemm")
def gemm(call: NodeCall, x: Value, y: Value, bias: Value = None) -> Var:
    """alpha x y + beta bias, with x and y transposed or not."""
    alpha, beta = (np.float32(call.attribute(name, 1.0)) for name in ("alpha", "beta"))
    x_turned, y_turned = (bool(call.attribute(name, 0)) for name in ("transA", "transB"))
    if is_known(y) and (bias is None or (is_known(bias) and bias.size in (1, _columns(call, y)))):
        rows = mb.transpose(x=call.var(x), perm=[1, 0]) if x_turned else call.var(x)
        weight = np.ascontiguousarray(narrow(y) if y_turned else narrow(y).T) * alpha
        given = 0 if bias is None else narrow(bias).ravel() * beta
        whole = np.broadcast_to(np.float32(given), (len(weight),)).copy()
        return mb.linear(x=rows, weight=weight, bias=whole)
    made = mb.matmul(x=call.var(x), y=call.var(y), transpose_x=x_turned, transpose_y=y_turned)
    if alpha != 1:
        made = mb.mul(x=made, y=alpha)
    if bias is None:
        return made
    added = call.var(bias)
    return mb.add(x=made, y=added if beta == 1 else mb.mul(x=added, y=beta))


def _columns(call: NodeCall, y: Value) -> int:
    return int(y.shape[0 if call.attribute("transB", 0) else 1])


@lowers("Einsum")
def einsum(call: NodeCall, *values: Value) -> Var:
    """A sum over named axes, written as products of matrices by coremltools' own helper."""
    from coremltools.converters.mil.frontend._utils import build_einsum_mil

    equation = call.attribute("equation").replace(" ", "")
    if len(values) != 2 or "..." in equation or "->" not in equation:
        raise call.no_form(f"the equation {equation}")
    given = [mb.const(val=call.var(v)) if is_known(v) else call.var(v) for v in values]
    return build_einsum_mil(given, equation, call.node.outputs[0])
