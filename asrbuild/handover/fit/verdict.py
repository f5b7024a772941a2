"""Applies the rules to a package, and compares the verdicts with devices' plans."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from asrbuild.coreml.executor.package import open_package
from asrbuild.coreml.stored import compression
from asrbuild.handover.fit.operations import Operation, functions_of, walk
from asrbuild.handover.fit.planned import Planned
from asrbuild.handover.fit.predicates import PackageFacts
from asrbuild.handover.fit.rules import RULES, VERDICTS, UnitRule, UnitVerdict

if TYPE_CHECKING:
    from asrbuild.artifact.manifest import Manifest
    from asrbuild.proof.ranges import Reach


@dataclass(frozen=True)
class RuleFinding:
    """The verdict of one rule on a package.

    Args:
        function: the function of its operations; empty for the whole package.
        subject: the kinds and numbers of operations, or parts of the package.
        paths: paths of the operations.
        planned: the number of them that plans support on the Neural Engine, and in all answers.
    """

    rule: UnitRule
    function: str
    subject: str
    paths: tuple[str, ...] = ()
    planned: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Hits:
    """The agreement of a rule with the plans of devices: hits and misses.

    A blocked operation that a plan supports on the Neural Engine is a miss, and so is an eligible
    operation that it does not support. An operation without an answer does not count.
    """

    hits: int
    misses: int


@dataclass(frozen=True)
class Fit:
    """The verdicts of the rules on a package.

    Args:
        verdicts: (function, path of an operation) -> its strongest verdict.
        findings: strongest verdict first, then in the order of the table.
        unnamed: (function, kinds and numbers of operations) without a rule.
        planned: plans and times of these bytes on devices.
        borne_out: id of a rule -> its hits and misses; empty without plans.
    """

    package: PackageFacts
    verdicts: Mapping[tuple[str, str], UnitVerdict]
    findings: tuple[RuleFinding, ...]
    unnamed: tuple[tuple[str, str], ...]
    planned: tuple[Planned, ...]
    borne_out: Mapping[str, Hits]

    def ids(self, *verdicts: UnitVerdict) -> tuple[str, ...]:
        """Ids of the rules with these verdicts that apply, in the table's order."""
        return tuple(dict.fromkeys(f.rule.id for f in self.findings if f.rule.verdict in verdicts))

    def paths(self, function: str, verdict: UnitVerdict) -> frozenset[str]:
        """Paths of a function's operations with this strongest verdict."""
        return frozenset(
            path
            for (name, path), found in self.verdicts.items()
            if (name, found) == (function, verdict)
        )


def read_package(
    path: Path, compute_units: str | None = None, large: Sequence[tuple[str, float]] = ()
) -> PackageFacts:
    """Reads the facts of a package for the rules; weights stay on disk.

    Args:
        compute_units: those that its manifest recommends.
        large: see ``PackageFacts.large``.

    Raises:
        AsrbuildError: the package does not exist or is damaged.
    """
    opened = open_package(path)
    return PackageFacts(
        functions_of(opened),
        opened.spec.specificationVersion,
        compression(opened.spec, opened.spec.WhichOneof("Type")),
        compute_units,
        tuple(large),
    )


def fit_of_artifact(
    artifact: Path,
    manifest: Manifest,
    reaches: Iterable[Reach] = (),
    planned: Iterable[Planned] = (),
) -> Fit:
    """The verdicts of the rules on an artifact: its package, manifest and values of its proof."""
    from asrbuild.artifact.named_files import package_path
    from asrbuild.proof.ranges import reaching

    units = manifest.model.recommended_compute_units
    large = [(reach.node, reach.largest) for reach in reaching(reaches)]
    return fit_of(read_package(package_path(artifact, manifest), units, large), planned)


def fit_of(package: PackageFacts, planned: Iterable[Planned] = ()) -> Fit:
    """The verdicts of the rules on a package, and the measurements that confirm or refute them."""
    plans = tuple(planned)
    verdicts: dict[tuple[str, str], UnitVerdict] = {}
    findings: list[RuleFinding] = []
    unnamed: list[tuple[str, str]] = []
    for function in package.functions:
        operations = list(walk(function.operations))
        naming = {op.path: _rules_naming(op) for op in operations}
        own: dict[str, UnitVerdict] = {
            path: min((rule.verdict for rule in rules), key=VERDICTS.index, default="not known")
            for path, rules in naming.items()
        }
        verdicts |= {(function.name, path): verdict for path, verdict in own.items()}
        for rule in RULES:
            named = [
                op
                for op in operations
                # A blocked operation is not eligible as well.
                if rule in naming[op.path]
                and (rule.verdict != "eligible" or own[op.path] == "eligible")
            ]
            if named:
                paths = tuple(op.path for op in named)
                tally = _tally(named, plans)
                findings.append(RuleFinding(rule, function.name, _kinds(named), paths, tally))
        if rest := [op for op in operations if not naming[op.path]]:
            unnamed.append((function.name, _kinds(rest)))
    for rule in RULES:
        if rule.names_package is not None:
            findings += [RuleFinding(rule, "", subject) for subject in rule.names_package(package)]
    findings.sort(key=lambda each: VERDICTS.index(each.rule.verdict))
    borne_out = (
        {rule.id: hits for rule in RULES if (hits := _hits(rule, findings))} if plans else {}
    )
    return Fit(package, verdicts, tuple(findings), tuple(unnamed), plans, borne_out)


def _rules_naming(operation: Operation) -> list[UnitRule]:
    return [
        rule
        for rule in RULES
        if rule.names_operation is not None and rule.names_operation(operation)
    ]


def _kinds(operations: Sequence[Operation]) -> str:
    """``lstm, 3 less``: kinds and numbers, in the order of the program."""
    counts: dict[str, int] = {}
    for operation in operations:
        counts[operation.kind] = counts.get(operation.kind, 0) + 1
    return ", ".join(f"{n} {kind}" if n > 1 else kind for kind, n in counts.items())


def _tally(operations: Sequence[Operation], plans: Sequence[Planned]) -> tuple[int, int]:
    """The number of plans' answers for these operations: on the Neural Engine, and all."""
    answers = list(_answers({op.results[0].name for op in operations if op.results}, plans))
    return sum(answers), len(answers)


def _answers(outputs: set[str], plans: Sequence[Planned]) -> Iterator[bool]:
    # A plan without the Neural Engine among its units does not count.
    asked = (plan for plan in plans if plan.answered and plan.units in ("ALL", "CPU_AND_NE"))
    for plan in asked:
        for row in plan.ops:
            if row.output in outputs and row.preferred is not None:
                yield "NE" in row.supported


def _hits(rule: UnitRule, findings: Sequence[RuleFinding]) -> Hits | None:
    tallies = [f.planned for f in findings if f.rule is rule]
    on, all_ = (sum(column) for column in zip(*tallies, strict=True)) if tallies else (0, 0)
    if not all_ or rule.verdict not in ("blocked", "eligible"):
        return None
    return Hits(on, all_ - on) if rule.verdict == "eligible" else Hits(all_ - on, on)


def summary(fit: Fit) -> str:
    """The rules that apply to a package, in one line: ``blocked R01 R03, contested R05``."""
    sides = ((verdict, fit.ids(verdict)) for verdict in ("blocked", "contested"))
    return (
        ", ".join(f"{verdict} {' '.join(ids)}" for verdict, ids in sides if ids)
        or "no rule against it"
    )
