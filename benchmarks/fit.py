"""The rules of ``asrbuild fit`` against packages whose placement others have measured.

    uv run --group dev --extra build benchmarks/fit.py

For each data set: how many blocked packages the rules call blocked (right) or not (missed), how
many supported ones they call blocked (false), and how many packages have an operation that no rule
names.

The table of rules was written from these very data sets, so this shows that the table agrees with
them for packages of coremltools; it shows nothing about other chips, systems and packages.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Tally:
    """The counts of one data set; ``wrong`` names the packages that were missed or false."""

    right: int
    missed: int
    false: int
    unnamed: int
    wrong: tuple[str, ...]


def tally(judged: Iterable[tuple[str, bool, set[str]]]) -> Tally:
    """Counts packages, given as (name, whether it is blocked, verdicts of its operations)."""
    right = missed = false = unnamed = 0
    wrong = []
    for name, blocked, verdicts in judged:
        said = "blocked" in verdicts
        right += said == blocked
        missed += blocked and not said
        false += said and not blocked
        unnamed += "not known" in verdicts
        if said != blocked:
            wrong.append(name)
    return Tally(right, missed, false, unnamed, tuple(wrong))


def verdicts_of(package: Path) -> set[str]:
    """The strongest verdict of each operation of a package."""
    from asrbuild.handover.fit.verdict import fit_of, read_package

    return set(fit_of(read_package(package)).verdicts.values())


#: Op lists of packages that others shipped, with the ops that their plans put on the CPU alone.
#: Sources: FluidInference/mobius models/stt/parakeet-tdt-v3-0.6b/coreml/OPTIMIZATION.md and
#: FluidInference/FluidAudio Documentation/ANE_Candidates.md.
SHIPPED = {
    "Parakeet v3 decoder": "lstm",
    "Parakeet EOU decoder": "lstm",
    "Nemotron decoder_joint": "lstm",
    "Kokoro PostAlbert": "lstm",
}


def named(kind: str) -> set[str]:
    """The verdict on an operation of which only the kind is known."""
    from asrbuild.handover.fit.operations import Operation
    from asrbuild.handover.fit.rules import RULES, VERDICTS

    operation = Operation("op", kind, {}, ())
    found = [r.verdict for r in RULES if r.names_operation and r.names_operation(operation)]
    return {min(found, key=VERDICTS.index, default="not known")}


def main() -> int:
    description, _, _ = (__doc__ or "").partition("\n")
    argparse.ArgumentParser(description=description).parse_args()
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from tests.handover.fit.labels import CASES, save

    with tempfile.TemporaryDirectory() as folder:
        measured = [(c.name, c.blocked, verdicts_of(save(c, Path(folder)))) for c in CASES]
    sets = {
        f"751K opdispatch, M4, macOS 27.0.1: {len(CASES)} packages of one op": tally(measured),
        f"op lists of shipped graphs, M4 Pro and M5: {len(SHIPPED)} ops on the CPU": tally(
            (name, True, named(kind)) for name, kind in SHIPPED.items()
        ),
    }
    for name, found in sets.items():
        print(name)
        print(
            f"  right {found.right}, missed {found.missed}, false {found.false}, "
            f"with an op that no rule names {found.unnamed}"
        )
        for each in found.wrong:
            print(f"  wrong: {each}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
