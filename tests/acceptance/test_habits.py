"""Habits of every command: its examples run as printed, and an option has one name."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

import pytest

from asrbuild.base.errors import AsrbuildError
from asrbuild.cli.main import dispatch
from asrbuild.cli.tree import PANELS, Group
from tests.acceptance.conftest import Workshop
from tests.command import run_main

#: Commands whose examples run first, because other examples use their results.
FIRST = ("build", "export", "key new", "bundle", "ship")
LAST = ("channel rollback", "channel rotate", "key distrust", "cache remove")
#: Examples that this machine cannot run, and what they require.
ELSEWHERE = {
    "decoder install": "Python 3.9 from a network",
    "coreai install": "a package from a network",
    "coreai remove": "the environment that other tests use",
    "evidence add": "what a device measured",
    "evidence show": "what a device measured",
    "evidence compare": "what devices measured",
}


def functions() -> Iterator[tuple[str, Callable[..., object]]]:
    """Each command and its function."""
    for entries in PANELS.values():
        for name, entry in entries.items():
            commands = entry.commands if isinstance(entry, Group) else {"": entry}
            for command, where in commands.items():
                module, _, attribute = where.partition(".")
                found = getattr(import_module(f"asrbuild.cli.{module}"), attribute)
                yield f"{name} {command}".strip(), found


def examples() -> dict[str, list[str]]:
    """Command -> the lines below ``Examples:`` in its help, continued lines joined."""
    found = {}
    for name, function in functions():
        _, _, text = (function.__doc__ or "").partition("Examples:\n")
        found[name] = [
            line.strip() for line in text.replace("\\\n", " ").splitlines() if line.strip()
        ]
    return found


def test_every_command_has_examples_that_fit_a_terminal() -> None:
    assert [name for name, lines in examples().items() if not lines] == []
    for name, function in functions():
        for line in (function.__doc__ or "").partition("Examples:\n")[2].splitlines():
            assert len(line) <= 82, f"{name}: {line}"  # the width of 80 columns, less the indent


def test_examples_run_as_they_are_printed(
    workshop: Workshop,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """They run in one folder, after ``asrbuild model=dynamic`` and ``model=static``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ASRBUILD_CONFIG", str(tmp_path / "config"))
    monkeypatch.setenv("ASRBUILD_CACHE", str(workshop.folder / ".asrbuild" / "cache"))
    shutil.copytree(workshop.artifacts, tmp_path / "artifacts", symlinks=True)

    def run(line: str) -> None:
        words = shlex.split(line.partition(" > ")[0])
        assert words[0] == "asrbuild", line
        try:
            code = dispatch(words[1:])
        except AsrbuildError as error:
            pytest.fail(f"{line}\n{error}")
        out = capsys.readouterr()
        # `status` exits with 1 where the runtime is not installed.
        assert code == 0 or " status" in line, f"{line}\n{out.out}{out.err}"

    lines = {name: each for name, each in examples().items() if name not in ELSEWHERE}
    for name in [*FIRST, *(set(lines) - {*FIRST, *LAST}), *LAST]:
        if name == "channel rollback":
            run("asrbuild model=static version=1.1.0")
            run("asrbuild ship demo-static-mlprogram remote --channel beta")
        for line in lines[name]:
            if "--identity" in line:
                continue  # requires Sigstore's servers
            run(line)
            if line == "asrbuild key new release":
                shutil.copyfile(tmp_path / "config" / "keys" / "release.pub", "release.pub")


def test_former_spellings_work(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASRBUILD_ARTIFACTS", str(workshop.artifacts))
    assert (
        dispatch(["app", "demo-static-mlprogram", "--out", str(tmp_path / "k"), "--no-check"]) == 0
    )
    assert (tmp_path / "k" / "ASRKit").is_dir()
    assert dispatch(["gc", "--newer=1d", "--cache-older", "1d"]) == 0
    assert dispatch(["cache", "clear", "--older-than", "3650d"]) == 0


def test_an_option_has_one_name_and_one_kind_of_value() -> None:
    """Options for a remote, an output, an age, a size and data are the same in all commands."""
    from typer.main import get_command

    from asrbuild.cli.tree import typer_app

    kinds: dict[str, set[str]] = {}

    def walk(command: object) -> None:
        for each in getattr(command, "commands", {}).values():
            walk(each)
        for option in getattr(command, "params", ()):
            if option.opts[0].startswith("--") and option.name != "help":
                kinds.setdefault(option.opts[0], set()).add(option.display_type_rich(None))
                assert re.fullmatch(r"--[a-z-]+|-[a-z]", option.opts[-1])

    walk(get_command(typer_app()))
    several = {name: found for name, found in kinds.items() if len(found) > 1}
    assert several == {"--output": {"FILE", "FOLDER"}}
    assert kinds["--remote"] == {"REMOTE"}
    assert kinds["--data"] == {"DATA"}
    assert kinds["--newer-than"] == kinds["--older-than"] == kinds["--expires"] == {"AGE"}
    assert kinds["--cache-size"] == kinds["--max-size"] == {"SIZE"}
    assert kinds["--json"] == {None}
    known = {None, "NUMBER", "FILE", "FOLDER"}
    assert not {kind for found in kinds.values() for kind in found if kind not in known} & {
        "TEXT",
        "STR",
        "INT",
        "PATH",
        "BOOL",
    }


def test_help_names_arguments_in_capitals_and_gives_flags_no_value(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert dispatch(["ship", "--help"]) == dispatch(["channel", "set", "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "asrbuild ship [OPTIONS] ARTIFACT... REMOTE" in shown
    assert "asrbuild channel set [OPTIONS] NAME CHANNEL VERSION" in shown
    assert "<" not in shown
    assert "{" not in shown
    assert dispatch(["--help"]) == 0
    assert "--version Print the version." in " ".join(capsys.readouterr().out.split())


def test_exit_codes_of_a_wrong_command_line_are_documented(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """docs/settings.md lists them; a lone word may be a recipe that lacks its ``=``."""
    for line, code in (("nonsense", 1), ("channel nonsense", 2), ("ls --none", 2), ("verify", 2)):
        assert run_main(line.split(), monkeypatch, capfd)[0] == code, line


@pytest.mark.parametrize(
    ("line", "fix"),
    [
        ("ls --remote s3//bucket", "write s3://bucket"),
        ("ls --remote S3:/bucket/x", "write s3://bucket/x"),
        ("ls --remote https:host", "write https://host"),
        ("ls --remote demo.asbr", "write demo.asrb"),
        ("app demo-static-mlprogram -o kit.zip", "write --output kit"),
        ("pull demo --remote oci//host/x", "write oci://host/x"),
    ],
)
def test_a_mistyped_address_does_not_create_a_folder(
    workshop: Workshop, line: str, fix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ASRBUILD_ARTIFACTS", str(workshop.artifacts))
    with pytest.raises(AsrbuildError) as raised:
        dispatch(line.split())
    assert fix in f"{raised.value.fix}"
    assert list(tmp_path.iterdir()) == []


def test_every_target_of_coremltools_is_known() -> None:
    import coremltools

    from asrbuild.coreml.choices import SAME_TARGETS, SPECIFICATION_VERSIONS

    ours = {**SPECIFICATION_VERSIONS}
    ours |= {name: SPECIFICATION_VERSIONS[target] for name, target in SAME_TARGETS.items()}
    theirs = {name: target.value for name, target in coremltools.target.__members__.items()}
    del theirs["macOS10_16"]  # a second name of macOS 11
    assert ours == theirs
