"""The recipe: the typed schema of ``conf/``.

Hydra composes ``conf/`` onto the dataclasses below, so an unknown key or a wrong type fails at
compose time. What no build can satisfy is refused by :mod:`asrbuild.build.rules`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any, Literal, get_args

from asrbuild.architectures.architecture import Architecture, architecture, kinds, name_of_kind
from asrbuild.base.errors import AsrbuildError
from asrbuild.coreml import request
from asrbuild.coreml.compression import Compression
from asrbuild.coreml.request import (
    SPECIFICATION_VERSIONS,
    ComputeUnits,
    Format,
    LstmForm,
    Precision,
    StateKind,
)
from asrbuild.speech.decoder_settings import DECODERS

CheckpointKind = Literal["auto", "best", "last"]
Streaming = Literal["chunked", "whole", "exported"]
StepsKind = Literal["fixed", "range", "enumerated", "exported"]
FrontEnd = Literal["auto", "mil", "tensorflow"]
TuneTarget = Literal["none", "scorer"]
#: What ``verify.compared_with`` names where it names no artifact.
TENSORFLOW = "tensorflow"


def choice(default: str | None, choices: tuple[str, ...]) -> Any:
    """A field that has one of several values: OmegaConf knows no ``Literal``."""
    return field(default=default, metadata={"choices": choices})


@dataclass
class Paths:
    """Where things lie on this machine; ``trust_shared``: whatever other users can write there is
    trusted, as on a cluster that shares a cache. ``env``: environment variables that may be read
    outside of this section, although what the recipe says there is published."""

    artifacts: str = "artifacts"
    cache: str = ".asrbuild/cache"
    trust_shared: bool = False
    env: list[str] = field(default_factory=list)


@dataclass
class Recording:
    """A recording that proves a build; ``text`` is a file with its words, or null."""

    audio: str
    text: str | None = None


@dataclass
class Source:
    """Where the acoustic model comes from.

    ``kind`` says which architecture takes it; ``config`` is that architecture's own section, where
    it needs one, and its architecture checks it.
    """

    kind: str = choice("demo", kinds())
    name: str = "demo"
    checkpoint_dir: str | None = None
    load_evaluate: str = choice("auto", get_args(CheckpointKind))
    path: str | None = None
    alphabet_config_path: str | None = None
    bytes_output_mode: bool | None = None
    description: str = ""
    author: str = ""
    license: str = ""
    sample: Recording = field(default_factory=lambda: Recording("demo:sample.wav"))
    second: Recording = field(default_factory=lambda: Recording("demo:second.wav"))
    scorer: str | None = None
    development: str | None = None
    config: dict[str, Any] = field(default_factory=dict)


@dataclass
class Export:
    """DeepSpeech's export flags, under DeepSpeech's names. Null: as the source states it, see
    ``source.settle``."""

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


@dataclass
class Steps:
    """The step axis of the package's ``input_node``; ``default`` null: the recipe's ``n_steps``."""

    kind: str = choice("fixed", get_args(StepsKind))
    default: int | None = None
    lower: int = 1
    upper: int | None = None
    sizes: list[int] = field(default_factory=list)


@dataclass
class Model:
    name: str = "dynamic"
    export_n_steps: int | None = -1
    streaming: str = choice("chunked", get_args(Streaming))
    steps: Steps = field(default_factory=Steps)
    functions: dict[str, Steps] = field(default_factory=dict)


@dataclass
class CompressLayers:
    """How each layer's weights are stored; null: as ``coreml.compress`` says."""

    layer_1: str | None = choice("none", get_args(Compression))
    layer_2: str | None = choice(None, get_args(Compression))
    layer_3: str | None = choice(None, get_args(Compression))
    lstm: str | None = choice(None, get_args(Compression))
    layer_5: str | None = choice(None, get_args(Compression))
    layer_6: str | None = choice(None, get_args(Compression))


@dataclass
class CoreML:
    name: str = "mlprogram"
    format: str = choice("mlprogram", get_args(Format))
    precision: str = choice("fp16", get_args(Precision))
    minimum_deployment_target: str = choice("auto", ("auto", *SPECIFICATION_VERSIONS))
    compute_units: str = choice("ALL", get_args(ComputeUnits))
    lstm: str = choice("native", get_args(LstmForm))
    state: str = choice("explicit", get_args(StateKind))
    frontend: str = choice("auto", get_args(FrontEnd))
    outputs: list[str] = field(default_factory=lambda: ["logits", "new_state_c", "new_state_h"])
    range_upper: int | None = None
    compress: str = choice("none", get_args(Compression))
    compress_layers: CompressLayers = field(default_factory=CompressLayers)
    sparsity: float = 0.1


@dataclass
class Tuned:
    """What values were tuned on; ``asrbuild -m tune=scorer`` writes it with them.

    ``data`` is the set's name, ``sha256`` its digest (see ``evaluation.dataset_digest``).
    ``settings`` is the digest of the values (see ``describe.settings_digest``): with others, or
    without it, a manifest does not say that they were tuned.
    """

    data: str
    sha256: str
    recordings: int
    words: int
    wer: float
    trials: int
    settings: str | None = None


@dataclass
class Decoder:
    type: str = choice("greedy", DECODERS)
    beam_width: int = 500
    cutoff_prob: float = 1.0
    cutoff_top_n: int = 40
    scorer_path: str | None = None
    lm_alpha: float | None = None
    lm_beta: float | None = None
    hot_words: dict[str, float] = field(default_factory=dict)
    interpreter: str | None = None
    tuned: Tuned | None = None


@dataclass
class Tune:
    """A search instead of a build alone: which one, on which recordings, and how far.

    Ranges are [lowest, highest]; see conf/tune/scorer.yaml.
    """

    target: str = choice("none", get_args(TuneTarget))
    data: str | None = None
    trials: int = 60
    seed: int = 0
    lm_alpha: list[float] = field(default_factory=lambda: [0.0, 3.0])
    lm_beta: list[float] = field(default_factory=lambda: [-2.0, 6.0])
    beam_width: list[int] = field(default_factory=lambda: [8, 512])
    output: str = "tuned"


@dataclass
class Thresholds:
    """Gates of a precision or a compression; conf/verify/default.yaml has the reasons."""

    argmax_agreement: float
    kl_divergence: float
    max_abs_error: float
    psnr_db: float
    state_max_abs_error: float
    state_psnr_db: float


@dataclass
class Verify:
    inputs: list[str] = field(default_factory=list)
    edge_lengths: bool = True
    max_steps: int = 3000
    require_transcript: bool = True
    allow_wrong_words: bool = False
    max_wer: float | None = None
    max_wer_increase: float | None = None
    evaluation: str | None = None
    count_unspelled: bool = False
    compared_with: str = TENSORFLOW
    thresholds: dict[str, Thresholds] = field(default_factory=dict)


@dataclass
class Recipe:
    """One build.

    ``n_steps`` is the number of steps a static package takes at a time; null: as many as the frozen
    graph takes, or 16.
    """

    name: str = "???"
    version: str = "1.0.0"
    n_steps: int | None = None
    paths: Paths = field(default_factory=Paths)
    source: Source = field(default_factory=Source)
    export: Export = field(default_factory=Export)
    model: Model = field(default_factory=Model)
    coreml: CoreML = field(default_factory=CoreML)
    decoder: Decoder = field(default_factory=Decoder)
    tune: Tune = field(default_factory=Tune)
    verify: Verify = field(default_factory=Verify)

    @property
    def architecture(self) -> str:
        """The folder of the architecture that takes the source: it follows from ``source.kind``."""
        return name_of_kind(self.source.kind)


def base_name(recipe: Mapping[str, Any]) -> str:
    """Source, model and format: what every default name begins with, and a package is labelled."""
    return f"{recipe['source']['name']}-{recipe['model']['name']}-{recipe['coreml']['name']}"


def label(recipe: Recipe) -> str:
    """The name that a package has in its own metadata.

    Of a default name it is the beginning, so that recipes that differ in their decoder alone share
    one package; see :mod:`asrbuild.build.naming`.
    """
    base = base_name(asdict(recipe))
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


def chosen(section: Any, prefix: str = "") -> Iterator[tuple[str, Any, tuple[str, ...]]]:
    """Key, value and choices of every key that has choices; null, where a key takes it, is none."""
    for declared in fields(section):
        key, value = f"{prefix}{declared.name}", getattr(section, declared.name)
        if "choices" in declared.metadata and value is not None:
            yield key, value, declared.metadata["choices"]
        below = value if isinstance(value, dict) else {}
        for name, inner in {key: value, **{f"{key}.{n}": v for n, v in below.items()}}.items():
            if is_dataclass(inner):
                yield from chosen(inner, f"{name}.")


def package_steps(steps: Steps, key: str = "model.steps") -> request.Steps:
    """The steps that a package takes, of a recipe whose source is read.

    Args:
        key: where the recipe has them, for the error.

    Raises:
        AsrbuildError: there are no such steps.
    """
    default = steps.default or 0
    try:
        if steps.kind == "range":
            return request.RangeSteps(steps.lower, default, steps.upper)
        if steps.kind == "enumerated":
            return request.EnumeratedSteps(tuple(steps.sizes), default)
        return request.FixedSteps(default)
    except AsrbuildError as error:
        error.key = error.key and error.key.replace("model.steps", key, 1)
        raise


def evaluates(recipe: Recipe) -> bool:
    """Whether a build ends with the word errors of a set of recordings, or beside an artifact."""
    return recipe.verify.evaluation is not None or recipe.verify.compared_with != TENSORFLOW


def recipe_keys() -> list[str]:
    """Every dotted key of the recipe, from its schema; sections that are null have none."""

    def walk(section: Any, prefix: str) -> Iterator[str]:
        for declared in fields(section):
            yield f"{prefix}{declared.name}"
            value = getattr(section, declared.name)
            if is_dataclass(value):
                yield from walk(value, f"{prefix}{declared.name}.")

    return list(walk(Recipe(), ""))
