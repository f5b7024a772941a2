"""Text of files, packages and remotes on a terminal: control characters have no effect."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, strategies as st
from rich.table import Table

from asrbuild.base import terminal
from asrbuild.handover.report.sweep import JobRecord, print_table

#: A title, a colour, a cleared screen (C1), a reversed direction, and Rich's markup.
HOSTILE = "\x1b]0;title\x07\x1b[31mred\x9b2J\u202e[/red][bold]"


@given(st.text(st.characters()))
def test_foreign_text_does_not_steer_a_terminal(text: str) -> None:
    shown = terminal.plain(text)
    assert not any(c != "\n" and (ord(c) < 32 or 127 <= ord(c) < 160) for c in shown)
    assert not set("\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069") & set(
        shown
    )
    shown.encode("utf-8")
    assert terminal.plain(shown) == shown


@pytest.mark.parametrize(
    "text",
    ["über den Wolken", "می\u200cشود", "क्\u200dष", "音声\u3000認識", "a\nb", "x=[1,2]", "🙂"],
)
def test_letters_of_all_languages_are_unchanged(text: str) -> None:
    assert terminal.plain(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [("\x1b[2J", "\\x1b[2J"), ("\x9b", "\\x9b"), ("\u202e", "\\u202e"), ("caf\udce9", "caf\\xe9")],
)
def test_control_characters_are_shown_as_escapes(text: str, shown: str) -> None:
    assert terminal.plain(text) == shown


@given(st.recursive(st.text(st.characters()) | st.integers(), lambda inner: st.lists(inner)))
def test_json_has_the_same_text_without_control_characters(value: object) -> None:
    with pytest.MonkeyPatch.context() as patched:
        lines: list[str] = []
        patched.setattr("sys.stdout", type("Out", (), {"write": lines.append, "flush": id}))
        patched.setattr("sys.stdout.flush", lambda: None)
        terminal.say_json(value)
    (line,) = lines
    assert json.loads(line) == value
    assert terminal.plain(line) == line


def test_a_table_shows_brackets_and_is_as_wide_as_it_measured(
    capsys: pytest.CaptureFixture[str],
) -> None:
    table = Table("name", "value")
    table.add_row(HOSTILE, "coreml.outputs=[logits]")
    table.add_row("plain", terminal.line(HOSTILE, "red"))
    terminal.console(width=160).print(table)
    shown = capsys.readouterr().out
    assert "[/red][bold]" in shown
    assert "coreml.outputs=[logits]" in shown
    assert "\\x1b]0;title\\x07" in shown
    assert terminal.plain(shown) == shown
    assert len({len(line) for line in shown.splitlines()}) == 1


def test_a_status_takes_brackets_and_escapes() -> None:
    with terminal.status(HOSTILE) as status:
        status.update(terminal.line(HOSTILE))


def job(*overrides: str, status: str = "built", error: str = "") -> JobRecord:
    number = 0 if status == "built" else 1
    return JobRecord(
        number,
        overrides,
        status,
        "n",
        "1.0.0+aaaaaaaaaaaa",
        "/x",
        1,
        {"psnr_db": 80.0},
        True,
        1.0,
        error,
    )


@pytest.mark.parametrize("override", ["source.description=[/b] x", "name='[/]'", "x=[red]y"])
def test_a_sweep_shows_overrides_with_brackets(
    override: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    failed = job(override, status="failed", error=f"{HOSTILE}\nsecond line")
    print_table([job("coreml.outputs=[logits,new_state_c]"), failed], "2 jobs", 1.0)
    shown = capsys.readouterr().out
    # A column for each key that differs, with the job's value.
    key, _, value = override.partition("=")
    header, *rows = (line.split("\t") for line in shown.splitlines()[1:4])
    assert [row[header.index(key)] for row in rows] == ["", value]
    assert [row[header.index("coreml.outputs")] for row in rows] == ["[logits,new_state_c]", ""]
    assert f"job 1 ({override}) failed:" in shown
    assert "[/red][bold]" in shown
    assert "  second line" in shown
    cells = shown.replace("\t", " ")  # a piped table has tabs between its cells
    assert terminal.plain(cells) == cells


def test_a_pipe_gets_whole_lines(capsys: pytest.CaptureFixture[str]) -> None:
    long = "not published: " + "/a/long/path" * 20
    terminal.console().print(long, style="red")
    assert capsys.readouterr().out == long + "\n"


def test_the_error_of_a_command_line_is_escaped(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from asrbuild.cli.main import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["asrbuild", "inspect", "graph", f"{HOSTILE}.pb"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    shown = capsys.readouterr().err
    assert "\\x1b]0;title\\x07" in shown
    assert "[/red][bold]" in shown
    assert terminal.plain(shown) == shown
