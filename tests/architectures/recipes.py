"""Recipes of other networks: drafts of ``asrbuild inspect FILE --recipe`` with their blanks filled.

The sweeps of ``tests/acceptance/test_any_model.py`` and ``benchmarks/cells.py`` build them.
"""

# ruff: noqa: RUF001 (the letters of the phonetic alphabet)

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from asrbuild.architectures.onnx import draft as of_onnx
from asrbuild.architectures.tensorflow_graph import draft as of_tensorflow
from tests.architectures.onnx import models
from tests.architectures.tensorflow.keywords import WORDS, write_keywords
from tests.wheels import fetched

NEMO, KALDI = "{kind: log_mel_nemo, n_mels: 64}", "{kind: fbank_kaldi, n_mels: 40}"
LETTERS = ("<blank>", " ", *map(chr, range(ord("a"), ord("z") + 1)), "'", "-", ".", ",", "?")
PIECES = ("<blank>", "▁", "ing", "a", "▁the", *map(chr, range(ord("b"), ord("z") - 1)), "<0xC3>")


@dataclass(frozen=True)
class Model:
    """A file, and the values for the blanks of its draft.

    Args:
        file: writes the model or finds it.
        draft: for files of its kind.
        labels: the labels of its classes.
        tokens: the kind of the labels, and the blank.
        features: the front end of a network of features.
        changes: texts of the draft -> their replacements.
        spoken: recording -> its expected transcript.
    """

    file: Callable[[Path], Path]
    draft: Callable[[Path, Path], str]
    labels: Callable[[], Sequence[str]]
    tokens: tuple[str, str]
    features: str = ""
    changes: Mapping[str, str] | None = None
    spoken: Mapping[str, str] | None = None


#: The phonemes of the demo's recordings: CMUdict in IPA, whose AH is ə with stress or without.
PRONOUNCED = {
    "sample": "h ɛ l oʊ | w ɝ l d | j u | ɝ | k ɝ ə n t l i | k ɔ l ɝ | n ə m b ɝ | s ɛ v ə n | "
    "ð i | ɛ s t ə m eɪ t ɪ d | h oʊ l d | t aɪ m | ɪ z | k ɝ ə n t l i | t w ɛ l v | "
    "m ɪ n ə t s | θ æ ŋ k | j u | f ɹ ɝ | j ʊ ɹ | p eɪ ʃ ə n s",
    "second": "j u | h æ v | f aɪ v | n u | m ɛ s ə d͡ʒ ə z",
}


def _hama(_: Path) -> Path:
    return fetched() / "hama" / "assets" / "asr_waveform_fp16.onnx"


def _hama_labels() -> list[str]:
    vocabulary = _hama(Path()).with_name("g2p_vocab.json").read_text("utf-8")
    return [*json.loads(vocabulary)["decoder"], "<wb>", "<blank>"]


def _silero(_: Path) -> Path:
    return fetched() / "silero_vad" / "data" / "silero_vad_16k_op15.onnx"


def _basic_pitch(_: Path) -> Path:
    return fetched() / "basic_pitch" / "saved_models" / "icassp_2022" / "nmp"


MODELS = {
    "hama": Model(_hama, of_onnx.draft, _hama_labels, ("phonemes", "last"), spoken=PRONOUNCED),
    "quartznet": Model(
        lambda at: models.quartznet(at / "quartznet.onnx"),
        of_onnx.draft,
        lambda: PIECES,
        ("pieces", "first"),
        NEMO,
    ),
    "streaming": Model(
        lambda at: models.streaming_conformer(at / "streaming.onnx"),
        of_onnx.draft,
        lambda: LETTERS[:33],
        ("characters", "first"),
        KALDI,
    ),
    # A call takes 576 samples: the previous 64, then 512 new ones.
    "silero": Model(
        _silero,
        of_onnx.draft,
        lambda: ("speech", "-"),
        ("classes", "null"),
        "",
        {
            '"sr": ???  # or pin; int64 []': '# "sr" is pinned',
            "pin: {}": "pin: {sr: 16000}",
            '"axes": [1, "samples"]}': '"axes": [1, "samples"], "steps": 576}',
            "  sample_rate": "  rows: {steps: 512, add: -64}\n"
            "  context: {causal: true, left: 64, trimmed: true}\n  sample_rate",
        },
    ),
    "keywords": Model(
        lambda at: write_keywords(at / "keywords.pb"),
        of_tensorflow.draft,
        lambda: WORDS,
        ("classes", "null"),
    ),
    "basic_pitch": Model(
        _basic_pitch,
        of_tensorflow.draft,
        lambda: [f"pitch_{at}" for at in range(264)],
        ("classes", "null"),
    ),
}


def write_recipe(name: str, folder: Path) -> Path:
    """Writes ``source/<name>.yaml`` of a folder of configs, with the model and its labels."""
    model = MODELS[name]
    source = folder / "source"
    source.mkdir(exist_ok=True, parents=True)
    tokens = folder / f"{name}.json"
    tokens.write_text(json.dumps(list(model.labels())), "utf-8")
    text = model.draft(model.file(folder), folder / "cache")
    kind, blank = model.tokens
    filled = f'tokens: {{file: "{tokens}", kind: {kind}, blank: {blank}}}'
    blanks = {'tokens: {file: "???", kind: "???", blank: "???"}': filled}
    if model.features:
        blanks['features: {kind: "???"}'] = f"features: {model.features}"
    for old, new in (blanks | dict(model.changes or {})).items():
        assert old in text, (old, text)
        text = text.replace(old, new, 1)
    for recording, spoken in (model.spoken or {}).items():
        (folder / f"{name}-{recording}.txt").write_text(spoken, "utf-8")
        audio = f'{recording}: {{audio: "demo:{recording}.wav", text: '
        given = f'"{folder}/{name}-{recording}.txt"}}\n'
        text = text.replace(f"{audio}null}}\n", audio + given)
        text += "" if audio in text else audio + given
    assert "???" not in text.split("config:")[1], text
    path = source / f"{name}.yaml"
    path.write_text(text, "utf-8")
    return path
