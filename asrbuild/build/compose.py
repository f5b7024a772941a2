"""From command-line overrides to recipes: Hydra, with errors in this project's voice."""

from __future__ import annotations

import contextlib
import difflib
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from asrbuild.base.choices import conf_dir
from asrbuild.base.disk import read_plain
from asrbuild.base.errors import AsrbuildError, MisuseError
from asrbuild.build.recipe import Recipe, publishable

CONFIG_NAME = "config"
#: Flags of Hydra's whose value is the next argument.
_VALUED = (
    "-c", "--cfg", "-p", "--package", "-cp", "--config-path", "-cn", "--config-name", "-cd",
    "--config-dir", "--experimental-rerun",
)  # fmt: skip
#: Sections whose keys the user names (functions of a package, hot words, precisions), and one that
#: is null where it is not given, so that Hydra alone knows and checks its keys.
_FREE_SECTIONS = (
    "model.functions.", "decoder.hot_words.", "decoder.tuned.", "verify.thresholds.",
)  # fmt: skip
#: What OmegaConf and Python call a type -> what a person is told to give.
_KINDS = {
    "Integer": "a whole number", "Float": "a number", "Boolean": "true or false",
    "int": "a whole number", "float": "a number", "bool": "true or false", "str": "text",
}  # fmt: skip


def register_schema() -> None:
    """Makes the dataclasses of recipe.py known to Hydra as ``recipe_schema``, and
    ``${default_name:}`` to OmegaConf; has the files that Hydra reads checked."""
    from hydra.core.config_store import ConfigStore

    ConfigStore.instance().store(name="recipe_schema", node=Recipe)
    _register_default_name()
    _check_what_hydra_takes()


def _register_default_name() -> None:
    from omegaconf import OmegaConf

    def named(*, _root_: Any) -> str:
        from asrbuild.build.naming import default_name

        read = ("n_steps", "source", "export", "model", "coreml", "decoder", "verify")
        return default_name(_resolved(_root_, read))

    OmegaConf.register_new_resolver("default_name", named, replace=True)


def _resolved(root: Any, keys: Iterable[str]) -> dict[str, Any]:
    """These keys of a config as plain values; the others are not looked at."""
    from omegaconf import OmegaConf

    found = {}
    for key in keys:
        value = root[key]
        found[key] = (
            OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
        )
    return found


def to_recipe(config: Any) -> Recipe:
    """The composed config as a ``Recipe``; interpolations are resolved and types checked."""
    from omegaconf.errors import OmegaConfBaseException

    # A launcher's process has the config, but has registered nothing.
    _register_default_name()
    try:
        recipe = _object_of(config)
    except OmegaConfBaseException as error:  # an interpolation that leads nowhere
        raise explain(error, []) from error
    if not isinstance(recipe, Recipe):
        raise AsrbuildError(
            f"{CONFIG_NAME}.yaml does not inherit recipe_schema",
            fix="start its defaults list with `- recipe_schema`",
        )
    _refuse_added_keys(config)
    paths = {
        name: _at_home(f"paths.{name}", value) if isinstance(value, str) else value
        for name, value in vars(recipe.paths).items()
    }
    return publishable(replace(recipe, paths=type(recipe.paths)(**paths)))


#: Environment variables that a recipe may read; None: all, as where nothing is published.
_variables: frozenset[str] | None = None


def _env(name: str, *default: Any) -> Any:
    """The resolver ``oc.env``, which reads only what may be published.

    Raises:
        AsrbuildError: it is read outside of ``paths``, and ``paths.env`` does not list it.
    """
    from omegaconf.resolvers.oc import env

    if _variables is not None and name not in _variables:
        raise AsrbuildError(
            f"the recipe reads the environment variable {name} outside of paths, where it would be "
            "published",
            key="paths.env",
            fix=f"write the value itself, or, if it is no secret, add paths.env=[{name}]",
        )
    return env(name, *default)


def _object_of(config: Any) -> Any:
    """The config's object, its interpolations resolved.

    ``paths`` may read the environment. The other sections are resolved without it, also where they
    lead to ``paths``: what they say is published.
    """
    from omegaconf import OmegaConf

    global _variables
    OmegaConf.register_new_resolver("oc.env", _env, replace=True)
    kind = OmegaConf.get_type(config)
    if kind is not Recipe or "paths" not in config:
        return OmegaConf.to_object(config)
    paths = OmegaConf.to_object(config.paths)
    before, _variables = _variables, frozenset(paths.env)
    try:
        values = {}
        for key in config:
            if key == "paths":
                continue
            value = config[key]
            values[key] = OmegaConf.to_object(value) if OmegaConf.is_config(value) else value
    finally:
        _variables = before
    known = {declared.name for declared in fields(Recipe)}
    # Others are told by name below.
    return Recipe(**{key: value for key, value in values.items() if key in known}, paths=paths)


def _at_home(key: str, path: str) -> str:
    """The path with its ``~``, which no shell replaces behind ``paths.cache=``."""
    try:
        return path and str(Path(path).expanduser())
    except RuntimeError:
        raise AsrbuildError(
            f"{key}={path} is in the home of a user who has none here",
            key=key,
            fix="write the path in full",
        ) from None


def _refuse_added_keys(config: Any) -> None:
    """``+foo=1`` opens Hydra's struct, but a key that nothing reads is a mistake all the same."""
    known = set(recipe_keys())

    def walk(node: Any, prefix: str) -> None:
        for name in node:
            key = f"{prefix}{name}"
            if key not in known and not prefix.startswith(_FREE_SECTIONS):
                raise _unknown(key)
            child = node._get_node(name)
            if child is not None and child._is_none() is False and hasattr(child, "items"):
                walk(child, f"{key}.")

    walk(config, "")


def compose_recipe(overrides: list[str], config_dir: str | None = None) -> Recipe:
    """Composes one recipe outside a Hydra run: a plain build, and commands such as ``plan``."""
    from hydra import compose, initialize_config_dir

    register_schema()
    for argument in overrides:
        if argument.startswith("-"):
            raise AsrbuildError(
                f"{argument} has no meaning here: this looks at one recipe",
                fix="give overrides of one build: model=static n_steps=32",
            )
    given = readable(overrides, sweep=False)
    if config_dir is not None:
        if not Path(config_dir).is_dir():
            raise _no_config_dir(config_dir)
        given.append(f"hydra.searchpath=[{_quoted(f'file://{Path(config_dir).resolve()}')}]")
    try:
        with initialize_config_dir(str(conf_dir()), version_base="1.3", job_name="asrbuild"):
            return to_recipe(compose(CONFIG_NAME, overrides=given))
    except Exception as error:
        raise explain(error, overrides) from error


def is_plain(argv: list[str]) -> bool:
    """Whether these are overrides of the recipe alone: no flag, nothing about Hydra itself.

    Such a command line is composed once, by ``compose_recipe``; Hydra's own run composes it twice,
    the first time to learn whether it is a sweep.
    """
    return not any(argument.startswith("-") or "hydra" in argument for argument in argv)


def _free_words(override: str) -> str:
    """Hot words are keys of the user's own: Hydra adds them without being asked to by ``++``."""
    key = override.partition("=")[0]
    return f"++{override}" if key.startswith("decoder.hot_words") else override


def _flags_first(argv: list[str]) -> list[str]:
    """Hydra wants its overrides in one piece; people put a flag where they think of it."""
    flags: list[str] = []
    overrides: list[str] = []
    for argument in argv:
        if argument.startswith("-") or (flags and flags[-1] in _VALUED):
            flags.append(argument)
        else:
            overrides.append(argument)
    sweep = bool({"-m", "--multirun"} & set(flags)) or "hydra.mode=MULTIRUN" in overrides
    return flags + readable(overrides, sweep=sweep)


#: Asks for what a configuration folder can do beyond choosing values; also a flag.
TRUST_CONFIG = "ASRBUILD_TRUST_CONFIG"


def check_folders(argv: list[str]) -> list[str]:
    """Refuses a configuration folder that could run code, and Hydra's replay of a pickled job.

    A folder of somebody else's chooses values. Hydra's own settings in it (callbacks, logging,
    launchers, environment variables), ``_target_`` and ``decoder.interpreter`` name code to run,
    and ``paths.env`` and ``paths.trust_shared`` are for the user to give: those need the flag
    ``--trust-config``, or ``ASRBUILD_TRUST_CONFIG=1``. What the command line sets is allowed.

    Returns:
        The arguments without the flag.

    Raises:
        AsrbuildError: naming the file and the key.
    """
    if "--trust-config" in argv:
        os.environ[TRUST_CONFIG] = "1"  # for Hydra, and for the processes of a launcher
        argv = [argument for argument in argv if argument != "--trust-config"]
    if any(argument.split("=")[0] == "--experimental-rerun" for argument in argv):
        raise AsrbuildError(
            "--experimental-rerun runs whatever its pickle file holds",
            key="--experimental-rerun",
            fix="give the overrides again: they are in the artifact's manifest",
        )
    for folder in _foreign_folders(argv):
        for path in sorted([*folder.rglob("*.yaml"), *folder.rglob("*.yml")]):
            # Of those that are no YAML, the ones that Hydra takes are refused when it does.
            with contextlib.suppress(_UnreadableError):
                _check_file(path, path.relative_to(folder).with_suffix("").as_posix())
    return argv


def _check_what_hydra_takes() -> None:
    """Has every file that Hydra takes from a folder checked, wherever links and ``..`` lead."""
    from hydra._internal.sources_registry import SourcesRegistry
    from hydra.core.plugins import Plugins

    Plugins.instance()  # which makes the class anew, and registers it
    source = SourcesRegistry.instance().resolve("file")
    load = source.load_config
    if load.__module__ == __name__:
        return

    def checked(self: Any, config_path: str) -> Any:
        path = Path(os.path.realpath(Path(self.path, self._normalize_file_name(config_path))))
        if path.exists() and not path.is_relative_to(os.path.realpath(conf_dir())):
            _check_file(path, config_path.removesuffix(".yaml"))
        return load(self, config_path)

    checked.__module__ = __name__
    source.load_config = checked


def _foreign_folders(argv: list[str]) -> list[Path]:
    """Folders that a command line takes configuration from, beside the packaged one."""
    found = []
    for at, argument in enumerate(argv):
        name, separator, value = argument.partition("=")
        if name in ("--config-dir", "-cd", "--config-path", "-cp"):
            found.append(value if separator else "".join(argv[at + 1 : at + 2]))
        elif name.lstrip("+~") == "hydra.searchpath":
            found += [
                each.removeprefix("file://")
                for each in re.findall(r"[^,\[\]'\" ]+", value)
                if not each.startswith("pkg://")
            ]
    return [Path(folder).expanduser() for folder in found if folder]


class _UnreadableError(AsrbuildError):
    """A file of a configuration folder is no YAML, or more than a configuration holds."""


#: Bytes of a file of a configuration folder, values with their aliases written out, and nesting.
_MOST_YAML, _MOST_NODES, _DEEPEST = 1 << 20, 100_000, 100


def _check_file(path: Path, asked_as: str) -> None:
    """Refuses a file that expands without end, or sets what is not for a folder to decide.

    Args:
        path: the file.
        asked_as: its group and name, such as ``model/mine``.
    """
    import yaml
    from hydra.plugins.config_source import ConfigSource
    from omegaconf._utils import get_yaml_loader

    try:
        text = read_plain(path, _MOST_YAML).decode("utf-8")
        _check_size(text)
        # The same loader as Hydra's, so that both see the same values.
        content = yaml.load(text, get_yaml_loader())
        header = ConfigSource._get_header_dict(text[:512])
    except _UnreadableError as error:
        error.file = str(path)
        raise
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = "" if mark is None else f", line {mark.line + 1}"
        problem = getattr(error, "problem", None) or "it cannot be parsed"
        raise _UnreadableError(
            f"not YAML: {problem}{line}", file=path, fix="mend the file"
        ) from error
    except (OSError, ValueError) as error:
        raise _UnreadableError(
            f"the configuration cannot be read: {getattr(error, 'strerror', None) or error}",
            file=path,
            fix="mend the file",
        ) from error
    if os.environ.get(TRUST_CONFIG, "0") not in ("", "0"):
        return
    group, _, name = asked_as.rpartition("/")
    package = str(header.get("package") or "")
    package = package.replace("_group_", group.replace("/", ".")).replace("_name_", name)
    in_hydra = re.search(r"(^|/)hydra(/|$)", asked_as) or "hydra" in package
    power = "hydra" if in_hydra else _power(content)
    if power is not None:
        raise AsrbuildError(
            f"the configuration folder sets {power}, which is not for a folder to decide",
            key=power,
            file=path,
            fix="read the file; if you trust it, set ASRBUILD_TRUST_CONFIG=1, which is what "
            "--trust-config does for a build; or set the key on the command line instead",
        )


def _check_size(text: str) -> None:
    """Counts the values of a YAML text as if every alias were written out.

    Raises:
        _UnreadableError: they are too many or nested too deep, or a value holds itself.
    """
    import yaml

    sizes: dict[str, int] = {}
    opened: list[tuple[str | None, int]] = [(None, 0)]
    for event in yaml.parse(text, yaml.SafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            opened.append((event.anchor, 1))
            size = 0
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, size = opened.pop()
            if anchor is not None:
                sizes[anchor] = size
        elif isinstance(event, yaml.AliasEvent):
            if any(anchor == event.anchor for anchor, _ in opened):
                raise _UnreadableError(
                    f"the value &{event.anchor} holds itself", fix="write the value out"
                )
            size = sizes.get(event.anchor, 1)
        elif isinstance(event, yaml.ScalarEvent):
            size = 1
            if event.anchor is not None:
                sizes[event.anchor] = 1
        else:
            continue
        anchor, before = opened[-1]
        opened[-1] = anchor, before + size
        if before + size > _MOST_NODES:
            raise _UnreadableError(
                f"the file has more than {_MOST_NODES:,} values with its aliases written out",
                fix="write fewer values",
            )
        if len(opened) > _DEEPEST:
            raise _UnreadableError(
                f"values are nested more than {_DEEPEST} deep", fix="nest them less"
            )


def _power(content: Any, prefix: str = "") -> str | None:
    """The first key of a config that can run code; None where it only chooses values."""
    if isinstance(content, dict):
        for name, value in content.items():
            key = f"{prefix}{name}"
            if str(name) in ("_target_", "()"):
                return key
            if str(name) == "interpreter" and value:
                return "decoder.interpreter"
            if str(name) in ("env", "trust_shared") and value:
                return f"paths.{name}"
            # Switching Hydra's own logging off is what the packaged configuration does, too.
            switched_off = prefix == "defaults." and value == "none"
            if re.search(r"(^|[/@. ])hydra\b", str(name)) and not switched_off:
                return key
            # A package put together from pieces, such as `dra@hy_name_`.
            if prefix == "defaults." and re.search(r"\w_(group|name)_|_(group|name)_\w", str(name)):
                return key
            if (found := _power(value, f"{key}.")) is not None:
                return found
    elif isinstance(content, list):
        for item in content:
            if prefix == "defaults." and isinstance(item, str) and "hydra" in item:
                return f"{prefix}{item}"
            if (found := _power(item, prefix)) is not None:
                return found
    return None


def run_hydra(task: Callable[[Any], Any], argv: list[str]) -> None:
    """Runs ``task`` under Hydra's own command line (``-m``, ``--cfg``, ``--config-dir``, ...).

    Raises:
        AsrbuildError: the config does not compose.
    """
    import hydra

    register_schema()
    failed: list[Exception] = []

    def guarded(config: Any) -> None:
        # Kept and raised after Hydra is done: Hydra would print a message of its own about it.
        try:
            task(config)
        except Exception as error:
            failed.append(error)

    _check_flags(given := _flags_first(argv))
    asked_for_traceback = debugging()
    # With this set Hydra raises what went wrong instead of printing it and leaving.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    sys.argv = ["asrbuild", *given]
    try:
        hydra.main(config_path=str(conf_dir()), config_name=CONFIG_NAME, version_base="1.3")(
            guarded
        )()
    except (AsrbuildError, KeyboardInterrupt, SystemExit):
        raise
    except Exception as error:
        if asked_for_traceback:
            raise
        raise explain(error, argv) from error
    finally:
        if not asked_for_traceback:
            os.environ.pop("HYDRA_FULL_ERROR", None)
    if failed:
        raise failed[0]


def _check_flags(arguments: list[str]) -> None:
    """Refuses flags that Hydra does not take, or not so: it would print all that it takes."""
    from hydra._internal.utils import get_args_parser

    def refuse(message: str) -> NoReturn:
        raise MisuseError(message, fix="see `asrbuild build --help`, or `asrbuild --hydra-help`")

    parser = get_args_parser()
    parser.error = refuse  # type: ignore[method-assign]
    parser.parse_args(arguments)


#: Values that Hydra's grammar is known to take without quotes: only the rest is worth a look.
_PLAIN = re.compile(r"[A-Za-z0-9_./][A-Za-z0-9_./-]*")


def readable(overrides: list[str], *, sweep: bool) -> list[str]:
    """The overrides as Hydra's grammar wants them: a value it cannot read is put into quotes.

    A shell takes the quotes off ``source.path="/data/mein é.pb"``, and the grammar knows neither
    ``é`` nor ``~`` nor a second ``=``. In a sweep each of the values between commas is looked at.

    Raises:
        AsrbuildError: an override has no key.
    """
    return [_free_words(_readable(override, sweep)) for override in overrides]


def varied_keys(argv: list[str]) -> list[str]:
    """The keys and groups that have several values on the command line of a sweep."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    found = []
    for override in readable([each for each in argv if "=" in each], sweep=True):
        try:
            parsed = OverridesParser.create().parse_override(override)
        except HydraException:
            continue  # a flag; or Hydra says what is wrong with it
        if parsed.is_sweep_override():
            found.append(parsed.key_or_group)
    return found


def _readable(override: str, sweep: bool) -> str:
    key, separator, value = override.partition("=")
    if not key.strip():
        raise AsrbuildError(f"{override!r} names no key", fix="write key=value")
    if (
        _PLAIN.fullmatch(value)
        or not separator
        or value[:1] in ("[", "{", "'", '"')
        or _parses(override)
    ):
        return override
    parts = value.split(",") if sweep else [value]
    parts = [part if _parses(f"{key}={part}") else _quoted(part) for part in parts]
    quoted = f"{key}={','.join(parts)}"
    return quoted if _parses(quoted) else override


def _quoted(value: str) -> str:
    # The grammar's rule: a backslash counts only before a quote, or in a run that ends the value.
    return "'" + re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), value) + "'"


def _parses(override: str) -> bool:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        OverridesParser.create().parse_override(override)
    except HydraException:
        return False
    return True


def debugging() -> bool:
    """Whether the user asked for tracebacks, with ``--debug`` or ``HYDRA_FULL_ERROR=1``."""
    return os.environ.get("HYDRA_FULL_ERROR", "0") not in ("", "0")


def explain(error: BaseException, overrides: list[str]) -> AsrbuildError:
    """Turns what Hydra and OmegaConf raise into one message that names the key and the choices."""
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in chain:
        chain.append(current)
        current = current.__cause__ or current.__context__
    for link in chain:
        if isinstance(link, AsrbuildError):
            return link
    text = "\n".join(str(link) for link in chain)
    group = re.search(r"Could not (?:find|load) '([^']+)/([^'/]*)'", text)
    if group:
        choices = re.search(r"Available options in '[^']+':\s*((?:\n?\t.*)+)", text)
        names = re.findall(r"\t(\S+)", choices.group(1)) if choices else []
        return AsrbuildError(
            f"{group[1]}={group[2]} is not a choice",
            key=group[1],
            fix=f"choose one of {', '.join(names)}" if names else f"see conf/{group[1]}/",
        )
    unknown = _unknown_key(text)
    if unknown is not None:
        return unknown
    folder = re.search(r"Additional config directory '([^']+)' not found", text)
    if folder:
        return _no_config_dir(folder[1])
    several = re.search(r"Ambiguous value for argument '([^']+)'", text)
    if several:
        return AsrbuildError(
            f"{several[1]} is several values, and this is one build",
            key=several[1].partition("=")[0],
            fix="add -m to build each of them, or put a value that has a comma into quotes: "
            "\"key='a,b'\"",
        )
    alone = re.search(r"Error parsing override '([^'=]+)'", text)
    if alone:
        return AsrbuildError(
            f"{alone[1]} is no override", fix=f"write {alone[1]}=value; a command comes first"
        )
    wrong = re.search(r"Value '([^']*)' of type '[^']*' could not be converted to (\w+)", text)
    if wrong:
        key = re.search(r"full_key: (\S+)", text)
        name = key[1] if key else _key_with_value(overrides, wrong[1])
        return AsrbuildError(
            f"{name}={wrong[1]} has the wrong type",
            key=name,
            fix=f"give {_KINDS.get(wrong[2], wrong[2])}",
        )
    merged = re.search(r"Error merging override ([^=\s~]+)=(.*)", text)
    if merged and merged[1] in recipe_keys():
        return AsrbuildError(
            f"{merged[1]}={merged[2]} has the wrong type",
            key=merged[1],
            fix=_wanted(merged[1]),
        )
    place = re.search(r'in "([^"]+\.ya?ml)", line (\d+)', text)
    if place:
        return AsrbuildError(
            f"not YAML: {str(error).splitlines()[0]}, line {place[2]}",
            file=place[1],
            fix="mend the file",
        )
    lines = [line for line in str(error).splitlines() if line.strip()]
    first = next((line for line in lines if "HYDRA_FULL_ERROR" not in line), repr(error))
    if first.endswith(":") and first != lines[-1]:
        first += f" {lines[lines.index(first) + 1].strip()}"
    key = re.search(r"full_key: (\S+)", text)
    return AsrbuildError(
        f"the config does not compose: {first}",
        key=key[1] if key else None,
        fix="print what composes with `asrbuild --cfg job`; details with HYDRA_FULL_ERROR=1",
    )


def _unknown_key(text: str) -> AsrbuildError | None:
    found = (
        re.search(r"Could not override '([^']+)'", text)
        or re.search(r"Could not append to config\D*'([^']+)'", text)
        or re.search(r"Key '([^']+)' (?:is )?not in", text)
    )
    if found is None or re.search(r"could not be converted|Invalid value", text):
        return None
    key = re.search(r"full_key: (\S+)", text)
    if key and (key[1].endswith(found[1].split(".")[-1]) or key[1].startswith(f"{found[1]}.")):
        return _unknown(key[1])
    return _unknown(found[1])


def _wanted(key: str) -> str:
    """What a key takes, in words, from the schema."""
    from omegaconf import OmegaConf

    node = OmegaConf.select(OmegaConf.structured(Recipe), key)
    if OmegaConf.is_list(node):
        return f"give a list: {key}=[a,b]"
    if OmegaConf.is_dict(node):
        below = [name for name in recipe_keys() if name.startswith(f"{key}.")]
        return f"it is a section: set {' or '.join(below[:4]) or f'{key}.<name>'}"
    return f"give {_KINDS.get(type(node).__name__, 'one value')}, not null"


def _no_config_dir(folder: str) -> AsrbuildError:
    return AsrbuildError(
        "the config folder does not exist",
        key="--config-dir",
        file=folder,
        fix="give the folder that holds your own model/, source/ ... groups",
    )


def _unknown(name: str) -> AsrbuildError:
    if name.startswith("hydra."):
        return AsrbuildError(
            f"unknown key {name}", key=name, fix="print Hydra's keys with `asrbuild --cfg hydra`"
        )
    known = recipe_keys()
    groups = sorted(path.name for path in conf_dir().iterdir() if path.is_dir())
    close = difflib.get_close_matches(name, dict.fromkeys([*groups, *known]), n=3, cutoff=0.6)
    section = name.rpartition(".")[0]
    listed = [key for key in known if section and key.startswith(section + ".")] or [
        *groups,
        *(key for key in known if "." not in key),
    ]
    return AsrbuildError(
        f"unknown key {name}",
        key=name,
        fix=("did you mean " + " or ".join(close) + "?")
        if close
        else "known here: " + ", ".join(dict.fromkeys(listed)),
    )


def _key_with_value(overrides: list[str], value: str) -> str:
    for override in overrides:
        key, separator, given = override.partition("=")
        if separator and value in given.split(","):
            return key.lstrip("+~")
    return "a key"


def recipe_keys() -> list[str]:
    """Every dotted key of the recipe, from its schema; sections that are null have none."""

    def walk(section: Any, prefix: str) -> Iterator[str]:
        for declared in fields(section):
            yield f"{prefix}{declared.name}"
            value = getattr(section, declared.name)
            if is_dataclass(value):
                yield from walk(value, f"{prefix}{declared.name}.")

    return list(walk(Recipe(), ""))
