"""Settings of every test process."""

from __future__ import annotations

import os
import tempfile

from hypothesis import settings

# Test processes share the cores; BLAS threads of each would spin on the others'. Set before numpy
# is imported, and inherited by the commands that tests start.
for _variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")
# The kernels that the reference asks for; a process that has TensorFlow already keeps its own.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

# A busy machine is no failure: what is tested is what comes out, never how long it takes.
settings.register_profile("asrbuild", deadline=None)
settings.load_profile("asrbuild")

# What was made and proven is remembered for the time of the tests only.
os.environ.setdefault("ASRBUILD_STATE", tempfile.mkdtemp(prefix="asrbuild-tests-state-"))
