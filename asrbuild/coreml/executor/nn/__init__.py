"""Neural network layers; importing this package registers them all.

A layer's function takes the ``NeuralNetworkLayer`` message and the weights, and returns a function
from input arrays to the output array, or to a list of output arrays. Source: the layers' comments
in Core ML's ``NeuralNetwork.proto``, and coremltools' ``NeuralNetworkBuilder``, by layer name.
"""

from __future__ import annotations

from asrbuild.coreml.executor.nn import (  # noqa: F401
    activation,
    control,
    convolution,
    elementwise,
    indexing,
    linear,
    movement,
    normalization,
    random,
    recurrent,
    reduction,
    resizing,
)
