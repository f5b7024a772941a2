"""DeepSpeech 0.7.1's export flags, by their own names, as one value."""

from __future__ import annotations

from dataclasses import dataclass

from asrbuild.architectures.deepspeech.network import AcousticWeights
from asrbuild.base.errors import AsrbuildError

#: DeepSpeech's ``GRAPH_VERSION`` for 0.7 to 0.9; the 0.9.3 client refuses anything older.
GRAPH_VERSION = 6


@dataclass(frozen=True)
class ExportFlags:
    """The settings that shape the exported graph.

    Args:
        n_steps: time steps the graph takes at once; -1 for any number.
        n_hidden: width of the layers; checked against the weights.
        batch_size: utterances at once (DeepSpeech's ``export_batch_size``).
        n_context: frames of context on each side.
        n_input: MFCC coefficients a frame.
        audio_sample_rate: Hz.
        feature_win_len: MFCC window, ms.
        feature_win_step: MFCC step, ms.
        upper_frequency_limit: upper edge of the last mel band, Hz; None: half the sample rate.
        relu_clip: upper limit of the clipped ReLU.
        beam_width: default beam width written into the graph (``export_beam_width``).
        export_language: IETF BCP 47 tag, or empty for no language node.
    """

    n_steps: int
    n_hidden: int
    batch_size: int = 1
    n_context: int = 9
    n_input: int = 26
    audio_sample_rate: int = 16_000
    feature_win_len: int = 32
    feature_win_step: int = 20
    upper_frequency_limit: float | None = None
    relu_clip: float = 20.0
    beam_width: int = 500
    export_language: str = ""

    @property
    def window_samples(self) -> int:
        """Samples in one MFCC window."""
        return self.audio_sample_rate * self.feature_win_len // 1000

    @property
    def step_samples(self) -> int:
        """Samples from one MFCC window to the next."""
        return self.audio_sample_rate * self.feature_win_step // 1000

    @property
    def upper_hz(self) -> float:
        """Upper edge of the last mel band, Hz."""
        limit = self.upper_frequency_limit
        return self.audio_sample_rate / 2 if limit is None else limit

    @property
    def static_steps(self) -> int | None:
        """Steps of the time axis; None: any number."""
        return self.n_steps if self.n_steps > 0 else None


def check_flags(flags: ExportFlags, weights: AcousticWeights, labels: int) -> None:
    """Checks the flags, alone and against the weights and the size of the alphabet.

    Raises:
        AsrbuildError: it names the flag.
    """
    if flags.n_steps < 1 and flags.n_steps != -1:
        raise AsrbuildError(
            f"n_steps is {flags.n_steps}", key="n_steps", fix="give 1 or more, or -1 for any length"
        )
    positive = (
        "batch_size",
        "n_input",
        "audio_sample_rate",
        "feature_win_len",
        "feature_win_step",
        "relu_clip",
        "beam_width",
    )
    for key in positive:
        if getattr(flags, key) <= 0:
            raise AsrbuildError(f"{key} is {getattr(flags, key)}", key=key, fix="give 1 or more")
    for key in ("feature_win_len", "feature_win_step"):
        if flags.audio_sample_rate * getattr(flags, key) % 1000:
            raise AsrbuildError(
                f"{key} of {getattr(flags, key)} ms is not a whole number of samples "
                f"at {flags.audio_sample_rate} Hz",
                key=key,
                fix=f"choose another {key} or audio_sample_rate",
            )
    if flags.n_hidden != weights.n_hidden:
        raise AsrbuildError(
            f"n_hidden is {flags.n_hidden}, but the weights have {weights.n_hidden}",
            key="n_hidden",
            fix=f"set export.n_hidden={weights.n_hidden}, or give another checkpoint",
        )
    features = flags.n_input * (2 * flags.n_context + 1)
    if flags.n_context < 0 or features != weights.n_features:
        raise AsrbuildError(
            f"n_input {flags.n_input} and n_context {flags.n_context} make {features} features, "
            f"but the weights read {weights.n_features}",
            key="n_context",
            fix="use the n_input and n_context that the model was trained with (26 and 9)",
        )
    if labels + 1 != weights.n_output:
        raise AsrbuildError(
            f"the alphabet has {labels} labels, but the weights are for {weights.n_output - 1} "
            "(one less than layer_6's width, which has the blank)",
            key="alphabet_config_path",
            fix="give the alphabet the model was trained with",
        )
