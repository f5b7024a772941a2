"""Rules for names and versions of artifacts."""

from __future__ import annotations

import re

#: Names and versions become folders, object keys and parts of addresses, so their characters are
#: safe in a path, a shell, a registry and Windows. A version may have a digest behind a plus.
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,78}[A-Za-z0-9_-])?")
_VERSION = re.compile(_NAME.pattern + r"(\+[A-Za-z0-9._-]{0,38}[A-Za-z0-9_-])?")
#: Devices that Windows opens by these names in every folder, whatever follows the dot.
DEVICES = frozenset(
    ["con", "prn", "aux", "nul", *(f"{kind}{n}" for kind in ("com", "lpt") for n in "123456789")]
)
NAME_RULE = (
    "use up to 80 letters, digits, '.', '_' and '-', starting with a letter or a digit, not ending "
    "in a dot; `latest` and Windows' device names (con, nul, com1 ...) are taken"
)


def is_name(text: str) -> bool:
    """Whether a text is a valid name of an artifact, here and on every remote, by ``NAME_RULE``."""
    return _NAME.fullmatch(text) is not None and _is_free(text)


def is_version(text: str) -> bool:
    """Whether a text is a valid version: a name, optionally with a plus and a digest."""
    return _VERSION.fullmatch(text) is not None and _is_free(text)


def _is_free(text: str) -> bool:
    return text != "latest" and text.split(".")[0].lower() not in DEVICES
