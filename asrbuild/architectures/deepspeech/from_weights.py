"""The front end ``mil``: builds the DeepSpeech network from its weights, without TensorFlow.

coremltools' MIL builder makes the program, its passes and back ends write it. Weights are passed in
the precision of the package, because plain conversion spends its time and memory on them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from asrbuild.architectures.deepspeech.layout import FREEZE_WEIGHT, Layout, lay_out
from asrbuild.architectures.deepspeech.network import AcousticWeights, Geometry
from asrbuild.architectures.deepspeech.signature import (
    INPUT_LENGTHS,
    INPUT_NODE,
    LAYERS,
    OUTPUTS,
    REAL_SAMPLES,
    SIGNATURE,
    STATES,
    check_layers,
    of_samples,
    of_samples_sized,
    sized,
)
from asrbuild.base.errors import AsrbuildError
from asrbuild.coreml.convert import write_model
from asrbuild.coreml.request import (
    ConversionRequest,
    model_outputs,
    specification_version,
)
from asrbuild.coreml.signature import SAMPLES
from asrbuild.speech.mfcc import FeatureSettings

#: A neural network's LSTM always clips its cell; a cell that grows by up to 1 a step could reach
#: coremltools' own limit of 500.
NEURALNETWORK_CELL_CLIP = 50000.0


@dataclass(frozen=True)
class _Types:
    """Numpy types of the computation, the stored dense weights, the lstm and its weights."""

    compute: type
    dense: type
    lstm: type
    lstm_stored: type


def convert_weights(
    weights: AcousticWeights,
    request: ConversionRequest,
    destination: Path,
    geometry: Geometry | None = None,
    front_end: FeatureSettings | None = None,
) -> None:
    """Writes the package ``destination`` (``.mlpackage`` or ``.mlmodel``), replacing an old one.

    The same weights and request give the same bytes in every process and on every day.

    Args:
        geometry: window, coefficients and ReLU clip; None: DeepSpeech 0.7's.
        front_end: settings of the features that the package computes; None: the app computes them.

    Raises:
        AsrbuildError: the request is impossible, or the weights do not fit it.
    """
    check_layers(request)
    model_outputs(request, SIGNATURE)
    if front_end is not None and request.format == "neuralnetwork":
        raise AsrbuildError(
            "a neuralnetwork stores weights in half precision; a front end needs more",
            key="features.place",
            fix="choose coreml=mlprogram, or leave features.place=app",
        )
    geometry = geometry or Geometry(26, 9, weights.n_hidden, weights.n_output)
    if geometry.n_features != weights.n_features:
        raise AsrbuildError(
            f"layer 1 reads {weights.n_features} values, a window of {geometry.n_window} frames "
            f"has {geometry.n_features}",
            key="n_context",
        )
    types = _types(request)
    layout = lay_out(
        weights,
        request.lstm,
        types.dense,
        types.lstm_stored,
        geometry.relu_clip,
        request.precision,
        FREEZE_WEIGHT["compressed" if "lstm" in request.compress else "exact"],
    )
    signature = (
        sized(geometry.n_window, geometry.n_input, layout.n_hidden, layout.n_output)
        if front_end is None
        else of_samples_sized(front_end, layout.n_hidden, layout.n_output)
    )
    write_model(
        lambda steps, inputs: _body(layout, request, geometry, types, front_end, steps, inputs),
        signature,
        request,
        destination,
        LAYERS,
    )


def _types(request: ConversionRequest) -> _Types:
    if request.format == "neuralnetwork" or request.precision == "fp32":
        return _Types(np.float32, np.float32, np.float32, np.float32)
    version = specification_version(request)
    if version >= 8 or request.lstm != "native":
        return _Types(np.float16, np.float16, np.float16, np.float16)
    # Before iOS17 an lstm op is fp32; from iOS16 on, constexpr_cast stores its weights in fp16.
    return _Types(np.float16, np.float16, np.float32, np.float16 if version == 7 else np.float32)


def _body(
    layout: Layout,
    request: ConversionRequest,
    geometry: Geometry,
    types: _Types,
    front_end: FeatureSettings | None,
    steps: int | None,
    inputs: Mapping[str, Any],
) -> dict[str, Any]:
    from asrbuild.architectures.deepspeech.program import Network, as_type, probabilities_and_state

    if front_end is not None:
        from asrbuild.architectures.front_end.spectra import frames, windows

        coefficients = frames(inputs[SAMPLES], front_end)
        found, lengths = windows(coefficients, front_end, inputs[REAL_SAMPLES])
        found = as_type(found, types.compute, "windows")
        if steps is not None:
            steps = of_samples(front_end).rows.of(steps)
    else:
        found, lengths = inputs[INPUT_NODE], inputs[INPUT_LENGTHS]
    network = Network(
        layout,
        geometry.relu_clip,
        steps,
        types.compute,
        types.lstm,
        cell_clip=NEURALNETWORK_CELL_CLIP if request.format == "neuralnetwork" else None,
        share_weights=bool(request.functions),
        unrolled=request.lstm == "unrolled",
    )
    states = [inputs[pair.input] for pair in STATES]
    made = probabilities_and_state(network, found, lengths, *states)
    return dict(zip(OUTPUTS, made, strict=True))
