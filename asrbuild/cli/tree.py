"""The tree of commands, their panels in ``--help``, and the function that runs a command."""

from __future__ import annotations

import difflib
import functools
import inspect
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from asrbuild.base import terminal
from asrbuild.base.errors import AsrbuildError, MisuseError
from asrbuild.base.version import __version__


@dataclass(frozen=True)
class Group:
    """Commands with a common first word; ``commands`` is as in :data:`PANELS`."""

    help: str
    commands: Mapping[str, str]


#: Panel of ``--help`` -> command -> its function, as a module of asrbuild.cli and a name in it.
PANELS: dict[str, dict[str, str | Group]] = {
    "Build": {
        "build": "build.build",
        "plan": "plan.plan",
        "export": "export.export",
        "gc": "gc.gc",
        "cache": Group(
            "The stage cache: list, explain, remove.",
            {"ls": "cache.ls", "why": "plan.why", "remove": "cache.remove"},
        ),
    },
    "Look and compare": {
        "ls": "ls.ls",
        "show": "show.show",
        "diff": "diff.diff",
        "report": "report.report",
        "fit": "fit.fit",
        "schema": "schema.schema",
        "inspect": Group(
            "Look inside a model, a package or a scorer.",
            {
                "file": "inspect_file.inspect_file",
                "graph": "inspect_graph.inspect_graph",
                "model": "inspect_model.inspect_model",
                "source": "inspect_source.inspect_source",
                "scorer": "scorer.inspect_scorer",
            },
        ),
    },
    "Try and measure": {
        "transcribe": "transcribe.transcribe",
        "verify": "verify.verify",
        "evaluate": "evaluate.evaluate",
        "run": "run.run",
        "scorer": Group("Language model scorers.", {"build": "scorer.build"}),
        "decoder": Group(
            "The original ds-ctcdecoder.",
            {"install": "decoder.install", "status": "decoder.status"},
        ),
    },
    "Hand over": {
        "app": "app.app",
        "ship": "ship.ship",
        "bundle": "bundle.bundle",
        "pull": "pull.pull",
        "variants": "variants.variants",
        "channel": Group(
            "A remote's signed pointers: stable, beta, ...",
            {
                "set": "channel.set_",
                "history": "channel.history",
                "rollback": "channel.rollback",
                "rotate": "channel.rotate",
            },
        ),
        "evidence": Group(
            "What devices measured: plan, times, memory, outputs.",
            {
                "kit": "evidence.kit",
                "add": "evidence.add",
                "ls": "evidence.ls",
                "show": "evidence.show",
                "compare": "evidence.compare",
            },
        ),
        "key": Group(
            "Keys that sign bundles, and keys to trust.",
            {
                "new": "key.new",
                "ls": "key.ls",
                "trust": "key.trust",
                "distrust": "key.distrust",
            },
        ),
    },
    "This machine": {
        "doctor": "doctor.doctor",
        "completion": "completion.completion",
        "coreai": Group(
            "Apple's Core AI runtime, which witnesses proofs.",
            {
                "install": "coreai.install",
                "status": "coreai.status",
                "remove": "coreai.remove",
            },
        ),
    },
}
COMMANDS = tuple(name for entries in PANELS.values() for name in entries)
#: Former spelling of an option or command -> the present one.
FORMER_OPTIONS = {
    "--out": "--output",
    "--output-dir": "--output",
    "--page": "--output",
    "--from": "--remote",
    "--at": "--remote",
    "--newer": "--newer-than",
    "--cache-older": "--cache-older-than",
    "--max-bytes": "--max-size",
}
_FORMER_COMMANDS = {"cache clear": ["cache", "remove"]}
#: Pattern in Typer's messages on a value of the wrong kind -> plain English.
_PLAINER = (
    (r"Input should be a valid integer.*", "it is not a whole number"),
    (r"Input should be a valid number.*", "it is not a number"),
    (r"Input should be", "it must be"),
)
#: Functions whose arguments are parsed by Hydra.
_TAKE_OVERRIDES = ("build.build", "plan.plan", "plan.why", "export.export")


@functools.cache
def typer_app(only: str | None = None) -> typer.Typer:
    """The commands as a Typer application.

    Args:
        only: the one command or group to import; None: all, as ``--help`` needs them.
    """
    app = typer.Typer(
        name="asrbuild",
        cls=_classes()[1],
        no_args_is_help=True,
        rich_markup_mode="rich",
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        epilog="An argument that is not a command is a Hydra override of [bold]build[/bold]: "
        "[cyan]asrbuild model=static n_steps=32[/cyan]. Add [cyan]--debug[/cyan] for tracebacks.",
    )
    app.callback()(_root)
    for panel, entries in PANELS.items():
        for name, entry in entries.items():
            if only not in (None, name):
                continue
            if isinstance(entry, str):
                _add(app, name, entry, panel)
                continue
            group = typer.Typer(cls=_classes()[1], no_args_is_help=True, help=entry.help)
            for command, function in entry.commands.items():
                _add(group, command, function, None)
            app.add_typer(group, name=name, rich_help_panel=panel)
    return app


def takes_overrides(command: str) -> bool:
    """Whether the arguments of a command, such as ``cache why``, are overrides of a recipe."""
    return command in ("build", "plan", "cache why", "export")


def _paragraph(text: str) -> str:
    """A paragraph of a docstring as one line; examples keep their lines, with Typer's mark."""
    if text.startswith("Examples:\n"):
        return "\b\n" + text.replace("\n    ", "\n  ")
    return " ".join(text.split())


def _add(to: typer.Typer, name: str, where: str, panel: str | None) -> None:
    """Adds a command; its docstring is the help, each paragraph one line."""
    module, _, attribute = where.partition(".")
    function: Callable[..., Any] = getattr(import_module(f"asrbuild.cli.{module}"), attribute)
    paragraphs = inspect.cleandoc(function.__doc__ or "").split("\n\n")
    text = "\n\n".join(map(_paragraph, paragraphs))
    settings = {"ignore_unknown_options": True} if where in _TAKE_OVERRIDES else None
    to.command(
        name, help=text, rich_help_panel=panel, context_settings=settings, cls=_classes()[0]
    )(function)


@functools.cache
def _classes() -> tuple[type[Any], type[Any]]:
    """Typer's classes of a command and of a group, with readable names and kinds in their help."""
    from typer.core import TyperArgument, TyperCommand, TyperGroup

    def shown(parameters: list[Any]) -> list[Any]:
        for parameter in parameters:
            argument = isinstance(parameter, TyperArgument)
            kind = None if argument else _kind(parameter)
            parameter.display_type_rich = functools.partial(_shown, kind)
            if argument:
                name = parameter.metavar or parameter.name.upper()
                more = "..." * (parameter.nargs != 1 and not name.endswith("..."))
                parameter.metavar = name + more
                usage = parameter.metavar if parameter.required else f"[{parameter.metavar}]"
                parameter.get_usage_pieces = functools.partial(_shown, [usage])
        return parameters

    class Command(TyperCommand):
        def __init__(self, *arguments: Any, **settings: Any) -> None:
            super().__init__(*arguments, **settings)
            shown(self.params)

        def get_params(self, ctx: Any) -> list[Any]:
            return shown(super().get_params(ctx))

    class Group(TyperGroup):
        def get_params(self, ctx: Any) -> list[Any]:
            return shown(super().get_params(ctx))

    return Command, Group


def _shown(shown: Any, ctx: Any) -> Any:
    return shown


def _kind(option: Any) -> str | None:
    """The kind of an option's value: ``NUMBER``, ``FOLDER``; None for one without a value."""
    described = option.type_descriptor
    if option.is_flag:
        return None
    if option.metavar:
        return str(option.metavar)
    if described.is_path:
        return "FOLDER" if described.path_type == "dir" else "FILE"
    text = str(described.annotation)
    if described.is_ranged or "int" in text or "float" in text:
        return "NUMBER"
    longest: str = max(option.opts, key=len)
    return longest.rpartition("-")[2].upper()


def _print_version(value: bool) -> None:
    if value:
        terminal.say(f"asrbuild {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Build, prove and publish Core ML speech recognition models from a config.

    [bold]asrbuild model=dynamic[/bold]  builds the embedded DeepSpeech demo for any length

    [bold]asrbuild model=static n_steps=32 coreml.precision=fp32[/bold]  overrides any key

    [bold]asrbuild -m model=static,dynamic coreml=mlprogram,neuralnetwork[/bold]  sweeps

    [bold]asrbuild --cfg job model=static[/bold]  prints the composed config
    """


#: Typer's exit code after Ctrl-C in a command, without a message.
INTERRUPTED = 130


def run_command(argv: list[str]) -> int:
    """Runs one command and returns its exit code.

    Raises:
        MisuseError: there is no such command, or it does not accept these arguments.
        KeyboardInterrupt: the user interrupted it.
    """
    if argv and argv[0] not in COMMANDS and not argv[0].startswith("-"):
        close = difflib.get_close_matches(argv[0], COMMANDS, n=1)
        raise AsrbuildError(
            f"{argv[0]} is neither a command nor an override",
            fix=f"did you mean `asrbuild {close[0]}`?" if close else "see `asrbuild --help`",
        )
    app = typer_app(argv[0] if argv and argv[0] in COMMANDS else None)
    try:
        result = app(with_file(_present(argv)), standalone_mode=False, prog_name="asrbuild")
    except typer.Exit as asked:
        return int(asked.exit_code)
    except typer.Abort:
        raise KeyboardInterrupt from None
    except Exception as error:
        # Typer has its own copy of Click, so attributes identify its exceptions.
        if hasattr(error, "format_message") and hasattr(error, "exit_code"):
            return _misused(error)
        raise
    if result == INTERRUPTED:
        raise KeyboardInterrupt
    return result if isinstance(result, int) else 0


def _present(argv: list[str]) -> list[str]:
    """The arguments, with former spellings replaced by the present ones."""
    if argv[:1] == ["plan"]:
        return argv
    words = []
    for word in [*_FORMER_COMMANDS.get(" ".join(argv[:2]), argv[:2]), *argv[2:]]:
        option, equals, value = word.partition("=")
        words.append(f"{FORMER_OPTIONS.get(option, option)}{equals}{value}")
    return words


def with_file(argv: list[str]) -> list[str]:
    """Rewrites ``inspect FILE`` as ``inspect file FILE``."""
    inspect_group = PANELS["Look and compare"]["inspect"]
    assert isinstance(inspect_group, Group)
    if argv[:1] != ["inspect"] or len(argv) < 2 or argv[1] in inspect_group.commands:
        return argv
    return ["inspect", "file", *argv[1:]] if _names_file(argv[1]) else argv


def _names_file(argument: str) -> bool:
    path = Path(argument)
    return not argument.startswith("-") and (
        bool(path.suffix) or os.sep in argument or path.exists()
    )


def _misused(error: Any) -> int:
    """Reports a wrong command line; a group without a command shows its help."""
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        return int(error.exit_code)
    command = getattr(getattr(error, "ctx", None), "command_path", "asrbuild")
    message = error.format_message().rstrip(".")
    for theirs, ours in _PLAINER:
        message = re.sub(theirs, ours, message)
    raise MisuseError(
        f"{message[:1].lower()}{message[1:]}", fix=f"see `{command} --help`"
    ) from error
