"""The reference of a recipe's keys, from its schema, the packaged conf/ and the stages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_origin, get_type_hints

#: Key -> its meaning; sections have their own page section. A test compares it with the schema.
MEANINGS = {
    "name": "The artifact's name: its folder in the store.",
    "version": "The recipe's version; the artifact's adds twelve digits of its content's digest.",
    "n_steps": "Steps that a call of a static package takes; null: the graph's, or 16.",
    "features.place": "Who computes the features: the app, or the package.",
    "paths.artifacts": "The folder of the store.",
    "paths.cache": "The folder of the cache.",
    "paths.trust_shared": "Whether a cache and a store are used that other users can write to.",
    "paths.env": "Environment variables that other sections may read and publish.",
    "source.kind": "The kind of source, which decides the architecture.",
    "source.name": "The first word of the default name.",
    "source.checkpoint_dir": "The folder of a training checkpoint.",
    "source.load_evaluate": "The checkpoint to take: the best on the development set, or the last.",
    "source.path": "The file of a graph or network.",
    "source.alphabet_config_path": "The alphabet.txt of the training; null: what the source names.",
    "source.bytes_output_mode": "Whether the model writes UTF-8 bytes instead of letters.",
    "source.description": "A sentence about the model, for the manifest and the package.",
    "source.author": "The author, for the manifest and the package.",
    "source.license": "The model's licence, for the manifest and the package.",
    "source.sample.audio": "The recording that proves a build.",
    "source.sample.text": "A file with its words; null: not known.",
    "source.second.audio": "A second recording; `source.second=null`: there is none.",
    "source.second.text": "A file with its words; null: not known.",
    "source.scorer": "The scorer that tune=scorer tunes.",
    "source.development": "The recordings that tune=scorer measures on.",
    "source.config": "The architecture's own section: see its file in conf/source/.",
    "export.n_steps": "Steps of the exported graph.",
    "export.n_hidden": "Width of the layers.",
    "export.n_context": "Windows on each side that a step sees.",
    "export.n_input": "MFCC coefficients of a window.",
    "export.batch_size": "Recordings of a call; always 1 in a package.",
    "export.audio_sample_rate": "Samples a second, in Hz.",
    "export.feature_win_len": "Length of a window, in ms.",
    "export.feature_win_step": "Distance of windows, in ms.",
    "export.upper_frequency_limit": "Upper edge of the mel bands, in Hz; null: the source's.",
    "export.relu_clip": "The value at which a layer's output is clipped.",
    "export.beam_width": "Beam width that the graph's metadata recommends.",
    "export.export_language": "Language in the graph's metadata.",
    "export.export_author_id": "Author in the graph's metadata.",
    "export.export_license": "Licence in the graph's metadata.",
    "export.export_description": "Description in the graph's metadata.",
    "export.features_place": "As `features.place`, which sets it.",
    "model.name": "The second word of the default name.",
    "model.export_n_steps": "Steps that the graph is exported for; -1: any number.",
    "model.streaming": "Whether an app feeds chunks or the whole recording.",
    "model.steps.kind": "Sizes of the axis of time: fixed, a range, a list, or as exported.",
    "model.steps.default": "The size that a call has by default; null: n_steps.",
    "model.steps.lower": "The lowest size of a range.",
    "model.steps.upper": "The highest size of a range; null: no bound.",
    "model.steps.sizes": "The sizes of a list.",
    "model.functions": "Function -> its steps, of a package with several functions.",
    **{
        f"model.axes.{axis}.{key}": f"{text}, counted in {axis}; null: as model.steps has it."
        for axis in ("steps", "samples")
        for key, text in {
            "kind": "Sizes of the axis of time",
            "default": "The size that a call has by default",
            "lower": "The lowest size of a range",
            "upper": "The highest size of a range",
            "sizes": "The sizes of a list",
        }.items()
    },
    "coreml.name": "The third word of the default name.",
    "coreml.format": "The format of the package.",
    "coreml.precision": "The precision in which the package computes.",
    "coreml.minimum_deployment_target": "The oldest system; auto: the oldest possible.",
    "coreml.compute_units": "The units that the manifest recommends.",
    "coreml.lstm": "How the LSTM is written: an op of its own, a loop, or step by step.",
    "coreml.state": "Whether states are inputs and outputs, or inside the package (iOS 18).",
    "coreml.frontend": "mil: asrbuild writes the program; tensorflow: ct.convert does.",
    "coreml.outputs": "The outputs that the package keeps; null: all.",
    "coreml.range_upper": "The bound of a range where the model has none.",
    "coreml.compress": "How all weights are stored.",
    "coreml.fp32": "What of an fp16 package stays in single precision.",
    "coreml.sparsity": "The fraction of a pruned layer's weights that become 0.",
    "coreml.compress_layers": "Layer, by the network's own name, to how its weights are stored.",
    "coreai": "preview: publish Core AI's format (iOS 27) too.",
    "decoder.type": "The decoder.",
    "decoder.beam_width": "Hypotheses kept at each step.",
    "decoder.cutoff_prob": "Labels are looked at until their probabilities add up to this.",
    "decoder.cutoff_top_n": "And at most so many.",
    "decoder.scorer_path": "A DeepSpeech scorer package.",
    "decoder.lm_alpha": "Weight of the scorer's language model; null: the scorer's.",
    "decoder.lm_beta": "The scorer's reward of a word; null: the scorer's.",
    "decoder.hot_words": "Word -> boost: words to expect, or below 0 to avoid.",
    "decoder.interpreter": "The Python 3.9 that runs ds_ctcdecoder; null: search for one.",
    "decoder.tuned": "What the values were tuned on; tune=scorer writes it.",
    "tune.target": "What is tuned after the build.",
    "tune.data": "The recordings; null: source.development.",
    "tune.trials": "How many settings are tried.",
    "tune.seed": "The seed of the search.",
    "tune.lm_alpha": "The lowest and the highest value.",
    "tune.lm_beta": "The lowest and the highest value.",
    "tune.beam_width": "The lowest and the highest value.",
    "tune.output": "The decoder config that is written.",
    "tune.returns": "What a job returns to Hydra's sweeper: wer, package_bytes, seconds, ...",
    "verify.inputs": "What a package is run on.",
    "verify.edge_lengths": "Whether the sample is also run at critical lengths.",
    "verify.max_steps": "Steps (of 20 ms) of the longest input.",
    "verify.require_transcript": "Whether the transcripts must equal the original's.",
    "verify.allow_wrong_words": "Whether a model is published that gets no known word right.",
    "verify.max_wer": "The largest word error rate; null: none.",
    "verify.max_wer_increase": "Its largest rise above `verify.compared_with`; null: none.",
    "verify.max_per": "The largest phoneme error rate; null: none.",
    "verify.max_per_increase": "Its largest rise above `verify.compared_with`; null: none.",
    "verify.max_per_from_original": "The largest share of phonemes that are not the original's.",
    "verify.evaluation": "The recordings for these rates: a CSV or a folder.",
    "verify.count_unspelled": "Whether texts count that the alphabet cannot spell.",
    "verify.compared_with": "The original, or a published artifact.",
    "verify.witness": "Whether Apple's Core AI runtime runs the package too.",
    "verify.thresholds": "Precision or compression -> its gates.",
}

#: Facts that use a whole section, and the keys of it that decide them.
FACTS = {
    "gates": ("coreml.precision", "coreml.compress", "coreml.compress_layers", "verify.thresholds"),
}


def page() -> str:
    """Every key with type, default, meaning and the stages that read it."""
    from asrbuild.base.choices import conf_dir
    from asrbuild.builder.api import compose
    from asrbuild.builder.recipe import lookup

    lines = [
        "# Keys of a recipe",
        "",
        "A recipe is composed by Hydra from groups, and every key can be overridden: "
        "`asrbuild model=static coreml.precision=fp32`. Defaults are those of "
        "`asrbuild` without arguments, the demo model. A stage is run again when a key "
        "that it reads has changed; the artifact has the whole recipe in its manifest. A key "
        "without a stage sets another key, names a file, whose content stages read, or is read "
        "before or after the stages.",
        "",
        "| group | choices |",
        "|---|---|",
    ]
    for group in sorted(path for path in conf_dir().iterdir() if path.is_dir()):
        files = ", ".join(f"`{each.stem}`" for each in sorted(group.glob("*.yaml")))
        lines.append(f"| `{group.name}` | {files} |")
    recipe, readers, section = compose(), stages_of(compose()), None
    # Keys of the top level first, though coreai follows a section in the recipe.
    for key, kind, choices in sorted(leaves(), key=lambda leaf: "." in leaf[0]):
        top = key.partition(".")[0] if "." in key else "Top level"
        if top != section:
            section = top
            lines += [
                "",
                f"## {top}",
                "",
                "| key | meaning | type | default | read by |",
                "|---|---|---|---|---|",
            ]
        default = lookup(recipe, key)
        literal = {None: "null", True: "true", False: "false"}
        known = default is None or isinstance(default, bool)
        shown = "" if isinstance(default, dict) else f"`{literal[default] if known else default}`"
        takes = ", ".join(f"`{each}`" for each in choices) if choices else kind
        read = ", ".join(
            stage
            for stage, keys in readers.items()
            if any(key == each or key.startswith(f"{each}.") for each in keys)
        )
        lines.append(f"| `{key}` | {MEANINGS[key]} | {takes} | {shown} | {read} |")
    return "\n".join(lines) + "\n"


def stages_of(recipe: Any) -> dict[str, set[str]]:
    """Stage -> the keys that it reads, of this recipe."""
    from asrbuild.builder.plan import STAGES, declared

    found: dict[str, set[str]] = {}
    for stage in STAGES:
        found[stage.name] = {*stage.local}
        for read in declared(stage.reads, recipe):
            if isinstance(read, str):
                found[stage.name].add(read)
            elif read.__name__ in FACTS:
                found[stage.name].update(FACTS[read.__name__])
            else:
                seen: Any = Seen(recipe, "", found[stage.name])
                read(seen)
    return found


class Seen:
    """A section of a recipe that notes which of its values are read."""

    def __init__(self, value: Any, key: str, keys: set[str]) -> None:
        self.__dict__.update(_value=value, _key=key, _keys=keys)

    def __getattr__(self, name: str) -> Any:
        value, key = getattr(self._value, name), f"{self._key}.{name}".lstrip(".")
        if is_dataclass(value):
            return Seen(value, key, self._keys)
        if not callable(value) and name != "architecture":
            self._keys.add(key)
        return value


def leaves() -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Each key that has a value, its type in words, and its choices."""
    from asrbuild.builder.recipe import Recipe

    def walk(section: Any, prefix: str) -> Iterator[tuple[str, str, tuple[str, ...]]]:
        hints = get_type_hints(section)
        for declared in fields(section):
            hint = hints[declared.name]
            inner = [each for each in get_args(hint) if is_dataclass(each)]
            if is_dataclass(hint) or (
                inner and declared.name != "tuned" and get_origin(hint) is not dict
            ):
                yield from walk(
                    hint if is_dataclass(hint) else inner[0], f"{prefix}{declared.name}."
                )
                continue
            yield f"{prefix}{declared.name}", words(hint), declared.metadata.get("choices", ())

    return walk(Recipe, "")


def words(hint: Any) -> str:
    """A type in words."""
    known = {int: "whole number", float: "number", bool: "true or false", str: "text", Any: "any"}
    if hint in known:
        return known[hint]
    inside = [each for each in get_args(hint) if each is not type(None)]
    if type(None) in get_args(hint):
        return f"{words(inside[0])}, or null"
    if get_origin(hint) is list:
        return f"list of {words(inside[0])}"
    if get_origin(hint) is dict:
        return "section with names of your own"
    return "section"
