"""Configuration folders: checks that they set values only, and cannot run code."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import Any

from asrbuild.base.choices import conf_dir
from asrbuild.base.disk import read_plain
from asrbuild.base.errors import AsrbuildError

#: The variable, and flag, that allows a configuration folder to do more than set values.
TRUST_CONFIG = "ASRBUILD_TRUST_CONFIG"


def check_folders(argv: list[str]) -> list[str]:
    """Raises if a configuration folder can run code, or for Hydra's replay of a pickled job.

    A configuration folder sets values. Hydra's own settings in it (callbacks, logging, launchers,
    environment variables), ``_target_`` and ``decoder.interpreter`` name code to run, and only the
    user may set ``paths.env`` and ``paths.trust_shared``: these require the flag
    ``--trust-config``, or ``ASRBUILD_TRUST_CONFIG=1``. The command line may set any of them.

    Returns:
        The arguments without the flag.

    Raises:
        AsrbuildError: it names the file and the key.
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
        for path in _yaml_files(folder):
            # A file that is not YAML is refused when Hydra reads it.
            with contextlib.suppress(_UnreadableError):
                _check_file(path, path.relative_to(folder).with_suffix("").as_posix())
    return argv


def require_folder(folder: str) -> None:
    """Raises if a configuration folder does not exist."""
    if not Path(folder).is_dir():
        raise AsrbuildError(
            "the config folder does not exist",
            key="--config-dir",
            file=folder,
            fix="give the folder that holds your own model/, source/ ... groups",
        )


def check_files_of_hydra() -> None:
    """Makes Hydra check every file that it reads, including those behind links and ``..``."""
    from hydra._internal.sources_registry import SourcesRegistry
    from hydra.core.plugins import Plugins

    Plugins.instance()  # this makes a new class and registers it
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
    source.load_config = checked  # type: ignore[method-assign]  # Hydra has no hook for it


def _foreign_folders(argv: list[str]) -> list[Path]:
    """The configuration folders of a command line, other than the packaged one."""
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


def _yaml_files(folder: Path) -> list[Path]:
    """The YAML files in a configuration folder and below it, sorted.

    Raises:
        AsrbuildError: it has more files than a configuration folder can have.
    """
    found: list[Path] = []
    count = 0
    for inside, _, files in os.walk(folder):
        count += 1 + len(files)
        if count > _MOST_FILES:
            raise AsrbuildError(
                f"the config folder has more than {_MOST_FILES:,} files and folders",
                key="--config-dir",
                file=folder,
                fix="give a folder that holds your own model/, source/ ... groups alone",
            )
        found += (Path(inside, name) for name in files if name.endswith((".yaml", ".yml")))
    return sorted(found)


class _UnreadableError(AsrbuildError):
    """A file of a configuration folder is not YAML, or is larger than a configuration."""


#: Limits of a file: bytes, values with aliases expanded, and depth. OmegaConf takes a second for
#: 10,000 values, or for 200 texts with an interpolation.
_MOST_BYTES, _MOST_VALUES, _DEEPEST = 1 << 20, 10_000, 100
#: Limit of files and folders in a configuration folder.
_MOST_FILES = 10_000
#: An interpolation counts as this number of values.
_INTERPOLATION = 50


def _check_file(path: Path, asked_as: str) -> None:
    """Raises if a file expands without end, or sets a key that a folder must not set.

    Args:
        path: the file.
        asked_as: its group and choice, such as ``model/mine``.
    """
    import yaml
    from hydra.plugins.config_source import ConfigSource
    from omegaconf._utils import get_yaml_loader

    try:
        text = read_plain(path, _MOST_BYTES).decode("utf-8")
        _check_size(text)
        # Hydra's own loader, so that both see the same values.
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
    """Raises if a YAML text has too many values, with its aliases expanded.

    Raises:
        _UnreadableError: there are too many values, they are nested too deep, or a value holds
        itself.
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
            size = 1 + _INTERPOLATION * event.value.count("${")
            if event.anchor is not None:
                sizes[event.anchor] = size
        else:
            continue
        anchor, before = opened[-1]
        opened[-1] = anchor, before + size
        if before + size > _MOST_VALUES:
            raise _UnreadableError(
                f"the file has more than {_MOST_VALUES:,} values with its aliases written out",
                fix="write fewer values",
            )
        if len(opened) > _DEEPEST:
            raise _UnreadableError(
                f"values are nested more than {_DEEPEST} deep", fix="nest them less"
            )


def _power(content: Any, prefix: str = "") -> str | None:
    """The first key of a config that can run code; None if it only sets values."""
    if isinstance(content, dict):
        for name, value in content.items():
            key = f"{prefix}{name}"
            if str(name) in ("_target_", "()"):
                return key
            if str(name) == "interpreter" and value:
                return "decoder.interpreter"
            if str(name) in ("env", "trust_shared") and value:
                return f"paths.{name}"
            # The packaged configuration switches Hydra's own logging off, too.
            switched_off = prefix == "defaults." and value == "none"
            if re.search(r"(^|[/@. ])hydra\b", str(name)) and not switched_off:
                return key
            # A package name composed of pieces, such as `dra@hy_name_`.
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
