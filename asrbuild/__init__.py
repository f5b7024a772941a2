"""asrbuild: a declarative build system for speech recognition models.

A Hydra config becomes a versioned Core ML artifact with a runtime manifest, executed and compared
with its TensorFlow original before it is published.
"""

from __future__ import annotations

__version__ = "0.1.0"
