"""The stage ``prove``: compares the package's outputs with the reference, and applies the gates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asrbuild.artifact.layout import PARITY
from asrbuild.base.errors import AsrbuildError, GatesError
from asrbuild.builder.recipe import Recipe, evaluates
from asrbuild.builder.stage import Stage, View
from asrbuild.builder.stages.calls import read_calls
from asrbuild.builder.stages.cases import all_cases, longest
from asrbuild.builder.stages.convert import conversion
from asrbuild.builder.stages.execute import package_manifest
from asrbuild.builder.stages.export import original
from asrbuild.builder.stages.lower import asset_manifest
from asrbuild.builder.stages.reference import read_reference
from asrbuild.coreml.choices import ASSET
from asrbuild.coreml.compression import HALF_ORIGINAL, gate_names
from asrbuild.proof.phoneme_gates import PHONEME_KEYS, PhonemeGates

if TYPE_CHECKING:
    from asrbuild.artifact.manifest import Manifest, Metric
    from asrbuild.proof.verdict import Proof

VERIFICATION = "verification.json"
PROBABILITIES = "probabilities.npz"
#: The keys of a decoder; ``local``: the path of its Python.
DECODER = (
    "decoder.type",
    "decoder.beam_width",
    "decoder.cutoff_prob",
    "decoder.cutoff_top_n",
    "decoder.lm_alpha",
    "decoder.lm_beta",
    "decoder.hot_words",
)
DECODER_PYTHON = "decoder.interpreter"
#: The fix of an error rate above its gate.
OTHER_RATES = "choose another decoder, scorer or precision, or another gate"
#: The fix of other transcripts of outputs that pass every gate.
OTHER_WORDS = (
    "the outputs pass every gate, and this scorer makes other words of small differences: give "
    "recordings whose words the scorer has, source.sample.audio and source.second.audio, or "
    "coreml.precision=fp32"
)


def run(view: View, at: Path) -> None:
    """Writes the verification, the recorded reference and the transcripts.

    Raises:
        AsrbuildError: a gate failed (it names each), or the model gets no word right.
    """
    from asrbuild.builder.describe import decoder_settings
    from asrbuild.proof.cases import save_reference
    from asrbuild.proof.execution import Executed, load_executed
    from asrbuild.proof.gates import gates_of
    from asrbuild.proof.verdict import WordGates, judge, wrong_words
    from asrbuild.proof.witness import load_witnessed, with_witness

    recipe, source = view.recipe, view.source
    verify, limits = recipe.verify, view.fact(gates)
    manifest = decoded_manifest(view)
    cases = all_cases(view)
    if view.architecture.CALLS:
        expected = read_calls(view)
    else:
        signature = conversion(view).signature
        expected = read_reference(view.folder("reference"), cases, view.architecture, signature)
    precision = recipe.coreml.precision
    package_gates = gates_of(limits, precision, tuple(limits))
    words = WordGates(
        verify.require_transcript,
        **view.fact(word_gates),
        phonemes=PhonemeGates(**view.fact(phoneme_gates)),
    )
    decoder = decoder_settings(recipe.decoder, source.scorer)
    proof = judge(
        load_executed(view.folder("execute")),
        view.folder("convert"),
        manifest,
        cases,
        expected,
        package_gates,
        source.texts,
        words,
        longest(view),
        decoder,
    )
    if not proof.verification.passed:
        raise _refused(view, manifest, cases, proof, list(limits))
    if "witness" in view.folders:
        both = package_gates, gates_of(limits, precision, (precision,))
        witnessed = load_witnessed(view.folder("witness"))
        proof = with_witness(proof, witnessed, manifest, cases, expected, both)
        if not proof.verification.passed:
            raise _disagreed(view, manifest, cases, proof)
    verification = proof.verification
    wrong = wrong_words(verification.transcripts, source.alphabet, verify.count_unspelled)
    if wrong is not None and not verify.allow_wrong_words:
        raise AsrbuildError(
            f"the model gets no word right, so it is not published: {wrong}. The package does what "
            f"the {_original(view)} does, so the labels, the sample rate or the text is wrong",
            key="verify.allow_wrong_words",
            file=source.sample_text,
            fix="`asrbuild inspect source` prints what the source states; set "
            "verify.allow_wrong_words=true to publish it all the same",
        )
    save_reference(at / PARITY, cases, expected)
    _save(at, proof)
    if "lower" in view.folders:
        # The asset computes the same as the witness, in fp32 arithmetic.
        proof = judge(
            Executed(witnessed.outputs, (witnessed.execution,)),
            view.folder("lower"),
            asset_manifest(manifest),
            cases,
            expected,
            package_gates,
            source.texts,
            words,
            None,
            decoder,
        )
        if not proof.verification.passed:
            raise _refused(view, asset_manifest(manifest), cases, proof, list(limits), "lower")
        (at / ASSET).mkdir()
        _save(at / ASSET, proof)


def _save(at: Path, proof: Proof) -> None:
    from asrbuild.proof.ranges import save_reaches
    from asrbuild.proof.verdict import save_probabilities

    save_probabilities(at / PROBABILITIES, proof)
    save_reaches(at, proof.reaches)
    text = proof.verification.model_dump_json(indent=2) + "\n"
    (at / VERIFICATION).write_text(text, encoding="utf-8", newline="\n")


def decoded_manifest(view: View) -> Manifest:
    """The part of the manifest that is known before the proof, with the recipe's decoder."""
    from asrbuild.builder.describe import describe_decoder

    source = view.source
    decoder = describe_decoder(
        view.recipe.decoder, source.alphabet, source.scorer, source.digests.get("scorer", "")
    )
    return package_manifest(view).model_copy(update={"decoder": decoder})


def _refused(
    view: View,
    manifest: Manifest,
    cases: Mapping[str, Any],
    proof: Proof,
    names: Sequence[str],
    made_by: str = "convert",
) -> GatesError:
    """The error for a package that failed its gates; ``made_by``: the stage that made it."""
    package = view.folder(made_by) / manifest.model.package
    # Compressed weights differ everywhere from the graph's, so the first difference means nothing.
    compressed = len(set(names) - {HALF_ORIGINAL}) > 1
    where = ""
    if not compressed and made_by == "convert":
        metrics = proof.verification.metrics
        where = _first_divergence(view, manifest, cases, metrics)
    fix = "choose another coreml.precision, coreml.lstm or coreml.frontend"
    if view.architecture.CALLS:
        fix = _gentler(view.recipe.coreml.precision, names)
    by_scorer = manifest.decoder.scorer and all(m.passed for m in proof.verification.metrics)
    if proof.key is not None:
        fix = OTHER_RATES
    elif by_scorer:
        fix = OTHER_WORDS
    elif compressed:
        layers = view.architecture.LAYERS
        first = layers.recurrent or layers.names[-1]
        fix = (
            f"compress less where it harms: coreml.compress_layers.{first}=int8 (or none), and so "
            f"{', '.join(name for name in layers.names if name != first)}"
        )
    error = GatesError(
        f"the package does not do what the {_original(view)} does, so it is not published:\n"
        f"{_listed(proof.failures)}{where}",
        key="verify.require_transcript"
        if by_scorer
        else f"verify.{proof.key or f'thresholds.{names[-1]}'}",
        file=package,
        fix=fix,
    )
    error.package, error.verification = package, proof.verification
    return error


def _gentler(precision: str, names: Sequence[str]) -> str:
    """The fix for a network that failed its gates: settings to try."""
    if precision == "fp16":
        return "set coreml.precision=fp32"
    if HALF_ORIGINAL not in names:
        return (
            "set verify=half if the original computes in half precision itself; otherwise the "
            "package has a fault: report it with what is listed above"
        )
    return "the package has a fault: report it with what is listed above"


def _original(view: View) -> str:
    """The original's name in messages: ``TensorFlow graph``, ``ONNX model``."""
    return view.architecture.ORIGINAL


def _disagreed(
    view: View, manifest: Manifest, cases: Mapping[str, Any], proof: Proof
) -> GatesError:
    """The error for a package that passes its gates in asrbuild's executor but not in Core AI."""
    from asrbuild.proof.witness import first_difference

    witness = proof.verification.witness
    assert witness is not None
    first = first_difference(view.folder("convert"), manifest, cases, witness)
    where = "" if first is None else f"\n    first difference: {first}"
    package = view.folder("convert") / manifest.model.package
    error = GatesError(
        "Apple's Core AI runtime computes something else from the package than asrbuild's "
        f"executor or the original, so it is not published:\n{_listed(proof.failures)}{where}",
        key="verify.witness",
        file=package,
        fix=_apart(view),
    )
    error.package, error.verification = package, proof.verification
    return error


def _apart(view: View) -> str:
    """The fix if two runtimes disagree on one package."""
    if view.recipe.coreml.precision == "fp16" and HALF_ORIGINAL in view.fact(gates):
        return "set coreml.precision=fp32: the network enlarges what half precision rounds"
    return (
        "one of the two runtimes misreads the package: report it; verify.witness=off publishes "
        "what the executor alone proves"
    )


def _listed(failures: Sequence[str]) -> str:
    more = len(failures) - 12
    listed = "\n".join(f"    {failure}" for failure in failures[:12])
    return listed + (f"\n    and {more} more" if more > 0 else "")


def _first_divergence(
    view: View, manifest: Manifest, cases: Mapping[str, Any], metrics: Sequence[Metric]
) -> str:
    """A line with the first node whose values differ from the package's; empty if unknown."""
    from asrbuild.proof.bisect import bisect_failure
    from asrbuild.proof.bisect_calls import first_difference

    first: object
    if all(metric.passed for metric in metrics):
        return ""
    folder, own, longest_bound = view.folder("convert"), original(view), longest(view)
    try:
        if view.architecture.CALLS:
            package = folder / manifest.model.package
            first = first_difference(package, manifest, cases, metrics, own, longest_bound)
        else:
            first = bisect_failure(folder, manifest, cases, metrics, own, longest_bound).first
    except AsrbuildError:
        # A graph with another layout; the error names the failed gates without it.
        return ""
    return "" if first is None else f"\n    first divergence: {first}"


def gates(recipe: Recipe) -> dict[str, Any]:
    """The gates of the recipe's precision and of each compression in use."""
    names = gate_names(asdict(recipe.coreml), recipe.verify.thresholds)
    return {name: asdict(recipe.verify.thresholds[name]) for name in names}


def word_gates(recipe: Recipe) -> dict[str, Any]:
    """The gates for the recordings' own transcripts; empty if ``evaluate`` measures a data set."""
    verify = recipe.verify
    if evaluates(recipe):
        return {}
    names = ("max_wer", "max_wer_increase", "count_unspelled")
    return {name: getattr(verify, name) for name in names}


def phoneme_gates(recipe: Recipe) -> dict[str, Any]:
    """The gates on phonemes; of a set of recordings the known phonemes are measured next."""
    keys = ("max_per_from_original",) if evaluates(recipe) else PHONEME_KEYS
    return {key: getattr(recipe.verify, key) for key in keys}


STAGE = Stage(
    name="prove",
    title="package compared with {runtime}",
    run=run,
    calls=(
        "original",
        "exported",
        "signature",
        "front_end",
        "card",
        "read",
        "landmarks",
        "landmarks_of_call",
    ),
    reads=(
        *DECODER,
        "verify.require_transcript",
        "verify.allow_wrong_words",
        "verify.count_unspelled",
        gates,
        word_gates,
        phoneme_gates,
    ),
    files=("texts", "scorer"),
    local=(DECODER_PYTHON,),
    after=("execute", "reference", "calls", "witness", "lower"),
    libraries=("numpy",),
)
