"""The entry point: builds Hydra overrides, runs commands with Typer, and prints every error.

Typer is imported for a command alone: a no-op build must not wait for it.
"""

from __future__ import annotations

import gc
import itertools
import os
import signal
import sys
from pathlib import Path

from asrbuild.base import interrupts, terminal
from asrbuild.base.disk import FATAL, disk_problem
from asrbuild.base.errors import AsrbuildError, MisuseError
from asrbuild.base.ownership import keep_to_oneself
from asrbuild.cli.flags import HYDRA_FLAGS

#: Flags of a build without a value, which are typed before a command by mistake.
_BARE_FLAGS = ("--json", "-q", "--quiet", "-m", "--multirun")


def _build(argv: list[str]) -> int:
    from asrbuild.builder.sweep import build_from_command_line

    return build_from_command_line(argv)


def _is_hydra(argument: str) -> bool:
    return argument.split("=")[0] in HYDRA_FLAGS or "=" in argument or argument[:1] in "+~"


def dispatch(argv: list[str]) -> int:
    """Runs one command line; the exit code is 0 only on success.

    Raises:
        AsrbuildError: a problem that the user can solve.
    """
    if argv and argv[0] == "build" and not {"-h", "--help"} & set(argv):
        return _build(argv[1:])
    if argv and _is_hydra(argv[0]):
        _require_command_first(argv)
        return _build(argv)
    from asrbuild.cli.tree import run_command

    return run_command([_demo_file(argument) for argument in argv])


def _require_command_first(argv: list[str]) -> None:
    """Raises for ``--json ls``: flags before a command are flags of a build."""
    flags = list(itertools.takewhile(_BARE_FLAGS.__contains__, argv))
    word = next(iter(argv[len(flags) :]), "=")
    if "=" in word or word.startswith("-"):
        return
    from asrbuild.cli.tree import COMMANDS

    if word in COMMANDS:
        raise MisuseError(
            f"{' '.join(flags)} is before the command",
            fix=f"write it behind: asrbuild {' '.join([word, *flags])} …",
        )


def _demo_file(argument: str) -> str:
    """The path of ``demo:NAME``, a file that comes with asrbuild; other arguments unchanged."""
    from asrbuild.base.places import DEMO_PREFIX, resolve_file

    option, equals, value = argument.rpartition("=") if argument[:2] == "--" else ("", "", argument)
    if not value.startswith(DEMO_PREFIX):
        return argument
    return f"{option}{equals}{resolve_file(value)}"


def main() -> None:
    """Entry point of ``asrbuild``: one clear error, a traceback only with ``--debug``."""
    _open_streams()
    keep_to_oneself()
    argv = sys.argv[1:]
    if os.environ.pop("_ASRBUILD_COMPLETE", None):
        from asrbuild.cli.completion import answer

        answer(argv)
        return
    if "--no-color" in argv:
        argv.remove("--no-color")
        os.environ["NO_COLOR"] = "1"  # Rich reads it, in this process and in those of a launcher
    if "--debug" in argv:
        argv.remove("--debug")
        os.environ["HYDRA_FULL_ERROR"] = "1"
    debug = os.environ.get("HYDRA_FULL_ERROR", "0") not in ("", "0")
    try:
        _require_folder()
        with interrupts.remembered():
            try:
                code = dispatch(argv)
            except KeyboardInterrupt:
                if debug:
                    raise
                code = _interrupted()
        sys.stdout.flush()
    except KeyboardInterrupt:
        if debug:
            raise
        code = _interrupted()
    except BrokenPipeError:
        # The reader of the output has ended (`asrbuild ls | head`): no message, but a failure's
        # code.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 141
    except AsrbuildError as error:
        if debug:
            raise
        _print_error(str(error))
        code = 2 if isinstance(error, MisuseError) else 1
    except Exception as error:
        code = _other_failure(error, debug)
    gc.freeze()  # The collections at the interpreter's end take 0.3 s after a build.
    sys.exit(code)


def _interrupted() -> int:
    """Reports a signal; the exit code is 128 plus its number, as in a shell."""
    number = interrupts.caught()
    what = "interrupted" if number == signal.SIGINT else f"ended by {number.name}"
    where = f" in {interrupts.place()}" if interrupts.place() else ""
    _print_error(f"{what}{where}; nothing incomplete was kept")
    return 128 + number


def _open_streams() -> None:
    """Prevents errors from closed streams and from letters that an encoding lacks."""
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
            "the current folder no longer exists", fix="change to one that exists"
        ) from None


def _other_failure(error: Exception, debug: bool) -> int:
    if debug:
        raise error
    if isinstance(error, OSError) and error.errno is not None and error.filename:
        # The system refused an access; the user can change that.
        name = error.filename if isinstance(error.filename, (str, bytes)) else str(error.filename)
        _print_error(str(disk_problem(error, "running asrbuild", Path(os.fsdecode(name)))))
        return 1
    if isinstance(error, MemoryError):
        _print_error(
            str(AsrbuildError("there is not enough memory", fix="end other programs, or use less"))
        )
        return 1
    if isinstance(error, OSError) and error.errno in FATAL:
        _print_error(str(disk_problem(error, "running asrbuild", Path("standard output"))))
        # Python would try to write the rest at its end, and report the failure again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    if isinstance(error, RuntimeError) and "home directory" in str(error):  # pathlib's, of ~name/x
        homeless = AsrbuildError(
            "a path begins with ~, and that user has no home folder", fix="write the path in full"
        )
        _print_error(str(homeless))
        return 1
    _print_error(
        f"unexpected {type(error).__name__}: {error}\n"
        "  fix: run again with --debug and report the traceback; this is a bug in asrbuild"
    )
    return 1


def _print_error(text: str) -> None:
    terminal.console(err=True).print("error: ", style="bold red", end="")
    terminal.say(text, err=True)


if __name__ == "__main__":
    main()
