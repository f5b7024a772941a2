"""The recipe: the typed schema of ``conf/``.

Hydra composes ``conf/`` onto the dataclasses below, so an unknown key or a wrong type fails at
compose time. :mod:`asrbuild.builder.rules` refuses recipes that no build can satisfy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, make_dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from asrbuild.architectures.architecture import (
    Architecture,
    architecture,
    kinds,
    layer_defaults,
    name_of_kind,
    own_sections,
)
from asrbuild.base.choices import choice, choices
from asrbuild.base.errors import AsrbuildError
from asrbuild.coreml.choices import (
    DEFAULT_SPARSITY,
    SPECIFICATION_VERSIONS,
    AssetUse,
    Compression,
    ComputeUnits,
    Format,
    LstmForm,
    Precision,
    StateKind,
)
from asrbuild.proof.phoneme_gates import PhonemeGates
from asrbuild.speech.decoder_settings import DECODERS, DecoderSettings

if TYPE_CHECKING:
    from asrbuild.coreml.request import Steps

CheckpointKind = Literal["auto", "best", "last"]
StreamingMode = Literal["chunked", "whole", "exported"]
StepsKind = Literal["fixed", "range", "enumerated", "exported"]
Converter = Literal["auto", "mil", "tensorflow"]
TuneTarget = Literal["none", "scorer"]
WitnessUse = Literal["auto", "required", "off"]
#: The value of ``verify.compared_with`` that does not name an artifact.
TENSORFLOW = "tensorflow"
_DECODER = DecoderSettings()


@dataclass
class PathsConfig:
    """The folders of this machine, and the environment variables that a recipe may read.

    ``trust_shared``: accept a cache and a store that other users can write to, as on a cluster that
    shares them. ``env``: environment variables that the other sections may read, although those are
    published.
    """

    artifacts: str = "artifacts"
    cache: str = ".asrbuild/cache"
    trust_shared: bool = False
    env: list[str] = field(default_factory=list)


@dataclass
class RecordingConfig:
    """A recording that proves a build; ``text`` is a file with its expected transcript, or null."""

    audio: str
    text: str | None = None


@dataclass
class SourceConfig:
    """The source of the acoustic model.

    ``kind`` decides the architecture; ``config`` is that architecture's own section, if it has one,
    and the architecture checks it. ``second`` null: only one recording proves a build.
    """

    kind: str = choice("demo", kinds())
    name: str = "demo"
    checkpoint_dir: str | None = None
    load_evaluate: str = choice("auto", CheckpointKind)
    path: str | None = None
    alphabet_config_path: str | None = None
    bytes_output_mode: bool | None = None
    description: str = ""
    author: str = ""
    license: str = ""
    sample: RecordingConfig = field(default_factory=lambda: RecordingConfig("demo:sample.wav"))
    second: RecordingConfig | None = field(
        default_factory=lambda: RecordingConfig("demo:second.wav")
    )
    scorer: str | None = None
    development: str | None = None
    config: dict[str, Any] = field(default_factory=dict)


@dataclass
class StepsConfig:
    """The time steps of a call of the package; ``default`` null: the recipe's ``n_steps``.

    ``lower`` and ``upper`` bound a ``range``, ``sizes`` lists the lengths of ``enumerated``;
    ``exported``: the steps that the frozen graph was exported for.
    """

    kind: str = choice("fixed", StepsKind)
    default: int | None = None
    lower: int = 1
    upper: int | None = None
    sizes: list[int] = field(default_factory=list)


@dataclass
class AxisConfig:
    """Sizes of the axis of time, in its own unit (steps or samples); null: those of ``steps``."""

    kind: str | None = choice(None, StepsKind)
    default: int | None = None
    lower: int | None = None
    upper: int | None = None
    sizes: list[int] | None = None


@dataclass
class AxesConfig:
    """Sizes by the name of the network's axis of time: steps or samples."""

    steps: AxisConfig = field(default_factory=AxisConfig)
    samples: AxisConfig = field(default_factory=AxisConfig)


@dataclass
class ModelConfig:
    """The calls of the package: their steps, for each function if it has several.

    ``axes``: sizes by the name of the network's axis of time, ``steps`` or ``samples``.

    ``export_n_steps`` is the number of steps that the frozen graph is exported for, -1 for any.
    ``streaming``: whether an app feeds chunks or the whole recording.
    """

    name: str = "dynamic"
    export_n_steps: int | None = -1
    streaming: str = choice("chunked", StreamingMode)
    steps: StepsConfig = field(default_factory=StepsConfig)
    functions: dict[str, StepsConfig] = field(default_factory=dict)
    axes: AxesConfig = field(default_factory=AxesConfig)


@dataclass
class CoreMLConfig:
    """The Core ML package: format, precision, deployment target, and compression of its weights.

    ``fp32``: the part of an fp16 package that stays in single precision: ``front_end`` (all up to
    the first logarithm), ``none``, or a list of node names; null: the architecture chooses.
    ``compress_layers``: layer -> compression, by the network's own names of its layers; null: that
    of ``compress``.
    """

    name: str = "mlprogram"
    format: str = choice("mlprogram", Format)
    precision: str = choice("fp16", Precision)
    minimum_deployment_target: str = choice("auto", ("auto", *SPECIFICATION_VERSIONS))
    compute_units: str = choice("ALL", ComputeUnits)
    lstm: str = choice("native", LstmForm)
    state: str = choice("explicit", StateKind)
    frontend: str = choice("auto", Converter)
    outputs: list[str] | None = None
    range_upper: int | None = None
    compress: str = choice("none", Compression)
    compress_layers: dict[str, str | None] = field(
        default_factory=lambda: dict(layer_defaults()), metadata=choices(Compression)
    )
    fp32: Any = None
    sparsity: float = DEFAULT_SPARSITY


@dataclass
class TunedConfig:
    """The set on which the decoder was tuned, as ``asrbuild -m tune=scorer`` writes it.

    ``data`` is the set's name, ``sha256`` its digest (see ``evaluation.dataset_digest``).
    ``settings`` is the digest of the values (see ``describe.settings_digest``); a manifest says
    that they were tuned only if it matches.
    """

    data: str
    sha256: str
    recordings: int
    words: int
    wer: float
    trials: int
    settings: str | None = None


@dataclass
class DecoderConfig:
    """The CTC decoder and its settings; ``tuned`` is the set that they were tuned on."""

    type: str = choice(_DECODER.type, DECODERS)
    beam_width: int = _DECODER.beam_width
    cutoff_prob: float = _DECODER.cutoff_prob
    cutoff_top_n: int = _DECODER.cutoff_top_n
    scorer_path: str | None = None
    lm_alpha: float | None = None
    lm_beta: float | None = None
    hot_words: dict[str, float] = field(default_factory=dict)
    interpreter: str | None = None
    tuned: TunedConfig | None = None


@dataclass
class TuneConfig:
    """A search for the decoder's settings after the build: its recordings, ranges and trials.

    Ranges are [lowest, highest]; see conf/tune/scorer.yaml. ``returns``: figures that a job of a
    sweep returns to Hydra's sweeper, for a sweeper that optimises.
    """

    target: str = choice("none", TuneTarget)
    data: str | None = None
    trials: int = 60
    seed: int = 0
    lm_alpha: list[float] = field(default_factory=lambda: [0.0, 3.0])
    lm_beta: list[float] = field(default_factory=lambda: [-2.0, 6.0])
    beam_width: list[int] = field(default_factory=lambda: [8, 512])
    output: str = "tuned"
    returns: list[str] = field(default_factory=list)


@dataclass
class ThresholdsConfig:
    """Gates of a precision or a compression; conf/verify/default.yaml has the reasons."""

    argmax_agreement: float
    kl_divergence: float
    max_abs_error: float
    psnr_db: float
    state_max_abs_error: float
    state_psnr_db: float


@dataclass
class VerifyConfig:
    """The inputs of the proof, and the gates it must pass; see conf/verify/default.yaml."""

    inputs: list[str] = field(default_factory=list)
    edge_lengths: bool = True
    max_steps: int = 3000
    require_transcript: bool = True
    allow_wrong_words: bool = False
    max_wer: float | None = None
    max_wer_increase: float | None = None
    max_per: float | None = PhonemeGates.max_per
    max_per_increase: float | None = PhonemeGates.max_per_increase
    max_per_from_original: float = PhonemeGates.max_per_from_original
    evaluation: str | None = None
    count_unspelled: bool = False
    compared_with: str = TENSORFLOW
    witness: str = choice("auto", WitnessUse)
    thresholds: dict[str, ThresholdsConfig] = field(default_factory=dict)


@dataclass
class FeaturesConfig:
    """The place where features are computed: the app, or the package, which then takes samples."""

    place: str = choice("app", ("app", "package"))


@dataclass
class _Beginning:
    name: str = "???"
    version: str = "1.0.0"
    n_steps: int | None = None
    features: FeaturesConfig = field(default_factory=FeaturesConfig)
    paths: PathsConfig = field(default_factory=PathsConfig)
    source: SourceConfig = field(default_factory=SourceConfig)


if TYPE_CHECKING:
    _WithOwnSections = _Beginning
else:
    _WithOwnSections = make_dataclass(
        "_WithOwnSections",
        [
            (name, own.schema, field(default_factory=own.schema))
            for name, (_, own) in own_sections().items()
        ],
        bases=(_Beginning,),
    )


@dataclass
class Recipe(_WithOwnSections):
    """The configuration of one build: everything that decides an artifact, and its folders.

    The sections after ``source`` belong to architectures; of those, and of
    ``coreml.compress_layers``, a build reads only its own architecture's.

    ``coreai=preview`` also publishes Core AI's format, as an artifact of its own. ``n_steps`` is
    the number of steps in a call of a static package; null: that of the frozen graph, or
    ``DEFAULT_STEPS``.
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    coreml: CoreMLConfig = field(default_factory=CoreMLConfig)
    coreai: str = choice("none", AssetUse)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    tune: TuneConfig = field(default_factory=TuneConfig)
    verify: VerifyConfig = field(default_factory=VerifyConfig)

    @property
    def architecture(self) -> str:
        """The name of the source's architecture, which ``source.kind`` decides."""
        return name_of_kind(self.source.kind)


def base_name(recipe: Mapping[str, Any]) -> str:
    """Source, model and format: the start of every default name, and a package's label."""
    return f"{recipe['source']['name']}-{recipe['model']['name']}-{recipe['coreml']['name']}"


def label(recipe: Recipe) -> str:
    """The name that a package has in its own metadata.

    It is the start of a default name, so that recipes that differ only in their decoder share one
    package; see :mod:`asrbuild.builder.naming`.
    """
    named = ("source", "model", "coreml")
    base = base_name({section: {"name": getattr(recipe, section).name} for section in named})
    return base if recipe.name.startswith(f"{base}-") else recipe.name


def lookup(recipe: Recipe, key: str) -> Any:
    """The value of a dotted key, for instance ``coreml.precision``."""
    value: Any = recipe
    for part in key.split("."):
        value = value[part] if isinstance(value, dict) else getattr(value, part)
    return value


def network_of(recipe: Recipe) -> tuple[Architecture, Any]:
    """The recipe's architecture, and its section of the recipe."""
    found = architecture(recipe.architecture)
    return found, lookup(recipe, found.SECTION)


def with_own_layers(recipe: Recipe) -> Recipe:
    """The recipe without the layers of other architectures.

    Raises:
        AsrbuildError: it sets the compression of a layer of another architecture.
    """
    defaults, own = layer_defaults(), architecture(recipe.architecture).LAYERS.names
    given = recipe.coreml.compress_layers
    for layer, method in given.items():
        if layer not in own and method != defaults.get(layer):
            raise AsrbuildError(
                f"coreml.compress_layers.{layer} is a layer of another network than one of "
                f"source.kind={recipe.source.kind}",
                key=f"coreml.compress_layers.{layer}",
                fix=f"its layers are {', '.join(own)}"
                if own
                else "leave it out: it names no layers",
            )
    layers = {layer: method for layer, method in given.items() if layer in own}
    return replace(recipe, coreml=replace(recipe.coreml, compress_layers=layers))


def chosen(section: Any, prefix: str = "") -> Iterator[tuple[str, Any, tuple[str, ...]]]:
    """Yields key, value and choices of every key with a closed set of values that is not null."""
    for declared in fields(section):
        key, value = f"{prefix}{declared.name}", getattr(section, declared.name)
        below = value if isinstance(value, dict) else {}
        if "choices" in declared.metadata:
            each = {f"{key}.{name}": one for name, one in below.items()} or {key: value}
            for own, one in each.items():
                if one is not None and one != {}:
                    yield own, one, declared.metadata["choices"]
        for name, inner in {key: value, **{f"{key}.{n}": v for n, v in below.items()}}.items():
            if is_dataclass(inner):
                yield from chosen(inner, f"{name}.")


def package_steps(steps: StepsConfig, key: str = "model.steps") -> Steps:
    """The steps in a call of a package; the recipe has its source's values.

    Args:
        key: their key in the recipe, for the error.

    Raises:
        AsrbuildError: the steps are impossible.
    """
    from asrbuild.coreml.request import EnumeratedSteps, FixedSteps, RangeSteps

    default = steps.default or 0
    try:
        if steps.kind == "range":
            return RangeSteps(steps.lower, default, steps.upper)
        if steps.kind == "enumerated":
            return EnumeratedSteps(tuple(steps.sizes), default)
        return FixedSteps(default)
    except AsrbuildError as error:
        error.key = error.key and error.key.replace("model.steps", key, 1)
        raise


def evaluates(recipe: Recipe) -> bool:
    """Whether a build measures word errors on a set of recordings, or against an artifact."""
    return recipe.verify.evaluation is not None or recipe.verify.compared_with != TENSORFLOW


def recipe_keys() -> list[str]:
    """Every dotted key of the recipe, from its schema; sections that are null have no keys."""

    def walk(section: Any, prefix: str) -> Iterator[str]:
        for declared in fields(section):
            yield f"{prefix}{declared.name}"
            value = getattr(section, declared.name)
            if is_dataclass(value):
                yield from walk(value, f"{prefix}{declared.name}.")
            elif isinstance(value, dict):
                yield from (f"{prefix}{declared.name}.{name}" for name in value)

    return list(walk(Recipe(), ""))
