"""A stand-in for the parts of coremltools that measure.py uses; asrbuild's executor answers.

Names, arguments and missing values follow coremltools 9.0. It shows that the kit runs and writes
its file; it cannot show the behaviour of Core ML.
"""

from __future__ import annotations

import importlib.machinery
import sys
from enum import Enum
from pathlib import Path

from asrbuild.coreml import protobufs

_elsewhere = [path for path in sys.path if Path(path) != Path(__file__).parents[1]]
_real = importlib.machinery.PathFinder.find_spec("coremltools", _elsewhere)
assert _real is not None
assert _real.origin is not None
_proto = Path(_real.origin).parent / "proto"
protobufs._proto_directory = lambda: _proto

__version__ = "9.0"


class ComputeUnit(Enum):
    ALL = 1
    CPU_AND_GPU = 2
    CPU_ONLY = 3
    CPU_AND_NE = 4


class ReshapeFrequency(Enum):
    Frequent = 1
    Infrequent = 2


class SpecializationStrategy(Enum):
    Default = 1
    FastPrediction = 2


from coremltools import models  # noqa: E402, F401 - as coremltools imports it
