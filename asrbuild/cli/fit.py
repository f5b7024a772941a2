"""``asrbuild fit``: facts about a package and the Neural Engine, without a device."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from asrbuild.base import terminal
from asrbuild.base.errors import AsrbuildError, MisuseError
from asrbuild.base.tables import bare, show
from asrbuild.cli.devices import planned_of
from asrbuild.cli.options import ArtifactsOption, JsonOption

if TYPE_CHECKING:
    from asrbuild.artifact.manifest import Manifest
    from asrbuild.handover.fit.counts import CallFigures
    from asrbuild.handover.fit.page import Fed
    from asrbuild.handover.fit.rules import UnitRule
    from asrbuild.handover.fit.verdict import Fit


def fit(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL",
            help="A .mlpackage, a .mlmodel, or an artifact: a name, name/version, a path, a .asrb, "
            "or REMOTE#NAME@VERSION.",
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(min=1, help="The size of every flexible axis in the call that is counted."),
    ] = None,
    rules: Annotated[
        bool, typer.Option("--rules", help="Print the table of rules with their sources.")
    ] = False,
    artifacts: ArtifactsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what blocks a Core ML package from the Neural Engine, and what it computes.

    Parts of the package are blocked, contested or eligible, each by a rule with its sources, or
    not known; planned and timed come from devices alone. Multiply-adds, weights and tensors are
    exact. There is no figure of time without a device.

    Examples:
        asrbuild fit demo-static-mlprogram
        asrbuild fit --rules
    """
    if rules:
        _print_rules(as_json)
        return
    if model is None:
        raise MisuseError("fit requires a MODEL", fix="name an artifact or a package, or --rules")
    from asrbuild.cli.packages import opened_package

    with opened_package(model, artifacts) as package:
        _show(model, package, steps, artifacts, as_json)


def _print_rules(as_json: bool) -> None:
    from asrbuild.handover.fit.page import rule_rows
    from asrbuild.handover.fit.rules import RULES, as_dict

    if as_json:
        terminal.say_json([as_dict(rule) for rule in RULES])
        return
    for rule in RULES:
        table = bare(f"{rule.id}  {rule.verdict}: {rule.about}", "", "")
        for name, text in rule_rows(rule):
            table.add_row(f"  {name}", text)
        show(table)


def _show(
    model: str, package: Path, steps: int | None, artifacts: Path | None, as_json: bool
) -> None:
    from asrbuild.base.places import artifacts_root
    from asrbuild.handover.fit.page import advice, content, fed_by
    from asrbuild.handover.fit.verdict import fit_of, read_package

    manifest = _manifest(package)
    units = None if manifest is None else manifest.model.recommended_compute_units
    planned = planned_of(package, artifacts or artifacts_root())
    found = fit_of(read_package(package, units), planned)
    counts, failures = _counts(package, found, steps)
    fed = {} if manifest is None else fed_by(manifest, counts)
    advised = []
    if manifest is not None:
        # Manifests of other architectures have no form of an LSTM.
        advised = advice(found, manifest.model.format, getattr(manifest.model, "lstm", None))
    if as_json:
        values = content(found, counts, fed, advised)
        terminal.say_json({"model": model, **values, "not_counted": failures})
    else:
        _print(model, found, counts, fed, advised, failures)


def _manifest(package: Path) -> Manifest | None:
    """The manifest of a package's artifact; None for a package outside of an artifact."""
    from asrbuild.artifact.layout import MANIFEST
    from asrbuild.artifact.named_files import package_path
    from asrbuild.artifact.reading import read_manifest

    if not (package.parent / MANIFEST).is_file():
        return None
    manifest = read_manifest(package.parent)
    inside = package_path(package.parent, manifest)
    return manifest if inside.resolve() == package.resolve() else None


def _counts(
    package: Path, found: Fit, steps: int | None
) -> tuple[dict[str, CallFigures], dict[str, str]]:
    """The figures of each function, and the reasons for functions without figures."""
    from asrbuild.handover.fit.counts import count

    counts, failures = {}, {}
    for function in found.package.functions:
        try:
            counts[function.name] = count(package, function, steps)
        except AsrbuildError as error:
            failures[function.name] = error.message
    return counts, failures


def _print(
    model: str,
    found: Fit,
    counts: dict[str, CallFigures],
    fed: dict[str, Fed],
    advised: list[tuple[UnitRule, str]],
    failures: dict[str, str],
) -> None:
    from asrbuild.handover.fit import page

    console = terminal.console()
    console.print(model, style="bold", soft_wrap=not terminal.is_terminal())
    about: list[tuple[str, str]] = page.device_rows(found) or [("Neural Engine", page.NO_DEVICE)]
    _rows("", about)
    table = bare("", "verdict", "what", "of weights", "of multiply-adds", "rule")
    for row in page.verdict_rows(found, counts):
        table.add_row(*row)
    console.print()
    show(table)
    for name, each in counts.items():
        sizes = ", ".join(f"{key} {shape}" for key, shape in each.sizes.items())
        of = fed.get(name, page.Fed())
        audio = f", {of.seconds:g} s of audio" if of.seconds else ""
        _rows(f"Work of one call of {name}{audio}: {sizes}", page.work_rows(each, of))
    last = [(f"no figures of {name}", message) for name, message in failures.items()]
    if not any(plan.p50_ms is not None for plan in found.planned):
        last.append(("latency", page.NO_LATENCY))
    last.append(("memory", page.NO_MEMORY))
    last += [(f"advice on {rule.id}", page.command(choice)) for rule, choice in advised]
    last += [("", page.MEASURE)] if advised else []
    last += [
        (f"{rule} borne out", f"{hits.hits} hits, {hits.misses} misses")
        for rule, hits in found.borne_out.items()
    ]
    _rows("", last)


def _rows(title: str, rows: list[tuple[str, Any]]) -> None:
    console = terminal.console()
    if title:
        console.print()
    table = bare(title, "", "")
    for name, text in rows:
        table.add_row(name, text)
    show(table)
