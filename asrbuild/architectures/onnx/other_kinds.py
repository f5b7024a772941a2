"""Recognises networks of speech that are not CTC by the names of their inputs and outputs.

The names are those of the usual exporters: Optimum for Whisper and other encoder-decoders of
Hugging Face, sherpa-onnx and NeMo for transducers.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from asrbuild.architectures.onnx.graph import Graph
from asrbuild.base.errors import AsrbuildError

_CTC = "build a CTC model of the same language: wav2vec2, QuartzNet, a conformer with a CTC head"


@dataclass(frozen=True)
class _Kind:
    """A kind of network: the names of inputs and outputs, any of which identifies it."""

    what: str
    inputs: re.Pattern[str]
    outputs: re.Pattern[str]
    fix: str


def _kind(what: str, inputs: str, outputs: str, fix: str) -> _Kind:
    return _Kind(what, re.compile(f"(?:{inputs})$"), re.compile(f"(?:{outputs})$"), fix)


_NONE = "(?!)"
_KINDS = (
    _kind(
        "a part of an encoder-decoder, which writes its words one token after the other",
        r"decoder_input_ids|past_key_values\b.*|encoder_hidden_states|encoder_attention_mask"
        r"|use_cache_branch|n_layer_(cross|self).*",
        r"present\b.*|encoder_hidden_states|n_layer_cross.*",
        _CTC,
    ),
    _kind(
        "a part of a transducer (predictor or joiner), which runs once a label and not once a row",
        r"decoder_outs?|predictor_outs?|dec_out|targets?|target_lengths?",
        r"decoder_outs?|predictor_outs?|joiner_outs?|joint_outs?|prednet_lengths",
        f"export the model's CTC head, if it has one; else {_CTC}",
    ),
    _kind(
        "an encoder without the layer that gives numbers for classes",
        _NONE,
        r"encoder_outs?|encoder_outputs?|encoded(_lengths)?|last_hidden_state",
        "export the model with its CTC head, such as Wav2Vec2ForCTC or EncDecCTCModel; an encoder "
        f"of a transducer or an encoder-decoder has none: {_CTC}",
    ),
)


def refuse_other_kinds(graph: Graph, file: Path, stated: Collection[str] = ()) -> None:
    """Raises for a part of a network that is not CTC.

    Args:
        stated: names with a role in the recipe, which do not count.

    Raises:
        AsrbuildError: it names the tensor that identifies the kind, and the alternative.
    """
    for kind in _KINDS:
        sides = (("input", kind.inputs, graph.inputs), ("output", kind.outputs, graph.outputs))
        for side, pattern, tensors in sides:
            names = (tensor.name for tensor in tensors if tensor.name not in stated)
            if (name := next(filter(pattern.match, names), None)) is not None:
                raise AsrbuildError(
                    f"the model is {kind.what}: it has the {side} {name}",
                    key="source.path",
                    file=file,
                    fix=kind.fix,
                )
