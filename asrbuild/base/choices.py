"""The values that a recipe key can have, and the packaged files of ``conf/``, without Hydra."""

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
    """The content of a packaged file of ``conf/``, with the files it inherits; None if absent."""
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
    """Metadata for a dataclass field with a closed set of values, or of values by name.

    Args:
        values: a sequence, or a ``Literal`` type: OmegaConf does not support ``Literal`` fields.
    """
    return {"choices": get_args(values) or tuple(values)}


def choice(default: str | None, values: Any) -> Any:
    """A dataclass field with a closed set of values; ``values`` as in :func:`choices`."""
    return field(default=default, metadata=choices(values))
