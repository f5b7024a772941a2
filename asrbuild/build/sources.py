"""A build's inputs, by path and by digest, and what the source states of itself."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from asrbuild.architectures.deepspeech import facts
from asrbuild.architectures.deepspeech.checkpoint import checkpoint_files, choose_checkpoint
from asrbuild.architectures.deepspeech.facts import Fact
from asrbuild.artifact.integrity import require_whole
from asrbuild.artifact.layout import MANIFEST
from asrbuild.artifact.lookup import resolve
from asrbuild.base.cache import StageKey, entry_path, is_cached, run_stage
from asrbuild.base.digest import canonical_json, file_digest, source_digest, text_digest
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.kinds import KEYS, recognise, require
from asrbuild.base.places import resolve_file
from asrbuild.build.recipe import TENSORFLOW, Recipe, lookup
from asrbuild.speech.alphabet import Alphabet, bytes_alphabet, make_alphabet, read_alphabet
from asrbuild.speech.dataset import dataset_digest, read_dataset

_FACTS = "facts.json"
#: The code that reads what sources state.
_READERS = ("architectures", "base/protobuf.py", "speech/alphabet.py")


_GRAPH = "output_graph.pb"
_STORED = "weights.txt"
#: The code that a ``.tflite`` becomes a frozen graph with.
_LITE_READERS = ("architectures", "base/protobuf.py")


@dataclass(frozen=True)
class Source:
    """Every file a build reads: ``files`` and their SHA-256 ``digests`` by label.

    Labels name roles, so that moving a file changes no fingerprint.

    ``checkpoint`` is a prefix (``<prefix>.index`` exists), ``graph`` a frozen graph; one is set.
    ``alphabet``: the labels of the model, from the file ``alphabet`` or from the source itself.
    ``baseline`` is the artifact that ``verify.compared_with`` names; its digests are of its bytes.
    ``texts``: recording -> what is said in it, where that is known.
    ``facts``: what the source states of itself.
    """

    checkpoint: Path | None
    graph: Path | None
    alphabet: Alphabet
    recordings: dict[str, Path]
    texts: dict[str, str]
    scorer: Path | None
    baseline: Path | None
    files: dict[str, Path]
    digests: dict[str, str]
    facts: tuple[Fact, ...]

    def weights_digests(self) -> dict[str, str]:
        """The digests that decide the weights."""
        return {k: v for k, v in self.digests.items() if k.startswith(("checkpoint", "graph"))}


@dataclass(frozen=True)
class Original:
    """The model that a source is made of, its files by label, and what it states of itself."""

    checkpoint: Path | None
    graph: Path | None
    files: dict[str, Path]
    facts: tuple[Fact, ...]


def settle(recipe: Recipe, cache_root: Path, *, keep: bool = True) -> tuple[Recipe, Source]:
    """Finds, digests and questions the inputs of a recipe.

    A key that is null takes what the source states. Nothing has a default that describes the
    model: what neither the source nor a key says is an error.

    Args:
        recipe: as it was composed.
        cache_root: where digests and what sources state are remembered.
        keep: whether what the source states may be written there.

    Returns:
        The recipe without nulls, and its inputs.

    Raises:
        AsrbuildError: a file is missing, naming the key that points to it; a key contradicts the
            source, or the source itself, naming both values and both places; a value is missing.
    """
    original = question(recipe, cache_root, keep=keep)
    files = original.files
    alphabet = _alphabet(recipe, original, files)
    settled = _settled(recipe, original, alphabet)
    recordings: dict[str, Path] = {}
    texts: dict[str, str] = {}
    for name in ("sample", "second"):
        recording = getattr(recipe.source, name)
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
    return settled, Source(
        original.checkpoint, original.graph, alphabet, recordings, texts, scorer, baseline, files,
        digests, original.facts,
    )  # fmt: skip


def question(recipe: Recipe, cache_root: Path, *, keep: bool = True) -> Original:
    """Finds the model of a recipe and reads what it states of itself.

    Raises:
        AsrbuildError: a file is missing or damaged.
    """
    source = recipe.source
    if source.kind == "frozen_graph":
        given = _existing(source.path, "source.path")
        graph, stored = _frozen(given, cache_root)
        files = {"graph": graph}
        found = _remembered(cache_root, files, lambda: facts.graph_facts(graph), keep)
        if graph != given:
            files["lite"] = given
            found = [replace(fact, file=str(given)) for fact in found]
            found.append(Fact("weights", stored, str(given), "the tensors"))
        return Original(None, graph, files, tuple(found))
    named = resolve_file(source.checkpoint_dir or "")
    checkpoint, because = choose_checkpoint(named, source.load_evaluate)
    index, *parts = checkpoint_files(checkpoint)
    files = {"checkpoint.index": index}
    files |= {f"checkpoint.{part.name.rpartition('.')[2]}": part for part in parts}
    folder = checkpoint.parent
    found = [facts.Fact("checkpoint", checkpoint.name, str(folder), because)]
    found += _remembered(
        cache_root, {"index": index}, lambda: facts.variable_facts(checkpoint), keep
    )
    stated, flags = facts.flag_facts(folder)
    found += stated
    for number, path in enumerate(dict.fromkeys(flag.file for flag in flags.values())):
        files[f"flags_{number}" if number else "flags"] = path
    outputs, bytes_output = _first(found, facts.N_OUTPUT), _first(found, facts.BYTES_OUTPUT)
    if source.bytes_output_mode or (bytes_output and source.bytes_output_mode is None):
        return Original(checkpoint, None, files, tuple(found))
    labels = facts.alphabet_fact(folder, flags, outputs - 1)
    if labels is None and source.alphabet_config_path is None:
        exports = {f"export_{n}": path for n, path in enumerate(facts.exported_graphs(checkpoint))}
        both = files | exports
        exported = (
            _remembered(cache_root, both, lambda: facts.exported_alphabet(checkpoint), keep)
            if exports
            else []
        )
        labels = exported[0] if exported else None
    if labels is not None:
        found.append(labels)
        files["alphabet"] = Path(labels.file)
    return Original(checkpoint, None, files, tuple(found))


def _first(found: Iterable[Fact], name: str) -> Any:
    return next((fact.value for fact in found if fact.name == name), None)


def _remembered(
    cache_root: Path, files: dict[str, Path], read: Callable[[], list[Fact]], keep: bool
) -> list[Fact]:
    """What files state, from the cache where they were read before: it needs no numpy there."""
    digests = {label: file_digest(path, cache_root) for label, path in files.items()}
    key = StageKey("facts", source_digest(_READERS), {}, digests, {})
    labels = {str(path): label for label, path in files.items()}
    paths = {label: path for path, label in labels.items()}
    if not is_cached(cache_root, key):
        found = read()
        stored = [asdict(fact) | {"file": labels[fact.file]} for fact in found]
        if keep:
            text = json.dumps(stored, ensure_ascii=False, indent=1)
            run_stage(
                cache_root,
                key,
                lambda at: (at / _FACTS).write_text(text, "utf-8") and None,
                notify=lambda _: None,
            )
        return found
    stored = json.loads((entry_path(cache_root, key) / _FACTS).read_text("utf-8"))
    return [Fact(**fields | {"file": paths[fields["file"]]}) for fields in stored]


def _alphabet(recipe: Recipe, original: Original, files: dict[str, Path]) -> Alphabet:
    """The labels of the model: those that the source states, or those of the recipe's file.

    Raises:
        AsrbuildError: neither states them, they contradict each other, or their number is not that
            of the model's outputs.
    """
    source = recipe.source
    outputs = _first(original.facts, facts.N_OUTPUT)
    size = None if outputs is None else outputs - 1
    stated = next((fact for fact in original.facts if fact.name == facts.ALPHABET), None)
    writes_bytes = next((fact for fact in original.facts if fact.name == facts.BYTES_OUTPUT), None)
    if source.bytes_output_mode is None and writes_bytes is not None:
        bytes_output = bool(writes_bytes.value)
    else:
        bytes_output = bool(source.bytes_output_mode)
    if writes_bytes is not None and not bytes_output and writes_bytes.value:
        raise _contradiction(facts.BYTES_OUTPUT, False, writes_bytes)
    if writes_bytes is not None and bytes_output and not writes_bytes.value:
        raise _contradiction(facts.BYTES_OUTPUT, True, writes_bytes)
    if bytes_output and source.alphabet_config_path is not None:
        because = f"the source states {writes_bytes}" if writes_bytes else "bytes_output_mode=true"
        raise AsrbuildError(
            f"a model that writes bytes has no alphabet, and source.alphabet_config_path="
            f"{source.alphabet_config_path} gives one: {because}",
            key=facts.ALPHABET,
            file=original.graph or original.checkpoint,
            fix="leave out source.alphabet_config_path",
        )
    if bytes_output and stated is not None:
        raise AsrbuildError(
            f"source.bytes_output_mode=true, but the source states {stated}",
            key=facts.BYTES_OUTPUT,
            file=stated.file,
            fix="leave out source.bytes_output_mode: the model does not write bytes",
        )
    if source.alphabet_config_path is not None:
        path = _existing(source.alphabet_config_path, facts.ALPHABET)
        alphabet = read_alphabet(path, size)
        files["alphabet"] = path
        _check_size(alphabet, outputs, files, original)
        if stated is not None and list(alphabet.labels) != list(stated.value):
            raise _other_labels(alphabet, path, stated)
    elif bytes_output:
        alphabet = bytes_alphabet()
    elif stated is not None:
        alphabet = make_alphabet(stated.value)
    else:
        raise _no_alphabet(original, size)
    _check_size(alphabet, outputs, files, original)
    return alphabet


def _other_labels(alphabet: Alphabet, path: Path, stated: Fact) -> AsrbuildError:
    given, known = alphabet.labels, stated.value
    at = next(
        (i for i, pair in enumerate(zip(given, known, strict=False)) if pair[0] != pair[1]),
        min(len(given), len(known)),
    )
    here, there = (repr(labels[at]) if at < len(labels) else "none" for labels in (given, known))
    return AsrbuildError(
        f"{path.name} has {len(given)} labels and label {at} is {here}; the source states "
        f"{len(known)} labels and label {at} is {there} ({stated.place} of {stated.file})",
        key=facts.ALPHABET,
        file=path,
        fix="leave out source.alphabet_config_path: the source's own labels are used",
    )


def _no_alphabet(original: Original, size: int | None) -> AsrbuildError:
    folder = None if original.checkpoint is None else original.checkpoint.parent
    file = original.graph or folder
    named = "" if folder is None else facts.absent_alphabet(folder)
    count = "the labels of the model" if size is None else f"the model's {size} labels"
    if size == bytes_alphabet().size:
        fix = "set source.bytes_output_mode=true, if the model writes UTF-8 bytes, or give its "
    else:
        fix = "give its "
    return AsrbuildError(
        f"nothing states {count}{named}",
        key=facts.ALPHABET,
        file=file,
        fix=f"{fix}alphabet: source.alphabet_config_path=alphabet.txt "
        "(source.alphabet_config_path=demo:alphabet.txt is DeepSpeech's English one)",
    )


def _check_size(
    alphabet: Alphabet, outputs: int | None, files: dict[str, Path], original: Original
) -> None:
    if outputs is None or alphabet.size + 1 == outputs:
        return
    key = "source.path" if original.graph is not None else "source.checkpoint_dir"
    if alphabet.bytes_output:
        fix = "leave out source.bytes_output_mode: the model does not write bytes"
    else:
        fix = f"give the alphabet.txt that {key} was trained with"
        if outputs == bytes_alphabet().size + 1:
            fix = f"set source.bytes_output_mode=true, if the model writes UTF-8 bytes; or {fix}"
    raise AsrbuildError(
        f"the alphabet has {alphabet.size} labels, but the source has {outputs} outputs: it wants "
        f"{outputs - 1} labels and the blank",
        key=facts.BYTES_OUTPUT if alphabet.bytes_output else facts.ALPHABET,
        file=files.get("alphabet") or original.graph,
        fix=fix,
    )


#: Keys that describe the model: what DeepSpeech's training code takes where no flag is given, for
#: the message alone.
_DESCRIBING = {
    facts.SAMPLE_RATE: 16000,
    facts.WIN_LEN: 32,
    facts.WIN_STEP: 20,
    facts.UPPER_HZ: 8000.0,
    facts.RELU_CLIP: 20.0,
    facts.N_INPUT: 26,
    facts.N_CONTEXT: 9,
}
#: Keys that have a value of their own where the source states none.
_OTHERWISE = {
    facts.BEAM_WIDTH: 500,
    facts.LANGUAGE: "",
    facts.N_HIDDEN: None,
    facts.N_STEPS: 16,
}


def _settled(recipe: Recipe, original: Original, alphabet: Alphabet) -> Recipe:
    """The recipe with every value that the source states."""
    stated = _stated(recipe, original)
    values: dict[str, Any] = {facts.BYTES_OUTPUT: alphabet.bytes_output}
    missing = []
    repeated = []
    for key in (*_DESCRIBING, *_OTHERWISE, facts.BATCH):
        given, fact = lookup(recipe, key), stated.get(key)
        if given is None:
            values[key] = fact.value if fact is not None else _OTHERWISE.get(key)
            # The clip of a graph is in its nodes, or it has none.
            needed = key != facts.RELU_CLIP or original.graph is None
            if values[key] is None and key in _DESCRIBING and needed:
                missing.append(key)
        elif fact is not None and key != facts.BEAM_WIDTH and not facts.same(given, fact.value):
            raise _contradiction(key, given, fact)
        elif fact is not None:
            repeated.append(key)
    if missing:
        raise _unstated(missing, original)
    if facts.BYTES_OUTPUT in stated and recipe.source.bytes_output_mode is not None:
        repeated.append(facts.BYTES_OUTPUT)
    values["name"] = _name(recipe, repeated)
    settled = _with_steps(_with(recipe, values), stated.get(facts.N_STEPS))
    if original.graph is not None:
        _check_front_end(settled, stated, original.graph)
    return settled


def _name(recipe: Recipe, repeated: list[str]) -> str:
    """The name; in a default one, keys that repeat what the source states have no word."""
    from asrbuild.build.naming import default_name

    values = asdict(recipe)
    if not repeated or recipe.name != default_name(values):
        return recipe.name
    return default_name(values, repeated=repeated)


def _stated(recipe: Recipe, original: Original) -> dict[str, Fact]:
    """One fact of each name; of two that differ, the one that a key confirms."""
    stated, against = facts.agreed(original.facts)
    for first, second in against:
        given = lookup(recipe, first.name) if "." in first.name else None
        confirmed = [f for f in (first, second) if given is not None and facts.same(given, f.value)]
        if not confirmed:
            named = first.name if "." in first.name else None
            raise AsrbuildError(
                f"the source contradicts itself: {first.name} is {first} and {second}",
                key=named,
                file=first.file,
                fix="give the files of one training run"
                if named is None
                else f"set {named}={facts.shown(first.value)} or {named}="
                f"{facts.shown(second.value)}, as the model was trained",
            )
        stated[first.name] = confirmed[0]
    if facts.WIN_LEN not in stated or facts.WIN_STEP not in stated:
        stated |= _from_samples(stated)
    return stated


def _from_samples(stated: dict[str, Fact]) -> dict[str, Fact]:
    """Durations of a graph that states them in samples alone; whole milliseconds only."""
    rate = stated.get(facts.SAMPLE_RATE)
    pairs = ((facts.WIN_LEN, "window_samples"), (facts.WIN_STEP, "step_samples"))
    return {
        key: replace(stated[samples], name=key, value=stated[samples].value * 1000 // rate.value)
        for key, samples in pairs
        if rate is not None
        and key not in stated
        and samples in stated
        and stated[samples].value * 1000 % rate.value == 0
    }


def _contradiction(key: str, given: Any, fact: Fact) -> AsrbuildError:
    if key == facts.BATCH:
        return AsrbuildError(
            f"the graph takes {fact.value} utterances at a time ({fact.place}); a Core ML package "
            "here takes one",
            key="source.path",
            file=fact.file,
            fix="export the graph again with DeepSpeech's --export_batch_size 1, or build from its "
            "checkpoint: source=checkpoint source.checkpoint_dir=/path/to/checkpoints",
        )
    return AsrbuildError(
        f"{key}={facts.shown(given)} in the recipe, but the source states {fact}",
        key=key,
        file=fact.file,
        fix=f"set {key}={facts.shown(fact.value)} or leave it out",
    )


def unstated(original: Original) -> list[str]:
    """The keys that describe a model and that this one does not state."""
    stated = {fact.name for fact in original.facts}
    stated |= _from_samples({fact.name: fact for fact in original.facts}).keys()
    needed = set(_DESCRIBING) - ({facts.RELU_CLIP} if original.graph is not None else set())
    if facts.BYTES_OUTPUT not in stated or not _first(original.facts, facts.BYTES_OUTPUT):
        needed.add(facts.ALPHABET)
    return sorted(needed - stated)


def _unstated(missing: list[str], original: Original) -> AsrbuildError:
    names = ", ".join(key.removeprefix("export.") for key in missing)
    usual = " ".join(f"{key}={_DESCRIBING[key]}" for key in missing)
    file: Path | None = original.graph
    where = "the graph has no metadata of it"
    if original.checkpoint is not None:
        file = original.checkpoint.parent
        where = "the folder has no flags.txt that does"
    return AsrbuildError(
        f"nothing states {names} of the model: {where}, and no key gives it",
        key=missing[0],
        file=file,
        fix=f"set what it was trained with; where no flag was given that is {usual}",
    )


def _with(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    """The recipe with other values of dotted keys; those of one level only."""
    sections: dict[str, dict[str, Any]] = {}
    for key, value in values.items():
        section, _, name = key.rpartition(".")
        sections.setdefault(section, {})[name] = value
    top = sections.pop("", {})
    changed = {name: replace(getattr(recipe, name), **own) for name, own in sections.items()}
    return replace(recipe, **top, **changed)


def _with_steps(recipe: Recipe, fact: Fact | None) -> Recipe:
    """Every null of the model's steps filled, and ``model=exported`` as the graph was exported."""
    model, n_steps = recipe.model, recipe.n_steps
    steps = model.steps
    if steps.kind == "exported":
        static = fact is not None
        steps = replace(steps, kind="fixed" if static else "range", upper=None if static
                        else steps.upper)  # fmt: skip
        model = replace(model, streaming="chunked" if static else "whole")
    filled = {
        name: replace(own, default=n_steps) if own.default is None else own
        for name, own in model.functions.items()
    }
    if steps.default is None:
        steps = replace(steps, default=n_steps)
    export_n_steps = n_steps if model.export_n_steps is None else model.export_n_steps
    export = recipe.export
    if export.n_steps is None:
        export = replace(export, n_steps=n_steps)
    model = replace(model, steps=steps, functions=filled, export_n_steps=export_n_steps)
    return replace(recipe, model=model, export=export)


def _check_front_end(recipe: Recipe, stated: Mapping[str, Fact], graph: Path) -> None:
    """The features that asrbuild computes are those of the graph's own nodes."""
    export = recipe.export
    rate = export.audio_sample_rate or 0
    computed = {
        "window_samples": (rate * (export.feature_win_len or 0) // 1000, facts.WIN_LEN),
        "step_samples": (rate * (export.feature_win_step or 0) // 1000, facts.WIN_STEP),
        "mel_bands": (40, None),
        "lower_hz": (20.0, None),
        "magnitude_squared": (True, None),
    }
    for name, (own, key) in computed.items():
        fact = stated.get(name)
        if fact is not None and not facts.same(own, fact.value):
            raise AsrbuildError(
                f"the graph computes its features with {name} {fact}; the recipe makes it "
                f"{facts.shown(own)}",
                key=key or "source.path",
                file=graph,
                fix=f"set {key} to what the model was trained with"
                if key
                else "give a graph with the features of DeepSpeech 0.6 to 0.9, as it exports them",
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


def _frozen(given: Path, cache_root: Path) -> tuple[Path, str]:
    """The frozen graph of a source file, and how its weights came to be.

    Of a ``.tflite`` it is the graph that stands for it, in the cache.
    """
    if recognise(given).key != "tflite":
        return given, "as they are"

    def write(at: Path) -> None:
        from asrbuild.architectures.deepspeech.lite import write_lite_graph

        (at / _STORED).write_text(write_lite_graph(given, at / _GRAPH), "utf-8")

    digest = {"lite": file_digest(given, cache_root)}
    key = StageKey("import", source_digest(_LITE_READERS), {}, digest, {})
    at = run_stage(cache_root, key, write, notify=lambda _: None).path
    return at / _GRAPH, (at / _STORED).read_text("utf-8")


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
    if not path or not os.path.exists(found):
        raise AsrbuildError(
            f"{key} names no file", key=key, file=found, fix=f"set {key}= to a file that exists"
        )
    require(found, KEYS[key], key=key)
    return found
