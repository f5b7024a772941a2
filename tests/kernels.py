"""The kernels of numpy's OpenBLAS that this processor runs; ``OPENBLAS_CORETYPE`` chooses one.

``python -m tests.kernels`` prints those that a process accepts, without its default; a reason on
standard error if there are none.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from functools import cache
from pathlib import Path

VARIABLE = "OPENBLAS_CORETYPE"
#: Requested name -> the processor's flag in Linux, and the name that OpenBLAS then reports.
#: Prescott multiplies and adds in two roundings, as Sandybridge does with wider registers; Haswell
#: and SkylakeX in one.
KERNELS = {
    "Prescott": ("pni", "Katmai"),
    "Sandybridge": ("avx", "Sandybridge"),
    "Haswell": ("avx2", "Haswell"),
    "SkylakeX": ("avx512bw", "SkylakeX"),
}
_ASK = (
    "import numpy, threadpoolctl\n"
    "for library in threadpoolctl.threadpool_info():\n"
    "    print(library['internal_api'], library.get('architecture'))\n"
)


def environment(kernel: str | None) -> dict[str, str]:
    """This process's environment, with a requested kernel, or without."""
    without = {name: value for name, value in os.environ.items() if name != VARIABLE}
    return without | ({VARIABLE: kernel} if kernel else {})


def taken(kernel: str | None) -> str | None:
    """The kernel that a process with numpy reports; None if numpy has no OpenBLAS."""
    done = subprocess.run(
        [sys.executable, "-c", _ASK],
        env=environment(kernel),
        capture_output=True,
        text=True,
        check=True,
    )
    libraries = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    return libraries.get("openblas")


@cache
def supported() -> tuple[str, ...]:
    """The names of ``KERNELS`` that this processor runs and that numpy takes when asked."""
    if platform.machine() not in ("x86_64", "AMD64") or not Path("/proc/cpuinfo").exists():
        return ()
    has = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    return tuple(
        name for name, (needs, says) in KERNELS.items() if needs in has and taken(name) == says
    )


def why_not() -> str:
    """The reason why there are no kernels to choose from; empty if there are."""
    return "" if len(supported()) > 1 else "numpy here has no OpenBLAS with kernels for x86-64"


def main() -> None:
    if why_not():
        print(why_not(), file=sys.stderr)
    own = taken(os.environ.get(VARIABLE))
    print(*(name for name in supported() if KERNELS[name][1] != own))


if __name__ == "__main__":
    main()
