"""The runtime manifest: everything an app needs to run an artifact, and the proof that it is right.

``manifest.json`` is strict, and has no defaults to fall back on. The policy of its versions is in
:mod:`asrbuild.artifact.reading`, and what 2.0 says otherwise in :mod:`asrbuild.artifact.manifest2`.
Times are in ms, rates and frequencies in Hz.

1.1 adds what the source states of itself, and how many references of a set were left out. 1.2 adds
the witness of a proof and artifacts of Core AI's format, and is written only for those: any other
manifest is 1.1.
"""

from __future__ import annotations

import json
import math
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
)

from asrbuild.base.errors import AsrbuildError
from asrbuild.coreml.choices import ComputeUnits, LstmForm, Precision, PublishedFormat, StateKind
from asrbuild.speech.decoder_settings import DecoderType

SCHEMA_VERSION = "1.2"
#: Of a manifest without a witness, and of all that the content digest covers.
CONTENT_VERSION = "1.1"
#: The most values in one state.
_MOST_VALUES = 1 << 28
# Bounds of what an artifact can be: a reader allocates and loops by these numbers.
Rate = Annotated[int, Field(ge=1_000, le=768_000)]
Size = Annotated[int, Field(ge=1, le=1 << 22)]
Count = Annotated[int, Field(ge=0, le=1 << 53)]
Positive = Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]
Frequency = Annotated[float, Field(ge=0, le=384_000, allow_inf_nan=False)]
FETCH = "do not use this artifact: pull it again from where it came, or build it again"


class Section(BaseModel):
    """Base of every section: frozen, strict, no unknown keys.

    A key that a minor version adds has the type ``X | None`` and the default None, and is absent
    from the JSON where it is None, so that an artifact of an older version keeps its digest.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    @model_serializer(mode="wrap")
    def _without_absent_keys(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields = type(self).model_fields
        written = {
            key: value
            for key, value in handler(self).items()
            if value is not None or fields[key].is_required()
        }
        return written | (self.model_extra or {})


class FileEntry(Section):
    """One file of the artifact; ``path`` is relative, with forward slashes."""

    path: str
    role: Literal["package", "alphabet", "scorer", "reference_audio", "parity", "report"]
    bytes: Count
    sha256: str


class Audio(Section):
    """What the feature extraction reads; ``sample_scale`` turns an int16 sample into its input."""

    sample_rate: Rate
    channels: Annotated[int, Field(ge=1, le=64)]
    sample_type: Literal["int16"]
    sample_scale: Annotated[float, Field(gt=0, le=2)]


class ReferenceVector(Section):
    """A short recording and its first windowless MFCC frames, for testing an app's front end.

    ``frames``: (n, coefficients), the MFCC of the frames numbered ``first_frame`` and following.
    """

    audio: str
    audio_sha256: str
    samples: Count
    total_frames: Count
    first_frame: Count
    frames: list[list[float]]
    tolerance: Positive


class Features(Section):
    """MFCC as TensorFlow's ``AudioSpectrogram`` and ``Mfcc`` kernels compute them."""

    kind: Literal["mfcc"]
    window_ms: Positive
    step_ms: Positive
    window_samples: Size
    step_samples: Size
    window_function: Literal["periodic_hann"]
    fft_size: Size
    spectrum: Literal["magnitude"]
    mel_bands: Annotated[int, Field(ge=1, le=4096)]
    lower_hz: Frequency
    upper_hz: Frequency
    coefficients: Annotated[int, Field(ge=1, le=4096)]
    log_floor: Positive
    context_frames: Annotated[int, Field(ge=0, le=1000)]
    edge_padding: Literal["zeros"]
    reference: ReferenceVector


class Axis(Section):
    """One axis of a tensor: a fixed size has ``min == default == max``; no ``max`` is no bound."""

    name: str
    min: Count
    default: Count
    max: Count | None
    enumerated: list[int] | None


class Tensor(Section):
    """An input or output of the package."""

    name: str
    dtype: Literal["float32", "float16", "int32"]
    shape: list[Axis]
    meaning: Literal["features", "step_count", "state", "probabilities", "mfcc", "samples", "other"]
    fill: str


class Streaming(Section):
    """How an utterance is fed.

    ``chunked``: ``steps_per_chunk`` steps a call, state carried. ``whole``: all steps in one call,
    or in calls of ``steps_per_chunk`` where the utterance is longer than that bound (null: no
    bound). ``tail``: the last, short chunk is padded with zeros to an accepted size,
    the ``step_count`` input says how many steps are real, and only their rows are kept.
    """

    mode: Literal["chunked", "whole"]
    steps_per_chunk: Size | None
    hop_ms: Positive
    chunk_ms: Positive | None
    lookahead_ms: float
    latency_ms: float | None
    tail: Literal["zero_pad_and_trim"]


class Function(Section):
    """One function of the package, and what it is for: how ``streaming`` feeds it.

    A single-function package has one, named ``main``. Functions share weights and the meaning of
    their state, so an app may hand an utterance's state from one to another.
    """

    name: str
    inputs: list[Tensor]
    outputs: list[Tensor]
    streaming: Streaming


class Model(Section):
    """The Core ML package. ``inputs`` and ``outputs`` are the default function's."""

    format: PublishedFormat
    package: str
    spec_version: int
    minimum_os: dict[str, str]
    compute_precision: Precision
    recommended_compute_units: ComputeUnits
    lstm: LstmForm
    default_function: str
    inputs: list[Tensor]
    outputs: list[Tensor]
    functions: list[Function]


class State(Section):
    """LSTM state. ``explicit``: the app feeds ``output`` back as ``input``; ``stateful``: the
    package keeps it, and both names are that of the Core ML state.

    ``valid`` says when the value may be carried on: ``always``, for it is the state after exactly
    the real steps, in a padded chunk too.
    """

    input: str
    output: str
    kind: StateKind
    shape: list[int]
    initial: Literal["zeros"]
    reset: Literal["per_utterance"]
    valid: Literal["always"]

    @field_validator("shape")
    @classmethod
    def _small(cls, shape: list[int]) -> list[int]:
        if any(size < 1 for size in shape) or math.prod(shape) > _MOST_VALUES:
            raise ValueError(f"{shape} is not the shape of a state")
        return shape


class Scorer(Section):
    """An external language model package, with its weights."""

    path: str
    sha256: str
    lm_alpha: float
    lm_beta: float


class Tuned(Section):
    """The development set that the decoder's values were tuned on, and the rate they had there."""

    data: str
    sha256: str
    recordings: int
    words: int
    wer: float
    trials: int


class Decoder(Section):
    """How probabilities become words. ``alphabet`` lists the labels in index order.

    With ``utf8`` a label is a byte, 1 to 255, shown as the character of that code point, and there
    is no ``alphabet_file``; decoded bytes are UTF-8 text.
    """

    type: DecoderType
    alphabet: list[str]
    alphabet_file: str | None
    utf8: bool
    blank_index: Annotated[int, Field(ge=0, le=1 << 20)]
    beam_width: Annotated[int, Field(ge=1, le=1 << 20)]
    cutoff_prob: float
    cutoff_top_n: Count
    scorer: Scorer | None
    hot_words: dict[str, float]
    tuned: Tuned | None


class Execution(Section):
    """Something that ran the package, and where."""

    executor: Literal["asrbuild", "coreml", "coreai"]
    version: str
    platform: str


class VerifiedInput(Section):
    """Features the package was run on; ``sha256`` is of the float32 little-endian bytes."""

    name: str
    steps: int
    sha256: str


class Metric(Section):
    """One measured gate: ``passed`` is ``value comparison threshold``."""

    input: str
    output: str
    name: Literal["argmax_agreement", "kl_divergence", "max_abs_error", "psnr_db"]
    value: float
    comparison: Literal["<=", ">="]
    threshold: float
    passed: bool


class Transcript(Section):
    """The words of one recording; ``expected`` is null where they are not known."""

    input: str
    expected: str | None
    reference: str
    package: str
    match: bool


class Evaluation(Section):
    """Word errors on a set of recordings; ``wer`` has a 95 % interval.

    ``reference`` says what ``reference_wer`` is of: ``tensorflow``, or an artifact; both are null
    where nothing was compared. ``left_out``: references that are in no count, as the alphabet
    cannot spell them; absent where there are none.
    """

    data: str
    sha256: str
    recordings: int
    words: int
    wer: float
    wer_low: float
    wer_high: float
    reference: str | None
    reference_wer: float | None
    left_out: Count | None = None


class WitnessMetric(Metric):
    """One measured gate on what another runtime than asrbuild's executor computed.

    ``compared_with``: what the executor computed of the same package, what the original did, or
    what the same runtime did of the package with its weights decompressed before.
    """

    computed_by: Literal["coreai"]
    compared_with: Literal["executor", "original", "decompressed"]


class Witness(Section):
    """Another runtime that ran the published program on the proof's inputs.

    ``coreai``: Apple's Core AI runtime, which computes in ``arithmetic``; of a package in half
    precision it takes the constants as they are stored. ``missing_ops``: operations of the package
    that it cannot be given; where there are any, nothing was run.
    """

    runtime: Literal["coreai"]
    version: str
    platform: str
    arithmetic: Literal["fp32"]
    missing_ops: list[str]
    metrics: list[WitnessMetric]
    passed: bool


class Verification(Section):
    """The proof: every metric with its threshold. ``reference`` names what it was compared with.

    ``witness``: what another runtime computed; absent where none was asked or is installed.
    """

    executed: bool
    core_ml_executed: bool
    reference: str
    executions: list[Execution]
    inputs: list[VerifiedInput]
    metrics: list[Metric]
    transcripts: list[Transcript]
    evaluation: Evaluation | None
    passed: bool
    witness: Witness | None = None


class SourceFile(Section):
    """An input of the build by digest."""

    role: str
    name: str
    sha256: str


class SourceFact(Section):
    """What the source states of itself: a key of the recipe or a plain name, its value, and the
    file and the place in it (a node, a line, a variable) that it was read from."""

    name: str
    value: Any
    file: str
    place: str


class Git(Section):
    """The repository the build was started in."""

    commit: str
    dirty: bool


class Provenance(Section):
    """Where the artifact came from. ``created`` (UTC, ISO 8601), ``git`` and ``platform`` are the
    facts of one run and stand outside the content digest."""

    created: str
    platform: str
    git: Git | None
    recipe: dict[str, Any]
    overrides: list[str]
    sources: list[SourceFile]
    tools: dict[str, str]
    parents: list[str]
    source_facts: list[SourceFact] | None = None


class Manifest(Section):
    """The whole of ``manifest.json``."""

    schema_version: str
    artifact_id: str
    name: str
    version: str
    description: str
    author: str
    license: str
    languages: list[str]
    files: list[FileEntry]
    audio: Audio
    features: Features
    model: Model
    state: list[State]
    streaming: Streaming
    decoder: Decoder
    verification: Verification
    provenance: Provenance


def to_json(manifest: Manifest) -> str:
    """The manifest as stable, readable JSON with a final newline."""
    return json.dumps(manifest.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n"


def with_function(manifest: Manifest, name: str) -> Manifest:
    """The manifest as if the function ``name`` were the default one.

    Raises:
        AsrbuildError: the package has no such function.
    """
    chosen = next((f for f in manifest.model.functions if f.name == name), None)
    if chosen is None:
        names = ", ".join(function.name for function in manifest.model.functions)
        raise AsrbuildError(f"no function {name} in the package", fix=f"the functions are {names}")
    tensors = {"inputs": chosen.inputs, "outputs": chosen.outputs}
    model = manifest.model.model_copy(update={"default_function": name, **tensors})
    return manifest.model_copy(update={"model": model, "streaming": chosen.streaming})


def version_of(manifest: Manifest, *, newer: bool) -> str:
    """The version to write; ``newer``: it has what 1.2 adds to 1.1, and 2.0 always may."""
    if not manifest.schema_version.startswith("1."):
        return manifest.schema_version
    return SCHEMA_VERSION if newer else CONTENT_VERSION


def content_core(manifest: Manifest) -> dict[str, Any]:
    """What the content digest covers: all but the identity made from it and facts of one run.

    Measured values differ in their last digits between processors, so ``verification``, the
    parity vectors and the report are left out; ``SHA256SUMS`` in the artifact covers every byte.
    With a witness and without it, an artifact has one version.
    """
    core = manifest.model_dump(mode="json")
    core["files"] = [f for f in core["files"] if f["role"] not in ("parity", "report")]
    if manifest.verification.witness is not None:
        core["schema_version"] = version_of(manifest, newer=False)
    for key in ("artifact_id", "version", "verification"):
        del core[key]
    for key in ("created", "platform", "git", "overrides"):
        del core["provenance"][key]
    return core
