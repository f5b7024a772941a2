"""The proof of a package: run it on every case as its manifest says, and compare with TensorFlow.

A gate that fails is data in the result; what to do about it is the caller's affair.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from asrbuild import __version__
from asrbuild.cases import RECORDINGS, load_reference, verified_inputs
from asrbuild.contract import contradictions
from asrbuild.errors import AsrbuildError
from asrbuild.manifest import (
    Axis,
    Execution,
    Manifest,
    Metric,
    State,
    Transcript,
    Verification,
    with_function,
)
from asrbuild.parity import PROBABILITIES, Gates, compare, gates_of, worst
from asrbuild.recipe import gate_names

if TYPE_CHECKING:
    from asrbuild.speech.decoding import DecoderSettings

Outputs = dict[str, np.ndarray]
REFERENCE = "tensorflow"
#: The recorded reference in an artifact, see ``cases.save_reference``.
PARITY_FILE = "parity.npz"


@dataclass(frozen=True)
class WordGates:
    """What the transcripts must be.

    Args:
        require_transcript: the package's words equal those of the TensorFlow graph.
        max_wer: largest word error rate of a recording whose words are known; None: any.
        max_wer_increase: largest rise of it above the TensorFlow graph's; None: any.
    """

    require_transcript: bool = True
    max_wer: float | None = None
    max_wer_increase: float | None = None


@dataclass(frozen=True)
class Way:
    """One way to run a package that its manifest allows.

    Args:
        label: what its metrics' inputs are marked with, after an ``@``; empty for the way an app
            is told to go.
        manifest: the manifest, narrowed to this way.
        cases: the cases to run, in the order of the proof.
    """

    label: str
    manifest: Manifest
    cases: tuple[str, ...]


@dataclass(frozen=True)
class Proof:
    """What was found.

    Args:
        verification: the manifest's section.
        failures: each gate that failed, in words; empty when ``verification.passed``.
        outputs: metric input (``sample``, ``sample@whole``) -> output -> what the package gave.
        seconds: metric input -> what the run took.
    """

    verification: Verification
    failures: tuple[str, ...]
    outputs: Mapping[str, Outputs] = field(repr=False)
    seconds: Mapping[str, float] = field(repr=False)


def unproven() -> Verification:
    """The section of a manifest whose package has not run yet."""
    return Verification(
        executed=False,
        core_ml_executed=False,
        reference=REFERENCE,
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
    cases: Mapping[str, np.ndarray],
    reference: Mapping[str, Mapping[str, np.ndarray]],
    gates: Gates,
    texts: Mapping[str, str | None] | None = None,
    words: WordGates | None = None,
    max_steps: int | None = None,
    decoder_python: Path | None = None,
) -> Proof:
    """Runs the package on every case, every way its manifest allows, and compares.

    A package that describes itself otherwise than its manifest does fails too.

    Args:
        artifact: the directory that the manifest's paths are relative to.
        manifest: how to run the package; its ``verification`` is not read.
        cases: name -> features (T, n_window, n_input).
        reference: case -> ``logits`` (T, V) and ``new_state_*`` (1, H) of the TensorFlow graph.
        gates: the thresholds of the package's precision and compression.
        texts: recording -> the words that are said in it, where somebody wrote them down.
        words: what the transcripts must be.
        max_steps: also run the upper bound of a range, at most this long; see ``run_bound``.
        decoder_python: the Python 3.9 for ds-ctcdecoder; None: found.
    """
    from asrbuild.executor import load
    from asrbuild.runtime import decoder_settings, timed

    words = words or WordGates()
    _check_reference(cases, reference)
    package = artifact / manifest.model.package
    outputs: dict[str, Outputs] = {}
    seconds: dict[str, float] = {}
    metrics: list[Metric] = []
    bounds: dict[str, np.ndarray] = {}
    loaders: list[tuple[str, Callable[..., Any]]] = [("", load)]
    if sys.platform == "darwin":
        from asrbuild.executor import coreml_backend

        units = manifest.model.recommended_compute_units
        loaders.append(("coreml", partial(coreml_backend.load, compute_units=units)))
    for executor, loader in loaders:
        for way in ways(manifest, cases):
            model = loader(package, function=package_function(way.manifest))
            for name in way.cases:
                label = _label(name, way.label, executor)
                expected = _comparable(reference[name], way.manifest, len(cases[name]))
                outputs[label], seconds[label] = timed(_run, model, way.manifest, cases[name])
                metrics += compare(label, expected, outputs[label], gates)
            bound = bound_of(way.manifest, cases, max_steps)
            if bound is not None:
                bounds |= bound
                (name,) = bound
                label = _label(name, way.label, f"self@{executor}" if executor else "self")
                metrics += run_bound(model, way.manifest, label, bound[name], cases, gates)
    heard = {label: o[PROBABILITIES] for label, o in outputs.items() if _recording(label)}
    said = {_recording(label): reference[_recording(label)][PROBABILITIES] for label in heard}
    settings = replace(decoder_settings(manifest), interpreter=decoder_python)
    transcripts = _transcripts(artifact, manifest, settings, said, heard, texts or {})
    failures = [_in_words(metric) for metric in metrics if not metric.passed]
    failures += _word_failures(transcripts, words)
    failures += contradictions(package, manifest)
    verification = Verification(
        executed=True,
        core_ml_executed=len(loaders) > 1,
        reference=REFERENCE,
        executions=_executions(len(loaders) > 1),
        inputs=verified_inputs({**cases, **bounds}),
        metrics=metrics,
        transcripts=transcripts,
        evaluation=None,
        passed=not failures and bool(metrics),
    )
    return Proof(verification, tuple(failures), outputs, seconds)


def prove_again(artifact: Path, manifest: Manifest) -> Proof:
    """Proves a published artifact from its own bytes: its recorded reference, its recipe's gates.

    Raises:
        AsrbuildError: the recorded reference is missing, or is not what the manifest was made with.
    """
    recorded = artifact / PARITY_FILE
    cases, reference = load_reference(recorded, manifest.features.context_frames)
    # Bounds come after the cases; they are made of them, so they need no record.
    if verified_inputs(cases) != manifest.verification.inputs[: len(cases)]:
        raise AsrbuildError(
            "the recorded inputs are not those that the manifest names",
            file=recorded,
            fix="the artifact was changed after it was published: build it again",
        )
    verify = manifest.provenance.recipe.get("verify", {})
    precision = manifest.model.compute_precision
    names = gate_names({"precision": precision} | manifest.provenance.recipe.get("coreml", {}))
    gates = gates_of(verify.get("thresholds", {}), precision, names)
    words = WordGates(
        verify.get("require_transcript", True),
        verify.get("max_wer"),
        verify.get("max_wer_increase"),
    )
    texts = {t.input.split("@")[0]: t.expected for t in manifest.verification.transcripts}
    max_steps = verify.get("max_steps") if verify.get("edge_lengths") else None
    return prove(artifact, manifest, cases, reference, gates, texts, words, max_steps)


def save_heard(path: Path, proof: Proof) -> None:
    """Writes what the package gave for the recordings, run as an app is told to.

    An ``.npz`` of probabilities (steps, classes) by recording.
    """
    heard = {n: proof.outputs[n][PROBABILITIES] for n in RECORDINGS if n in proof.outputs}
    with path.open("wb") as file:
        np.savez_compressed(file, **heard)


def ways(manifest: Manifest, cases: Mapping[str, np.ndarray]) -> list[Way]:
    """Every way to run the package: as an app is told to, then each other function and size.

    The first takes all cases, and so does each other function. Another enumerated size takes the
    sample in chunks of that size, and the case of just that length. A range that is told to be run
    in chunks also takes the edge lengths whole, for its bounds are promises too. And whatever takes
    a range takes the sample and the edge lengths in chunks of its default size, the last one
    padded: an utterance in one call would never show a state that is not carried on, nor
    ``input_lengths`` that are not heeded.
    """
    every = tuple(cases)
    edges = tuple(name for name in every if name.startswith("steps_"))
    speech = tuple(name for name in every if name == "sample")
    found = [Way("", manifest, every)]
    axis = steps_axis(manifest)
    chunk = manifest.streaming.steps_per_chunk
    for size in axis.enumerated or ():
        if size != chunk:
            wanted = tuple(name for name in ("sample", f"steps_{size}") if name in cases)
            found.append(Way(str(size), _chunked(manifest, size), wanted))
    for function in manifest.model.functions:
        if function.name != manifest.model.default_function:
            found.append(Way(function.name, with_function(manifest, function.name), every))
    ranged = [way for way in found if _is_range(steps_axis(way.manifest))]
    for way in ranged:
        size = steps_axis(way.manifest).default
        label = "_".join(part for part in (way.label, str(size)) if part)
        found.append(Way(label, _padded(way.manifest, size), (*speech, *edges)))
    if _is_range(axis) and manifest.streaming.mode == "chunked":
        found.append(Way("whole", _whole(manifest, axis.max), edges))
    return [way for way in found if way.cases]


def bound_of(
    manifest: Manifest, cases: Mapping[str, np.ndarray], max_steps: int | None
) -> dict[str, np.ndarray] | None:
    """The upper bound of a range that is run whole, as one case; None where the cases reach it.

    The sample's windows, repeated. A bound above ``max_steps`` is run at that length, and the name
    says so: ``steps_3000_of_9000``.
    """
    axis = steps_axis(manifest)
    if axis.enumerated is not None or manifest.streaming.mode != "whole" or not max_steps:
        return None
    if axis.max is None or axis.max <= max(map(len, cases.values())):
        return None
    steps = min(axis.max, max_steps)
    name = f"steps_{steps}" if steps == axis.max else f"steps_{steps}_of_{axis.max}"
    return {name: np.resize(cases["sample"], (steps, *cases["sample"].shape[1:]))}


def run_bound(
    model: Any,
    manifest: Manifest,
    label: str,
    features: np.ndarray,
    cases: Mapping[str, np.ndarray],
    gates: Gates,
) -> list[Metric]:
    """A call as long as the bound against the same package in shorter calls, state carried on.

    The shorter calls are as long as the sample, which is compared with TensorFlow; so the long call
    is, too, without a run of TensorFlow that takes as long as all others together. The metrics'
    input is marked ``self`` for that.
    """
    expected = _run(model, _chunked(manifest, len(cases["sample"])), features)
    found = _run(model, _whole(manifest, len(features)), features)
    wanted = _comparable(expected, _chunked(manifest, len(cases["sample"])), len(features))
    return compare(label, wanted, found, gates)


def steps_axis(manifest: Manifest) -> Axis:
    """The time axis of the features input of the default function."""
    for tensor in manifest.model.inputs:
        if tensor.meaning == "features":
            return tensor.shape[1]
    raise AsrbuildError("the package has no input for features", key="model.inputs")


def _is_range(axis: Axis) -> bool:
    return axis.enumerated is None and axis.min != axis.max


def package_function(manifest: Manifest) -> str | None:
    """The function to load; None where the package has only one, which then needs no name."""
    return manifest.model.default_function if len(manifest.model.functions) > 1 else None


def reference_state(state: State) -> str:
    """The TensorFlow output that a state of the manifest is compared with.

    A stateful package's own states are named ``state_c`` and ``state_h``, the graph's outputs
    ``new_state_c`` and ``new_state_h``.
    """
    return f"new_state_{state.output.rsplit('_', 1)[-1]}"


def summary(verification: Verification) -> str:
    """The proof in one line: the verdict, and the metric nearest to its gate."""
    nearest = worst(verification.metrics)
    if nearest is None:
        return "not executed"
    failed = sum(not metric.passed for metric in verification.metrics)
    count = len(verification.metrics)
    verdict = f"{failed} of {count} gates failed" if failed else f"{count} gates passed"
    return f"{verdict}; nearest: {_in_words(nearest)}"


def _chunked(manifest: Manifest, size: int) -> Manifest:
    update: dict[str, Any] = {"mode": "chunked", "steps_per_chunk": size}
    return manifest.model_copy(update={"streaming": manifest.streaming.model_copy(update=update)})


def _padded(manifest: Manifest, size: int) -> Manifest:
    """In chunks of ``size``, as if the package took no other: a short last one is padded."""
    inputs = []
    for tensor in manifest.model.inputs:
        if tensor.meaning == "features":
            update: dict[str, Any] = {"min": size, "default": size, "max": size}
            steps = tensor.shape[1].model_copy(update=update)
            shape = [tensor.shape[0], steps, *tensor.shape[2:]]
            tensor = tensor.model_copy(update={"shape": shape})
        inputs.append(tensor)
    model = manifest.model.model_copy(update={"inputs": inputs})
    return _chunked(manifest.model_copy(update={"model": model}), size)


def _whole(manifest: Manifest, bound: int | None) -> Manifest:
    update: dict[str, Any] = {"mode": "whole", "steps_per_chunk": bound}
    return manifest.model_copy(update={"streaming": manifest.streaming.model_copy(update=update)})


@dataclass
class _Watched:
    """A package that remembers the state object of its stream, to be read at the end."""

    package: Any
    kept: Any = None

    def predict(self, data: Mapping[str, np.ndarray], state: Any = None) -> Mapping[str, Any]:
        return self.package.predict(data) if state is None else self.package.predict(data, state)

    def make_state(self) -> Any:
        self.kept = self.package.make_state()
        return self.kept


def _run(package: Any, manifest: Manifest, features: np.ndarray) -> Outputs:
    """Probabilities (T, V) and final states (1, H), under the TensorFlow graph's output names."""
    from asrbuild.runtime import Acoustic, Contract

    watched = _Watched(package)
    run = Acoustic(watched, Contract.of(manifest))
    outputs = {PROBABILITIES: np.concatenate([run.feed(features), run.finish()])}
    known = run.state
    for state in manifest.state:
        if state.kind == "stateful":
            outputs[reference_state(state)] = np.asarray(watched.kept.read(state.output))
        elif state.output in known:
            outputs[reference_state(state)] = known[state.output]
    return outputs


def _comparable(
    reference: Mapping[str, np.ndarray], manifest: Manifest, steps: int
) -> dict[str, np.ndarray]:
    """The reference outputs that the package promises after ``steps`` steps.

    A state that is valid after full chunks only says nothing after a short tail; it is compared on
    the cases without one.
    """
    wanted = {PROBABILITIES: reference[PROBABILITIES]}
    chunk = manifest.streaming.steps_per_chunk
    short_tail = manifest.streaming.mode == "chunked" and bool(chunk) and steps % (chunk or 1) != 0
    for state in manifest.state:
        if state.valid == "always" or not short_tail:
            wanted[reference_state(state)] = reference[reference_state(state)]
    return wanted


def _check_reference(
    cases: Mapping[str, np.ndarray], reference: Mapping[str, Mapping[str, np.ndarray]]
) -> None:
    missing = [name for name in cases if PROBABILITIES not in reference.get(name, {})]
    if missing or not cases:
        raise AsrbuildError(
            f"nothing to compare with: no TensorFlow reference for {', '.join(missing) or 'a case'}"
        )


def _transcripts(
    artifact: Path,
    manifest: Manifest,
    settings: DecoderSettings,
    said: Mapping[str, np.ndarray],
    heard: Mapping[str, np.ndarray],
    texts: Mapping[str, str | None],
) -> list[Transcript]:
    """The words of each recording, every way it was run, by the manifest's own decoder.

    ``said``: recording -> TensorFlow's probabilities; ``heard``: way to run it -> the package's.
    """
    from asrbuild.speech.alphabet import make_alphabet
    from asrbuild.speech.decoding import open_decoder

    alphabet = make_alphabet(manifest.decoder.alphabet, bytes_output=manifest.decoder.utf8)
    with open_decoder(settings, alphabet, manifest.features.step_ms, artifact) as decoder:
        texts_of = _decode(decoder, [*said.values(), *heard.values()])
    expected = dict(zip(said, texts_of, strict=False))
    found = dict(zip(heard, texts_of[len(said) :], strict=True))
    return [
        Transcript(
            input=label,
            expected=texts.get(_recording(label)),
            reference=expected[_recording(label)] or "",
            package=text or "",
            match=text is not None and text == expected[_recording(label)],
        )
        for label, text in found.items()
    ]


def _recording(label: str) -> str:
    """The recording that a metric's input is of; empty where it has no words in it."""
    name = label.split("@")[0]
    return name if name in RECORDINGS else ""


def _decode(decoder: Any, batch: list[np.ndarray]) -> list[str | None]:
    """The best text of each; None where the output is no probability at all.

    The same numbers are decoded once: a beam takes seconds, and several ways to run a package
    often give the same.
    """
    usable = {
        probabilities.tobytes(): probabilities
        for probabilities in batch
        if np.isfinite(probabilities).all()
        and np.abs(probabilities.sum(axis=-1) - 1.0).max(initial=0.0) <= 0.01
    }
    decoded = decoder.decode_batch(list(usable.values()))
    texts = [hypotheses[0].text if hypotheses else "" for hypotheses in decoded]
    by_bytes = dict(zip(usable, texts, strict=True))
    return [by_bytes.get(probabilities.tobytes()) for probabilities in batch]


def _word_failures(transcripts: list[Transcript], words: WordGates) -> Iterator[str]:
    from asrbuild.speech.rates import count

    for transcript in transcripts:
        if words.require_transcript and not transcript.match:
            yield (
                f"{transcript.input}: the transcript is {transcript.package!r}, TensorFlow's is "
                f"{transcript.reference!r}"
            )
        if transcript.expected is None:
            continue
        wer = count(transcript.expected, transcript.package).words.rate
        rise = wer - count(transcript.expected, transcript.reference).words.rate
        for name, value, limit in (
            ("word error rate", wer, words.max_wer),
            ("rise of the word error rate", rise, words.max_wer_increase),
        ):
            if limit is not None and value > limit:
                yield f"{transcript.input}: the {name} is {value:.1%}, above {limit:.1%}"


def _in_words(metric: Metric) -> str:
    return (
        f"{metric.input}: {metric.output} {metric.name} {metric.value:.6g} "
        f"(must be {metric.comparison} {metric.threshold:g})"
    )


def _label(case: str, way: str, executor: str) -> str:
    marks = [mark for mark in (way, executor) if mark]
    return case if not marks else f"{case}@{'@'.join(marks)}"


def _executions(core_ml: bool) -> list[Execution]:
    here = f"{platform.system()} {platform.machine()}"
    found = [Execution(executor="asrbuild", version=__version__, platform=here)]
    if core_ml:
        found.append(Execution(executor="coreml", version=platform.mac_ver()[0], platform=here))
    return found
