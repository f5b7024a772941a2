"""The declared facts of a network: rows, context and states; contradictions are refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from asrbuild.architectures.deepspeech.signature import SIGNATURE, sized
from asrbuild.base.errors import AsrbuildError
from asrbuild.coreml.signature import (
    Context,
    Rows,
    StatePair,
    check_signature,
    compared_name,
    measure_rows,
)


@pytest.mark.parametrize(
    ("changed", "key", "message"),
    [
        ({"outputs": SIGNATURE.outputs[1:]}, "outputs", "nothing can be decoded"),
        ({"inputs": SIGNATURE.inputs[1:]}, "inputs", "no input takes features or samples"),
        ({"rows": Rows(0)}, "rows", "a row for every 0 steps"),
        ({"rows": Rows(4), "context": Context(False, 6, 4)}, "context", "6 and 4 steps"),
        ({"states": (StatePair("input_node", "new_state_c", "c"),)}, "states", "of one shape"),
    ],
)
def test_facts_that_contradict_each_other_are_refused(
    changed: dict[str, Any], key: str, message: str
) -> None:
    check_signature(SIGNATURE)
    with pytest.raises(AsrbuildError, match=message) as caught:
        check_signature(replace(SIGNATURE, **{"rows": Rows(), **changed}))
    assert (caught.value.key, bool(caught.value.fix)) == (f"source.config.{key}", True)


@pytest.mark.parametrize("strides", [(2, 2), (5, 2, 2, 2, 2, 2, 2), (160, 2), (1,)])
@pytest.mark.parametrize("pad", [0, 1, 3])
def test_rows_are_measured_exactly_from_calls_of_strided_convolutions(
    strides: tuple[int, ...], pad: int
) -> None:
    def rows(steps: int) -> int:
        for stride in strides:
            kernel = stride + 1
            steps = max(0, (steps + 2 * pad - kernel) // stride + 1)
        return steps

    found = measure_rows(rows, 2000)
    assert [found.of(n) for n in range(1500, 6000, 7)] == [rows(n) for n in range(1500, 6000, 7)]
    assert found.of(found.least()) >= 1


def test_a_limit_of_rows_is_found() -> None:
    found = measure_rows(lambda steps: min(steps // 320 + 1, 1500), 16_000, far=960_000)
    assert (found, found.longest) == (Rows(320, 320, 1500), 479_680)
    assert (found.of(479_680), found.of(700_000)) == (1500, 1500)
    assert measure_rows(lambda steps: steps // 320 + 1, 16_000, far=960_000).longest is None


def test_rows_without_a_rule_are_refused() -> None:
    with pytest.raises(AsrbuildError, match="steps give"):
        measure_rows(lambda steps: steps * steps // 1000, 100)
    with pytest.raises(AsrbuildError, match="both give 7 rows"):
        measure_rows(lambda steps: 7, 100)


def test_a_kept_state_is_compared_with_the_output_of_the_original() -> None:
    names = ("state_c", "new_state_h", "other")
    compared = [compared_name(SIGNATURE.states, name) for name in names]
    assert compared == ["new_state_c", "new_state_h", "other"]


def test_sizes_are_those_of_the_weights() -> None:
    found = sized(window=19, coefficients=26, hidden=32, classes=29)
    assert [axis.size for axis in found.features.axes] == [1, None, 19, 26]
    assert [axis.size for axis in found.outputs[0].axes] == [None, 1, 29]
    assert {axis.size for port in found.outputs[1:] for axis in port.axes} == {1, 32}
