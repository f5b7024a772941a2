"""Overrides from a shell, compared with Hydra's parser."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException
from hypothesis import assume, given, settings, strategies as st

from asrbuild.base.errors import AsrbuildError
from asrbuild.builder import config_folders
from asrbuild.builder.compose import compose_recipe
from asrbuild.builder.explain import explain
from asrbuild.builder.overrides import readable

PARSER = OverridesParser.create()
#: Characters of paths, many of which are special in Hydra's grammar.
values = st.text(st.sampled_from("ab1é☃ /\\~=,'\"()[]{}#&;!$:@._-"), min_size=1)


@settings(deadline=None)
@given(values)
def test_a_value_that_hydra_cannot_parse_is_taken_literally(value: str) -> None:
    override = f"source.path={value}"
    try:
        parsed = PARSER.parse_override(override)
    except HydraException:
        assume(value[0] not in "[{'\"")  # begins as a list or a quote: Hydra's own error is better
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
def test_a_sweep_separates_its_values(override: str, read: list[object]) -> None:
    (given_to_hydra,) = readable([override], sweep=True)
    sweep = PARSER.parse_override(given_to_hydra)
    assert sweep.is_sweep_override()
    assert [getattr(v, "text", v) for v in sweep.sweep_iterator(lambda v: v)] == read


def test_a_key_below_a_section_that_is_null_is_refused_by_name() -> None:
    with pytest.raises(AsrbuildError) as error:
        compose_recipe(["decoder.tuned.wer=0.1"])
    assert error.value.message == "decoder.tuned is null, so decoder.tuned.wer cannot be set alone"
    assert error.value.key == "decoder.tuned.wer"


def test_a_launcher_that_is_not_installed_is_explained_by_its_extra() -> None:
    for launcher, extra in (("joblib", "joblib"), ("submitit_slurm", "submitit")):
        lacking = MissingConfigException("?", f"hydra/launcher/{launcher}", ["basic", "ray"])
        error = explain(lacking, [])
        assert f"the extra {extra}" in error.message
        assert error.key == "hydra/launcher"
    unknown = explain(MissingConfigException("?", "hydra/launcher/nope", ["basic"]), [])
    assert unknown.fix == "choose one of basic"


def test_a_folder_of_many_files_is_not_a_config_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config_folders, "_MOST_FILES", 3)
    for number in range(4):
        (tmp_path / f"{number}.txt").touch()
    with pytest.raises(AsrbuildError, match="has more than 3 files and folders") as error:
        config_folders.check_folders(["--config-dir", str(tmp_path), "model=static"])
    assert error.value.file == str(tmp_path)
