"""Compatibility of two artifacts: the promises of a manifest to an app, and their changes.

An app is written for one artifact: its code relies on the inputs and outputs of that artifact.
Another artifact keeps the promise if it takes every input that the first takes, and gives only
outputs that the first can give. So a larger set of accepted sizes is *wider*, a smaller set
*narrower*; a different value is *other*. Comparing in the other direction swaps wider and narrower
and nothing else, which is tested.

``RULES`` and ``_tensors`` judge the keys that an app relies on; ``NOT_RELIED_ON`` has, for every
other key, the reason why an app does not rely on it. Together they name every key of the manifest,
which is tested too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import partial, reduce
from typing import Any

from asrbuild.artifact.manifest import Axis, Function, Manifest, State, Tensor


class Relation(str, Enum):
    """The relation of a new promise to the old promise."""

    SAME = "same"
    WIDER = "wider"
    NARROWER = "narrower"
    OTHER = "other"

    @property
    def breaks(self) -> bool:
        """Whether code written for the old promise may fail."""
        return self in (Relation.NARROWER, Relation.OTHER)

    def flipped(self) -> Relation:
        """The relation of the old promise to the new one."""
        swap = {Relation.WIDER: Relation.NARROWER, Relation.NARROWER: Relation.WIDER}
        return swap.get(self, self)

    def and_(self, more: Relation) -> Relation:
        """Both relations together; wider in one thing and narrower in another is other."""
        if Relation.SAME in (self, more) or self is more:
            return more if self is Relation.SAME else self
        return Relation.OTHER


@dataclass(frozen=True)
class Finding:
    """One promise that has changed; ``why`` is the use that an app makes of it."""

    what: str
    before: str
    now: str
    relation: Relation
    why: str


Compare = Callable[[Any, Any], Relation]


def fixed(before: Any, now: Any) -> Relation:
    """For values that an app relies on exactly: any change is other."""
    return Relation.SAME if before == now else Relation.OTHER


def _by(wider: bool, narrower: bool) -> Relation:
    """The relation of two sets: whether the new includes the old, and the old the new."""
    if wider and narrower:
        return Relation.SAME
    return Relation.WIDER if wider else Relation.NARROWER if narrower else Relation.OTHER


def more_is_wider(before: Iterable[Any], now: Iterable[Any]) -> Relation:
    """For sets that an app chooses from: more elements are wider."""
    first, second = set(before), set(now)
    return _by(first <= second, second <= first)


def systems(before: Mapping[str, str], now: Mapping[str, str]) -> Relation:
    """For the oldest systems: an older one is wider, a missing one narrower."""

    def runs(on: Mapping[str, str], name: str, version: str) -> bool:
        return name in on and _release(on[name]) <= _release(version)

    return _by(
        all(runs(now, name, version) for name, version in before.items()),
        all(runs(before, name, version) for name, version in now.items()),
    )


def _release(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)]


def sizes(before: Axis, now: Axis) -> Relation:
    """For the sizes of an axis: one size, a range, or a list."""
    return _by(_within(before, now), _within(now, before))


def _within(inner: Axis, outer: Axis) -> bool:
    if inner.enumerated is not None:
        return all(_takes(outer, size) for size in inner.enumerated)
    if outer.enumerated is not None:
        listed = set(outer.enumerated)
        # A range of more sizes than the list cannot be a part of it, so it is not enumerated.
        if inner.max is None or inner.max - inner.min >= len(listed):
            return False
        return set(range(inner.min, inner.max + 1)) <= listed
    return outer.min <= inner.min and (
        outer.max is None or (inner.max is not None and inner.max <= outer.max)
    )


def _takes(axis: Axis, size: int) -> bool:
    if axis.enumerated is not None:
        return size in axis.enumerated
    return axis.min <= size and (axis.max is None or size <= axis.max)


def _scorer_path(manifest: Manifest) -> str | None:
    return manifest.decoder.scorer.path if manifest.decoder.scorer else None


def _given_or_not(before: str | None, now: str | None) -> Relation:
    """For an optional file: a new file is wider, a missing file narrower, another name other."""
    if before is not None and now is not None:
        return fixed(before, now)
    return _by(before is None, now is None)


@dataclass(frozen=True)
class Rule:
    """The rule that judges one key of the manifest."""

    key: str
    compare: Compare
    why: str
    read: Callable[[Manifest], Any] | None = None

    def judge(self, before: Manifest, now: Manifest) -> Finding | None:
        """The finding; None if nothing changed."""
        read = self.read or partial(_read, key=self.key)
        first, second = read(before), read(now)
        relation = self.compare(first, second)
        if relation is Relation.SAME:
            return None
        return Finding(self.key, _text(first), _text(second), relation, self.why)


def _read(manifest: Manifest, *, key: str) -> Any:
    """The value of a dotted key; None if the manifest's version lacks the key."""
    value: Any = manifest
    for part in key.split("."):
        value = getattr(value, part, None)
    return value


_FRONT_END = "the app computes its features this way"
RULES = (
    Rule("audio.sample_rate", fixed, "the app records or resamples at it"),
    Rule("audio.channels", fixed, "the app mixes down to it"),
    Rule("audio.sample_type", fixed, "the app hands samples over in it"),
    Rule("audio.sample_scale", fixed, "the app scales its samples by it"),
    Rule("features.kind", fixed, _FRONT_END),
    Rule("features.window_samples", fixed, _FRONT_END),
    Rule("features.step_samples", fixed, _FRONT_END),
    Rule("features.window_function", fixed, _FRONT_END),
    Rule("features.fft_size", fixed, _FRONT_END),
    Rule("features.spectrum", fixed, _FRONT_END),
    Rule("features.mel_bands", fixed, _FRONT_END),
    Rule("features.lower_hz", fixed, _FRONT_END),
    Rule("features.upper_hz", fixed, _FRONT_END),
    Rule("features.coefficients", fixed, _FRONT_END),
    Rule("features.log_floor", fixed, _FRONT_END),
    Rule("features.context_frames", fixed, _FRONT_END),
    Rule("features.edge_padding", fixed, _FRONT_END),
    Rule("model.package", fixed, "the app loads or compiles this file"),
    Rule("model.minimum_os", systems, "the app cannot be installed on older systems"),
    Rule("streaming.tail", fixed, "the app ends an utterance this way"),
    Rule("decoder.alphabet", fixed, "the app turns class numbers into letters with it"),
    Rule("decoder.alphabet_file", fixed, "the app reads this file"),
    Rule("decoder.utf8", fixed, "the app joins labels as letters or as bytes"),
    Rule("decoder.blank_index", fixed, "the app leaves this class out"),
    Rule("decoder.scorer.path", _given_or_not, "the app's decoder opens this file", _scorer_path),
    Rule("languages", more_is_wider, "the app offers these languages"),
)

#: Rules for the keys that only manifest 2.0 has.
RULES_2 = tuple(
    Rule(key, fixed, why)
    for key, why in {
        "features.place": "the app computes features, or hands samples over",
        "features.settings": _FRONT_END,
        "rows.steps": "the app takes so many rows of a call",
        "rows.add": "the app takes so many rows of a call",
        "context": "the app repeats steps of the call before, and looks ahead",
        "decoder.kind": "the app joins labels in this way",
        "decoder.boundary_index": "the app parts words by this class",
        "decoder.silent_indices": "the app prints nothing for these classes",
    }.items()
)

#: Key of the manifest -> the reason why an app does not rely on it.
NOT_RELIED_ON = {
    "schema_version": "a reader refuses another major version and ignores what a minor one adds",
    "artifact_id": "identity",
    "name": "identity",
    "version": "identity",
    "description": "for people",
    "author": "for people",
    "license": "for people",
    "files": "those that an app opens are named in model, decoder and features",
    "features.window_ms": "window_samples says it",
    "features.step_ms": "step_samples says it",
    "features.reference": "a test of the front end, read anew with each artifact",
    "model.format": "an app sees the package's name and its inputs and outputs",
    "model.spec_version": "minimum_os says what it asks for",
    "model.compute_precision": "inputs and outputs name their own types",
    "model.recommended_compute_units": "advice: all units take the same input; values may differ",
    "model.lstm": "inside of the package",
    "model.default_function": "its inputs and outputs are compared, and functions by name",
    "streaming.mode": "advice; the inputs' sizes say which calls are still taken",
    "streaming.steps_per_chunk": "advice; the inputs' sizes say which calls are still taken",
    "streaming.hop_ms": "features.step_samples says it",
    "streaming.chunk_ms": "steps_per_chunk says it",
    "streaming.lookahead_ms": "features.context_frames says it",
    "streaming.latency_ms": "a figure for people",
    "decoder.type": "advice; the decoder that an app has still reads the probabilities",
    "decoder.beam_width": "a setting of the decoder; other words, no other code",
    "decoder.cutoff_prob": "a setting of the decoder; other words, no other code",
    "decoder.cutoff_top_n": "a setting of the decoder; other words, no other code",
    "decoder.scorer": "its path is compared; its content and weights give other words only",
    "decoder.tuned": "how the settings of the decoder were found",
    "decoder.hot_words": "a setting of the decoder; other words, no other code",
    "verification": "the proof",
    "provenance": "where it came from",
}


def compare_interfaces(before: Manifest, now: Manifest) -> list[Finding]:
    """The promises of ``before`` that ``now`` changes."""
    found = [finding for rule in (*RULES, *RULES_2) if (finding := rule.judge(before, now))]
    return [*found, *_functions(before, now), *_states(before.state, now.state)]


def combined(findings: Iterable[Finding]) -> Relation:
    """The relation of all findings together."""
    return reduce(Relation.and_, (finding.relation for finding in findings), Relation.SAME)


def _functions(before: Manifest, now: Manifest) -> Iterator[Finding]:
    """Compares the default functions, which an app need not name, and the others by name."""

    def default(manifest: Manifest) -> Function:
        model = manifest.model
        return Function(
            name="", inputs=model.inputs, outputs=model.outputs, streaming=manifest.streaming
        )

    yield from _tensors("", default(before), default(now))
    # The function of a package with one function is not named.
    first, second = (
        {f.name: f for f in manifest.model.functions} if len(manifest.model.functions) > 1 else {}
        for manifest in (before, now)
    )
    why = "the app loads the function by its name"
    yield from _presence("function", first, second, why, Relation.WIDER)
    for name in (name for name in first if name in second):
        if first[name] != default(before).model_copy(update={"name": name}) or second[
            name
        ] != default(now).model_copy(update={"name": name}):
            yield from _tensors(f"{name}: ", first[name], second[name])


def _presence(
    kind: str, before: Iterable[str], now: Iterable[str], why: str, added: Relation
) -> Iterator[Finding]:
    """Findings for new and missing keys; ``added``: the relation for a new key."""
    first, second = list(before), list(now)
    for name in first:
        if name not in second:
            yield Finding(f"{kind} {name}", "there", "gone", added.flipped(), why)
    for name in second:
        if name not in first:
            yield Finding(f"{kind} {name}", "not there", "added", added, why)


def _tensors(prefix: str, before: Function, now: Function) -> Iterator[Finding]:
    inputs = [{tensor.name: tensor for tensor in f.inputs} for f in (before, now)]
    outputs = [{tensor.name: tensor for tensor in f.outputs} for f in (before, now)]
    # An app does not feed a new input, and still feeds a missing one.
    fed = "the app feeds every input by its name"
    yield from _presence(f"{prefix}input", inputs[0], inputs[1], fed, Relation.OTHER)
    read = "the app reads the output by its name"
    yield from _presence(f"{prefix}output", outputs[0], outputs[1], read, Relation.WIDER)
    # An output axis with the name of an input axis has its size, so the input decides.
    follows = {axis.name for side in inputs for t in side.values() for axis in t.shape}
    for kind, (first, second) in (("input", inputs), ("output", outputs)):
        for name in (name for name in first if name in second):
            for what, was, is_, relation in _tensor(
                first[name], second[name], follows if kind == "output" else None
            ):
                why = fed if kind == "input" else read
                yield Finding(f"{prefix}{kind} {name}{what}", was, is_, relation, why)


def _tensor(
    before: Tensor, now: Tensor, follows: set[str] | None
) -> Iterator[tuple[str, str, str, Relation]]:
    """The changes of one tensor; ``follows``: axes of an output whose size the inputs decide."""
    for key in ("dtype", "meaning"):
        first, second = getattr(before, key), getattr(now, key)
        if first != second:
            yield f" {key}", first, second, Relation.OTHER
    names = [[axis.name for axis in tensor.shape] for tensor in (before, now)]
    if names[0] != names[1]:
        relation = Relation.OTHER
        if follows is not None and not (before.shape and now.shape):
            # A neural network need not declare the sizes of an output.
            relation = _by(not before.shape, not now.shape)
        yield " shape", shape_text(before), shape_text(now), relation
        return
    for first, second in zip(before.shape, now.shape, strict=True):
        relation = sizes(first, second)
        if follows is not None:
            # For an app, fewer sizes of an output are the wider promise.
            relation = Relation.SAME if first.name in follows else relation.flipped()
        if relation is not Relation.SAME:
            yield f" {first.name}", size_text(first), size_text(second), relation


def _states(before: list[State], now: list[State]) -> Iterator[Finding]:
    """Compares states: their keeper and initial value; their shapes are those of inputs."""
    first, second = ({state.input: state for state in side} for side in (before, now))
    why = "the app keeps, feeds back and resets it"
    yield from _presence("state", first, second, why, Relation.OTHER)
    for name in (name for name in first if name in second):
        a, b = first[name], second[name]
        for key in ("output", "kind", "initial", "reset"):
            if getattr(a, key) != getattr(b, key):
                was, is_ = str(getattr(a, key)), str(getattr(b, key))
                yield Finding(f"state {name} {key}", was, is_, Relation.OTHER, why)


def shape_text(tensor: Tensor) -> str:
    """``(batch 1, steps 16/32/64, window 19)``, ranges as ``1..3000``."""
    return f"({', '.join(f'{axis.name} {size_text(axis)}' for axis in tensor.shape)})"


def size_text(axis: Axis) -> str:
    """``16``, ``1..3000``, ``1..`` or ``16/32/64``."""
    if axis.enumerated:
        listed = [str(size) for size in axis.enumerated]
        return "/".join(listed if len(listed) <= 6 else [*listed[:3], "...", listed[-1]])
    if axis.min == axis.max:
        return str(axis.min)
    return f"{axis.min}..{'' if axis.max is None else axis.max}"


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    if isinstance(value, list):
        listed = ", ".join(map(str, value)) or "none"
        return listed if len(value) <= 6 else f"{len(value)}: {listed}"
    if value is None:
        return "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
