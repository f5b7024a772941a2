"""The command line: Typer commands, and Hydra overrides for everything else."""

from __future__ import annotations

import difflib
import functools
import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from asrbuild import __version__, interrupts
from asrbuild.disk import FATAL, disk_problem
from asrbuild.errors import AsrbuildError

HYDRA_FLAGS = (
    "-m", "--multirun", "-r", "--run", "-c", "--cfg", "-p", "--package", "--resolve", "--info",
    "-cp", "--config-path", "-cn", "--config-name", "-cd", "--config-dir", "--hydra-help",
    "--experimental-rerun", "-sc", "--shell-completion",
)  # fmt: skip

app = typer.Typer(
    name="asrbuild",
    no_args_is_help=True,
    rich_markup_mode="rich",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Anything that is no command is a Hydra override of [bold]build[/bold]: "
    "[cyan]asrbuild model=static n_steps=32[/cyan]. Add [cyan]--debug[/cyan] for tracebacks.",
)
inspect_app = typer.Typer(no_args_is_help=True, help="Look inside a graph, a package or a scorer.")
cache_app = typer.Typer(no_args_is_help=True, help="The stage cache: list, explain, clear.")
scorer_app = typer.Typer(no_args_is_help=True, help="Language model scorers.")
key_app = typer.Typer(no_args_is_help=True, help="Keys that sign bundles, and keys to trust.")
channel_app = typer.Typer(no_args_is_help=True, help="A remote's signed pointers: stable, ...")
decoder_app = typer.Typer(no_args_is_help=True, help="The genuine ds-ctcdecoder.")


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"asrbuild {__version__}")
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
    raise typer.Exit(_build(list(overrides or [])))


@functools.cache
def _register() -> None:
    """Attaches the commands; their modules import nothing heavy at the top."""
    from asrbuild.commands import app as app_folder
    from asrbuild.commands import (
        cache,
        channel,
        decoder,
        diff,
        doctor,
        evaluate,
        gc,
        inspect_graph,
        inspect_model,
        key,
        ls,
        plan,
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
    _add(app, "bundle", ship.bundle)
    _add(app, "pull", ship.pull)
    _add(app, "variants", variants.variants)
    _add(channel_app, "set", channel.set_)
    _add(channel_app, "history", channel.history)
    _add(channel_app, "rollback", channel.rollback)
    _add(key_app, "new", key.new)
    _add(key_app, "ls", key.ls)
    _add(key_app, "trust", key.trust)
    _add(key_app, "distrust", key.distrust)
    _add(app, "doctor", doctor.doctor)
    for name, group in GROUPS.items():
        app.add_typer(group, name=name, rich_help_panel=_panel(name))


def _add(to: typer.Typer, name: str, function: Callable[..., Any], **settings: Any) -> None:
    """Attaches a command; its docstring is the help, a paragraph to a line whatever its width."""
    paragraphs = inspect.cleandoc(function.__doc__ or "").split("\n\n")
    text = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    panel = _panel(name) if to is app else None
    to.command(name, help=text, rich_help_panel=panel, **settings)(function)


def _panel(name: str) -> str:
    return next(panel for panel, names in PANELS.items() if name in names)


#: The panels of ``--help`` and what stands in each.
PANELS = {
    "Build": ("build", "plan", "gc", "cache"),
    "Look and compare": ("ls", "show", "diff", "report", "schema", "inspect"),
    "Try and measure": ("transcribe", "verify", "evaluate", "run", "scorer", "decoder"),
    "Hand over": ("app", "ship", "bundle", "pull", "variants", "channel", "key"),
    "This machine": ("doctor",),
}
COMMANDS = tuple(name for names in PANELS.values() for name in names)
GROUPS = {
    "inspect": inspect_app, "cache": cache_app, "scorer": scorer_app,
    "decoder": decoder_app, "channel": channel_app, "key": key_app,
}  # fmt: skip


def _build(argv: list[str]) -> int:
    from asrbuild.sweep import build_from_command_line

    return build_from_command_line(argv)


def _is_hydra(argument: str) -> bool:
    return argument.split("=")[0] in HYDRA_FLAGS or "=" in argument or argument[:1] in "+~"


def dispatch(argv: list[str]) -> int:
    """Runs one command line; the exit code is 0 only on success.

    Raises:
        AsrbuildError: the user can act on what went wrong.
    """
    if argv and argv[0] == "build" and not {"-h", "--help"} & set(argv):
        return _build(argv[1:])
    if argv and argv[0] not in COMMANDS and _is_hydra(argv[0]):
        return _build(argv)
    if argv and argv[0] not in COMMANDS and not argv[0].startswith("-"):
        close = difflib.get_close_matches(argv[0], COMMANDS, n=1)
        raise AsrbuildError(
            f"{argv[0]} is neither a command nor an override",
            fix=f"did you mean `asrbuild {close[0]}`?" if close else "see `asrbuild --help`",
        )
    _register()
    result = app(argv, standalone_mode=False, prog_name="asrbuild")
    return result if isinstance(result, int) else 0


def main() -> None:
    """Entry point of ``asrbuild``: one clear error, no traceback unless asked for."""
    _open_streams()
    argv = sys.argv[1:]
    if "--debug" in argv:
        argv.remove("--debug")
        os.environ["HYDRA_FULL_ERROR"] = "1"
    debug = os.environ.get("HYDRA_FULL_ERROR", "0") not in ("", "0")
    try:
        _require_folder()
        with interrupts.remembered():
            code = dispatch(argv)
        sys.stdout.flush()
    except KeyboardInterrupt:
        if debug:
            raise
        _print_error("interrupted; nothing half-made was kept")
        code = 130
    except BrokenPipeError:
        # The reader of our output has left (`asrbuild ls | head`): no news, but no success.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 141
    except AsrbuildError as error:
        if debug:
            raise
        _print_error(str(error))
        code = 1
    except Exception as error:
        code = _other_failure(error, debug)
    sys.exit(code)


def _open_streams() -> None:
    """Output that nobody reads, or that cannot show a letter, is no reason to fail."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def _require_folder() -> None:
    try:
        os.getcwd()
    except FileNotFoundError:
        raise AsrbuildError(
            "the current folder is not there any more", fix="change to one that is"
        ) from None


def _other_failure(error: Exception, debug: bool) -> int:
    """Typer's own exceptions, by what they can do: it brings a Click of its own along."""
    if isinstance(error, typer.Exit):
        return error.exit_code
    if isinstance(error, typer.Abort):
        _print_error("aborted")
        return 130
    if hasattr(error, "format_message") and hasattr(error, "exit_code"):
        return _misused(error)
    if debug:
        raise error
    if isinstance(error, OSError) and error.errno in FATAL:
        _print_error(str(disk_problem(error, "running asrbuild", Path("standard output"))))
        # What could not be written would be tried again when Python ends, and reported once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    _print_error(
        f"unexpected {type(error).__name__}: {error}\n"
        "  fix: run again with --debug and report the traceback; this is a bug in asrbuild"
    )
    return 1


def _misused(error: Any) -> int:
    """A command line that a command does not take; a group without a command shows its help."""
    command = getattr(getattr(error, "ctx", None), "command_path", "asrbuild")
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        return error.exit_code
    message = error.format_message().rstrip(".")
    _print_error(f"{message[:1].lower()}{message[1:]}\n  fix: see `{command} --help`")
    return error.exit_code


def _print_error(text: str) -> None:
    from rich.console import Console

    Console(stderr=True, highlight=False, soft_wrap=True).print("[bold red]error:[/] ", end="")
    sys.stderr.write(text + "\n")


if __name__ == "__main__":
    main()
