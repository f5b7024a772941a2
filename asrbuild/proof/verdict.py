"""The verdict of a proof: compares the package's outputs for every case with the original's.

A failed gate is data in the result; the caller decides what follows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from asrbuild.architectures.architecture import of_recorded
from asrbuild.artifact import manifest2, proven
from asrbuild.artifact.layout import PARITY
from asrbuild.artifact.manifest import Manifest, Metric, Transcript, Verification
from asrbuild.artifact.named_files import package_path
from asrbuild.base.array import Array
from asrbuild.base.errors import AsrbuildError
from asrbuild.coreml.choices import ASSET
from asrbuild.proof.cases import RECORDINGS, load_reference, verified_inputs
from asrbuild.proof.consistency import contradictions
from asrbuild.proof.execution import (
    REFERENCE,
    Executed,
    Outputs,
    Run,
    execute,
    longest_call,
    probabilities_of,
    reference_state,
    runs,
)
from asrbuild.proof.gates import Gates, compare, of_probabilities, worst
from asrbuild.proof.phoneme_gates import PHONEME_KEYS, PhonemeGates
from asrbuild.proof.phonemes import phoneme_failures, with_phonemes
from asrbuild.proof.ranges import Reach
from asrbuild.proof.recordings import against_recordings
from asrbuild.proof.weaknesses import recorded_gates

if TYPE_CHECKING:
    from asrbuild.speech.decoder_settings import DecoderSettings
    from asrbuild.speech.tokens import Tokens


@dataclass(frozen=True)
class WordGates:
    """The gates on the transcripts of the recordings.

    Args:
        require_transcript: the package's transcript must equal the original's.
        max_wer: largest word error rate of a recording with an expected transcript; None: any.
        max_wer_increase: largest increase over the original's word error rate; None: any.
        count_unspelled: gate also recordings whose expected transcript the alphabet cannot spell.
        phonemes: the gates on the phonemes, of a model that writes them.
    """

    require_transcript: bool = True
    max_wer: float | None = None
    max_wer_increase: float | None = None
    count_unspelled: bool = False
    phonemes: PhonemeGates = field(default_factory=PhonemeGates)


@dataclass(frozen=True)
class Proof:
    """The result of a proof.

    Args:
        verification: the manifest's section.
        failures: each gate that failed, in words; empty when ``verification.passed``.
        outputs: input of a metric (``sample``, ``sample@whole``) -> output -> the package's value.
        reaches: the range of the float16 values of each node.
        key: the key of ``verify`` whose gate failed, where gates on error rates alone failed.
    """

    verification: Verification
    failures: tuple[str, ...]
    outputs: Mapping[str, Outputs] = field(repr=False)
    reaches: tuple[Reach, ...] = field(default=(), repr=False)
    key: str | None = None

    def probabilities_of_recordings(self) -> dict[str, Array]:
        """The package's probabilities (steps, classes) for the recordings, in an app's way."""
        (name,) = of_probabilities(self.verification.metrics)
        return {n: self.outputs[n][name] for n in RECORDINGS if n in self.outputs}


def unproven(runtime: str, *, v2: bool = False) -> Verification:
    """The section of a manifest before the package ran; ``runtime``: that of its original."""
    return (manifest2.Verification if v2 else Verification)(
        executed=False,
        core_ml_executed=False,
        reference=runtime.lower(),
        executions=[],
        inputs=[],
        metrics=[],
        transcripts=[],
        evaluation=None,
        passed=False,
    )


def prove(
    artifact: Path,
    manifest: Manifest,
    cases: Mapping[str, Array],
    reference: Mapping[str, Mapping[str, Array]],
    gates: Gates,
    texts: Mapping[str, str | None] | None = None,
    words: WordGates | None = None,
    max_steps: int | None = None,
) -> Proof:
    """Runs the package on every case, in every way that its manifest allows, and judges it."""
    _check_reference(cases, reference, probabilities_of(manifest))
    executed = execute(artifact, manifest, cases, max_steps)
    return judge(executed, artifact, manifest, cases, reference, gates, texts, words, max_steps)


def judge(
    executed: Executed,
    artifact: Path,
    manifest: Manifest,
    cases: Mapping[str, Array],
    reference: Mapping[str, Mapping[str, Array]],
    gates: Gates,
    texts: Mapping[str, str | None] | None = None,
    words: WordGates | None = None,
    max_steps: int | None = None,
    decoding: DecoderSettings | None = None,
) -> Proof:
    """Compares the outputs of a package with the original's.

    A package that contradicts its manifest fails too.

    Args:
        executed: from ``execute``, with the same manifest, cases and ``max_steps``.
        artifact: the directory of the manifest's paths.
        manifest: describes the calls of the package; its ``verification`` is not read.
        cases: name -> features (T, n_window, n_input).
        reference: case -> probabilities (T, V) and states (1, H) of the original.
        gates: the gates of the package's precision and compression.
        texts: recording -> its expected transcript, if known.
        words: the gates on the transcripts.
        max_steps: steps of the longest call.
        decoding: settings with the path of the scorer and the Python 3.9 of ds-ctcdecoder; None:
            the artifact's scorer, and a Python that asrbuild finds.
    """
    from asrbuild.artifact.runtime import decoder_settings

    words, probabilities = words or WordGates(), probabilities_of(manifest)
    _check_reference(cases, reference, probabilities)
    metrics: list[Metric] = []
    every = {run.label: run for run in runs(manifest, cases, max_steps, executed.executors)}
    inputs = {**cases, **{run.case: run.features for run in every.values()}}
    for label, run in every.items():
        if run.against is None:
            continue
        if run.against == REFERENCE:
            made_by = run.manifest
            expected = reference[run.way if run.way in reference else run.case]
        else:
            expected, made_by = executed.outputs[run.against], every[run.against].manifest
        wanted = _comparable(expected, made_by)
        metrics += compare(label, wanted, executed.outputs[label], gates, probabilities)
    packages = {
        label: outputs[probabilities]
        for label, outputs in executed.outputs.items()
        if _recording(label)
    }
    originals = {label: _expected(reference, every[label])[probabilities] for label in packages}
    settings = decoder_settings(manifest)
    if decoding is not None:
        settings = replace(settings, interpreter=decoding.interpreter, scorer=decoding.scorer)
    transcripts = _transcripts(artifact, manifest, settings, originals, packages, texts or {})
    if isinstance(manifest, manifest2.Manifest):
        transcripts = against_recordings(manifest, transcripts, packages, reference)
    alphabet = _alphabet(manifest)
    if alphabet.kind == "phonemes":
        transcripts = with_phonemes(transcripts, alphabet, count_unspelled=words.count_unspelled)
    failures = [in_words(metric) for metric in metrics if not metric.passed]
    runtime = of_recorded(manifest.provenance.recipe)[0].RUNTIME
    failures += _other_transcripts(transcripts, words, runtime)
    failures += contradictions(package_path(artifact, manifest), manifest)
    rates = [*_word_failures(transcripts, words, alphabet)]
    rates += phoneme_failures(transcripts, words.phonemes)
    key = rates[0][0] if rates and not failures else None
    failures += [text for _, text in rates]
    section = type(manifest.verification)
    verification = section(
        executed=True,
        core_ml_executed="coreml" in executed.executors,
        reference=runtime.lower(),
        executions=list(executed.executions),
        inputs=verified_inputs(inputs),
        metrics=metrics,
        transcripts=transcripts,
        evaluation=None,
        passed=not failures and bool(metrics),
    )
    return Proof(verification, tuple(failures), executed.outputs, executed.reaches, key)


def prove_again(artifact: Path, manifest: Manifest) -> Proof:
    """Proves a published artifact again, with its recorded reference and its recipe's gates.

    Raises:
        AsrbuildError: the recorded reference is missing, or does not match the manifest.
    """
    if manifest.model.format == ASSET and manifest.model.compute_precision == "fp16":
        raise AsrbuildError(
            "Core AI's half precision on this machine is not a device's, so the gates of this "
            "asset hold for its program in single precision, as it was proven when it was built",
            file=artifact,
            fix="verify the Core ML variant that it was built with: "
            f"`asrbuild verify {manifest.name.removesuffix(f'-{ASSET}')}`",
        )
    recorded = artifact / PARITY
    cases, reference = load_reference(recorded, manifest2.context_frames(manifest))
    # The inputs for bounds come after the cases; they are made from those, so they have no record.
    if verified_inputs(cases) != manifest.verification.inputs[: len(cases)]:
        raise AsrbuildError(
            "the recorded inputs are not those that the manifest names",
            file=recorded,
            fix="the artifact was changed after it was published: build it again",
        )
    verify = manifest.provenance.recipe.get("verify", {})
    gates = recorded_gates(manifest)
    words = WordGates(
        verify.get("require_transcript", True),
        verify.get("max_wer"),
        verify.get("max_wer_increase"),
        verify.get("count_unspelled", False),
        PhonemeGates(**{key: verify[key] for key in PHONEME_KEYS if key in verify}),
    )
    texts = {t.input.split("@")[0]: t.expected for t in manifest.verification.transcripts}
    max_steps = verify.get("max_steps") if verify.get("edge_lengths") else None
    max_steps = longest_call(manifest, max_steps)
    return prove(artifact, manifest, cases, reference, gates, texts, words, max_steps)


def prove_unknown(artifact: Path, manifest: Manifest, notify: Callable[[str], None]) -> None:
    """Proves an artifact again, unless it was made, pulled or proven on this machine.

    An artifact folder in a checkout can claim anything. A proof from its own bytes shows that they
    are consistent; only a signature shows their origin, so ``notify`` gets a line.

    Raises:
        AsrbuildError: its package fails its gates.
    """
    notify(
        f"{manifest.artifact_id} was not built, pulled or verified on this machine; proving it "
        "again from its own bytes"
    )
    proof = prove_again(artifact, manifest)
    if not proof.verification.passed:
        raise AsrbuildError(
            f"the artifact does not pass its proof here, so it is not shipped: {proof.failures[0]}",
            file=artifact,
            fix="`asrbuild verify` shows every gate; build the artifact on this machine",
        )
    proven.remember_proven(artifact)


def save_probabilities(path: Path, proof: Proof) -> None:
    """Writes the package's probabilities for the recordings, in an app's way.

    The file is an ``.npz``: recording -> probabilities (steps, classes).
    """
    probabilities = proof.probabilities_of_recordings()
    with path.open("wb") as file:
        # numpy's stubs match any unpacked mapping with the flag allow_pickle as well.
        np.savez_compressed(file, **probabilities)  # type: ignore[arg-type]


def summary(verification: Verification) -> str:
    """The proof in one line: the verdict, and the metric nearest to its gate."""
    nearest = worst(verification.metrics)
    if nearest is None:
        return "not executed"
    failed = sum(not metric.passed for metric in verification.metrics)
    count = len(verification.metrics)
    verdict = f"{failed} of {count} gates failed" if failed else f"{count} gates passed"
    return f"{verdict}; nearest: {in_words(nearest)}"


def _expected(reference: Mapping[str, Mapping[str, Array]], run: Run) -> Mapping[str, Array]:
    """The original's results for a run: in its calls, or for its whole case."""
    return reference[run.way if run.way in reference else run.case]


def _comparable(reference: Mapping[str, Array], manifest: Manifest) -> dict[str, Array]:
    """The outputs of the reference that the package also has: probabilities and states."""
    states = (reference_state(manifest, state) for state in manifest.state)
    return {name: reference[name] for name in (probabilities_of(manifest), *states)}


def _check_reference(
    cases: Mapping[str, Array], reference: Mapping[str, Mapping[str, Array]], probabilities: str
) -> None:
    missing = [name for name in cases if probabilities not in reference.get(name, {})]
    if missing or not cases:
        raise AsrbuildError(
            "nothing to compare with: no reference of the original for "
            f"{', '.join(missing) or 'a case'}"
        )


def _transcripts(
    artifact: Path,
    manifest: Manifest,
    settings: DecoderSettings,
    originals: Mapping[str, Array],
    packages: Mapping[str, Array],
    texts: Mapping[str, str | None],
) -> list[Transcript]:
    """The transcripts of each recording in every way that it ran, with the manifest's decoder.

    ``originals`` and ``packages``: label of a run -> the probabilities of each.
    """
    from asrbuild.speech.decoders import open_decoder

    with open_decoder(
        settings, _alphabet(manifest), manifest2.row_ms(manifest), artifact
    ) as decoder:
        labels = [f"{name} in the original" for name in originals] + list(packages)
        texts_of = _decode(decoder, [*originals.values(), *packages.values()], labels)
    expected = dict(zip(originals, texts_of, strict=False))
    found = dict(zip(packages, texts_of[len(originals) :], strict=True))
    return [
        Transcript(
            input=label,
            expected=texts.get(_recording(label)),
            reference=expected[label] or "",
            package=text or "",
            match=text is not None and text == expected[label],
        )
        for label, text in found.items()
    ]


def _alphabet(manifest: Manifest) -> Tokens:
    return manifest2.tokens_of(manifest.decoder)


def _recording(label: str) -> str:
    """The recording of a metric's input; empty for an input without speech."""
    name = label.split("@")[0]
    return name if name in RECORDINGS else ""


def _decode(decoder: Any, batch: list[Array], labels: Sequence[str]) -> list[str | None]:
    """The best transcript of each; None if the output is not probabilities.

    Equal probabilities are decoded once: a beam search takes seconds, and several ways to run a
    package often give the same.

    Raises:
        UtteranceError: one cannot be decoded; it names the label.
    """
    from asrbuild.speech.decoder import UtteranceError

    usable = {
        probabilities.tobytes(): probabilities
        for probabilities in batch
        if np.isfinite(probabilities).all()
        and np.abs(probabilities.sum(axis=-1) - 1.0).max(initial=0.0) <= 0.01
    }
    try:
        decoded = decoder.decode_batch(list(usable.values()))
    except UtteranceError as error:
        same = [*usable][error.position]
        label = next(n for n, rows in zip(labels, batch, strict=True) if rows.tobytes() == same)
        error.message = f"{label}: {error.message}"
        raise
    texts = [hypotheses[0].text if hypotheses else "" for hypotheses in decoded]
    by_bytes = dict(zip(usable, texts, strict=True))
    return [by_bytes.get(probabilities.tobytes()) for probabilities in batch]


def _other_transcripts(
    transcripts: Sequence[Transcript], words: WordGates, runtime: str
) -> Iterator[str]:
    for transcript in transcripts:
        if words.require_transcript and not transcript.match:
            yield (
                f"{transcript.input}: the transcript is {transcript.package!r}, {runtime}'s is "
                f"{transcript.reference!r}"
            )


def _word_failures(
    transcripts: Sequence[Transcript], words: WordGates, alphabet: Tokens
) -> Iterator[tuple[str, str]]:
    """The gates on word error rates that fail: key of ``verify``, sentence."""
    from asrbuild.speech.rates import count

    for transcript in transcripts:
        expected = transcript.expected
        if expected is None or not _counts(expected, alphabet, words.count_unspelled):
            continue
        wer = count(expected, transcript.package, alphabet).words.rate
        rise = wer - count(expected, transcript.reference, alphabet).words.rate
        for key, name, value, limit in (
            ("max_wer", "word error rate", wer, words.max_wer),
            ("max_wer_increase", "rise of the word error rate", rise, words.max_wer_increase),
        ):
            if limit is not None and value > limit:
                yield key, f"{transcript.input}: the {name} is {value:.1%}, above {limit:.1%}"


def _counts(expected: str, alphabet: Tokens, count_unspelled: bool) -> bool:
    """Whether an expected transcript counts: the alphabet can spell it, or ``count_unspelled``."""
    from asrbuild.speech.rates import unspelled

    return count_unspelled or not unspelled(expected, alphabet)


def known_words(manifest: Manifest) -> dict[str, str]:
    """Recording -> expected transcript, for those that count.

    A transcript that the alphabet cannot spell counts only with ``verify.count_unspelled``.
    """
    alphabet = manifest2.tokens_of(manifest.decoder)
    verify = manifest.provenance.recipe.get("verify", {})
    count_unspelled = verify.get("count_unspelled", False)
    return {
        t.input: t.expected
        for t in manifest.verification.transcripts
        if t.expected is not None
        and "@" not in t.input
        and _counts(t.expected, alphabet, count_unspelled)
    }


#: If every word is wrong, a greater share of wrong characters means that the model is wrong.
#: Unrelated sentences share a quarter of their characters, in some order.
_CHANCE = 0.5


def wrong_words(
    transcripts: Sequence[Transcript], alphabet: Tokens, count_unspelled: bool = False
) -> str | None:
    """A sentence if the model gets no word of the expected transcripts right; else None.

    It is None if at most half of the characters are wrong: a language may have no spaces, and a
    recording one word.

    Args:
        transcripts: those of all recordings.
        alphabet: the model's labels.
        count_unspelled: count transcripts that the alphabet cannot spell.
    """
    from asrbuild.speech.rates import count

    known = [
        t
        for t in transcripts
        if t.expected and "@" not in t.input and _counts(t.expected, alphabet, count_unspelled)
    ]
    counts = [count(t.expected or "", t.package, alphabet) for t in known]
    words = sum(c.words.reference - c.words.substitutions - c.words.deletions for c in counts)
    characters = sum(c.characters.reference for c in counts)
    wrong = sum(c.characters.errors for c in counts)
    if words or not characters or wrong <= _CHANCE * characters:
        return None
    lines = [f"{t.input}: expected {t.expected!r}, the model writes {t.package!r}" for t in known]
    return "; ".join(lines) + f" ({wrong / characters:.0%} of the characters are wrong)"


def in_words(metric: Metric) -> str:
    """A metric with its gate, as a line for a person."""
    return (
        f"{metric.input}: {metric.output} {metric.name} {metric.value:.6g} "
        f"(must be {metric.comparison} {metric.threshold:g})"
    )
