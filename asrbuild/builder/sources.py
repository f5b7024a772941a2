"""The inputs of a build: its files, their digests, and the facts that the source states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asrbuild.architectures.architecture import Fact, architecture
from asrbuild.artifact.layout import MANIFEST
from asrbuild.base.digest import canonical_json, file_digest, text_digest
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.kinds.recognition import existing_file
from asrbuild.builder.recipe import TENSORFLOW, AxesConfig, Recipe, network_of
from asrbuild.coreml.choices import DEFAULT_STEPS

if TYPE_CHECKING:
    from asrbuild.speech.tokens import Tokens


@dataclass(frozen=True)
class Source:
    """The input files of a build: ``files`` and their SHA-256 ``digests`` by label.

    A label names a file's role, so that moving a file changes no fingerprint.

    ``alphabet``: the labels of the model, from the file ``alphabet`` or from the source itself.
    ``baseline`` is the artifact that ``verify.compared_with`` names, with digests of its bytes.
    ``texts``: recording -> its expected transcript, if known. ``facts``: the facts that the source
    states.
    """

    alphabet: Tokens
    recordings: dict[str, Path]
    texts: dict[str, str]
    scorer: Path | None
    baseline: Path | None
    files: dict[str, Path]
    digests: dict[str, str]
    facts: tuple[Fact, ...]

    @property
    def checkpoint(self) -> Path | None:
        """The prefix of the source's weights: ``<prefix>.index`` is a file."""
        index = self.files.get("checkpoint.index")
        return None if index is None else index.with_suffix("")

    @property
    def graph(self) -> Path | None:
        """The file that the original runtime runs; None if a stage exports it from the source."""
        return self.files.get("graph")

    @property
    def evaluation(self) -> Path | None:
        """The data set on which word errors are measured."""
        return self.files.get("evaluation")

    @property
    def sample_text(self) -> Path | None:
        """The file with the expected transcript of the sample."""
        return self.files.get("sample_text")

    def digests_of(self, group: str) -> dict[str, str]:
        """Label -> SHA-256 for the files of one group; see :func:`group_of`."""
        return {label: each for label, each in self.digests.items() if group_of(label) == group}


def group_of(label: str) -> str:
    """The group of a file, by its label; files of the model itself have the group ``model``."""
    if label in ("sample", "second"):
        return "recordings"
    if label.endswith("_text"):
        return "texts"
    name = label.partition(".")[0].partition("_")[0]
    own = ("alphabet", "flags", "scorer", "evaluation", "baseline")
    return name if name in own else "model"


def settle(recipe: Recipe, cache_root: Path, *, keep: bool = True) -> tuple[Recipe, Source]:
    """Finds the inputs of a recipe, and completes the recipe with the facts that they state.

    A key that is null takes the value that the source states. Facts about the model have no
    defaults: a value that neither the source nor a key gives is an error.

    Args:
        recipe: the composed recipe.
        cache_root: keeps digests, and the facts of sources.
        keep: whether the facts of the source may be written there.

    Returns:
        The recipe without nulls, and its inputs.

    Raises:
        AsrbuildError: a file is missing (it names the key); a key contradicts the source, or the
        source itself (it names both values and both places); a value is missing.
    """
    found = architecture(recipe.architecture).settle(recipe, cache_root, keep)
    files = dict(found.files)
    values = {**found.values, "name": _name(recipe, found.repeated)}
    settled = _with_outputs(_with_steps(_with(recipe, values), found.steps))
    if recipe.source.second is None:
        inputs = [name for name in recipe.verify.inputs if name != "second"]
        settled = replace(settled, verify=replace(settled.verify, inputs=inputs))
    recordings: dict[str, Path] = {}
    texts: dict[str, str] = {}
    for name in ("sample", "second"):
        recording = getattr(recipe.source, name)
        if recording is None:
            continue
        if name in recipe.verify.inputs or (name == "sample" and recipe.verify.inputs):
            recordings[name] = existing_file(recording.audio, f"source.{name}.audio")
            files[name] = recordings[name]
            if recording.text is not None:
                text_file = existing_file(recording.text, f"source.{name}.text")
                files[f"{name}_text"] = text_file
                texts[name] = _words(text_file, f"source.{name}.text")
    scorer = None
    if recipe.decoder.scorer_path is not None:
        scorer = files["scorer"] = existing_file(recipe.decoder.scorer_path, "decoder.scorer_path")
    digests = {label: file_digest(path, cache_root) for label, path in files.items()}
    if recipe.verify.evaluation is not None:
        from asrbuild.speech.dataset import dataset_digest, read_dataset

        files["evaluation"] = existing_file(recipe.verify.evaluation, "verify.evaluation")
        digests["evaluation"] = dataset_digest(read_dataset(files["evaluation"]))
    baseline = _baseline(recipe)
    if baseline is not None:
        from asrbuild.artifact.integrity import require_whole

        digests["baseline"] = text_digest(canonical_json(require_whole(baseline, cache_root)))
        digests["baseline.manifest"] = file_digest(baseline / MANIFEST)
    return settled, Source(
        found.alphabet, recordings, texts, scorer, baseline, files, digests, found.facts
    )


def _name(recipe: Recipe, repeated: Sequence[str]) -> str:
    """The artifact's name; in a default name, keys that repeat the source's facts have no word."""
    from asrbuild.builder.naming import default_name

    values = asdict(recipe)
    if not repeated or recipe.name != default_name(values):
        return recipe.name
    return default_name(values, repeated=repeated)


def _with(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    """The recipe with other values for dotted keys of one level."""
    sections: dict[str, dict[str, Any]] = {}
    for key, value in values.items():
        section, _, name = key.rpartition(".")
        sections.setdefault(section, {})[name] = value
    top = sections.pop("", {})
    changed = {name: replace(getattr(recipe, name), **own) for name, own in sections.items()}
    return replace(recipe, **top, **changed)


def _with_outputs(recipe: Recipe) -> Recipe:
    """The recipe with every output of the network, if it names no outputs."""
    if recipe.coreml.outputs is not None:
        return recipe
    architecture, config = network_of(recipe)
    outputs = list(architecture.signature(config).output_names)
    return replace(recipe, coreml=replace(recipe.coreml, outputs=outputs))


def _with_steps(recipe: Recipe, exported: int | None) -> Recipe:
    """The recipe with the model's steps completed; ``model=exported`` takes those of the graph."""
    from asrbuild.builder.steps import axis_steps, counts_rows, function_steps, steps_of_rows

    model = recipe.model
    steps = axis_steps(recipe, model.steps, exported)
    n_steps = steps.default or recipe.n_steps or DEFAULT_STEPS
    if steps.kind == "exported":
        static = exported is not None
        steps = replace(
            steps, kind="fixed" if static else "range", upper=None if static else steps.upper
        )
        model = replace(model, streaming="chunked" if static else "whole")
    filled = {
        name: function_steps(recipe, replace(own, default=own.default or n_steps))
        for name, own in model.functions.items()
    }
    if steps.default is None:
        steps = replace(steps, default=n_steps)
    export_n_steps = n_steps if model.export_n_steps is None else model.export_n_steps
    architecture, config = network_of(recipe)
    own = architecture.OWN
    if own is not None and getattr(config, own.steps) is None:
        recipe = _with(recipe, {f"{architecture.SECTION}.{own.steps}": n_steps})
    if counts_rows(recipe) and model.axes == AxesConfig():
        signature = architecture.signature(config)
        filled = {name: steps_of_rows(own, signature) for name, own in filled.items()}
        steps = steps_of_rows(steps, signature)
    model = replace(model, steps=steps, functions=filled, export_n_steps=export_n_steps)
    return replace(recipe, n_steps=n_steps, model=model)


def _baseline(recipe: Recipe) -> Path | None:
    """The artifact that ``verify.compared_with`` names; None if it is not an artifact."""
    named = recipe.verify.compared_with
    if named == TENSORFLOW:
        return None
    from asrbuild.artifact.lookup import resolve

    try:
        return resolve(Path(recipe.paths.artifacts), named)
    except AsrbuildError as error:
        raise AsrbuildError(
            f"verify.compared_with={named} is neither tensorflow nor an artifact: {error.message}",
            key="verify.compared_with",
            file=error.file,
            fix=error.fix,
        ) from error


def _words(path: Path, key: str) -> str:
    try:
        return " ".join(path.read_text(encoding="utf-8").split())
    except UnicodeDecodeError as error:
        raise AsrbuildError(
            "the words of a recording are not UTF-8 text",
            key=key,
            file=path,
            fix=f"save the file as UTF-8, or set {key}=null",
        ) from error
