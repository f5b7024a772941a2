"""The recipe: the typed schema of ``conf/`` and its validation.

Hydra composes ``conf/`` onto the dataclasses below, so an unknown key or a wrong type fails at
compose time. ``validate`` then refuses impossible combinations, before anything heavy is imported.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from asrbuild.architectures.architecture import Architecture, architecture, kinds, name_of_kind
from asrbuild.artifact.names import NAME_RULE, is_name
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.places import DEMO_PREFIX
from asrbuild.base.secrets import without_secrets
from asrbuild.base.terminal import plain
from asrbuild.coreml.compression import gate_names

#: What ``verify.compared_with`` names where it names no artifact.
TENSORFLOW = "tensorflow"


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

    kind: str = "demo"
    name: str = "demo"
    checkpoint_dir: str | None = None
    load_evaluate: str = "auto"
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

    kind: str = "fixed"
    default: int | None = None
    lower: int = 1
    upper: int | None = None
    sizes: list[int] = field(default_factory=list)


@dataclass
class Model:
    name: str = "dynamic"
    export_n_steps: int | None = -1
    streaming: str = "chunked"
    steps: Steps = field(default_factory=Steps)
    functions: dict[str, Steps] = field(default_factory=dict)


@dataclass
class CompressLayers:
    """How each layer's weights are stored; null: as ``coreml.compress`` says."""

    layer_1: str | None = "none"
    layer_2: str | None = None
    layer_3: str | None = None
    lstm: str | None = None
    layer_5: str | None = None
    layer_6: str | None = None


@dataclass
class CoreML:
    name: str = "mlprogram"
    format: str = "mlprogram"
    precision: str = "fp16"
    minimum_deployment_target: str = "auto"
    compute_units: str = "ALL"
    lstm: str = "native"
    state: str = "explicit"
    frontend: str = "auto"
    outputs: list[str] = field(default_factory=lambda: ["logits", "new_state_c", "new_state_h"])
    range_upper: int | None = None
    compress: str = "none"
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
    type: str = "greedy"
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

    target: str = "none"
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
    max_steps: int = 1000
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


CHOICES: dict[str, tuple[str, ...]] = {
    "source.kind": kinds(),
    "source.load_evaluate": ("auto", "best", "last"),
    "model.streaming": ("chunked", "whole", "exported"),
    "model.steps.kind": ("fixed", "range", "enumerated", "exported"),
    "coreml.format": ("mlprogram", "neuralnetwork"),
    "coreml.precision": ("fp16", "fp32"),
    "coreml.minimum_deployment_target": ("auto", "iOS15", "iOS16", "iOS17", "iOS18"),
    "coreml.compute_units": ("ALL", "CPU_ONLY", "CPU_AND_GPU", "CPU_AND_NE"),
    "coreml.lstm": ("native", "loop"),
    "coreml.state": ("explicit", "stateful"),
    "coreml.frontend": ("auto", "mil", "tensorflow"),
    "decoder.type": ("greedy", "beam", "ds_ctcdecoder"),
    "tune.target": ("none", "scorer"),
}
_COMPRESSIONS = ("none", "int8", "palettize_6", "palettize_4", "prune")
CHOICES["coreml.compress"] = _COMPRESSIONS


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


def validate(recipe: Recipe) -> None:
    """Refuses what no build can satisfy.

    Raises:
        AsrbuildError: naming the key, the value and the choices or the fix.
    """
    for key, choices in CHOICES.items():
        value = lookup(recipe, key)
        if value not in choices:
            raise AsrbuildError(
                f"{key}={value} is not a choice", key=key, fix=f"choose one of {', '.join(choices)}"
            )
    for key in ("name", "version"):
        value = lookup(recipe, key)
        if not is_name(value):
            raise AsrbuildError(f"{key}={value!r} cannot name a folder", key=key, fix=NAME_RULE)
    for key in ("paths.artifacts", "paths.cache"):
        if not lookup(recipe, key):
            raise AsrbuildError(f"{key} is empty", key=key, fix="give a folder")
    _validate_finite(asdict(recipe))
    _validate_sizes(recipe)
    _validate_source(recipe)
    _validate_steps("model.steps", recipe.model.steps, recipe)
    for name, steps in recipe.model.functions.items():
        _validate_steps(f"model.functions.{name}", steps, recipe)
    _validate_outputs(recipe)
    _validate_compression(recipe)
    _validate_decoder(recipe)
    if recipe.tune.target != "none":
        _validate_tune(recipe)
    _validate_verify(recipe)


def _validate_finite(section: dict[str, Any], prefix: str = "") -> None:
    for name, value in section.items():
        if isinstance(value, dict):
            _validate_finite(value, f"{prefix}{name}.")
        elif isinstance(value, float) and not math.isfinite(value):
            key = f"{prefix}{name}"
            raise AsrbuildError(f"{key}={value} is no number", key=key, fix="give a finite number")


def _validate_sizes(recipe: Recipe) -> None:
    positive = ("n_steps", "export.n_input", "export.audio_sample_rate", "export.feature_win_len",
                "export.feature_win_step", "export.beam_width", "decoder.beam_width",
                "decoder.cutoff_top_n", "verify.max_steps")  # fmt: skip
    for key in positive:
        if (value := lookup(recipe, key)) is not None and value < 1:
            raise AsrbuildError(f"{key}={value} must be at least 1", key=key, fix="give 1 or more")
    window, stride = recipe.export.feature_win_len, recipe.export.feature_win_step
    if window is not None and stride is not None and window < stride:
        raise AsrbuildError(
            f"export.feature_win_len={window} ms is shorter than the step of {stride} ms between "
            "windows",
            key="export.feature_win_len",
            fix="set what the model was trained with (DeepSpeech: 32 and 20)",
        )
    limit, rate = recipe.export.upper_frequency_limit, recipe.export.audio_sample_rate
    if limit is not None and rate is not None and not 20 < limit <= rate / 2:
        raise AsrbuildError(
            f"export.upper_frequency_limit={limit:g} Hz is not between 20 Hz and half the sample "
            f"rate of {rate} Hz",
            key="export.upper_frequency_limit",
            fix=f"set {rate / 2:g}, as DeepSpeech 0.7 and later do, or 4000, as 0.6 does",
        )
    if recipe.export.relu_clip is not None and recipe.export.relu_clip <= 0:
        raise AsrbuildError(
            f"export.relu_clip={recipe.export.relu_clip} must be above 0",
            key="export.relu_clip",
            fix="set what the model was trained with (DeepSpeech: 20)",
        )
    if recipe.export.n_context is not None and recipe.export.n_context < 0:
        raise AsrbuildError(
            f"export.n_context={recipe.export.n_context} must not be negative",
            key="export.n_context",
            fix="give the number of context frames on each side (DeepSpeech has 9)",
        )
    if recipe.export.batch_size != 1:
        raise AsrbuildError(
            f"export.batch_size={recipe.export.batch_size}: a Core ML package here takes one "
            "utterance at a time",
            key="export.batch_size",
            fix="set export.batch_size=1 (the DeepSpeech clients expect 1 too)",
        )
    steps = recipe.export.n_steps
    if steps is not None and steps != -1 and steps < 1:
        raise AsrbuildError(
            f"export.n_steps={steps} is neither -1 (any length) nor a number of steps",
            key="export.n_steps",
            fix="set n_steps=16, or choose model=dynamic",
        )


def _validate_source(recipe: Recipe) -> None:
    source = recipe.source
    needed = {"checkpoint": "checkpoint_dir", "frozen_graph": "path"}.get(source.kind)
    if needed and not getattr(source, needed):
        raise AsrbuildError(
            f"source={source.kind} needs source.{needed}",
            key=f"source.{needed}",
            fix=f"add source.{needed}=/path/to/"
            + ("checkpoints" if needed == "checkpoint_dir" else "output_graph.pb"),
        )


def _validate_steps(key: str, steps: Steps, recipe: Recipe) -> None:
    graph_steps = recipe.export.n_steps
    if steps.kind == "exported" or steps.default is None or graph_steps is None:
        return  # before the source was read
    if steps.default < 1 or steps.lower < 1:
        raise AsrbuildError(
            f"{key} has a length below 1 step", key=key, fix="lengths start at 1 step"
        )
    if steps.kind == "range":
        if steps.upper is None and recipe.coreml.format == "mlprogram":
            raise AsrbuildError(
                f"{key}.upper is empty: an mlprogram cannot have an unbounded axis",
                key="coreml.range_upper",
                fix="set coreml.range_upper=3000, or choose coreml=neuralnetwork",
            )
        if steps.upper is not None and not steps.lower <= steps.default <= steps.upper:
            raise AsrbuildError(
                f"{key}: default {steps.default} is outside {steps.lower}..{steps.upper}",
                key=key,
                fix="keep lower <= n_steps <= upper",
            )
    if steps.kind == "enumerated":
        if not 1 <= len(set(steps.sizes)) <= 128 or len(set(steps.sizes)) != len(steps.sizes):
            raise AsrbuildError(
                f"{key}.sizes has {len(steps.sizes)} entries ({len(set(steps.sizes))} different); "
                "Core ML takes 1 to 128 different shapes",
                key=f"{key}.sizes",
                fix="for example model.steps.sizes=[16,32,64]",
            )
        if min(steps.sizes) < 1 or steps.default not in steps.sizes:
            raise AsrbuildError(
                f"{key}.sizes={list(steps.sizes)} must be positive and hold the default "
                f"{steps.default}",
                key=f"{key}.sizes",
                fix=f"add {steps.default} to the sizes, or set n_steps to one of them",
            )
    if graph_steps != -1 and (steps.kind != "fixed" or steps.default != graph_steps):
        wanted = steps.default if steps.kind == "fixed" else f"a {steps.kind} length"
        raise AsrbuildError(
            f"the graph is exported for {graph_steps} steps and cannot become {wanted}",
            key="export.n_steps",
            fix=f"set export.n_steps=-1 (model=dynamic_to_static), or ask for {graph_steps} steps",
        )


def _validate_outputs(recipe: Recipe) -> None:
    outputs = list(recipe.coreml.outputs)
    if len(set(outputs)) != len(outputs) or not outputs:
        raise AsrbuildError(
            f"coreml.outputs={outputs} must name each output once",
            key="coreml.outputs",
            fix="the default is [logits,new_state_c,new_state_h]",
        )
    if "logits" not in outputs:
        raise AsrbuildError(
            f"coreml.outputs={outputs} leaves out logits, without which nothing can be decoded",
            key="coreml.outputs",
            fix="the default is [logits,new_state_c,new_state_h]",
        )
    coreml = recipe.coreml
    if coreml.format == "neuralnetwork" and recipe.model.functions:
        raise AsrbuildError(
            "a neuralnetwork has one function",
            key="model.functions",
            fix="choose coreml=mlprogram for model=multifunction",
        )
    if coreml.state == "stateful" and coreml.format == "neuralnetwork":
        raise AsrbuildError(
            "a neuralnetwork has no StateType",
            key="coreml.state",
            fix="choose coreml=mlprogram with coreml.minimum_deployment_target=iOS18",
        )


def _validate_compression(recipe: Recipe) -> None:
    coreml = recipe.coreml
    for layer, method in asdict(coreml.compress_layers).items():
        if method not in (None, *_COMPRESSIONS):
            raise AsrbuildError(
                f"coreml.compress_layers.{layer}={method} is not a choice",
                key=f"coreml.compress_layers.{layer}",
                fix=f"choose one of {', '.join(_COMPRESSIONS)}, or null for coreml.compress",
            )
    if not 0.0 < coreml.sparsity < 1.0:
        raise AsrbuildError(
            f"coreml.sparsity={coreml.sparsity} is not between 0 and 1",
            key="coreml.sparsity",
            fix="give the fraction of a pruned layer's weights that become 0, for example 0.1",
        )


def _validate_decoder(recipe: Recipe) -> None:
    decoder = recipe.decoder
    if not 0.0 < decoder.cutoff_prob <= 1.0:
        raise AsrbuildError(
            f"decoder.cutoff_prob={decoder.cutoff_prob} is no probability",
            key="decoder.cutoff_prob",
            fix="give a value above 0 and at most 1",
        )
    if decoder.scorer_path is not None and decoder.type != "ds_ctcdecoder":
        raise AsrbuildError(
            f"decoder.type={decoder.type} cannot use a scorer",
            key="decoder.scorer_path",
            fix="choose decoder=ds_ctcdecoder, or drop decoder.scorer_path",
        )


def _validate_tune(recipe: Recipe) -> None:
    tune = recipe.tune
    if tune.data is None:
        raise AsrbuildError(
            "tune=scorer has no recordings to tune on",
            key="tune.data",
            fix="give a development set, tune.data=dev.csv: not the one you report on",
        )
    if recipe.decoder.scorer_path is None:
        raise AsrbuildError(
            "tune=scorer has no scorer to tune",
            key="decoder.scorer_path",
            fix="give one: decoder.scorer_path=my.scorer; `asrbuild scorer build` makes it",
        )
    if tune.trials < 1:
        raise AsrbuildError(f"tune.trials={tune.trials} must be at least 1", key="tune.trials")
    for key in ("lm_alpha", "lm_beta", "beam_width"):
        bounds = getattr(tune, key)
        least = 1 if key == "beam_width" else float("-inf")
        if len(bounds) != 2 or not least <= bounds[0] <= bounds[1]:
            raise AsrbuildError(
                f"tune.{key}={list(bounds)} is no range",
                key=f"tune.{key}",
                fix=f"give its lowest and its highest value: tune.{key}=[1,2]",
            )


def _validate_verify(recipe: Recipe) -> None:
    known = ("sample", "second", "silence", "noise", "clipped", "random")
    unknown = [name for name in recipe.verify.inputs if name not in known]
    if unknown:
        raise AsrbuildError(
            f"verify.inputs has {', '.join(unknown)}, which is not known",
            key="verify.inputs",
            fix=f"choose from {', '.join(known)}",
        )
    if "sample" not in recipe.verify.inputs:
        raise AsrbuildError(
            "verify.inputs must hold sample: a build is proven on real speech",
            key="verify.inputs",
            fix="add sample",
        )
    if recipe.verify.max_wer is not None and recipe.verify.max_wer < 0:
        raise AsrbuildError(
            f"verify.max_wer={recipe.verify.max_wer} is no word error rate",
            key="verify.max_wer",
            fix="give 0 or more: 0.1 is 10 %",
        )
    for gates in gate_names(asdict(recipe.coreml)):
        if gates not in recipe.verify.thresholds:
            raise AsrbuildError(
                f"verify.thresholds has no gates for {gates}",
                key=f"verify.thresholds.{gates}",
                fix="take them from conf/verify/default.yaml",
            )


def evaluates(recipe: Recipe) -> bool:
    """Whether a build ends with the word errors of a set of recordings, or beside an artifact."""
    return recipe.verify.evaluation is not None or recipe.verify.compared_with != TENSORFLOW


def published_overrides(overrides: Sequence[str]) -> list[str]:
    """Overrides as a manifest records them: as :func:`record` does with the keys they set."""
    found = []
    for override in overrides:
        key, separator, value = override.partition("=")
        name = key.lstrip("+~").split("@")[0]
        if name.startswith(("paths.", "tune.", "hydra")) or name == "decoder.interpreter":
            continue  # a matter of this machine
        if name in _FILE_KEYS:
            value = _portable(value.strip("'\"")) or ""
        elif name == "verify.compared_with":
            value = _artifact_name(value.strip("'\""))
        found.append(without_secrets(f"{key}{separator}{value}"))
    return found


_FILE_KEYS = (
    *(f"source.{key}" for key in ("checkpoint_dir", "path", "alphabet_config_path", "scorer",
                                  "development")),
    *(f"source.{name}.{part}" for name in ("sample", "second") for part in ("audio", "text")),
    "decoder.scorer_path", "verify.evaluation",
)  # fmt: skip


def _portable(path: str | None) -> str | None:
    if path is None or path.startswith(DEMO_PREFIX):
        return path
    return plain(Path(path).name)


def _artifact_name(spec: str) -> str:
    """``name/version`` of an artifact that is named by its path."""
    path = Path(spec).expanduser()
    if spec == TENSORFLOW or not (path.is_absolute() or path.exists()):
        return spec
    whole = Path(os.path.abspath(path))
    return f"{whole.parent.name}/{whole.name}"


def compared_artifact(recipe: Recipe) -> str:
    """What ``verify.compared_with`` names, as :func:`record` has it."""
    name: str = _clean(_artifact_name(recipe.verify.compared_with))
    return name


def record(recipe: Recipe) -> dict[str, Any]:
    """The recipe as the manifest records it: whole, but for where files lie on this machine."""
    whole = asdict(recipe)
    del whole["paths"], whole["tune"]

    source, decoder = whole["source"], whole["decoder"]
    if not source["config"]:
        del source["config"]
    for key in ("checkpoint_dir", "path", "alphabet_config_path", "scorer", "development"):
        source[key] = _portable(source[key])
    for key in ("sample", "second"):
        source[key] = {part: _portable(value) for part, value in source[key].items()}
    decoder["scorer_path"] = _portable(decoder["scorer_path"])
    whole["verify"]["evaluation"] = _portable(whole["verify"]["evaluation"])
    whole["verify"]["compared_with"] = _artifact_name(whole["verify"]["compared_with"])
    # Which Python runs the decoder is this machine's affair; the words are the same in each.
    del decoder["interpreter"]
    return _clean(whole)


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return without_secrets(value)
    if isinstance(value, dict):
        return {key: _clean(item) for key, item in value.items()}
    return [_clean(item) for item in value] if isinstance(value, list) else value


def publishable(recipe: Recipe) -> Recipe:
    """The recipe with every text that its manifest repeats word for word made fit for that."""
    source, export = recipe.source, recipe.export
    told = {key: _clean(getattr(source, key))
            for key in ("name", "description", "author", "license")}  # fmt: skip
    keys = ("export_language", "export_author_id", "export_license", "export_description")
    exported = {key: _clean(getattr(export, key)) for key in keys}
    return replace(recipe, source=replace(source, **told), export=replace(export, **exported))


def recipe_keys() -> list[str]:
    """Every dotted key of the recipe, from its schema; sections that are null have none."""

    def walk(section: Any, prefix: str) -> Iterator[str]:
        for declared in fields(section):
            yield f"{prefix}{declared.name}"
            value = getattr(section, declared.name)
            if is_dataclass(value):
                yield from walk(value, f"{prefix}{declared.name}.")

    return list(walk(Recipe(), ""))
