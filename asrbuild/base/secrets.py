"""Removes passwords, tokens and home folders from text that is published."""

from __future__ import annotations

import os
import re

#: Pattern of a secret -> its replacement.
_SECRETS = (
    (re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)[^/@\s]*@"), r"\1"),  # user:password@host
    (
        re.compile(
            r"([?&;](?:[a-z_-]*(?:token|signature|secret|password|passwd|api_?key)|sig|x-amz-[a-z-]+)=)"
            r"[^&\s'\"]+",
            re.IGNORECASE,
        ),
        r"\1***",
    ),
    (
        re.compile(
            r"\b(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|hf_[A-Za-z0-9]{20,}"
            r"|glpat-[\w-]{20,}|(?:AKIA|ASIA)[0-9A-Z]{16}|xox[abprs]-[\w-]{10,}|sk-[\w-]{20,})"
        ),
        "***",
    ),
    (re.compile(r"(?<![\w.~-])/(?:home|Users)/[^/\s'\"]+"), "~"),
)


def without_secrets(text: str) -> str:
    """The text without passwords in addresses, tokens and home folders."""
    home = os.path.expanduser("~")
    if len(home) > 1 and os.path.isabs(home):
        text = re.sub(rf"{re.escape(home)}(?![\w.-])", "~", text)
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return text
