"""Every fix that asrbuild prints works as printed.

The fixes are read out of the source: each key in one must be a key of a recipe that takes the
value, each command and option must be one that the command line takes. Those of impossible configs
are also typed: the same error must not come back. The documentation names no other keys and options
either, and each of the environment variables.
"""

from __future__ import annotations

import ast
import functools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import typer

from asrbuild.base.errors import AsrbuildError
from asrbuild.builder.compose import compose_recipe
from asrbuild.builder.recipe import recipe_keys
from asrbuild.builder.rules import check_keys, check_recipe
from asrbuild.builder.sources import settle
from asrbuild.cli import tree
from asrbuild.cli.main import HYDRA_FLAGS
from asrbuild.cli.tree import with_file
from tests.acceptance.config_errors import CONFIG_ERRORS
from tests.paths import PACKAGE

#: Options of other programs that fixes name.
FOREIGN_OPTIONS = {
    "--checkpoint_dir",
    "--export_batch_size",
    "--export_dir",
    "--layer_norm",
    "--load_cudnn",
    "--n_steps",
    "--group",
}
#: Keys that are not the recipe's: arguments of other libraries, an environment variable.
FOREIGN_KEYS = {"convert_to", "dynamo", "state", "unroll", "HYDRA_FULL_ERROR"}
#: Values of options: a hot word and its boost, an input and its file.
FOREIGN_KEYS |= {"asterisk", "features"}
FIX = "fix"
#: The cache of facts about sources.
CACHE = TemporaryDirectory(prefix="asrbuild-fixes-")


@functools.cache
def command_tree() -> Any:
    return typer.main.get_command(tree.typer_app())


def fixes() -> Iterator[tuple[str, str]]:
    """(place, text) of every ``fix=`` in the package; ``{}`` stands for an expression."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.keyword) and node.arg == FIX:
                for text in texts(node.value):
                    yield f"{path.relative_to(PACKAGE)}:{node.value.lineno}", text


def texts(node: ast.expr) -> list[str]:
    if isinstance(node, ast.Constant):
        return [str(node.value)] if node.value else []
    if isinstance(node, ast.JoinedStr):
        return ["".join(v.value if isinstance(v, ast.Constant) else "{}" for v in node.values)]
    if isinstance(node, ast.IfExp):
        return texts(node.body) + texts(node.orelse)
    if isinstance(node, ast.BinOp):
        return [a + b for a in texts(node.left) for b in texts(node.right)]
    return []


FIXES = list(fixes())
#: A key, and a value that is written out: no placeholder in it.
ASSIGNMENT = re.compile(r"(?<![\w./{}'\"-])(\+?[a-z_]+(?:\.[\w]+)*)=([^\s,;)`'\"]+|'[^']*')")
COMMAND = re.compile(r"`(asrbuild [^`]+)`|(?<!`)\b(asrbuild (?:evaluate|plan|ship|pull) \S.*)")
OPTION = re.compile(r"(?<![\w-])--[a-z][\w-]*")


def assignments(text: str) -> list[tuple[str, str]]:
    found = [(key, value.rstrip(".:")) for key, value in ASSIGNMENT.findall(text)]
    return [(key, value) for key, value in found if key not in FOREIGN_KEYS and key != "key"]


def test_the_fixes_are_found() -> None:
    assert len(FIXES) > 300
    assert sum(bool(assignments(text)) for _, text in FIXES) > 40
    assert sum(bool(COMMAND.search(text)) for _, text in FIXES) > 25


def test_no_fix_asks_a_user_to_edit_asrbuild() -> None:
    assert not [place for place, text in FIXES if re.search(r"\basrbuild[/.][a-z]|\w\.py\b", text)]


NAMED_KEYS = sorted({(k, v) for _, text in FIXES for k, v in assignments(text)})


@pytest.mark.parametrize(("key", "value"), NAMED_KEYS, ids=lambda part: str(part))
def test_each_key_of_a_fix_is_taken(key: str, value: str) -> None:
    keys = recipe_keys()
    # An architecture has keys of its own below source.config.
    known = (*keys, "model", "source", "coreml", "decoder", "verify", "tune")
    assert key in known or key.removeprefix("+").startswith("source.config."), key
    if "{}" in value or value.isupper():
        return
    # A key that needs another one is refused for that, never for its own name or value.
    error = error_of([f"{key}={value}"])
    problems = ("unknown key", "is not a choice", "has the wrong type")
    assert error is None or not any(problem in error.message for problem in problems)


def find(words: list[str]) -> tuple[Any, list[str]]:
    """The command that the words name, and its arguments."""
    command = command_tree()
    words = with_file([word.replace("FILE", "x.onnx") for word in words])
    while words and hasattr(command, "commands") and words[0] in command.commands:
        command = command.commands[words[0]]
        words = words[1:]
    return command, words


COMMANDS = sorted({m for _, text in FIXES for found in COMMAND.findall(text) for m in found if m})


@pytest.mark.parametrize("line", COMMANDS)
def test_each_command_of_a_fix_exists(line: str) -> None:
    words = shlex.split(line.replace("{}", "PLACEHOLDER"))[1:]
    if words[0] in HYDRA_FLAGS or "=" in words[0]:
        return
    if words[0] in ("PLACEHOLDER", "--help"):
        return
    command, rest = find(words)
    assert not hasattr(command, "commands"), f"`{line}` names no command"
    options = {name for parameter in command.params for name in parameter.opts}
    for word in rest:
        if word.startswith("-"):
            assert word.split("=")[0] in options | {"--help"}, f"{line}: {word}"


def options_that_are_known() -> set[str]:
    known = (
        set(HYDRA_FLAGS)
        | FOREIGN_OPTIONS
        | {"--help", "--debug", "--no-color", "--trust-config"}
        | set(tree.FORMER_OPTIONS)
    )
    waiting = [command_tree()]
    while waiting:
        command = waiting.pop()
        waiting += getattr(command, "commands", {}).values()
        known |= {name for parameter in command.params for name in parameter.opts}
    return known


def test_each_option_of_a_fix_exists() -> None:
    known = options_that_are_known()
    unknown = {
        (place, option)
        for place, text in FIXES
        for option in OPTION.findall(text)
        if option not in known
    }
    assert not unknown


PAGES = [
    "README.md",
    "CHANGELOG.md",
    "SECURITY.md",
    "docs/architecture.md",
    "docs/bundle-format.md",
    "docs/compression.md",
    "docs/settings.md",
]
#: Set by asrbuild itself for the processes that it starts, or by a test.
NOT_SET = {"ASRBUILD_BUILD_OUTPUT", "ASRBUILD_SWEEP_RECORDS", "ASRBUILD_WHOLE_TENSORFLOW"}


@pytest.mark.parametrize("page", PAGES)
def test_a_page_names_only_keys_commands_and_options_that_exist(page: str) -> None:
    text = (PACKAGE.parent / page).read_text(encoding="utf-8")
    known, keys = options_that_are_known(), recipe_keys()
    assert not set(OPTION.findall(text)) - known
    # With a dot, a word is a key; in code alone, as prose names files and modules.
    named = {key for code in re.findall(r"`([^`]+)`", text) for key, _ in assignments(code)}
    assert not {key for key in named if "." in key} - set(keys)


def test_every_environment_variable_is_documented() -> None:
    read = {
        name
        for path in PACKAGE.rglob("*.py")
        for name in re.findall(r"\bASRBUILD_[A-Z]+(?:_[A-Z]+)*\b", path.read_text("utf-8"))
    }
    page = (PACKAGE.parent / "docs" / "settings.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\bASRBUILD_[A-Z_]+\b", page)) == read - NOT_SET


def error_of(overrides: list[str]) -> AsrbuildError | None:
    try:
        recipe = compose_recipe(overrides)
        check_keys(recipe)
        recipe, _ = settle(recipe, Path(CACHE.name))
        check_keys(recipe)
        check_recipe(recipe)
    except AsrbuildError as error:
        return error
    return None


TYPED = [
    overrides
    for overrides, message in CONFIG_ERRORS
    if "{at}" not in " ".join(overrides)
    and all("=" in override and override[0] != "-" for override in overrides)
    and (error := error_of(overrides)) is not None
    and assignments(error.fix or "")
]


def test_many_fixes_of_configs_can_be_typed() -> None:
    assert len(TYPED) >= 10


@pytest.mark.parametrize("overrides", TYPED, ids=" ".join)
def test_a_typed_fix_repairs_the_config(overrides: list[str]) -> None:
    error = error_of(overrides)
    assert error is not None
    alternatives = [assignments(text) for text in re.split(r",? or |, ", error.fix or "")]
    typed = [f"{key}={value}" for key, value in next(filter(None, alternatives))]
    keys = {override.partition("=")[0] for override in typed}
    kept = [o for o in overrides if o.partition("=")[0] not in keys]
    after = error_of([*kept, *typed])
    assert after is None or after.message != error.message, f"{typed} changes nothing"
