"""The declared facts of a network: what is carried, and what is refused by name."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest

from asrbuild.architectures.deepspeech.signature import SIGNATURE, sized
from asrbuild.base.errors import AsrbuildError
from asrbuild.coreml.signature import check_carried, compared_name

LOG = replace(SIGNATURE.outputs[0], meaning="log_probabilities")


@pytest.mark.parametrize(
    ("changed", "fact"),
    [
        ({"rows_per_step": Fraction(1, 4)}, "rows_per_step 1/4"),
        ({"causal": False}, "causal False"),
        ({"blank": 0}, "blank 0"),
        ({"front_end": "package"}, "front_end package"),
        ({"outputs": (LOG, *SIGNATURE.outputs[1:])}, "log_probabilities"),
        ({"labels": "pieces"}, "labels are pieces"),
    ],
)
def test_a_fact_that_a_package_cannot_carry_yet_is_refused(
    changed: dict[str, Any], fact: str
) -> None:
    check_carried(SIGNATURE)
    with pytest.raises(AsrbuildError, match=fact) as caught:
        check_carried(replace(SIGNATURE, **changed))
    assert (caught.value.key, bool(caught.value.fix)) == ("source.kind", True)


def test_a_kept_state_is_compared_with_the_output_of_the_original() -> None:
    names = ("state_c", "new_state_h", "other")
    compared = [compared_name(SIGNATURE.states, name) for name in names]
    assert compared == ["new_state_c", "new_state_h", "other"]


def test_sizes_are_those_of_the_weights() -> None:
    found = sized(window=19, coefficients=26, hidden=32, classes=29)
    assert [axis.size for axis in found.features.axes] == [1, None, 19, 26]
    assert [axis.size for axis in found.outputs[0].axes] == [None, 1, 29]
    assert {axis.size for port in found.outputs[1:] for axis in port.axes} == {1, 32}
