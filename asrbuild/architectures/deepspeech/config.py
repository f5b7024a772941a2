"""The sections of the recipe that are DeepSpeech's: its export flags, and its layers by name."""

from __future__ import annotations

from dataclasses import dataclass

from asrbuild.base.choices import choice
from asrbuild.coreml.choices import Compression


@dataclass
class ExportConfig:
    """DeepSpeech's export flags, under DeepSpeech's names; null: as the source states it."""

    n_steps: int | None = -1
    n_hidden: int | None = None
    n_context: int | None = None
    n_input: int | None = None
    batch_size: int = 1
    audio_sample_rate: int | None = None
    feature_win_len: int | None = None
    feature_win_step: int | None = None
    upper_frequency_limit: float | None = None
    relu_clip: float | None = None
    beam_width: int | None = None
    export_language: str | None = None
    export_author_id: str = "author"
    export_license: str = ""
    export_description: str = ""
    features_place: str = choice("app", ("app", "package"))


@dataclass
class CompressLayersConfig:
    """How each layer's weights are stored; null: as ``coreml.compress`` says."""

    layer_1: str | None = choice("none", Compression)
    layer_2: str | None = choice(None, Compression)
    layer_3: str | None = choice(None, Compression)
    lstm: str | None = choice(None, Compression)
    layer_5: str | None = choice(None, Compression)
    layer_6: str | None = choice(None, Compression)
