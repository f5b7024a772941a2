"""Marks of tests that require a program which not every machine has."""

from __future__ import annotations

import pytest

from asrbuild.coreai.environment import unsupported
from asrbuild.speech.deepspeech_decoder import environment

_STATUS = environment.status()
needs_ds_ctcdecoder = pytest.mark.skipif(
    not _STATUS.ready and _STATUS.python is None, reason=f"no ds-ctcdecoder: {_STATUS.detail}"
)
needs_core_ai = pytest.mark.skipif(unsupported() is not None, reason=str(unsupported()))
