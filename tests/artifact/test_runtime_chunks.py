"""Every way of cutting an utterance gives the outputs of one call."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from asrbuild.architectures.deepspeech.network import AcousticWeights
from asrbuild.artifact.manifest import Axis, Manifest
from asrbuild.artifact.runtime import Acoustic, Contract, acoustic, call_size
from asrbuild.base.errors import AsrbuildError
from tests.artifact.numpy_package import (
    HIDDEN,
    NumpyPackage,
    enumerated,
    fixed,
    make_manifest,
    ranged,
    windows_of,
)

CONTRACTS = {
    "fixed 16": make_manifest(fixed("steps", 16)),
    "fixed 1": make_manifest(fixed("steps", 1), chunk=1),
    "fixed 16, stateful": make_manifest(fixed("steps", 16), state="stateful"),
    "range 1 to 40 in chunks of 16": make_manifest(ranged(1, 40)),
    "range 5 to 40 in chunks of 16": make_manifest(ranged(5, 40)),
    "whole, no bound": make_manifest(ranged(1, None), "whole", None),
    "whole, up to 40": make_manifest(ranged(1, 40), "whole", 40),
    "whole, up to 128": make_manifest(ranged(1, 128), "whole", 128),
    "enumerated, chunks of 16": make_manifest(enumerated([16, 4, 1, 32])),
    "enumerated, whole": make_manifest(enumerated([8, 16, 64]), "whole", 64),
}


@pytest.mark.parametrize("name", list(CONTRACTS))
def test_every_length_gives_the_outputs_of_one_call(
    name: str, weights: AcousticWeights, whole
) -> None:
    manifest = CONTRACTS[name]
    long = [636] if name in ("fixed 16", "whole, no bound") else []
    for steps in [*range(1, 101), *long]:
        windows = windows_of(steps)
        package = NumpyPackage(manifest, weights)
        found = acoustic(package, Contract.of(manifest), windows)
        rows, c, h = whole(steps)
        assert found.probabilities.shape == (steps, 29)
        np.testing.assert_allclose(found.probabilities, rows, atol=1e-6)
        assert sum(real for _, real in package.calls) == steps
        assert all(size == real for size, real in package.calls[:-1])
        if manifest.state[0].kind == "stateful":
            assert found.state == {}
        else:
            np.testing.assert_allclose(found.state["new_state_c"], c, atol=1e-5)
            np.testing.assert_allclose(found.state["new_state_h"], h, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "steps", "calls"),
    [
        ("fixed 16", 40, [(16, 16), (16, 16), (16, 8)]),
        ("fixed 16", 32, [(16, 16), (16, 16)]),
        ("range 1 to 40 in chunks of 16", 20, [(16, 16), (4, 4)]),
        ("range 5 to 40 in chunks of 16", 18, [(16, 16), (5, 2)]),
        ("whole, no bound", 636, [(636, 636)]),
        ("whole, up to 40", 40, [(40, 40)]),
        ("whole, up to 40", 41, [(40, 40), (1, 1)]),
        ("enumerated, chunks of 16", 18, [(16, 16), (4, 2)]),
        ("enumerated, whole", 20, [(64, 20)]),
        ("enumerated, whole", 70, [(64, 64), (8, 6)]),
    ],
)
def test_calls_cover_the_utterance(
    name: str, steps: int, calls: list[tuple[int, int]], weights: AcousticWeights
) -> None:
    package = NumpyPackage(CONTRACTS[name], weights)
    acoustic(package, Contract.of(CONTRACTS[name]), windows_of(steps))
    assert package.calls == calls


@settings(max_examples=60)
@given(
    name=st.sampled_from(list(CONTRACTS)),
    steps=st.integers(0, 90),
    cuts=st.lists(st.integers(0, 50), max_size=8),
)
def test_steps_may_arrive_in_pieces_of_any_size(
    name: str, steps: int, cuts: list[int], weights: AcousticWeights, whole
) -> None:
    windows, at, rows = windows_of(steps), 0, []
    run = Acoustic(NumpyPackage(CONTRACTS[name], weights), Contract.of(CONTRACTS[name]))
    for cut in [*cuts, steps]:
        rows.append(run.feed(windows[at : at + cut]))
        at += cut
    rows.append(run.finish())
    np.testing.assert_allclose(np.concatenate(rows), whole(steps)[0], atol=1e-6)


def test_an_utterance_without_steps_has_no_outputs(weights: AcousticWeights) -> None:
    for manifest in CONTRACTS.values():
        found = acoustic(NumpyPackage(manifest, weights), Contract.of(manifest), windows_of(0))
        assert found.probabilities.shape == (0, 29)
        assert all((value == 0).all() for value in found.state.values())


def test_a_dropped_state_changes_the_outputs(weights: AcousticWeights, whole) -> None:
    """The negative control of this file: without its state the same package differs widely."""

    class Forgetful(NumpyPackage):
        def predict(self, data, state=None):
            zeros = {f"previous_state_{n}": np.zeros((1, HIDDEN), np.float32) for n in "ch"}
            return super().predict({**data, **zeros}, state)

    manifest = CONTRACTS["fixed 16"]
    found = acoustic(Forgetful(manifest, weights), Contract.of(manifest), windows_of(40))
    assert np.abs(found.probabilities - whole(40)[0]).max() > 0.01


@pytest.mark.parametrize(
    ("axis", "steps", "message"),
    [
        (ranged(1, 40), 41, "41 steps do not fit in one call of the package: it takes at most 40"),
        (enumerated([8, 16]), 17, "it takes at most 16"),
        (fixed("steps", 16), 20, "it takes at most 16"),
    ],
)
def test_calls_that_the_package_does_not_take_are_refused(
    axis: Axis, steps: int, message: str
) -> None:
    with pytest.raises(AsrbuildError, match=message):
        call_size(steps, axis)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda out: {"probs": out["logits"]}, "the package has no output new_state_c"),
        (lambda out: out | {"logits": out["logits"][:3]}, "says 16 rows on axis 0"),
    ],
)
def test_outputs_that_contradict_the_manifest_are_refused(
    broken, message: str, weights: AcousticWeights
) -> None:
    manifest: Manifest = CONTRACTS["fixed 16"]

    class Broken(NumpyPackage):
        def predict(self, data, state=None):
            return broken(super().predict(data, state))

    with pytest.raises(AsrbuildError, match=message):
        acoustic(Broken(manifest, weights), Contract.of(manifest), windows_of(16))
