"""The reference of commands, from the functions that run them."""

from __future__ import annotations

import inspect
from typing import Any


def page() -> str:
    """Every command with its help, arguments and options."""
    from typer.main import get_command

    from asrbuild.cli.tree import PANELS, Group, typer_app

    tree: Any = get_command(typer_app())
    lines = [
        "# Commands",
        "",
        "An argument that is not a command is an override of a [recipe's key](keys.md), "
        "and builds: `asrbuild model=static n_steps=32`.",
        "",
    ]
    for panel, entries in PANELS.items():
        lines += [f"## {panel}", ""]
        for name, entry in entries.items():
            command = tree.commands[name]
            if not isinstance(entry, Group):
                lines += section(name, command)
                continue
            for inner in entry.commands:
                lines += section(f"{name} {inner}", command.commands[inner])
    return "\n".join(lines)


def section(name: str, command: Any) -> list[str]:
    """One command."""
    help_text, _, examples = command.help.partition("\b\n")
    lines = [f"### asrbuild {name}", "", plain(help_text).strip(), ""]
    if examples:
        typed = inspect.cleandoc(examples.partition("\n")[2])
        lines += ["```sh", *(line.removeprefix("  ") for line in typed.splitlines()), "```", ""]
    rows = [row(each) for each in command.params if each.name != "help"]
    if rows:
        lines += [
            "| argument or option | meaning | takes | default |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    return lines


def row(parameter: Any) -> str:
    """One argument or option."""
    option = parameter.opts[0].startswith("-")
    names = ", ".join(f"`{each}`" for each in (*parameter.opts, *parameter.secondary_opts))
    shown = names if option else f"`{parameter.metavar or parameter.name.upper()}`"
    takes = (parameter.display_type_rich(None) or "") if option else ""
    default = parameter.default
    given = "" if default in (None, False) else f"`{default}`"
    meaning = plain(parameter.help or "").replace("|", "\\|")
    return f"| {shown} | {meaning} | {takes} | {'required' if parameter.required else given} |"


def plain(text: str) -> str:
    """The text of a help, with HTML escaped for Markdown."""
    return text.replace("<", "&lt;")
