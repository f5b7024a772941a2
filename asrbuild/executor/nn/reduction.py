"""Reductions over ``axes``, or over all; removed axes stay as size 1 with ``keepDims``."""

from __future__ import annotations

from typing import Any

import numpy as np

from asrbuild.executor.nnweights import NnWeights
from asrbuild.executor.registry import MIL_OPS, nn_layer


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
