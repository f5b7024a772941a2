"""Config folders and pickled jobs: nothing in them runs code or fills the memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from asrbuild.base.errors import AsrbuildError
from asrbuild.builder.compose import compose_recipe
from asrbuild.builder.config_folders import check_folders
from tests.acceptance.conftest import refusal


@pytest.mark.parametrize(
    ("file", "text", "key"),
    [
        ("model/mine.yaml", "# @package _global_\nhydra: {callbacks: {x: {_target_: a}}}", "hydra"),
        ("model/mine.yaml", "# @package hydra.callbacks.x\n_target_: builtins.open", "hydra"),
        ("model/mine.yaml", "defaults: [/decoder@hydra.callbacks: nice]", "/decoder@hydra"),
        ("model/mine.yaml", "defaults: [override /hydra/launcher: mine]", "hydra/launcher"),
        ("model/mine.yaml", '"\\x68ydra": {job: {env_set: {LD_PRELOAD: x}}}', "hydra"),
        ("hydra/job_logging/mine.yaml", "version: 1", "hydra"),
        ("decoder/mine.yaml", "interpreter: ./evil.sh", "decoder.interpreter"),
        ("source/mine.yaml", "a: [{_target_: os.system}]", "_target_"),
        ("source/mine.yaml", "# @package paths\nenv: [SECRET]", "paths.env"),
    ],
)
@pytest.mark.parametrize("flag", ["--config-dir", "--config-path="])
def test_a_config_folder_that_could_run_code_is_refused(
    tmp_path: Path, file: str, text: str, key: str, flag: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASRBUILD_TRUST_CONFIG", "")  # the flag sets these
    path = tmp_path / "conf" / file
    path.parent.mkdir(parents=True)
    path.write_text(text + "\n")
    folder = str(tmp_path / "conf")
    given = [flag + folder] if flag.endswith("=") else [flag, folder]
    error = refusal("build", *given, "model=static")
    assert "not for a folder to decide" in error.message
    assert key in str(error.key)
    assert error.file == str(path)
    assert check_folders([*given, "model=static", "--trust-config"]) == [*given, "model=static"]


_BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (_BOMB, "more than 10,000 values"),
        (_BOMB.replace("x,x", "x, {<<: {a: 1}}"), "more than 10,000 values"),
        (_BOMB[: _BOMB.index("\nf: ")], "more than 10,000 values"),
        ("name: " + "${" * 5000, "more than 10,000 values"),
        ("name: &a [*a]", "the value &a holds itself"),
        ("name: &a {b: {c: *a}}", "the value &a holds itself"),
        ("name: " + "[" * 5000 + "]" * 5000, "nested more than 100 deep"),
        ("#" * (1 << 20) + "\nname: a", "more than 1048576 bytes"),
        ("name: [", "not YAML"),
    ],
)
def test_a_config_file_without_end_is_refused_before_it_is_expanded(
    tmp_path: Path, text: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "conf"
    (folder / "model").mkdir(parents=True)
    path = folder / "model" / "mine.yaml"
    path.write_text(text + "\n")
    for given in (["--config-dir", str(folder)], [f"hydra.searchpath=[{folder}]"]):
        error = refusal("build", *given, "model=mine")
        assert message in error.message
        assert error.file == str(path)
    monkeypatch.setenv("ASRBUILD_TRUST_CONFIG", "1")
    with pytest.raises(AsrbuildError, match=message):
        compose_recipe(["model=mine"], str(folder))


@pytest.mark.parametrize(
    ("asked", "made"),
    [
        # These lead through a link of the folder, and out of the folder.
        ("decoder=sub/evil", {}),
        ("decoder=../../elsewhere/evil", {}),
        # SafeLoader does not read these, but Hydra's loader does.
        ("decoder=mine", {"decoder/mine": "d: 2020-13-45\ninterpreter: ./evil.sh"}),
        (
            "decoder=mine",
            {
                "decoder/mine": "d: !!python/object/apply:pathlib.PosixPath [x]\n"
                "interpreter: ./evil.sh"
            },
        ),
        # Hydra takes the last header, and joins a package from pieces.
        ("model=mine", {"model/mine": "# @package _global_\n# @package hydra.job\nchdir: true"}),
        ("model=dra", {"model/dra": "# @package hy_name_.job\nchdir: true"}),
        (
            "model=mine",
            {"model/mine": "defaults: [{'/model@_global_.hy_name_': dra}]", "model/dra": "a: 1"},
        ),
    ],
)
def test_the_check_of_a_config_folder_cannot_be_bypassed(
    tmp_path: Path, asked: str, made: dict[str, str]
) -> None:
    for name, text in {"../elsewhere/evil": "interpreter: ./evil.sh", **made}.items():
        path = tmp_path / "conf" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    (tmp_path / "conf" / "decoder").mkdir(exist_ok=True)
    (tmp_path / "conf" / "decoder" / "sub").symlink_to("../../elsewhere")
    for given in (
        ["--config-dir", str(tmp_path / "conf")],
        [f"hydra.searchpath=[{tmp_path / 'conf'}]"],
    ):
        error = refusal("build", *given, asked)
        assert "not for a folder to decide" in error.message
    with pytest.raises(AsrbuildError, match="not for a folder to decide"):
        compose_recipe([asked], str(tmp_path / "conf"))


def test_a_pickled_job_is_not_run_again(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    (tmp_path / "job.pickle").write_bytes(b"cos\nsystem\n(S'touch %s'\ntR." % str(ran).encode())
    error = refusal("build", "--experimental-rerun", str(tmp_path / "job.pickle"))
    assert error.key == "--experimental-rerun"
    assert not ran.exists()
