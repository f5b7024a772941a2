"""The difference of two versions of an artifact, and what it requires of an app.

The interface decides whether code must change (:mod:`asrbuild.artifact.interface`), transcripts and
error rates whether the app may gain. Every other difference is listed as well: recipe, sources,
tools, operations, sizes, measures of the proof.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from asrbuild.artifact.interface import Relation, combined, compare_interfaces
from asrbuild.artifact.manifest import Manifest, Transcript, content_core
from asrbuild.base.mappings import changed_keys, value_text
from asrbuild.coreml.choices import ASSET
from asrbuild.handover.bump import Suggestion, suggest

#: The consequence of a change for an app.
Effect = Literal["must change code", "must know", "can do more", "other words", "no action"]
DifferenceSection = Literal[
    "interface",
    "words",
    "running",
    "recipe",
    "source",
    "tools",
    "operations",
    "size",
    "proof",
    "devices",
    "about",
]
Consequence = Literal[
    "must change code", "must know", "may gain", "may lose", "other words", "nothing changed"
]
#: Settings that shape the transcripts, but do not affect an app's code.
_WORDS = (
    "decoder.type",
    "decoder.beam_width",
    "decoder.cutoff_prob",
    "decoder.cutoff_top_n",
    "decoder.scorer",
    "decoder.hot_words",
)
#: Keys on the calls of the package and the waiting times of users.
_PACE = (
    "streaming.mode",
    "streaming.steps_per_chunk",
    "streaming.chunk_ms",
    "streaming.latency_ms",
)
#: Keys on compute units, whose values differ and can be seen only on a device.
_UNITS = ("model.recommended_compute_units",)
#: Keys that change speed and requirements; the transcripts of the proof are compared directly.
_RUNNING = (
    "model.format",
    "model.spec_version",
    "model.compute_precision",
    "model.lstm",
    "model.default_function",
)
_ABOUT = ("name", "version", "description", "author", "license", "schema_version")
_WEIGHTS = ("checkpoint", "graph")


@dataclass(frozen=True)
class Side:
    """One of the two artifacts.

    Attributes:
        package: its model on disk, which may lack the weights.
        devices: device, system and units -> plan and times, in words.
    """

    manifest: Manifest
    package: Path
    devices: Mapping[str, tuple[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Change:
    """One difference; sizes (in bytes) and counts are numbers.

    ``relation``: that of the new interface to the old one, None outside of the interface; ``why``:
    an app's use of the changed part.
    """

    section: DifferenceSection
    what: str
    before: str | int
    now: str | int
    effect: Effect
    relation: Relation | None = None
    why: str = ""


@dataclass(frozen=True)
class ErrorRate:
    """Word errors of both artifacts on the same recordings: those of the proof, or of a data set.

    ``better`` and ``worse`` count the recordings with fewer and with more errors now.
    """

    on: str
    recordings: int
    words: int
    before_errors: int
    now_errors: int
    better: int
    worse: int

    @property
    def before(self) -> float:
        return self.before_errors / self.words

    @property
    def now(self) -> float:
        return self.now_errors / self.words


@dataclass(frozen=True)
class ArtifactDifference:
    """The whole comparison. ``identical``: the same content, apart from the facts of one run."""

    before: str
    now: str
    identical: bool
    verdict: Consequence
    reasons: tuple[str, ...]
    suggestion: Suggestion
    error_rates: tuple[ErrorRate, ...]
    changes: tuple[Change, ...]

    @property
    def must_change_code(self) -> bool:
        """Whether code written for the first may fail with the second."""
        return self.verdict == "must change code"

    @property
    def may_gain(self) -> bool:
        """Whether the second makes fewer word errors, or can do more."""
        fewer = any(rate.now_errors < rate.before_errors for rate in self.error_rates[:1])
        return fewer or any(change.effect == "can do more" for change in self.changes)


def compare(before: Side, now: Side, evaluated: ErrorRate | None = None) -> ArtifactDifference:
    """Compares two artifacts for an app that uses ``before`` and may move to ``now``.

    Args:
        evaluated: word errors of both on a data set; None: not measured.
    """
    old, new = before.manifest, now.manifest
    identical = content_core(old) == content_core(new)
    findings = compare_interfaces(old, new)
    interface = [
        Change("interface", f.what, f.before, f.now, _effect(f.relation), f.relation, f.why)
        for f in findings
    ]
    changes = [*interface, *_words(old, new), *_running(old, new), *_fit(before, now)]
    changes += [
        *_recipe(old, new),
        *_operations(before, now),
        *_sizes(old, new),
        *_proof(old, new),
        *_devices(before.devices, now.devices),
        *_about(old, new),
    ]
    proof = _proof_errors(old, new)
    rates = tuple(rate for rate in (evaluated, proof) if rate is not None)
    verdict, reasons = _judge(changes, rates, identical)
    return ArtifactDifference(
        f"{old.name} {old.version}",
        f"{new.name} {new.version}",
        identical,
        verdict,
        reasons,
        suggest(
            old.version,
            new.version,
            combined(findings),
            other_words=any(change.effect == "other words" for change in changes)
            or any(rate.now_errors != rate.before_errors for rate in rates),
            must_know=any(change.effect == "must know" for change in changes),
            identical=identical,
        ),
        rates,
        tuple(changes),
    )


def _effect(relation: Relation) -> Effect:
    return "must change code" if relation.breaks else "can do more"


def _changed(
    section: DifferenceSection, keys: Iterable[str], old: Manifest, new: Manifest, effect: Effect
) -> Iterator[Change]:
    for key in keys:
        first, second = (_show(_read(manifest, key)) for manifest in (old, new))
        if first != second:
            yield Change(section, key, first, second, effect)


def _read(manifest: Manifest, key: str) -> Any:
    value: Any = manifest
    for part in key.split("."):
        value = getattr(value, part)
    return value


def _show(value: Any) -> str:
    if value is None:
        return "none"
    if hasattr(value, "model_dump"):
        value = {k: v[:12] if k == "sha256" else v for k, v in value.model_dump().items()}
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {item}" for key, item in value.items()) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _words(old: Manifest, new: Manifest) -> Iterator[Change]:
    """Decoder settings, and the transcripts of the proof that changed."""
    yield from _changed("words", _WORDS, old, new, "other words")
    first, second = ({t.input: t for t in m.verification.transcripts} for m in (old, new))
    for name in (name for name in first if name in second):
        old_text, new_text = first[name].package, second[name].package
        if old_text != new_text:
            yield Change("words", name, old_text, new_text, "other words")


def _running(old: Manifest, new: Manifest) -> Iterator[Change]:
    yield from _changed("running", _PACE, old, new, "must know")
    yield from _changed("running", _UNITS, old, new, "must know")
    yield from _changed("running", _RUNNING, old, new, "no action")


def _fit(before: Side, now: Side) -> Iterator[Change]:
    """Changes in the rules of ``fit`` that apply to each package."""
    from asrbuild.handover.fit.verdict import fit_of, read_package, summary

    if ASSET in (before.manifest.model.format, now.manifest.model.format):
        return  # the rules are for Core ML packages
    first, second = (
        summary(fit_of(read_package(s.package, s.manifest.model.recommended_compute_units)))
        for s in (before, now)
    )
    if first != second:
        yield Change("running", "asrbuild fit", first, second, "must know")


def _about(old: Manifest, new: Manifest) -> Iterator[Change]:
    return _changed("about", _ABOUT, old, new, "no action")


def _recipe(old: Manifest, new: Manifest) -> Iterator[Change]:
    """Changes of recipe keys, inputs by digest, and tools; other weights are another model."""
    first, second = old.provenance, new.provenance
    for name, before, now in changed_keys(first.recipe, second.recipe):
        yield Change("recipe", name, value_text(before), value_text(now), "no action")
    sources = [{source.role: source.sha256 for source in m.sources} for m in (first, second)]
    for name, before, now in changed_keys(sources[0], sources[1]):
        effect: Effect = "other words" if name.startswith(_WEIGHTS) else "no action"
        yield Change("source", name, before[:16], now[:16], effect)
    for name, before, now in changed_keys(first.tools, second.tools):
        yield Change("tools", name, before, now, "no action")


def _operations(before: Side, now: Side) -> Iterator[Change]:
    """Changes of the counts of operations by kind, and of the bytes of weights by type."""
    old, new = _inside(before.package), _inside(now.package)
    yield from _changed_counts("operations", old[0], new[0])
    yield from _changed_counts("size", old[1], new[1])


def _inside(package: Path) -> tuple[Mapping[str, int], Mapping[str, int]]:
    """Operations by kind, and bytes of weights by type, which an ``.aimodel`` does not state."""
    if package.suffix == f".{ASSET}":
        from asrbuild.coreai.asset import inspect

        return inspect(package)["ops"], {}
    from asrbuild.coreml.inspect import inspect_model

    model = inspect_model(package)
    kinds = sum((Counter(function.ops) for function in model.functions), Counter[str]())
    return kinds, {f"{kind} weights": size for kind, size in model.weight_bytes.items()}


def _sizes(old: Manifest, new: Manifest) -> Iterator[Change]:
    """Changes of the bytes of files by role, and of all files."""
    counts = []
    for manifest in (old, new):
        sizes: Counter[str] = Counter()
        for file in manifest.files:
            sizes[file.role] += file.bytes
            sizes["all files"] += file.bytes
        counts.append(sizes)
    yield from _changed_counts("size", *counts)


def _changed_counts(
    section: DifferenceSection, before: Mapping[str, int], now: Mapping[str, int]
) -> Iterator[Change]:
    for name in sorted({*before, *now}):
        first, second = before.get(name, 0), now.get(name, 0)
        if first != second:
            yield Change(section, name, first, second, "no action")


def _proof(old: Manifest, new: Manifest) -> Iterator[Change]:
    """Changes of the worst value of every metric, relative to its gate."""
    from asrbuild.proof.gates import worst

    sides: list[dict[str, str]] = []
    for manifest in (old, new):
        groups: dict[str, list[Any]] = {}
        for metric in manifest.verification.metrics:
            groups.setdefault(f"{metric.output} {metric.name}", []).append(metric)
        worsts = {name: worst(group) for name, group in groups.items()}
        sides.append({name: f"{metric.value:.3g}" for name, metric in worsts.items() if metric})
    for name in sorted({*sides[0], *sides[1]}):
        first, second = (side.get(name, "none") for side in sides)
        if first != second:
            yield Change("proof", name, first, second, "no action")
    left_out = ({"references left out": _left_out(manifest)} for manifest in (old, new))
    yield from _changed_counts("proof", *left_out)
    before, now = _witness(old), _witness(new)
    if before != now:
        yield Change("proof", "witness", before, now, "no action")
    yield from _changed(
        "proof",
        ("verification.passed", "verification.executed", "verification.core_ml_executed"),
        old,
        new,
        "no action",
    )


def _witness(manifest: Manifest) -> str:
    """The second runtime of a proof and its verdict."""
    witness = manifest.verification.witness
    if witness is None or not witness.metrics:
        return "none"
    return f"{witness.runtime} {witness.version}, {'passed' if witness.passed else 'FAILED'}"


def _devices(
    old: Mapping[str, tuple[str, str]], new: Mapping[str, tuple[str, str]]
) -> Iterator[Change]:
    """Changes in the evidence of devices: an app must know of another plan; times always differ."""
    for label in sorted({*old, *new}):
        first, second = (side.get(label, ("not measured",) * 2) for side in (old, new))
        both = label in old and label in new
        if first[0] != second[0]:
            effect: Effect = "must know" if both else "no action"
            yield Change("devices", f"{label}: planned", first[0], second[0], effect)
        if first[1] != second[1]:
            yield Change("devices", f"{label}: timed", first[1], second[1], "no action")


def _left_out(manifest: Manifest) -> int:
    """The number of references that the evaluation omits because the alphabet cannot spell them."""
    evaluation = manifest.verification.evaluation
    return 0 if evaluation is None else evaluation.left_out or 0


def _proof_errors(old: Manifest, new: Manifest) -> ErrorRate | None:
    """Word errors on the proof's recordings with the same expected transcript in both."""
    first, second = ({t.input: t for t in m.verification.transcripts} for m in (old, new))
    both = [
        name
        for name, transcript in first.items()
        # A name with @ is the same recording, run in another way.
        if "@" not in name
        and name in second
        and transcript.expected
        and transcript.expected == second[name].expected
    ]
    return _rate("the recordings of the proof", [(first[n], second[n]) for n in both])


def _rate(on: str, pairs: list[tuple[Transcript, Transcript]]) -> ErrorRate | None:
    if not pairs:
        return None
    return error_rate(
        on,
        [old.expected or "" for old, _ in pairs],
        [old.package for old, _ in pairs],
        [new.package for _, new in pairs],
    )


def error_rate(on: str, expected: list[str], before: list[str], now: list[str]) -> ErrorRate | None:
    """Word errors of two lists of transcripts; None if no words are expected.

    Args:
        on: the name of the recordings.
        expected: the expected transcript of each recording.
        before: the transcripts of the first artifact.
        now: those of the second.
    """
    from asrbuild.speech.rates import count

    old = [count(words, text).words for words, text in zip(expected, before, strict=True)]
    new = [count(words, text).words for words, text in zip(expected, now, strict=True)]
    words = sum(counts.reference for counts in old)
    if not words:
        return None
    pairs = [(a.errors, b.errors) for a, b in zip(old, new, strict=True)]
    return ErrorRate(
        on,
        len(pairs),
        words,
        sum(a for a, _ in pairs),
        sum(b for _, b in pairs),
        better=sum(b < a for a, b in pairs),
        worse=sum(b > a for a, b in pairs),
    )


def _judge(
    changes: list[Change], rates: tuple[ErrorRate, ...], identical: bool
) -> tuple[Consequence, tuple[str, ...]]:
    """The verdict and its reasons; the first error rate counts, which has the most recordings."""
    breaks = [f"{c.what}: {c.before} -> {c.now}" for c in changes if c.effect == "must change code"]
    wider = [f"{c.what}: {c.before} -> {c.now}" for c in changes if c.effect == "can do more"]
    pace = [f"{c.what}: {c.before} -> {c.now}" for c in changes if c.effect == "must know"]
    rate = rates[0] if rates else None
    moved = rate is not None and rate.now_errors != rate.before_errors
    words = _rate_text(rate) if rate and moved else ()
    if breaks:
        return "must change code", (*breaks, *pace, *words)
    if rate and rate.now_errors < rate.before_errors:
        return "may gain", (*words, *wider, *pace)
    if rate and rate.now_errors > rate.before_errors:
        return "may lose", (*words, *pace)
    if wider:
        return "may gain", (*wider, *pace, *words)
    if pace:
        return "must know", (*pace, *words)
    other = [c for c in changes if c.effect == "other words"]
    if other:
        what = tuple(f"{c.section}: {c.what}" for c in other)
        return "other words", (*what, *(_rate_text(rate) if rate else ()))
    if identical:
        return "nothing changed", ("the content is the same",)
    return "nothing changed", ("no input, output or transcript has changed",)


def _rate_text(rate: ErrorRate) -> tuple[str, ...]:
    return (
        f"word error rate {100 * rate.before:.1f} % -> {100 * rate.now:.1f} % on {rate.on} "
        f"({rate.before_errors} -> {rate.now_errors} of {rate.words} words; "
        f"{rate.better} recordings better, {rate.worse} worse)",
    )
