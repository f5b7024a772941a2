"""Reads a DeepSpeech source, and completes the recipe's keys with its facts.

A key that is null takes the value that the source states. Facts about the model have no defaults: a
value that neither the source nor a key gives is an error. ``recipe`` is the composed recipe: its
keys ``source.*``, ``export.*`` and ``n_steps`` are read.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from asrbuild.architectures.architecture import Fact, Found, shown
from asrbuild.architectures.deepspeech import facts
from asrbuild.architectures.deepspeech.checkpoint import checkpoint_files, choose_checkpoint
from asrbuild.base.cache import StageKey, entry_path, is_cached, run_stage
from asrbuild.base.code import code_digest
from asrbuild.base.digest import file_digest
from asrbuild.base.errors import AsrbuildError
from asrbuild.base.kinds.recognition import existing_file, recognise
from asrbuild.base.places import resolve_file
from asrbuild.coreml.choices import DEFAULT_STEPS
from asrbuild.speech.alphabet import Alphabet, bytes_alphabet, make_alphabet, read_alphabet
from asrbuild.speech.decoder_settings import DecoderSettings

_FACTS = "facts.json"
_GRAPH = "output_graph.pb"
_STORED = "weights.txt"


@dataclass(frozen=True)
class Stated:
    """The model of a source, its files by label, and its facts."""

    checkpoint: Path | None
    graph: Path | None
    files: dict[str, Path]
    facts: tuple[Fact, ...]


def read_source(recipe: Any, cache_root: Path, keep: bool) -> Stated:
    """Finds the model of a recipe and reads its facts.

    Raises:
        AsrbuildError: a file is missing or damaged.
    """
    source = recipe.source
    if source.kind == "frozen_graph":
        given = existing_file(source.path, "source.path")
        graph, stored = _frozen(given, cache_root)
        files = {"graph": graph}
        found = _remembered(cache_root, files, lambda: facts.graph_facts(graph), keep)
        if graph != given:
            files["lite"] = given
            found = [replace(fact, file=str(given)) for fact in found]
            found.append(Fact("weights", stored, str(given), "the tensors"))
        return Stated(None, graph, files, tuple(found))
    named = resolve_file(source.checkpoint_dir or "")
    checkpoint, because = choose_checkpoint(named, source.load_evaluate)
    index, *parts = checkpoint_files(checkpoint)
    files = {"checkpoint.index": index}
    files |= {f"checkpoint.{part.name.rpartition('.')[2]}": part for part in parts}
    folder = checkpoint.parent
    found = [Fact("checkpoint", checkpoint.name, str(folder), because)]
    found += _remembered(
        cache_root, {"index": index}, lambda: facts.variable_facts(checkpoint), keep
    )
    stated, flags = facts.flag_facts(folder)
    found += stated
    for number, path in enumerate(dict.fromkeys(flag.file for flag in flags.values())):
        files[f"flags_{number}" if number else "flags"] = path
    outputs, bytes_output = _first(found, facts.N_OUTPUT), _first(found, facts.BYTES_OUTPUT)
    if source.bytes_output_mode or (bytes_output and source.bytes_output_mode is None):
        return Stated(checkpoint, None, files, tuple(found))
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
    return Stated(checkpoint, None, files, tuple(found))


def _first(found: Iterable[Fact], name: str) -> Any:
    return next((fact.value for fact in found if fact.name == name), None)


def _remembered(
    cache_root: Path, files: dict[str, Path], read: Callable[[], list[Fact]], keep: bool
) -> list[Fact]:
    """The facts of files, from the cache if they were read before, without numpy."""
    digests = {label: file_digest(path, cache_root) for label, path in files.items()}
    key = StageKey("facts", code_digest("architectures/deepspeech/facts.py"), {}, digests, {})
    labels = {str(path): label for label, path in files.items()}
    paths = {label: path for path, label in labels.items()}
    if not is_cached(cache_root, key):
        found = read()
        stored = [asdict(fact) | {"file": labels[fact.file]} for fact in found]
        if keep:
            text = json.dumps(stored, ensure_ascii=False, indent=1)

            def write(at: Path) -> None:
                (at / _FACTS).write_text(text, "utf-8")

            run_stage(cache_root, key, write, notify=lambda _: None)
        return found
    stored = json.loads((entry_path(cache_root, key) / _FACTS).read_text("utf-8"))
    return [Fact(**fields | {"file": paths[fields["file"]]}) for fields in stored]


def _alphabet(recipe: Any, model: Stated, files: dict[str, Path]) -> Alphabet:
    """The labels of the model, from the source or from the recipe's file.

    Raises:
        AsrbuildError: neither has them, they contradict each other, or their number does not fit
        the model's outputs.
    """
    source = recipe.source
    outputs = _first(model.facts, facts.N_OUTPUT)
    size = None if outputs is None else outputs - 1
    stated = next((fact for fact in model.facts if fact.name == facts.ALPHABET), None)
    writes_bytes = next((fact for fact in model.facts if fact.name == facts.BYTES_OUTPUT), None)
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
            file=model.graph or model.checkpoint,
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
        path = existing_file(source.alphabet_config_path, facts.ALPHABET)
        alphabet = read_alphabet(path, size)
        files["alphabet"] = path
        _check_size(alphabet, outputs, files, model)
        if stated is not None and list(alphabet.labels) != list(stated.value):
            raise _other_labels(alphabet, path, stated)
    elif bytes_output:
        alphabet = bytes_alphabet()
    elif stated is not None:
        alphabet = make_alphabet(stated.value)
    else:
        raise _no_alphabet(model, size)
    _check_size(alphabet, outputs, files, model)
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


def _no_alphabet(model: Stated, size: int | None) -> AsrbuildError:
    folder = None if model.checkpoint is None else model.checkpoint.parent
    file = model.graph or folder
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
    alphabet: Alphabet, outputs: int | None, files: dict[str, Path], model: Stated
) -> None:
    if outputs is None or alphabet.size + 1 == outputs:
        return
    key = "source.path" if model.graph is not None else "source.checkpoint_dir"
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
        file=files.get("alphabet") or model.graph,
        fix=fix,
    )


#: Key that describes the model -> the default of DeepSpeech's training code, for the message.
_DESCRIBING = {
    facts.SAMPLE_RATE: 16000,
    facts.WIN_LEN: 32,
    facts.WIN_STEP: 20,
    facts.UPPER_HZ: 8000.0,
    facts.RELU_CLIP: 20.0,
    facts.N_INPUT: 26,
    facts.N_CONTEXT: 9,
}
#: Keys with a default, if the source states no value.
_OTHERWISE = {
    facts.BEAM_WIDTH: DecoderSettings().beam_width,
    facts.LANGUAGE: "",
    facts.N_HIDDEN: None,
    facts.N_STEPS: DEFAULT_STEPS,
}


def settle(recipe: Any, cache_root: Path, keep: bool) -> Found:
    """Finds the model, with the source's values for the recipe's keys that are null.

    Raises:
        AsrbuildError: a key contradicts the source, or a value is missing.
    """
    model = read_source(recipe, cache_root, keep)
    alphabet = _alphabet(recipe, model, model.files)
    stated = _stated(recipe, model)
    values: dict[str, Any] = {facts.BYTES_OUTPUT: alphabet.bytes_output}
    missing = []
    repeated = []
    for key in (*_DESCRIBING, *_OTHERWISE, facts.BATCH):
        given, fact = _lookup(recipe, key), stated.get(key)
        if given is None:
            values[key] = fact.value if fact is not None else _OTHERWISE.get(key)
            # The clip of a graph is in its nodes, or the graph has none.
            needed = key != facts.RELU_CLIP or model.graph is None
            if values[key] is None and key in _DESCRIBING and needed:
                missing.append(key)
        elif fact is not None and key != facts.BEAM_WIDTH and not facts.same(given, fact.value):
            raise _contradiction(key, given, fact)
        elif fact is not None:
            repeated.append(key)
    if missing:
        raise _unstated(missing, model)
    if facts.BYTES_OUTPUT in stated and recipe.source.bytes_output_mode is not None:
        repeated.append(facts.BYTES_OUTPUT)
    if model.graph is not None:
        settled = {key: values.get(key, _lookup(recipe, key)) for key in _DESCRIBING}
        _check_front_end(settled, stated, model.graph)
    steps = None if facts.N_STEPS not in stated else int(stated[facts.N_STEPS].value)
    return Found(model.files, model.facts, alphabet, values, tuple(repeated), steps)


def _lookup(recipe: Any, key: str) -> Any:
    return functools.reduce(getattr, key.split("."), recipe)


def _stated(recipe: Any, model: Stated) -> dict[str, Fact]:
    """Name -> fact; of two different facts, the one that a key confirms."""
    stated, against = facts.agreed(model.facts)
    for first, second in against:
        given = _lookup(recipe, first.name) if "." in first.name else None
        confirmed = [f for f in (first, second) if given is not None and facts.same(given, f.value)]
        if not confirmed:
            named = first.name if "." in first.name else None
            raise AsrbuildError(
                f"the source contradicts itself: {first.name} is {first} and {second}",
                key=named,
                file=first.file,
                fix="give the files of one training run"
                if named is None
                else f"set {named}={shown(first.value)} or {named}="
                f"{shown(second.value)}, as the model was trained",
            )
        stated[first.name] = confirmed[0]
    if facts.WIN_LEN not in stated or facts.WIN_STEP not in stated:
        stated |= _from_samples(stated)
    return stated


def _from_samples(stated: dict[str, Fact]) -> dict[str, Fact]:
    """Durations in whole milliseconds of a graph that has them only in samples."""
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
        f"{key}={shown(given)} in the recipe, but the source states {fact}",
        key=key,
        file=fact.file,
        fix=f"set {key}={shown(fact.value)} or leave it out",
    )


def unstated(model: Stated) -> list[str]:
    """The keys that describe a model and that this source does not state."""
    stated = {fact.name for fact in model.facts}
    stated |= _from_samples({fact.name: fact for fact in model.facts}).keys()
    needed = set(_DESCRIBING) - ({facts.RELU_CLIP} if model.graph is not None else set())
    if facts.BYTES_OUTPUT not in stated or not _first(model.facts, facts.BYTES_OUTPUT):
        needed.add(facts.ALPHABET)
    return sorted(needed - stated)


def _unstated(missing: list[str], model: Stated) -> AsrbuildError:
    names = ", ".join(key.removeprefix("export.") for key in missing)
    usual = " ".join(f"{key}={_DESCRIBING[key]}" for key in missing)
    file: Path | None = model.graph
    where = "the graph has no metadata of it"
    if model.checkpoint is not None:
        file = model.checkpoint.parent
        where = "the folder has no flags.txt that does"
    return AsrbuildError(
        f"nothing states {names} of the model: {where}, and no key gives it",
        key=missing[0],
        file=file,
        fix=f"set what it was trained with; where no flag was given that is {usual}",
    )


def _check_front_end(settled: Mapping[str, Any], stated: Mapping[str, Fact], graph: Path) -> None:
    """Raises if a graph's own features differ from those of the recipe."""
    rate = settled[facts.SAMPLE_RATE] or 0
    computed = {
        "window_samples": (rate * (settled[facts.WIN_LEN] or 0) // 1000, facts.WIN_LEN),
        "step_samples": (rate * (settled[facts.WIN_STEP] or 0) // 1000, facts.WIN_STEP),
        "mel_bands": (40, None),
        "lower_hz": (20.0, None),
        "magnitude_squared": (True, None),
    }
    for name, (own, key) in computed.items():
        fact = stated.get(name)
        if fact is not None and not facts.same(own, fact.value):
            raise AsrbuildError(
                f"the graph computes its features with {name} {fact}; the recipe makes it "
                f"{shown(own)}",
                key=key or "source.path",
                file=graph,
                fix=f"set {key} to what the model was trained with"
                if key
                else "give a graph with the features of DeepSpeech 0.6 to 0.9, as it exports them",
            )


def _frozen(given: Path, cache_root: Path) -> tuple[Path, str]:
    """The frozen graph of a source file, and the conversion of its weights in words.

    For a ``.tflite`` it is the equivalent graph, in the cache.
    """
    if recognise(given).key != "tflite":
        return given, "as they are"

    def write(at: Path) -> None:
        from asrbuild.architectures.deepspeech.lite import write_lite_graph

        (at / _STORED).write_text(write_lite_graph(given, at / _GRAPH), "utf-8")

    digest = {"lite": file_digest(given, cache_root)}
    key = StageKey("import", code_digest("architectures/deepspeech/lite.py"), {}, digest, {})
    at = run_stage(cache_root, key, write, notify=lambda _: None).path
    return at / _GRAPH, (at / _STORED).read_text("utf-8")
