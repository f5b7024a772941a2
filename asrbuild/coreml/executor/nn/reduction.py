"""Reductions over ``axes``, or over all; removed axes stay as size 1 with ``keepDims``.

``reduce`` is the layer of before iOS 13, over the last three axes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from asrbuild.coreml.executor.nnweights import NnWeights
from asrbuild.coreml.executor.registry import MIL_OPS, nn_layer


def _register(name: str, mil_name: str) -> None:
    function = MIL_OPS[mil_name].run

    def compile_layer(layer: Any, weights: NnWeights) -> Any:
        params = getattr(layer, name)
        axes = None if params.reduceAll or not params.axes else np.array(params.axes)
        keep = params.keepDims
        return lambda x: np.atleast_1d(function(x, axes, keep))

    compile_layer.__doc__ = f"As MIL's ``{mil_name}``."
    nn_layer(name)(compile_layer)


for _name, _mil_name in (
    ("reduceL1", "reduce_l1_norm"),
    ("reduceL2", "reduce_l2_norm"),
    ("reduceMax", "reduce_max"),
    ("reduceMin", "reduce_min"),
    ("reduceSum", "reduce_sum"),
    ("reduceProd", "reduce_prod"),
    ("reduceMean", "reduce_mean"),
    ("reduceLogSum", "reduce_log_sum"),
    ("reduceSumSquare", "reduce_sum_square"),
    ("reduceLogSumExp", "reduce_log_sum_exp"),
):
    _register(_name, _mil_name)


@nn_layer("reduce")
def reduce(layer: Any, weights: NnWeights) -> Any:
    """Reduces one or all of the channel, height and width axes, the last three; they stay as 1."""
    params = layer.reduce
    axes = {"CHW": (-3, -2, -1), "HW": (-2, -1), "C": (-3,), "H": (-2,), "W": (-1,)}
    over = np.array(axes[params.ReduceAxis.Name(params.axis)])
    mode = params.ReduceOperation.Name(params.mode)
    if mode == "ARGMAX":
        return lambda x: np.expand_dims(np.argmax(x, over[0]), over[0]).astype(np.float32)
    if mode == "LOGSUM":
        epsilon = np.float32(params.epsilon or 1e-6)
        return lambda x: np.sum(np.log(x + epsilon), axis=tuple(over), keepdims=True)
    names = {
        "SUM": "sum",
        "AVG": "mean",
        "PROD": "prod",
        "SUMSQUARE": "sum_square",
        "L1": "l1_norm",
        "L2": "l2_norm",
        "MAX": "max",
        "MIN": "min",
    }
    function = MIL_OPS[f"reduce_{names[mode]}"].run
    return lambda x: function(x, over, True)
