"""DeepSpeech's section of the recipe: its export flags."""

from __future__ import annotations

from dataclasses import dataclass

from asrbuild.base.choices import choice


@dataclass
class ExportConfig:
    """DeepSpeech's export flags, with DeepSpeech's names; null: the source's value."""

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
