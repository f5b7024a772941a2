"""The signature of a DeepSpeech network, with the names of DeepSpeech's exporter.

Source: DeepSpeech 0.9.3 ``create_inference_graph``. The node ``logits`` is a softmax.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from asrbuild.architectures.front_end.signature import samples_port
from asrbuild.base.errors import AsrbuildError
from asrbuild.coreml.choices import SPECIFICATION_VERSIONS
from asrbuild.coreml.compression import Layers
from asrbuild.coreml.signature import (
    SAMPLES,
    STEPS,
    Axis,
    Context,
    Port,
    Rows,
    Signature,
    StatePair,
)

if TYPE_CHECKING:
    from asrbuild.coreml.request import ConversionRequest
    from asrbuild.speech.mfcc import FeatureSettings

INPUT_NODE, INPUT_LENGTHS = "input_node", "input_lengths"
#: The input with the range of samples of the recording, if the front end is in the package.
REAL_SAMPLES = "real_samples"
LOGITS = "logits"
#: The LSTM's states, cell and output: (input, output, name of Core ML's own state).
STATES = (
    StatePair("previous_state_c", "new_state_c", "state_c"),
    StatePair("previous_state_h", "new_state_h", "state_h"),
)
OUTPUTS = (LOGITS, *(pair.output for pair in STATES))
#: The layer that stays uncompressed: layer 1 reads MFCC without scaling, the first of them near
#: -50, so its weights are the most sensitive: int8 costs 10 dB of the probabilities. At n_hidden
#: 2048 it has 2 % of all weights.
LAYERS = Layers(
    ("layer_1", "layer_2", "layer_3", "lstm", "layer_5", "layer_6"),
    recurrent="lstm",
    kept=("layer_1",),
)
_STATE_AXES = (Axis("batch", 1), Axis("hidden"))

SIGNATURE = Signature(
    inputs=(
        Port(
            INPUT_NODE,
            (Axis("batch", 1), Axis(STEPS), Axis("window"), Axis("coefficient")),
            "features",
            "context windows of MFCC, zeros past the last real step",
        ),
        Port(
            INPUT_LENGTHS,
            (Axis("batch", 1),),
            "step_count",
            f"number of real steps in {INPUT_NODE}",
            "int32",
        ),
        *(
            Port(
                pair.input,
                _STATE_AXES,
                "state",
                f"zeros at the start of an utterance, then {pair.output}",
            )
            for pair in STATES
        ),
    ),
    outputs=(
        Port(
            LOGITS,
            (Axis(STEPS), Axis("batch", 1), Axis("class")),
            "probabilities",
            "already softmaxed; one row a step, the CTC blank is last",
        ),
        *(Port(pair.output, _STATE_AXES, "state", f"feed back as {pair.input}") for pair in STATES),
    ),
    states=STATES,
)


def sized(window: int, coefficients: int, hidden: int, classes: int) -> Signature:
    """The signature of one network; ``window``: frames of an input step."""
    return _sized(SIGNATURE.sized(INPUT_NODE, 1, None, window, coefficients), hidden, classes)


def of_samples(settings: FeatureSettings) -> Signature:
    """The signature with the front end in the package.

    A call has the samples of the context frames on each side of its new samples. Frames that are
    not wholly inside the recording are zeros, as at the ends of a recording, and do not advance the
    LSTM.
    """
    edge = settings.n_context * settings.stride
    inputs = (
        samples_port(),
        Port(
            REAL_SAMPLES,
            (Axis("bounds", 2),),
            "step_range",
            f"first of the {SAMPLES} that are of the recording, and their end",
            "int32",
        ),
        *(port for port in SIGNATURE.inputs if port.meaning == "state"),
    )
    return replace(
        SIGNATURE,
        inputs=inputs,
        rows=Rows(settings.stride, settings.stride - settings.window - 2 * edge),
        context=Context(causal=False, left=edge, right=edge, trimmed=True),
    )


def of_samples_sized(settings: FeatureSettings, hidden: int, classes: int) -> Signature:
    """The signature of one network with the front end in the package."""
    return _sized(of_samples(settings), hidden, classes)


def _sized(found: Signature, hidden: int, classes: int) -> Signature:
    found = found.sized(LOGITS, None, 1, classes)
    for pair in STATES:
        found = found.sized(pair.input, 1, hidden).sized(pair.output, 1, hidden)
    return found


def check_layers(request: ConversionRequest) -> None:
    """Raises for a compression of the LSTM that Core ML does not support.

    Raises:
        AsrbuildError: before iOS17, its fp16 weights are cast.
    """
    from asrbuild.coreml.request import specification_version

    version = specification_version(request)
    native_half = request.lstm == "native" and request.precision == "fp16"
    if "lstm" in request.compress and native_half and version < SPECIFICATION_VERSIONS["iOS17"]:
        raise AsrbuildError(
            "before iOS17 an lstm op computes in fp32: its fp16 weights go through a cast already, "
            "and nothing can be put before that",
            key="coreml.compress_layers.lstm",
            fix="leave coreml.minimum_deployment_target=auto, or set coreml.lstm=loop or "
            "coreml.compress_layers.lstm=none",
        )
