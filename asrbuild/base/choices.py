"""Choices: the values of a key, and the packaged ``conf/`` of each group, read without Hydra."""

from __future__ import annotations

import functools
from dataclasses import field
from pathlib import Path
from typing import Any, get_args

from asrbuild.base.places import PACKAGE


def conf_dir() -> Path:
    """The packaged ``conf/``: inside the package when installed, next to it in a checkout."""
    installed = PACKAGE / "conf"
    return installed if installed.is_dir() else PACKAGE.parent / "conf"


@functools.cache
def packaged(group: str, choice: str) -> dict[str, Any] | None:
    """A file of the packaged ``conf/`` with those it inherits; None where it is not one."""
    import yaml

    path = conf_dir() / group / f"{choice}.yaml"
    if not path.is_file():
        return None
    values: dict[str, Any] = yaml.load(
        path.read_text("utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    )
    inherited: dict[str, Any] = {}
    for parent in values.pop("defaults", []):
        if isinstance(parent, str) and parent != "_self_":
            inherited |= packaged(group, parent) or {}
    return inherited | values


def choices(values: Any) -> dict[str, tuple[str, ...]]:
    """The metadata of a field with a closed set of values, or of values by name.

    Args:
        values: a sequence, or a ``Literal`` type: OmegaConf takes no ``Literal`` fields.
    """
    return {"choices": get_args(values) or tuple(values)}


def choice(default: str | None, values: Any) -> Any:
    """A field with a closed set of values, as :func:`choices` takes them."""
    return field(default=default, metadata=choices(values))
