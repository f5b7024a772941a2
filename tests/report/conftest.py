"""The reports are of real packages, which the parity tests know how to build."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "parity"))
