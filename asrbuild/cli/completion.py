"""Tab completion of commands, options, artifacts, config groups, keys and values."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from asrbuild.base import terminal
from asrbuild.base.errors import MisuseError

# With the variable _ASRBUILD_COMPLETE, asrbuild answers with :func:`answer` instead of running.
_BASH = r"""# bash completion of asrbuild; put this line into ~/.bashrc:
#   eval "$(asrbuild completion bash)"
_asrbuild() {
    local line=${COMP_LINE:0:COMP_POINT} words last kept
    read -ra words <<< "$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    last=${words[${#words[@]} - 1]}
    # bash replaces only what follows the last = or : of a word.
    kept=${last%"${last##*[=:]}"}
    local IFS=$'\n'
    COMPREPLY=($(_ASRBUILD_COMPLETE=1 "${words[@]}" 2>/dev/null))
    COMPREPLY=("${COMPREPLY[@]#"$kept"}")
    [[ ${COMPREPLY[0]} == *[=./] ]] && compopt -o nospace 2>/dev/null
    return 0
}
complete -o default -F _asrbuild asrbuild
"""
_ZSH = r"""#compdef asrbuild
# zsh completion of asrbuild; put this line into ~/.zshrc, after compinit:
#   eval "$(asrbuild completion zsh)"
_asrbuild() {
    local -a found
    found=("${(@f)$(_ASRBUILD_COMPLETE=1 "${(@)words[1,CURRENT]}" 2>/dev/null)}")
    if [[ -z "${found[*]}" ]]; then
        _files
        return
    fi
    compadd -S '' -- ${(M)found:#*[=./]}
    compadd -- ${found:#*[=./]}
}
compdef _asrbuild asrbuild
"""
_FISH = r"""# fish completion of asrbuild; run this once:
#   asrbuild completion fish > ~/.config/fish/completions/asrbuild.fish
function __asrbuild_complete
    set -l words (commandline -opc) (commandline -ct)
    set -l found (env _ASRBUILD_COMPLETE=1 $words 2>/dev/null)
    if test (count $found) -gt 0
        printf '%s\n' $found
    else
        __fish_complete_path (commandline -ct)
    end
end
complete -c asrbuild -f -a '(__asrbuild_complete)'
"""
SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}
_SYSTEMS = ("iOS15", "iOS16", "iOS17", "iOS18", "iOS26", "macOS14", "macOS15", "macOS26")


def completion(
    shell: Annotated[str, typer.Argument(help="bash, zsh or fish.")],
) -> None:
    """Print the script that completes asrbuild's arguments with Tab in your shell.

    It completes commands, options, artifacts, config groups, keys and their values; its first lines
    say where it goes.

    Examples:
        asrbuild completion bash
        asrbuild completion fish > asrbuild.fish
    """
    if shell not in SCRIPTS:
        raise MisuseError(
            f"there is no completion for {shell}", fix=f"choose one of {', '.join(SCRIPTS)}"
        )
    terminal.say(SCRIPTS[shell].rstrip("\n"))


def answer(words: Sequence[str]) -> None:
    """Prints the completions of the last argument, one word a line; nothing after an error."""
    try:
        *before, last = words or [""]
        found = sorted(dict.fromkeys(w for w in candidates(before, last) if w.startswith(last)))
    except Exception:
        return
    for word in found:
        terminal.say(word)


def candidates(before: Sequence[str], last: str) -> Iterable[str]:
    """Words that can follow ``before``; the caller drops those that do not begin with ``last``."""
    from asrbuild.cli.flags import HYDRA_FLAGS
    from asrbuild.cli.tree import COMMANDS, PANELS, Group, takes_overrides, typer_app

    first = before[0] if before else None
    if first not in COMMANDS:
        flags = [flag for flag in HYDRA_FLAGS if last.startswith("-")]
        return [*(COMMANDS if not before else ()), *flags, *_overrides(before, last)]
    entry = next(entries[first] for entries in PANELS.values() if first in entries)
    group = isinstance(entry, Group)
    if isinstance(entry, Group) and len(before) == 1:
        return entry.commands
    command: Any = typer.main.get_command(typer_app(first)).commands[first]  # type: ignore[attr-defined]
    command = command.commands[before[1]] if group else command
    options = {name: each for each in command.params for name in each.opts if name[:1] == "-"}
    given = options.get(before[-1]) if before else None
    if given is not None and not given.is_flag:
        return _values(str(given.display_type_rich(None)))
    if last.startswith("-"):
        return [name for name in options if name.startswith("--")]
    if takes_overrides(" ".join(before[: 1 + group])):
        return _overrides(before, last)
    arguments = {
        (each.metavar or each.name).upper().rstrip(".")
        for each in command.params
        if each.opts[0][:1] != "-"
    }
    names = {"ARTIFACT", "MODEL", "BEFORE", "AFTER", "OTHER", "NAME"}
    if arguments & names and first not in ("key", "decoder"):
        return _artifacts(last)
    return SCRIPTS if first == "completion" else ()


def _values(kind: str) -> Iterable[str]:
    """The values of an option, by the kind of value in its help."""
    if kind == "DECODER":
        from asrbuild.speech.decoder_settings import DECODERS

        return DECODERS
    if kind == "STAGE":
        from asrbuild.builder.plan import STAGE_NAMES

        return STAGE_NAMES
    if kind == "KEY":
        from asrbuild.handover.ship.signing.keys import config_root, key_names

        return key_names(config_root())
    return {"SYSTEM": _SYSTEMS, "CHANNEL": ("stable", "beta")}.get(kind, ())


def _artifacts(last: str) -> Iterator[str]:
    """The names in the store; after a slash, the versions."""
    from asrbuild.artifact.lookup import list_artifacts
    from asrbuild.base.places import artifacts_root

    for artifact in list_artifacts(artifacts_root()):
        yield f"{artifact.name}/{artifact.version}" if "/" in last else artifact.name


def _overrides(before: Sequence[str], last: str) -> Iterator[str]:
    """Groups and keys with ``=``, or after ``=`` their values."""
    key, equals, value = last.partition("=")
    mark = key[: len(key) - len(key.lstrip("+~"))]
    if equals:
        start = value[: value.rfind(",") + 1]
        for each in _values_of(key[len(mark) :], before, value[len(start) :]):
            yield f"{key}={start}{each}"
        return
    from asrbuild.builder.explain import HYDRA_GROUPS
    from asrbuild.builder.recipe import recipe_keys

    for group in (*_groups(before), *HYDRA_GROUPS):
        yield f"{mark}{group}="

    section, known = key[len(mark) :].rpartition(".")[0], recipe_keys()
    for name in known:
        if name.rpartition(".")[0] == section:
            below = any(other.startswith(f"{name}.") for other in known)
            yield f"{mark}{name}{'.' if below else '='}"


def _folders(before: Sequence[str]) -> list[Path]:
    """The packaged ``conf/``, and the configuration folders of the command line."""
    from asrbuild.base.choices import conf_dir

    named = [word.partition("=")[2] for word in before if word.startswith("--config-dir=")]
    pairs = itertools.pairwise(before)
    named += [word for flag, word in pairs if flag in ("--config-dir", "-cd")]
    return [conf_dir(), *(Path(folder).expanduser() for folder in named)]


def _groups(before: Sequence[str]) -> list[str]:
    return [path.name for folder in _folders(before) for path in folder.iterdir() if path.is_dir()]


def _values_of(key: str, before: Sequence[str], typed: str) -> Iterator[str]:
    """The choices of a group or a key; paths for a key that names a file."""
    from asrbuild.base.kinds.places import KEYS
    from asrbuild.builder.explain import HYDRA_GROUPS
    from asrbuild.builder.recipe import Recipe, chosen, lookup

    yield from HYDRA_GROUPS.get(key, ())
    if key in _groups(before):
        for folder in _folders(before):
            yield from (path.stem for path in (folder / key).glob("*.yaml"))
    recipe = Recipe()
    for name, _, choices in chosen(recipe):
        if name == key:
            yield from choices
    if key in KEYS:
        parent = os.path.dirname(typed)
        for path in Path(parent or ".").iterdir():
            yield os.path.join(parent, path.name) + ("/" if path.is_dir() else "")
        return
    try:
        if isinstance(lookup(recipe, key), bool):
            yield from ("true", "false")
    except (AttributeError, KeyError):
        return
