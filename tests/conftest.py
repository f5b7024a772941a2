"""What every test process starts with."""

from __future__ import annotations

import os

# Test processes share the cores; BLAS threads of each would spin on the others'. Set before numpy
# is imported, and inherited by the commands that tests start.
for _variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")
