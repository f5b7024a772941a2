"""Parts of networks that are not CTC are refused, and the error names their kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from onnx import helper

from asrbuild.architectures.onnx.section import OnnxConfig
from asrbuild.architectures.onnx.settle import settled
from asrbuild.base.errors import AsrbuildError
from tests.architectures.onnx.conftest import FLOAT, INT64


@pytest.mark.parametrize(
    ("inputs", "output", "what", "shows"),
    [
        # Whisper's decoder as Optimum exports it, and as sherpa-onnx does.
        (["decoder_input_ids", "encoder_hidden_states"], "logits", "encoder-decoder", "decoder_in"),
        (["input_ids", "past_key_values.0.key"], "logits", "encoder-decoder", "past_key_values.0"),
        (["tokens", "n_layer_cross_k"], "logits", "encoder-decoder", "n_layer_cross_k"),
        # Joiner and predictor of sherpa-onnx, and NeMo's decoder_joint.
        (["encoder_out", "decoder_out"], "logit", "transducer", "input decoder_out"),
        (["y"], "decoder_out", "transducer", "output decoder_out"),
        (["encoder_outputs", "targets", "target_length"], "outputs", "transducer", "targets"),
        # Encoders alone: of a transducer, of NeMo's, of Hugging Face's.
        (["x", "x_lens"], "encoder_out", "without the layer", "output encoder_out"),
        (["audio_signal", "length"], "encoded_lengths", "without the layer", "encoded_lengths"),
        (["input_values"], "last_hidden_state", "without the layer", "last_hidden_state"),
    ],
)
def test_a_part_of_another_network_is_refused_by_name(
    save: Callable[..., Path],
    tmp_path: Path,
    inputs: list[str],
    output: str,
    what: str,
    shows: str,
) -> None:
    types = {"decoder_input_ids": INT64, "input_ids": INT64, "tokens": INT64, "y": INT64}
    path = save(
        [helper.make_node("Cast", [inputs[0]], [output], to=FLOAT)],
        [(name, types.get(name, FLOAT), ["batch", "time", 8]) for name in inputs],
        [output],
    )
    with pytest.raises(AsrbuildError, match=what) as caught:
        settled(path, OnnxConfig(), tmp_path, keep=False)
    assert shows in caught.value.message
    assert "CTC" in str(caught.value.fix)
    assert (caught.value.key, caught.value.file) == ("source.path", str(path))
