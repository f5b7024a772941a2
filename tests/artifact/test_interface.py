"""The rules of changes that break an app, against plain sets, both ways, for every manifest key."""

from __future__ import annotations

import copy
import json
import typing
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from asrbuild.artifact.interface import (
    NOT_RELIED_ON,
    RULES,
    Relation,
    combined,
    compare_interfaces,
    sizes,
    systems,
)
from asrbuild.artifact.manifest import Axis, Function, Manifest, Section, State, Tensor
from asrbuild.handover import difference
from asrbuild.handover.bump import suggest
from tests.manifests import MANIFEST, fixed, tensor

NAMES = st.sampled_from(["a", "b", "c"])
#: Beyond every bound that is drawn, so that a range without an end can be listed.
ENDLESS = 60


@st.composite
def axes(draw: st.DrawFn) -> dict[str, Any]:
    """A fixed axis, a range with or without an end, or listed sizes."""
    listed = draw(st.none() | st.sets(st.integers(1, 12), min_size=1, max_size=6).map(sorted))
    low, high = sorted(draw(st.tuples(st.integers(1, 12), st.integers(1, 12))))
    end = draw(st.sampled_from([low, high, None]))
    if listed is not None:
        low, end = listed[0], listed[-1]
    name = draw(st.sampled_from(["steps", "batch", "class"]))
    return {"name": name, "min": low, "default": low, "max": end, "enumerated": listed}


def taken(axis: Axis) -> set[int]:
    """Every size that an axis takes, as a set."""
    if axis.enumerated is not None:
        return set(axis.enumerated)
    return set(range(axis.min, ENDLESS if axis.max is None else axis.max + 1))


@given(axes(), axes())
def test_sizes_are_compared_as_sets(before: dict[str, Any], now: dict[str, Any]):
    first, second = Axis(**before), Axis(**now)
    old, new = taken(first), taken(second)
    expected = Relation.OTHER
    if old == new:
        expected = Relation.SAME
    elif old < new:
        expected = Relation.WIDER
    elif new < old:
        expected = Relation.NARROWER
    assert sizes(first, second) is expected


@pytest.mark.parametrize(
    ("before", "now", "relation"),
    [
        ({"iOS": "17"}, {"iOS": "17"}, "same"),
        ({"iOS": "17"}, {"iOS": "18"}, "narrower"),
        ({"macOS": "10.15"}, {"macOS": "11"}, "narrower"),
        ({"macOS": "10.9"}, {"macOS": "10.15"}, "narrower"),
        ({"iOS": "17"}, {"iOS": "17", "macOS": "14"}, "wider"),
        ({"iOS": "17", "macOS": "14"}, {"iOS": "17"}, "narrower"),
        ({"iOS": "17", "macOS": "14"}, {"iOS": "16", "macOS": "15"}, "other"),
    ],
)
def test_systems_are_compared_as_sets(before: dict[str, str], now: dict[str, str], relation: str):
    assert systems(before, now).value == relation
    assert systems(now, before) is Relation(relation).flipped()


tensors = st.builds(
    lambda name, dtype, shape, meaning: tensor(name, dtype, shape, meaning),
    NAMES,
    st.sampled_from(["float32", "float16", "int32"]),
    st.lists(axes(), max_size=3),
    st.sampled_from(["features", "state"]),
)
signatures = st.lists(tensors, max_size=3, unique_by=lambda t: t["name"])


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    """Manifests that vary in every compared value."""
    fields = copy.deepcopy(MANIFEST)
    model = fields["model"]
    streaming = st.just(MANIFEST["streaming"])
    named = st.fixed_dictionaries(
        {"name": NAMES, "inputs": signatures, "outputs": signatures, "streaming": streaming}
    )
    model["functions"] = draw(
        st.lists(named, min_size=1, max_size=3, unique_by=lambda f: f["name"])
    )
    model["default_function"] = model["functions"][0]["name"]
    model |= {key: model["functions"][0][key] for key in ("inputs", "outputs")}
    releases = st.sampled_from(["9", "10.9", "10.15", "17"])
    model["minimum_os"] = draw(st.dictionaries(st.sampled_from(["iOS", "macOS"]), releases))
    model["package"] = draw(st.sampled_from(["model.mlmodel", "model.mlpackage"]))
    state = st.fixed_dictionaries(
        {
            "input": NAMES,
            "output": NAMES,
            "kind": st.sampled_from(["explicit", "stateful"]),
            "shape": st.just([1, 4]),
            "initial": st.just("zeros"),
            "reset": st.just("per_utterance"),
            "valid": st.just("always"),
        }
    )
    fields["state"] = draw(st.lists(state, max_size=3, unique_by=lambda s: s["input"]))
    fields["languages"] = draw(st.lists(st.sampled_from(["en", "de"]), unique=True))
    fields["decoder"]["alphabet"] = draw(st.sampled_from([["a"], ["a", "b"]]))
    fields["decoder"]["scorer"] = draw(
        st.none()
        | st.fixed_dictionaries(
            {"path": NAMES, "sha256": NAMES, "lm_alpha": st.just(0.5), "lm_beta": st.just(1.0)}
        )
    )
    fields["features"]["lower_hz"] = draw(st.sampled_from([20.0, 30.0]))
    return Manifest.model_validate_json(json.dumps(fields))


@given(manifests())
@settings(max_examples=40)
def test_a_manifest_does_not_differ_from_itself(manifest: Manifest):
    assert compare_interfaces(manifest, manifest.model_copy(deep=True)) == []


@given(manifests(), manifests())
@settings(max_examples=150)
def test_the_reverse_comparison_swaps_wider_and_narrower(before: Manifest, now: Manifest):
    there, back = compare_interfaces(before, now), compare_interfaces(now, before)
    found = {(f.what, f.relation) for f in there}
    assert {(f.what, f.relation.flipped()) for f in back} == found
    assert combined(back) is combined(there).flipped()
    values = {(f.what, f.before, f.now) for f in there if not f.what.startswith("function ")}
    turned = {(f.what, f.now, f.before) for f in back if not f.what.startswith("function ")}
    present = ("there", "gone", "not there", "added")
    assert {v for v in values if v[1] not in present} == {v for v in turned if v[1] not in present}


@given(manifests(), manifests(), manifests())
@settings(max_examples=100)
def test_two_compatible_steps_are_compatible_together(a: Manifest, b: Manifest, c: Manifest):
    """If neither of two steps breaks an app, both together do not."""
    if (
        not combined(compare_interfaces(a, b)).breaks
        and not combined(compare_interfaces(b, c)).breaks
    ):
        assert not combined(compare_interfaces(a, c)).breaks


def keys(section: type[Section], prefix: str = "") -> list[str]:
    """Every key of the manifest in dotted form; a list or optional section is one key."""
    found = []
    for name, field in section.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            found += keys(kind, f"{prefix}{name}.")
        else:
            found.append(prefix + name)
    return found


def test_every_key_of_the_manifest_is_judged():
    """Every new key is either irrelevant to an app or has a rule in artifact/interface.py."""
    in_code = ("model.inputs", "model.outputs", "model.functions", "state")
    ruled = {rule.key for rule in RULES}
    known = {*ruled, *NOT_RELIED_ON, *in_code}
    every = keys(Manifest)
    unjudged = [
        key
        for key in every
        if not any(key == known_key or key.startswith(f"{known_key}.") for known_key in known)
    ]
    assert unjudged == []
    stale = [
        key
        for key in (*ruled, *NOT_RELIED_ON)
        if not any(e == key or e.startswith(f"{key}.") or key.startswith(f"{e}.") for e in every)
    ]
    assert stale == []
    assert not ruled & set(NOT_RELIED_ON)


def test_every_key_of_tensors_and_states_is_judged():
    """``_tensor`` and ``_states`` judge them.

    ``fill`` is prose, and a state's shape is that of its input. A function's inputs state the calls
    of ``streaming``, and its tail is that of the default function.
    """
    assert set(Tensor.model_fields) == {"name", "dtype", "shape", "meaning", "fill"}
    assert set(Axis.model_fields) == {"name", "min", "default", "max", "enumerated"}
    assert set(Function.model_fields) == {"name", "inputs", "outputs", "streaming"}
    assert set(State.model_fields) == {
        "input",
        "output",
        "kind",
        "shape",
        "initial",
        "reset",
        "valid",
    }


def changed(**sections: dict[str, Any]) -> Manifest:
    """The plain manifest with some keys set to something else."""
    fields = copy.deepcopy(MANIFEST)
    for section, values in sections.items():
        if isinstance(fields[section], dict):
            fields[section] |= values
        else:
            fields[section] = values
    return Manifest.model_validate_json(json.dumps(fields))


def other(rule: Any) -> Any:
    """Another value of a rule's key; None if its type allows no other."""
    section, key = rule.key.split(".")
    kind = Manifest.model_fields[section].annotation.model_fields[key].annotation
    value = MANIFEST[section][key]
    if typing.get_origin(kind) is typing.Literal:
        return next((choice for choice in typing.get_args(kind) if choice != value), None)
    if isinstance(value, dict):
        return {"iOS": "99", "macOS": "99"}
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + 1
    return [*value, "x"] if isinstance(value, list) else f"{value}x"


OTHERS = {rule.key: other(rule) for rule in RULES if rule.key.count(".") == 1}


@pytest.mark.parametrize("key", [key for key, value in OTHERS.items() if value is not None])
def test_a_rule_reads_only_its_key(key: str):
    section, name = key.split(".")
    (found,) = compare_interfaces(changed(), changed(**{section: {name: OTHERS[key]}}))
    assert found.what == key
    assert found.relation.breaks


LOGITS = MANIFEST["model"]["outputs"][0]


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        # Steps follow the input's steps; classes follow no other axis.
        (
            [tensor("logits", "float32", [fixed("steps", 7), fixed("class", 29)], "probabilities")],
            [],
        ),
        (
            [
                tensor(
                    "logits", "float32", [LOGITS["shape"][0], fixed("class", 30)], "probabilities"
                )
            ],
            [("output logits class", "other")],
        ),
        (
            [tensor("logits", "float16", LOGITS["shape"], "probabilities")],
            [("output logits dtype", "other")],
        ),
        (
            [tensor("logits", "float32", LOGITS["shape"], "other")],
            [("output logits meaning", "other")],
        ),
        (
            [tensor("logits", "float32", LOGITS["shape"][:1], "probabilities")],
            [("output logits shape", "other")],
        ),
        (
            [tensor("logits", "float32", LOGITS["shape"][::-1], "probabilities")],
            [("output logits shape", "other")],
        ),
        ([tensor("logits", "float32", [], "probabilities")], [("output logits shape", "narrower")]),
        ([LOGITS, tensor("mfccs", "float32", [], "mfcc")], [("output mfccs", "wider")]),
        ([], [("output logits", "narrower")]),
    ],
)
def test_changed_outputs_are_reported(
    outputs: list[dict[str, Any]], expected: list[tuple[str, str]]
):
    (function,) = MANIFEST["model"]["functions"]
    functions = [function | {"outputs": outputs}]
    now = changed(model={"outputs": outputs, "functions": functions})
    found = compare_interfaces(changed(), now)
    assert [(f.what, f.relation.value) for f in found] == expected


def test_changes_of_calls_and_latency_are_reported() -> None:
    """``asrbuild diff`` gives them as reasons even if an app's code need not change."""
    old = changed()
    for key, value in (("mode", "chunked"), ("latency_ms", 999.0), ("steps_per_chunk", 7)):
        streaming = old.streaming.model_copy(update={key: value})
        new = old.model_copy(update={"streaming": streaming})
        found = list(difference._running(old, new))
        assert [change.effect for change in found] == ["must know"]
        verdict, reasons = difference._judge(found, (), False)
        assert verdict == "must know"
        assert reasons[0].startswith(f"streaming.{key}: ")
        suggested = suggest(
            old.version,
            new.version,
            Relation.SAME,
            other_words=False,
            must_know=True,
            identical=False,
        )
        assert suggested.bump == "minor"
    assert list(difference._running(old, old)) == []
