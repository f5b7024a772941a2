"""Where a build's inputs are, by path and by digest: weights, alphabet, recordings, scorer."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from asrbuild.dataset import dataset_digest, read_dataset
from asrbuild.deepspeech.checkpoint import checkpoint_files, find_checkpoint
from asrbuild.digest import canonical_json, file_digest, text_digest
from asrbuild.errors import AsrbuildError
from asrbuild.kinds import KEYS, require
from asrbuild.recipe import TENSORFLOW, Recipe, resolve_file
from asrbuild.speech.alphabet import Alphabet, bytes_alphabet, read_alphabet
from asrbuild.store import MANIFEST, require_whole, resolve

if TYPE_CHECKING:
    from asrbuild.network import AcousticWeights


@dataclass(frozen=True)
class Source:
    """Every file a build reads: ``files`` and their SHA-256 ``digests`` by label.

    Labels name roles, so that moving a file changes no fingerprint.

    ``checkpoint`` is a prefix (``<prefix>.index`` exists), ``graph`` a frozen graph; one is set.
    ``alphabet_file`` is None in UTF-8 (bytes output) mode, which needs none.
    ``baseline`` is the artifact that ``verify.compared_with`` names; its digests are of its bytes.
    ``texts``: recording -> what is said in it, for those where somebody wrote it down.
    """

    checkpoint: Path | None
    graph: Path | None
    alphabet_file: Path | None
    recordings: dict[str, Path]
    texts: dict[str, str]
    scorer: Path | None
    baseline: Path | None
    files: dict[str, Path]
    digests: dict[str, str]

    def weights_digests(self) -> dict[str, str]:
        """The digests that decide the weights."""
        return {k: v for k, v in self.digests.items() if k.startswith(("checkpoint", "graph"))}


def locate(recipe: Recipe, cache_root: Path) -> Source:
    """Finds and digests the inputs of a recipe.

    Raises:
        AsrbuildError: a file is missing, naming the key that points to it.
    """
    source = recipe.source
    files: dict[str, Path] = {}
    checkpoint = graph = None
    if source.kind == "frozen_graph":
        graph = files["graph"] = _existing(source.path, "source.path")
    else:
        checkpoint = find_checkpoint(
            resolve_file(source.checkpoint_dir or ""), source.load_evaluate
        )
        index, *parts = checkpoint_files(checkpoint)
        files["checkpoint.index"] = index
        files |= {f"checkpoint.{part.name.rpartition('.')[2]}": part for part in parts}
    alphabet_file = None
    if not source.bytes_output_mode:
        alphabet_file = _existing(source.alphabet_config_path, "source.alphabet_config_path")
        files["alphabet"] = alphabet_file
    recordings: dict[str, Path] = {}
    texts: dict[str, str] = {}
    for name in ("sample", "second"):
        recording = getattr(source, name)
        if name in recipe.verify.inputs or (name == "sample" and recipe.verify.inputs):
            recordings[name] = _existing(recording.audio, f"source.{name}.audio")
            files[name] = recordings[name]
            if recording.text is not None:
                text_file = _existing(recording.text, f"source.{name}.text")
                files[f"{name}_text"] = text_file
                texts[name] = _words(text_file, f"source.{name}.text")
    scorer = None
    if recipe.decoder.scorer_path is not None:
        scorer = files["scorer"] = _existing(recipe.decoder.scorer_path, "decoder.scorer_path")
    digests = {label: file_digest(path, cache_root) for label, path in files.items()}
    if recipe.verify.evaluation is not None:
        files["evaluation"] = resolve_file(recipe.verify.evaluation)
        digests["evaluation"] = dataset_digest(read_dataset(files["evaluation"]))
    baseline = _baseline(recipe)
    if baseline is not None:
        digests["baseline"] = text_digest(canonical_json(require_whole(baseline, cache_root)))
        digests["baseline.manifest"] = file_digest(baseline / MANIFEST)
    return Source(
        checkpoint, graph, alphabet_file, recordings, texts, scorer, baseline, files, digests
    )


def _baseline(recipe: Recipe) -> Path | None:
    """The artifact to compare with, if it is one."""
    named = recipe.verify.compared_with
    if named == TENSORFLOW:
        return None
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


def _existing(path: str | None, key: str) -> Path:
    found = resolve_file(path or "")
    if not path or not found.exists():
        raise AsrbuildError(
            f"{key} names no file", key=key, file=found, fix=f"set {key}= to a file that exists"
        )
    require(found, KEYS[key], key=key)
    return found


def load_weights(source: Source, recipe: Recipe) -> AcousticWeights:
    """The acoustic weights, checked against the recipe and the alphabet.

    Raises:
        AsrbuildError: the file is damaged, of another width, or for another alphabet.
    """
    if source.graph is not None:
        file, key = source.graph, "source.path"
    else:
        assert source.checkpoint is not None
        key = "source.checkpoint_dir"
        file = source.checkpoint.with_name(f"{source.checkpoint.name}.index")
    digests = tuple(source.weights_digests().items())
    weights = _read_weights(source.graph, source.checkpoint, digests)
    asked = recipe.export.n_hidden
    if asked is not None and asked != weights.n_hidden:
        raise AsrbuildError(
            f"export.n_hidden={asked}, but the source has n_hidden {weights.n_hidden}",
            key="export.n_hidden",
            file=file,
            fix=f"set export.n_hidden={weights.n_hidden} or leave it out",
        )
    features = recipe.export.n_input * (2 * recipe.export.n_context + 1)
    if weights.n_features != features:
        raise AsrbuildError(
            f"the source reads {weights.n_features} values a step, but n_input="
            f"{recipe.export.n_input} and n_context={recipe.export.n_context} make {features}",
            key="export.n_context",
            file=file,
            fix="set the n_input and n_context that the model was trained with",
        )
    alphabet = load_alphabet(source)
    if weights.n_output != alphabet.size + 1:
        bytes_output = source.alphabet_file is None
        raise AsrbuildError(
            f"the alphabet has {alphabet.size} labels, but the source has {weights.n_output} "
            f"outputs: it wants {weights.n_output - 1} labels and the blank",
            key="source.bytes_output_mode" if bytes_output else "source.alphabet_config_path",
            file=source.alphabet_file,
            fix="leave out source.bytes_output_mode: the model does not write bytes"
            if bytes_output
            else f"give the alphabet.txt that {key} was trained with",
        )
    return weights


@functools.lru_cache(maxsize=1)
def _read_weights(
    graph: Path | None, checkpoint: Path | None, digests: tuple[tuple[str, str], ...]
) -> AcousticWeights:
    """Mapped from the files that have these digests; the last ones are kept for a sweep."""
    from asrbuild.deepspeech.checkpoint import read_weights
    from asrbuild.deepspeech.frozen import read_graph_weights

    if graph is not None:
        return read_graph_weights(graph)
    assert checkpoint is not None
    return read_weights(checkpoint)


def load_alphabet(source: Source) -> Alphabet:
    """The labels of the model."""
    if source.alphabet_file is None:
        return bytes_alphabet()
    return read_alphabet(source.alphabet_file)
