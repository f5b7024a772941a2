"""The tree of commands, their panels in ``--help``, and how a command runs."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

from asrbuild import __version__
from asrbuild.base import terminal
from asrbuild.base.errors import AsrbuildError, MisuseError

app = typer.Typer(
    name="asrbuild",
    no_args_is_help=True,
    rich_markup_mode="rich",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="An argument that is not a command is a Hydra override of [bold]build[/bold]: "
    "[cyan]asrbuild model=static n_steps=32[/cyan]. Add [cyan]--debug[/cyan] for tracebacks.",
)
inspect_app = typer.Typer(no_args_is_help=True, help="Look inside a graph, a package or a scorer.")
cache_app = typer.Typer(no_args_is_help=True, help="The stage cache: list, explain, clear.")
scorer_app = typer.Typer(no_args_is_help=True, help="Language model scorers.")
key_app = typer.Typer(no_args_is_help=True, help="Keys that sign bundles, and keys to trust.")
channel_app = typer.Typer(
    no_args_is_help=True, help="A remote's signed pointers: stable, beta, ..."
)
decoder_app = typer.Typer(no_args_is_help=True, help="The original ds-ctcdecoder.")


def _print_version(value: bool) -> None:
    if value:
        terminal.say(f"asrbuild {__version__}")
        raise typer.Exit


@app.callback()
def root(
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


def build_command(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="Hydra overrides and flags: key=value, group=choice, -m, --cfg job."),
    ] = None,
) -> None:
    """Build one recipe, or sweep several with -m.

    Groups: model (static, dynamic, dynamic_to_static, enumerated, multifunction), source (demo,
    checkpoint, frozen_graph), coreml (mlprogram, neuralnetwork), decoder (greedy, beam,
    ds_ctcdecoder), tune (none, scorer), verify (default, quick), export (deepspeech).

    Examples: asrbuild model=dynamic | asrbuild source=checkpoint source.checkpoint_dir=ckpt |
    asrbuild -m model=dynamic_to_static n_steps=16,32,64
    """
    from asrbuild.build.sweep import build_from_command_line

    raise typer.Exit(build_from_command_line(list(overrides or [])))


@functools.cache
def _register() -> None:
    """Attaches the commands; their modules import nothing heavy at the top."""
    from asrbuild.cli import app as app_folder
    from asrbuild.cli import (
        bundle,
        cache,
        channel,
        decoder,
        diff,
        doctor,
        evaluate,
        gc,
        inspect_graph,
        inspect_model,
        inspect_source,
        key,
        ls,
        plan,
        pull,
        report,
        run,
        schema,
        scorer,
        ship,
        show,
        transcribe,
        variants,
        verify,
    )

    overrides = {"ignore_unknown_options": True}
    _add(app, "build", build_command, context_settings=overrides)
    _add(app, "plan", plan.plan, context_settings=overrides)
    _add(app, "gc", gc.gc)
    _add(cache_app, "ls", cache.ls)
    _add(cache_app, "why", plan.why, context_settings=overrides)
    _add(cache_app, "clear", cache.clear)
    _add(app, "ls", ls.ls)
    _add(app, "show", show.show)
    _add(app, "diff", diff.diff)
    _add(app, "report", report.report)
    _add(app, "schema", schema.schema)
    _add(inspect_app, "graph", inspect_graph.inspect_graph)
    _add(inspect_app, "model", inspect_model.inspect_model)
    _add(inspect_app, "source", inspect_source.inspect_source)
    _add(inspect_app, "scorer", scorer.inspect_scorer)
    _add(app, "transcribe", transcribe.transcribe)
    _add(app, "verify", verify.verify)
    _add(app, "evaluate", evaluate.evaluate)
    _add(app, "run", run.run)
    _add(scorer_app, "build", scorer.build)
    _add(decoder_app, "install", decoder.install)
    _add(decoder_app, "status", decoder.status)
    _add(app, "app", app_folder.app)
    _add(app, "ship", ship.ship)
    _add(app, "bundle", bundle.bundle)
    _add(app, "pull", pull.pull)
    _add(app, "variants", variants.variants)
    _add(channel_app, "set", channel.set_)
    _add(channel_app, "history", channel.history)
    _add(channel_app, "rollback", channel.rollback)
    _add(channel_app, "rotate", channel.rotate)
    _add(key_app, "new", key.new)
    _add(key_app, "ls", key.ls)
    _add(key_app, "trust", key.trust)
    _add(key_app, "distrust", key.distrust)
    _add(app, "doctor", doctor.doctor)
    for name, group in GROUPS.items():
        app.add_typer(group, name=name, rich_help_panel=_panel(name))


def _add(to: typer.Typer, name: str, function: Callable[..., Any], **settings: Any) -> None:
    """Attaches a command; its docstring is the help, each paragraph as one line."""
    paragraphs = inspect.cleandoc(function.__doc__ or "").split("\n\n")
    text = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    panel = _panel(name) if to is app else None
    to.command(name, help=text, rich_help_panel=panel, **settings)(function)


def _panel(name: str) -> str:
    return next(panel for panel, names in PANELS.items() if name in names)


#: The panels of ``--help`` and the commands in each.
PANELS = {
    "Build": ("build", "plan", "gc", "cache"),
    "Look and compare": ("ls", "show", "diff", "report", "schema", "inspect"),
    "Try and measure": ("transcribe", "verify", "evaluate", "run", "scorer", "decoder"),
    "Hand over": ("app", "ship", "bundle", "pull", "variants", "channel", "key"),
    "This machine": ("doctor",),
}
COMMANDS = tuple(name for names in PANELS.values() for name in names)
GROUPS = {
    "inspect": inspect_app,
    "cache": cache_app,
    "scorer": scorer_app,
    "decoder": decoder_app,
    "channel": channel_app,
    "key": key_app,
}


#: Typer's exit code after Ctrl-C in a command, without a message.
INTERRUPTED = 130


def run_command(argv: list[str]) -> int:
    """Runs one command and returns its exit code.

    Raises:
        MisuseError: there is no such command, or it does not take these arguments.
        KeyboardInterrupt: the user interrupted it.
    """
    if argv and argv[0] not in COMMANDS and not argv[0].startswith("-"):
        close = difflib.get_close_matches(argv[0], COMMANDS, n=1)
        raise AsrbuildError(
            f"{argv[0]} is neither a command nor an override",
            fix=f"did you mean `asrbuild {close[0]}`?" if close else "see `asrbuild --help`",
        )
    _register()
    try:
        result = app(argv, standalone_mode=False, prog_name="asrbuild")
    except typer.Exit as asked:
        return int(asked.exit_code)
    except typer.Abort:
        raise KeyboardInterrupt from None
    except Exception as error:
        # Typer has its own copy of Click, so its exceptions are recognised by their attributes.
        if hasattr(error, "format_message") and hasattr(error, "exit_code"):
            return _misused(error)
        raise
    if result == INTERRUPTED:
        raise KeyboardInterrupt
    return result if isinstance(result, int) else 0


def _misused(error: Any) -> int:
    """Reports a wrong command line; a group without a command shows its help."""
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        return int(error.exit_code)
    command = getattr(getattr(error, "ctx", None), "command_path", "asrbuild")
    message = error.format_message().rstrip(".")
    raise MisuseError(
        f"{message[:1].lower()}{message[1:]}", fix=f"see `{command} --help`"
    ) from error
