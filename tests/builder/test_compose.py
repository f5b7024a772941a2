"""Overrides from a shell, against Hydra's own parser."""

from __future__ import annotations

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from asrbuild.base.errors import AsrbuildError
from asrbuild.builder.overrides import readable

PARSER = OverridesParser.create()
#: What paths are made of, with much of what Hydra's grammar stumbles over.
values = st.text(st.sampled_from("ab1é☃ /\\~=,'\"()[]{}#&;!$:@._-"), min_size=1)


@settings(deadline=None)
@given(values)
def test_a_value_that_hydra_cannot_read_is_taken_word_for_word(value: str) -> None:
    override = f"source.path={value}"
    try:
        parsed = PARSER.parse_override(override)
    except HydraException:
        assume(value[0] not in "[{'\"")  # begun as a list or a quote: its own error is better
        (given_to_hydra,) = readable([override], sweep=False)
        assert PARSER.parse_override(given_to_hydra).value() == value
        return
    if parsed.is_sweep_override():
        with pytest.raises(AsrbuildError, match="several values"):
            readable([override], sweep=False)
    else:
        assert readable([override], sweep=False) == [override]


@pytest.mark.parametrize(
    ("override", "read"),
    [
        ("source.path=é,b c,~/d", ["é", "b c", "~/d"]),
        ("n_steps=16,32", [16, 32]),
        ("n_steps=range(1,4)", [1, 2, 3]),
    ],
)
def test_a_sweep_keeps_its_values_apart(override: str, read: list[object]) -> None:
    (given_to_hydra,) = readable([override], sweep=True)
    sweep = PARSER.parse_override(given_to_hydra)
    assert sweep.is_sweep_override()
    assert [getattr(v, "text", v) for v in sweep.sweep_iterator(lambda v: v)] == read
