"""What each stage does: inputs in, files in a directory out. Which stages run is the engine's."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from asrbuild.architectures.architecture import Architecture, Original
from asrbuild.artifact import manifest as m
from asrbuild.artifact.layout import PARITY
from asrbuild.base.errors import AsrbuildError, GatesError
from asrbuild.build import describe as d
from asrbuild.build.recipe import TENSORFLOW, Recipe, Steps, evaluates, network_of, record
from asrbuild.build.sources import Source
from asrbuild.coreml.compression import gate_names

GRAPH = "output_graph.pb"
CASES = "cases.npz"
REFERENCE = "reference.npz"
VERIFICATION = "verification.json"
EVALUATION = "evaluation.json"
HEARD = "heard.npz"


@dataclass(frozen=True)
class Inputs:
    """Directories of the stages that a proof reads; ``graph``, to say where a package left it."""

    converted: Path
    cases: Path
    reference: Path
    graph: Path | None = None


def write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")


def check_decoder(recipe: Recipe, source: Source) -> None:
    """Refuses a decoder that could not decode in the end, before anything is converted for it.

    Raises:
        AsrbuildError: a setting makes no sense, the scorer or a hot word does not fit the alphabet,
            or the genuine decoder cannot run here.
    """
    from asrbuild.speech.decoder_settings import check_settings
    from asrbuild.speech.deepspeech_decoder.decoder import check_language
    from asrbuild.speech.deepspeech_decoder.environment import decoder_python

    settings = d.decoder_settings(recipe, source)
    check_settings(settings)
    if settings.type == "ds_ctcdecoder":
        check_language(settings, source.alphabet)
        decoder_python(settings.interpreter)


def check_graph(recipe: Recipe, graph: Path) -> None:
    """Refuses a user's frozen graph that cannot become what the recipe asks for.

    Raises:
        AsrbuildError: an output is not in it, or a static graph is asked for another length.
    """
    from asrbuild.architectures.tensorflow.graph import load_graph
    from asrbuild.architectures.tensorflow.outputs import check_outputs, check_steps

    loaded = load_graph(graph)
    check_outputs(loaded, recipe.coreml.outputs, key="coreml.outputs")
    wanted: list[int | None] = []
    for steps in recipe.model.functions.values() or [recipe.model.steps]:
        wanted += _lengths(steps)
    check_steps(loaded, wanted, key="model.steps")


def _lengths(steps: Steps) -> list[int | None]:
    if steps.kind == "range":
        return [None]
    return list(steps.sizes) if steps.kind == "enumerated" else [steps.default]


def export(at: Path, recipe: Recipe, source: Source) -> None:
    """The original's file, where it is not the source itself."""
    architecture, config = network_of(recipe)
    architecture.export(source, config, at / GRAPH)


def cases(at: Path, recipe: Recipe, source: Source) -> None:
    """Features of the verification inputs."""
    import numpy as np

    from asrbuild.proof.cases import build_cases
    from asrbuild.speech.audio import read_audio

    settings = d.feature_settings(recipe)
    recordings = {
        name: read_audio(path, settings.sample_rate) for name, path in source.recordings.items()
    }
    made = build_cases(settings, recordings, recipe.verify.inputs)
    with (at / CASES).open("wb") as file:
        np.savez(file, **made)


def reference(at: Path, architecture: Architecture, original: Original, cases: Path) -> None:
    """What the original makes of the cases, states after every step included."""
    architecture.start(original, cases / CASES, at / REFERENCE).wait()


def original_of(recipe: Recipe, source: Source, exported: Path) -> Original:
    """What the original runtime runs; ``exported``: its file, the source's or the export's."""
    architecture, _ = network_of(recipe)
    return architecture.original(source) or architecture.exported(source, exported)


def convert(at: Path, recipe: Recipe, source: Source, exported: Callable[[], Path]) -> None:
    """The Core ML package; ``exported`` waits for the original's file, where that is converted."""
    architecture, config = network_of(recipe)
    architecture.convert(
        source,
        config,
        d.conversion_request(recipe, source),
        at / d.package_name(recipe),
        recipe.coreml.frontend,
        exported,
    )


def execute(at: Path, recipe: Recipe, source: Source, converted: Path, cases: Path) -> None:
    """What the package gives for the cases and their edges."""
    from asrbuild.coreml.executor.threads import one_thread
    from asrbuild.proof.execution import execute, save_executed

    manifest = d.describe(recipe, source, converted / d.package_name(recipe))
    made = cases_with_edges(recipe, cases)
    with one_thread():
        executed = execute(converted, manifest, made, _bound(recipe))
    save_executed(at, executed)


def _bound(recipe: Recipe) -> int | None:
    return recipe.verify.max_steps if recipe.verify.edge_lengths else None


def prove(at: Path, recipe: Recipe, source: Source, inputs: Inputs, executed: Path) -> None:
    """Compares; only a proof that passes is kept.

    Raises:
        AsrbuildError: a gate failed; it names each.
    """
    from asrbuild.proof.cases import save_reference
    from asrbuild.proof.execution import load_executed
    from asrbuild.proof.gates import gates_of
    from asrbuild.proof.verdict import WordGates, judge, save_heard, wrong_words

    package = inputs.converted / d.package_name(recipe)
    manifest = d.describe(recipe, source, package)
    made, expected = cases_and_reference(recipe, inputs)
    coreml, verify = recipe.coreml, recipe.verify
    names = gate_names(asdict(coreml))
    gates = gates_of(asdict(verify)["thresholds"], coreml.precision, names)
    words = WordGates(
        verify.require_transcript, verify.max_wer, verify.max_wer_increase, verify.count_unspelled
    )
    if evaluates(recipe):
        # These two gate what the next stage measures.
        words = WordGates(verify.require_transcript)
    proof = judge(
        load_executed(executed), inputs.converted, manifest, made, expected, gates, source.texts,
        words, _bound(recipe), d.decoder_settings(recipe, source),
    )  # fmt: skip
    if not proof.verification.passed:
        metrics = proof.verification.metrics
        # Compressed weights are not the graph's anywhere, so the first difference says nothing.
        compressed = len(names) > 1
        where = (
            ""
            if compressed
            else _first_divergence(
                inputs.converted,
                manifest,
                made,
                metrics,
                inputs.graph and original_of(recipe, source, inputs.graph),
                _bound(recipe),
            )
        )
        shown = "\n".join(f"    {failure}" for failure in proof.failures[:12])
        more = len(proof.failures) - 12
        refused = GatesError(
            f"the package does not do what the TensorFlow graph does, so it is not published:\n"
            f"{shown}" + (f"\n    and {more} more" if more > 0 else "") + where,
            key=f"verify.thresholds.{names[-1]}",
            file=package,
            fix="compress less where it harms: coreml.compress_layers.lstm=int8 (or none), "
            "and so layer_2, layer_3, layer_5 and layer_6"
            if compressed
            else "choose another coreml.precision, coreml.lstm or coreml.frontend",
        )
        refused.found = outcome(proof.verification, package, recipe)
        raise refused
    wrong = wrong_words(proof.verification.transcripts, source.alphabet, verify.count_unspelled)
    if wrong is not None and not verify.allow_wrong_words:
        raise AsrbuildError(
            f"the model gets no word right, so it is not published: {wrong}. The package does what "
            "the TensorFlow graph does, so the labels, the sample rate or the text is wrong",
            key="verify.allow_wrong_words",
            file=source.files.get("sample_text"),
            fix="`asrbuild inspect source` prints what the source states; set "
            "verify.allow_wrong_words=true to publish it all the same",
        )
    save_reference(at / PARITY, made, expected)
    save_heard(at / HEARD, proof)
    write_text(at / VERIFICATION, proof.verification.model_dump_json(indent=2) + "\n")


def _first_divergence(
    converted: Path,
    manifest: m.Manifest,
    cases: Mapping[str, Any],
    metrics: Sequence[m.Metric],
    original: Original | None,
    max_steps: int | None,
) -> str:
    """The first node that the package has other values than, as a line; empty if unknown."""
    from asrbuild.proof.bisect import bisect_failure

    if original is None or all(metric.passed for metric in metrics):
        return ""
    try:
        first = bisect_failure(converted, manifest, cases, metrics, original, max_steps).first
    except AsrbuildError:
        # A graph that is laid out otherwise; which gates failed is known without it.
        return ""
    return "" if first is None else f"\n    first divergence: {first}"


def evaluate(
    at: Path,
    recipe: Recipe,
    source: Source,
    graph: Path,
    converted: Path,
    note: Callable[[str], None],
) -> None:
    """Word errors on the set of recordings; only a package that passes its gates is kept.

    ``note`` is given what may make the words of recordings wrong.

    Raises:
        AsrbuildError: the rate, or its rise above what it is compared with, is above its gate.
    """
    from asrbuild.artifact.runtime import decoder_settings, open_artifact
    from asrbuild.proof.evaluation import listen, listen_in_original, notes_text
    from asrbuild.speech.dataset import dataset_digest

    verify = recipe.verify
    data = source.files.get("evaluation")
    whole = _recordings(source)
    if not whole:
        raise AsrbuildError(
            "verify.compared_with has no recording whose words are known",
            key="verify.evaluation",
            fix="give a set of recordings, or source.sample.text",
        )
    spelled = _spelled(recipe, source, whole)
    dataset = spelled.counted
    package = converted / d.package_name(recipe)
    manifest = d.describe(recipe, source, package)
    asked = d.decoder_settings(recipe, source)
    interpreter = asked.interpreter
    settings = replace(decoder_settings(manifest), interpreter=interpreter, scorer=asked.scorer)
    scratch = at / "scratch"
    told = None
    with open_artifact(converted, settings, manifest=manifest) as own:
        spoken = listen(own, dataset, scratch)
        for text in notes_text(dataset, spoken):
            note(text)
        found = _rates(recipe.name, settings, own, dataset, spoken)
        if source.baseline is None and verify.max_wer_increase is not None:
            spoken = listen_in_original(original_of(recipe, source, graph), own, dataset)
            told = _rates(TENSORFLOW, settings, own, dataset, spoken)
    if source.baseline is not None:
        theirs = replace(
            decoder_settings(m.read_manifest(source.baseline)), interpreter=interpreter
        )
        with open_artifact(source.baseline, theirs) as other:
            spoken = listen(other, dataset, Path(recipe.paths.cache))
            told = _rates(verify.compared_with, theirs, other, dataset, spoken)
    shutil.rmtree(scratch)
    evaluation = m.Evaluation(
        data=data.name if data is not None else ", ".join(source.texts),
        sha256=dataset_digest(whole),
        recordings=len(dataset),
        words=found.words.reference,
        wer=found.wer,
        wer_low=found.wer_interval.low,
        wer_high=found.wer_interval.high,
        reference=None if told is None else record(recipe)["verify"]["compared_with"],
        reference_wer=None if told is None else told.wer,
        left_out=len(spelled.left_out) or None,
    )
    _check_words(evaluation, recipe, data)
    write_text(at / EVALUATION, evaluation.model_dump_json(indent=2) + "\n")


def _rates(
    name: str, settings: Any, opened: Any, dataset: Sequence[Any], spoken: Sequence[Any]
) -> Any:
    from asrbuild.proof.evaluation import decode

    return decode(
        name, settings.type, settings, opened.decoder, dataset, spoken, alphabet=opened.alphabet
    ).rates


def _recordings(source: Source) -> list[Any]:
    """Recordings whose words are known: of the set, else those of the source."""
    from asrbuild.speech.dataset import Recording, read_dataset

    data = source.files.get("evaluation")
    if data is not None:
        return read_dataset(data)
    return [Recording(source.recordings[name], text) for name, text in source.texts.items()]


def _spelled(recipe: Recipe, source: Source, whole: Sequence[Any]) -> Any:
    """The recordings whose words gate a build: those that the alphabets can spell.

    Raises:
        AsrbuildError: there are none.
    """
    from asrbuild.proof.evaluation import spelled_by
    from asrbuild.speech.alphabet import make_alphabet

    alphabets = [source.alphabet]
    if source.baseline is not None:
        decoder = m.read_manifest(source.baseline).decoder
        alphabets.append(make_alphabet(decoder.alphabet, bytes_output=decoder.utf8))
    option = "verify.count_unspelled=true"
    try:
        return spelled_by(alphabets, whole, count_all=recipe.verify.count_unspelled, option=option)
    except AsrbuildError as error:
        error.key, error.file = "verify.count_unspelled", error.file or _named(source)
        raise


def _named(source: Source) -> str | None:
    found = source.files.get("evaluation") or source.files.get("sample_text")
    return None if found is None else str(found)


def remarks(recipe: Recipe, source: Source) -> list[str]:
    """What a person must know of a build's scorer, recordings and words.

    Raises:
        AsrbuildError: words gate the build, and the alphabet spells none of them.
    """
    from asrbuild.speech.audio import read_audio
    from asrbuild.speech.deepspeech_decoder.decoder import language_remarks
    from asrbuild.speech.rates import unspelled_text

    alphabet = source.alphabet
    found = language_remarks(d.decoder_settings(recipe, source), alphabet)
    for name, path in source.recordings.items():
        notes: list[str] = []
        read_audio(path, recipe.export.audio_sample_rate, notes.append)
        found += [f"source.{name}.audio: {note}" for note in notes]
    verify = recipe.verify
    gated = verify.max_wer is not None or verify.max_wer_increase is not None
    whole = _recordings(source)
    if whole and (gated or evaluates(recipe)):
        remark = _spelled(recipe, source, whole).remark
    else:
        remark = unspelled_text([recording.text for recording in whole], alphabet)
        remark = remark and f"the alphabet cannot spell {remark}"
    return [*found, remark] if remark else found


def _check_words(found: m.Evaluation, recipe: Recipe, data: Path | None) -> None:
    verify = recipe.verify
    measured = f"the word error rate is {found.wer:.1%} on {found.data} ({found.words} words)"
    gates = [("max_wer", found.wer, verify.max_wer, measured)]
    if found.reference_wer is not None:
        rise = found.wer - found.reference_wer
        beside = f"{measured}, {found.reference} has {found.reference_wer:.1%}: {rise:+.1%}"
        gates.append(("max_wer_increase", rise, verify.max_wer_increase, beside))
    for key, value, limit, text in gates:
        if limit is not None and value > limit:
            raise AsrbuildError(
                f"{text}; at most {limit:.1%} is allowed, so nothing is published",
                key=f"verify.{key}",
                file=data,
                fix="choose another decoder, scorer or precision, or another gate",
            )


def cases_with_edges(recipe: Recipe, cases: Path) -> dict[str, Any]:
    """Everything the package is run on: the cases, then the sample at awkward lengths."""
    import numpy as np

    from asrbuild.proof.cases import edge_lengths
    from asrbuild.proof.prefixes import edge_cases

    with np.load(cases / CASES, allow_pickle=False) as stored:
        made = dict(stored)
    if not recipe.verify.edge_lengths:
        return made
    lengths: set[int] = set()
    for steps in recipe.model.functions.values() or [recipe.model.steps]:
        ranged = steps.kind == "range"
        lengths |= set(
            edge_lengths(
                recipe.n_steps if ranged else steps.default,
                steps.sizes,
                steps.lower if ranged else None,
                steps.upper if ranged else None,
            )
        )
    return made | edge_cases(made, lengths, recipe.verify.max_steps)


def cases_and_reference(recipe: Recipe, inputs: Inputs) -> tuple[dict[str, Any], dict[str, Any]]:
    """The cases with their edges, and what the original makes of each."""
    from asrbuild.proof.prefixes import edge_reference

    made = cases_with_edges(recipe, inputs.cases)
    architecture, config = network_of(recipe)
    results = architecture.read(inputs.reference / REFERENCE)
    probabilities = architecture.signature(config).probabilities
    expected = {
        name: dict(results[name].outputs)
        if name in results
        else edge_reference(results["sample"], probabilities, len(features))
        for name, features in made.items()
    }
    return made, expected


def outcome(verification: m.Verification, package: Path, recipe: Recipe) -> dict[str, Any]:
    """How small and how good a package is, whether it passed its gates or not."""
    from asrbuild.handover.report.page import compression_text, word_errors

    errors = word_errors(verification.transcripts)
    return {
        "compress": compression_text({"coreml": asdict(recipe.coreml)}),
        "package_bytes": tree_bytes(package),
        "figures": _worst_of_probabilities(verification),
        "transcripts_match": all(t.match for t in verification.transcripts),
        "wer": None if errors is None else errors.rate,
    }


def tree_bytes(path: Path) -> int:
    """Of a file, or of all files below a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def _worst_of_probabilities(verification: m.Verification) -> dict[str, float]:
    from asrbuild.proof.gates import of_probabilities

    values: dict[str, list[float]] = {}
    better: dict[str, str] = {}
    probabilities = of_probabilities(verification.metrics)
    for metric in verification.metrics:
        if metric.output in probabilities:
            values.setdefault(metric.name, []).append(metric.value)
            better[metric.name] = metric.comparison
    return {name: (min if better[name] == ">=" else max)(found) for name, found in values.items()}
