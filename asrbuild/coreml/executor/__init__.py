"""Runs Core ML packages anywhere: ``load(path).predict({...})``.

The reference executor is plain numpy on the saved bytes; it needs neither Core ML nor coremltools'
own code, only its protobuf definitions.
"""

from __future__ import annotations

from asrbuild.coreml.executor.model import Model, State, load
from asrbuild.coreml.executor.signature import Enumerated, Feature, Fixed, Ranged
from asrbuild.coreml.executor.table import supported_ops

__all__ = [
    "Enumerated",
    "Feature",
    "Fixed",
    "Model",
    "Ranged",
    "State",
    "load",
    "supported_ops",
]
