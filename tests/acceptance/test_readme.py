"""The tour of the README runs line by line, in order, in an empty folder."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.paths import ROOT, SAMPLE_TEXT
from tests.readme import README, commands, section


def run(line: str, folder: Path) -> str:
    """Runs a line as printed, with this environment's ``asrbuild``; returns its output."""
    own = {
        name: str(folder.parent / name.lower()) for name in ("ASRBUILD_CONFIG", "ASRBUILD_STATE")
    }
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, **own, "PATH": path, "COLUMNS": "80"}
    done = subprocess.run(
        line,
        shell=True,
        executable="/bin/bash",
        cwd=folder,
        env={
            k: v
            for k, v in environment.items()
            if k not in ("ASRBUILD_CACHE", "ASRBUILD_ARTIFACTS")
        },
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, f"{line}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def test_the_tour_runs_as_printed(tmp_path: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    lines = commands(section("A tour"))
    outputs = {line: run(line, folder) for line in lines}
    assert len(lines) >= 15
    assert {shlex.split(line)[0] for line in lines} == {"asrbuild"}
    heard = next(text for line, text in outputs.items() if " transcribe " in line)
    assert SAMPLE_TEXT in " ".join(heard.split())
    assert (folder / "rates.html").stat().st_size > 10_000
    assert (folder / "app" / "ASRKit" / "Package.swift").exists()


def test_the_python_example_and_the_notebook_run(tmp_path: Path) -> None:
    found = re.search(r"^```python\n(.*?)^```$", section("From Python"), re.DOTALL | re.MULTILINE)
    assert found is not None
    (tmp_path / "example.py").write_text(found[1], encoding="utf-8")
    output = run("python example.py", tmp_path)
    assert SAMPLE_TEXT in output
    assert "finished prove" in output

    notebook = json.loads((ROOT / "examples" / "from_python.ipynb").read_text("utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(ids) == len(set(ids))
    code = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    (tmp_path / "notebook.py").write_text("\n".join(code), encoding="utf-8")
    output = run("python notebook.py", tmp_path)
    assert f"\n{SAMPLE_TEXT}\n" in output
    assert re.search(r"^   16  \d\.\d\d  .*0%$", output, re.MULTILINE)
    assert "prove      cached" in output
    assert "n_step" in output.splitlines()[-1]


def test_the_first_commands_are_those_of_ci() -> None:
    first, hear, tests = commands(README)[:3]
    assert first == "pip install uv && uv run asrbuild model=dynamic"
    assert hear == "uv run asrbuild transcribe demo-dynamic-mlprogram demo:sample.wav"
    assert tests == "pip install uv && uv run --group dev pytest"
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert 'run="$uv run --group dev"' in script
    assert "$run pytest\n" in script


PAGES = {"README.md": README.partition("## What it replaces")[2]} | {
    page.name: page.read_text(encoding="utf-8") for page in sorted((ROOT / "docs").glob("*.md"))
}


@pytest.mark.parametrize("page", [page for page, text in PAGES.items() if commands(text)])
def test_commands_outside_of_the_tour_parse(page: str) -> None:
    """In lines that require own files, a bucket or a key, each command, option and key exists."""
    from typer.main import get_command

    from asrbuild.cli.tree import typer_app

    tree = get_command(typer_app())
    lines = "\n".join(commands(PAGES[page])).replace("\\\n", " ").splitlines()
    for line in lines:
        program, *words = shlex.split(line.split(" #")[0])
        if program != "asrbuild":
            assert program in ("pip", "uv", "python", "mkdir"), line
            continue
        own = "--config-dir" in words  # a folder of the reader, with other choices
        overrides = [word for word in words if "=" in word and not word.startswith("-")]
        if words[0].startswith("-") or "=" in words[0]:
            assert own or all(map(is_override, overrides)), line
            continue
        command = tree
        while words and words[0] in getattr(command, "commands", {}):
            command = command.commands[words.pop(0)]
        assert command is not tree, line
        command = getattr(command, "commands", {}).get("file", command)  # of `inspect`
        known = {name for option in command.params for name in option.opts}
        for word in words:
            if word.startswith("-") and word != "-":
                assert word.partition("=")[0] in known or command.name == "plan", line
        if command.name in ("export", "plan"):
            assert all(map(is_override, overrides)), line


def is_override(text: str) -> bool:
    """Whether a recipe has this key, or this group all these choices."""
    from asrbuild.builder.recipe import recipe_keys

    key, _, value = text.lstrip("+").partition("=")
    free = (
        "hydra",
        "source.config.",
        "coreml.compress_layers.",
        "decoder.hot_words.",
        "model.functions.",
    )
    group = ROOT / "conf" / key
    if group.is_dir():
        return all((group / f"{choice}.yaml").exists() for choice in value.split(","))
    return key in recipe_keys() or key.startswith(free)
