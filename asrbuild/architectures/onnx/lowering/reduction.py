"""Lowers sums, means, norms and extremes along axes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from asrbuild.architectures.onnx.lowering.builder import mb
from asrbuild.architectures.onnx.lowering.table import LOWERINGS, NodeCall, Var, lowers, rank_of
from asrbuild.architectures.onnx.lowering.values import Value

_REDUCTIONS = {
    "ReduceL1": "reduce_l1_norm",
    "ReduceL2": "reduce_l2_norm",
    "ReduceLogSumExp": "reduce_log_sum_exp",
    "ReduceMax": "reduce_max",
    "ReduceMean": "reduce_mean",
    "ReduceMin": "reduce_min",
    "ReduceProd": "reduce_prod",
    "ReduceSum": "reduce_sum",
    "ReduceSumSquare": "reduce_sum_square",
}


def _reduction(name: str) -> Callable[..., Var]:
    def lower(call: NodeCall, x: Value, axes: Value = None) -> Value:
        found = call.axes(axes)
        if not found and call.attribute("noop_with_empty_axes", 0):
            return x
        x = call.var(x)
        return getattr(mb, name)(
            x=x,
            axes=found or list(range(rank_of(x))),
            keep_dims=bool(call.attribute("keepdims", 1)),
        )

    return lower


LOWERINGS.update({op: _reduction(name) for op, name in _REDUCTIONS.items()})


@lowers("ReduceLogSum")
def log_sum(call: NodeCall, x: Value, axes: Value = None) -> Var:
    """The logarithm of a sum."""
    return mb.log(x=LOWERINGS["ReduceSum"](call, x, axes), epsilon=np.float32(0))


@lowers("ArgMax", "ArgMin")
def extreme_index(call: NodeCall, x: Value) -> Var:
    """The index of the first largest or smallest element."""
    if call.attribute("select_last_index", 0):
        raise call.no_form("select_last_index")
    write = mb.reduce_argmax if call.node.op == "ArgMax" else mb.reduce_argmin
    keep = bool(call.attribute("keepdims", 1))
    return write(x=call.var(x), axis=call.attribute("axis", 0), keep_dims=keep)
