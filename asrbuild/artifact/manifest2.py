"""Manifest 2.0: what 1.x cannot say, for artifacts that need it.

1.x is DeepSpeech's contract: MFCC computed by the app, a row for every step, the blank last,
probabilities. 2.0 adds to it, under the same names where it says the same:

- ``rows``: one output row for every so many input steps, and ``context``: what a row depends on;
- ``features`` is a tagged union: its ``kind``, and the ``place`` where it is computed;
- tensors name the axis of time (``steps``, ``samples``, ``rows``), at any position, and the decoded
  output may be log probabilities or logits;
- ``decoder`` has the kind of its labels, the blank's class, the word boundary and silent labels;
- ``state`` says what it begins with; ``streaming.functions`` names the functions of a package that
  is fed with samples;
- a transcript says how many labels chunks changed against the whole recording, and of a model that
  writes phonemes how many of them are wrong.

``model.lstm`` is gone (the recipe in ``provenance`` has it), and so is ``state[].valid``.
"""

# A section of 2.0 has keys of 1.x with other types. Readers of 1.x alone check the version first.
# mypy: disable-error-code="assignment"

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from asrbuild.artifact import manifest as v1
from asrbuild.artifact.manifest import (
    Count,
    Positive,
    ReferenceVector,
    Section,
    Size,
)
from asrbuild.coreml.choices import LstmForm
from asrbuild.coreml.signature import Context, InitialState, Padding, Rows
from asrbuild.speech.alphabet import make_alphabet
from asrbuild.speech.tokens import Tokens, make_vocabulary

SCHEMA_VERSION = "2.0"
Meaning = Literal[
    "features",
    "samples",
    "step_count",
    "step_range",
    "state",
    "probabilities",
    "log_probabilities",
    "logits",
    "row_count",
    "other",
]


class MfccTf(v1.Features):
    """MFCC as in 1.x; in the package, the app gives samples."""

    kind: Literal["mfcc_tf"]
    place: Literal["app", "package"]


class LogMel(Section):
    """Logarithmic mel bands of one of the usual recipes; ``settings`` are that recipe's values."""

    kind: Literal["log_mel_whisper", "log_mel_nemo", "fbank_kaldi"]
    place: Literal["app", "package"]
    window_ms: Positive
    step_ms: Positive
    settings: dict[str, Any]
    reference: ReferenceVector | None


class NoFeatures(Section):
    """The package takes samples as ``audio`` describes them; ``step_ms`` is that of one sample."""

    kind: Literal["none"]
    place: Literal["package"]
    step_ms: Positive


AnyFeatures = Annotated[MfccTf | LogMel | NoFeatures, Field(discriminator="kind")]


class RowRule(Section):
    """Rows of a call of n input steps: ``max(0, (n + add) // steps)``, one every ``row_ms``.

    ``most``: rows that a call can have; null: any number.
    """

    steps: Size
    add: Annotated[int, Field(ge=-(1 << 22), le=1 << 22)]
    most: Size | None
    row_ms: Positive


class ContextRule(Section):
    """What a row depends on; ``left_steps`` and ``right_steps`` around the new steps of a call.

    ``padding``: whether zeros past the end of a recording leave its rows as they are. ``trimmed``:
    a call has no rows for its context, and zeros stand for it at both ends of a recording.
    """

    causal: bool
    left_steps: Count
    right_steps: Count
    padding: Padding
    trimmed: bool


class Tensor(v1.Tensor):
    """An input or output of the package; its axis of time has the name of what it counts."""

    meaning: Meaning


class StreamFunctions(Section):
    """Functions that a stream of samples calls: first, then for each chunk, then at the end."""

    prime: str | None
    main: str
    flush: str | None


class Streaming(v1.Streaming):
    """As in 1.x; ``steps_per_chunk`` is a whole call, of which the context is not new."""

    functions: StreamFunctions | None = None


class Function(v1.Function):
    """As in 1.x."""

    inputs: list[Tensor]
    outputs: list[Tensor]
    streaming: Streaming


class Model(v1.Model):
    """As in 1.x, without ``lstm``."""

    lstm: LstmForm | None = None
    inputs: list[Tensor]
    outputs: list[Tensor]
    functions: list[Function]


class State(v1.State):
    """As in 1.x; ``initial``: zeros, the recording's first samples, or values that an app gives."""

    initial: InitialState
    valid: Literal["always"] | None = None


class Decoder(v1.Decoder):
    """How rows become text. ``alphabet`` lists the labels of all classes, the blank's too.

    ``boundary_index`` is the class that parts words, ``silent_indices`` those that print nothing.
    """

    kind: Literal["characters", "pieces", "phonemes", "classes"]
    blank_index: Annotated[int, Field(ge=0, le=1 << 20)] | None
    boundary_index: Count | None
    silent_indices: list[Count]


class Phonemes(Section):
    """Phoneme errors of one recording, of a model that writes phonemes.

    ``changed``: edits of the package against the ``original`` phonemes that the original writes.
    ``package_errors`` and ``original_errors``: edits of both against the ``expected`` phonemes;
    null where these are not known.
    """

    original: Count
    changed: Count
    expected: Count | None
    package_errors: Count | None
    original_errors: Count | None

    @property
    def per(self) -> float | None:
        """The package's phoneme error rate; None where nothing is expected."""
        return self._rate(self.package_errors)

    @property
    def per_increase(self) -> float | None:
        """The rise of that rate above the original's."""
        own, original = self.per, self._rate(self.original_errors)
        return None if own is None or original is None else own - original

    @property
    def per_from_original(self) -> float:
        """The share of the original's phonemes that the package writes otherwise."""
        return self.changed / self.original if self.original else float(self.changed > 0)

    def _rate(self, errors: int | None) -> float | None:
        if errors is None or self.expected is None:
            return None
        return errors / self.expected if self.expected else float(errors > 0)


class Transcript(v1.Transcript):
    """As in 1.x. ``recording``: the text of the original on the whole recording in one call, and
    ``recording_edits`` of its ``recording_labels`` labels that the package, as it is fed, has
    otherwise; absent where a call is not a part of a recording. ``phonemes``: absent where the
    model writes none."""

    recording: str | None = None
    recording_labels: Count | None = None
    recording_edits: Count | None = None
    phonemes: Phonemes | None = None


class Evaluation(v1.Evaluation):
    """As in 1.x. Of a model that writes phonemes also their error rate ``per`` over all
    ``phonemes``, with a 95 % interval, and that of what it was compared with."""

    phonemes: Count | None = None
    per: float | None = None
    per_low: float | None = None
    per_high: float | None = None
    reference_per: float | None = None


class Verification(v1.Verification):
    """As in 1.x; ``reference`` names the runtime of the original."""

    transcripts: list[Transcript]
    evaluation: Evaluation | None


class Manifest(v1.Manifest):
    """The whole of a ``manifest.json`` of version 2."""

    features: AnyFeatures
    rows: RowRule
    context: ContextRule
    model: Model
    state: list[State]
    streaming: Streaming
    #: That of 1.x where the labels are those of DeepSpeech's alphabet.txt or UTF-8 bytes.
    decoder: Decoder | v1.Decoder
    verification: Verification


def rows_of(manifest: v1.Manifest) -> Rows:
    """The rows of a call; in 1.x one for every step."""
    if not isinstance(manifest, Manifest):
        return Rows()
    return Rows(manifest.rows.steps, manifest.rows.add, manifest.rows.most)


def context_of(manifest: v1.Manifest) -> Context:
    """The steps that a row depends on; in 1.x those before it."""
    if not isinstance(manifest, Manifest):
        return Context()
    rule = manifest.context
    return Context(rule.causal, rule.left_steps, rule.right_steps, rule.padding, rule.trimmed)


def initial_of(state: v1.State) -> InitialState:
    """The values of a state in the first call of an utterance."""
    return state.initial


def row_ms(manifest: v1.Manifest) -> float:
    """Milliseconds from one output row to the next."""
    return manifest.rows.row_ms if isinstance(manifest, Manifest) else manifest.features.step_ms


def context_frames(manifest: v1.Manifest) -> int:
    """Frames before and after that an input step of windows has in it."""
    features = manifest.features
    return features.context_frames if isinstance(features, v1.Features) else 0


def tokens_of(decoder: v1.Decoder) -> Tokens:
    """The labels of the model."""
    if isinstance(decoder, Decoder):
        return make_vocabulary(
            decoder.alphabet,
            decoder.kind,
            decoder.blank_index,
            decoder.boundary_index,
            decoder.silent_indices,
        )
    return make_alphabet(decoder.alphabet, bytes_output=decoder.utf8)


def time_axis(tensor: v1.Tensor, otherwise: int) -> int:
    """Index of the axis of time; ``otherwise`` where no axis has such a name."""
    names = [axis.name for axis in tensor.shape]
    return next((at for at, name in enumerate(names) if name in _TIME), otherwise)


_TIME = ("steps", "samples", "rows")
