"""``asrbuild diff``: the changes between two versions, and their consequences for an app."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from asrbuild.base import terminal
from asrbuild.base.progress import bars
from asrbuild.base.tables import bare, show
from asrbuild.cli.devices import measured_rows
from asrbuild.cli.options import ArtifactsOption, DataOption, JsonOption

if TYPE_CHECKING:
    from rich.text import Text

    from asrbuild.handover.difference import ArtifactDifference, Change, ErrorRate, Side

_COLOURS = {
    "must change code": "bold red",
    "must know": "yellow",
    "may lose": "yellow",
    "other words": "yellow",
    "may gain": "green",
    "can do more": "green",
    "nothing changed": "green",
}
_SHORT = 80


def diff(
    before: Annotated[
        str,
        typer.Argument(help="The one in use: name@version, a path, a .asrb, REMOTE#NAME@CHANNEL."),
    ],
    after: Annotated[str, typer.Argument(help="The new one, named in the same ways.")],
    data: DataOption = None,
    artifacts: ArtifactsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the changes between two artifacts, and whether an app must change its code.

    The interface is compared for an app that was written for the first: what it feeds, reads and
    computes. Then transcripts, recipe, sources, tools, operations, sizes and the proof, and the
    version that the second should have; with --data, also word errors of both. Of a remote's
    artifact only the description is fetched.

    Examples:
        asrbuild diff demo-static-mlprogram demo-dynamic-mlprogram
        asrbuild diff remote#demo-static-mlprogram@beta demo-static-mlprogram
    """
    from asrbuild.base.places import artifacts_root
    from asrbuild.handover.difference import compare
    from asrbuild.handover.ship.opening import opened

    root = artifacts or artifacts_root()
    with ExitStack() as stack:
        paths = [
            stack.enter_context(
                opened(
                    spec,
                    root,
                    lambda line: terminal.say(line, err=True),
                    description_only=data is None,
                    evidence=True,
                )
            )
            for spec in (before, after)
        ]
        evaluated = _evaluate(data, paths) if data is not None else None
        difference = compare(_side(paths[0]), _side(paths[1]), evaluated)
    if as_json:
        terminal.say_json(_as_json(difference))
    else:
        _print(difference)


def _side(path: Path) -> Side:
    from asrbuild.artifact.named_files import package_path
    from asrbuild.artifact.reading import read_manifest
    from asrbuild.handover.difference import Side

    manifest = read_manifest(path)
    devices = {row.label: (row.planned, row.timed) for row in measured_rows(path)}
    return Side(manifest, package_path(path, manifest), devices)


def _evaluate(data: Path, paths: list[Path]) -> ErrorRate | None:
    """The word error rates of both artifacts, each with its own decoder."""
    from asrbuild.cli.decoding import DecoderChoice
    from asrbuild.cli.measuring import decoders_for, evaluate_one, spelled_dataset
    from asrbuild.handover.difference import error_rate
    from asrbuild.speech.dataset import read_dataset

    spelled = spelled_dataset(paths, read_dataset(data), data, count_all=False)
    dataset = spelled.counted
    if spelled.remark:
        terminal.say(f"note: {spelled.remark}", err=True)
    decoders = [decoders_for(path, [None], DecoderChoice()) for path in paths]
    with bars() as shown:
        results = [
            evaluate_one(name, path, dataset, decoder, shown)[0]
            for name, path, decoder in zip(("before", "now"), paths, decoders, strict=True)
        ]
    old, new = (result.rates.utterances for result in results)
    expected = [each.expected for each in old]
    return error_rate(
        str(data), expected, [each.transcript for each in old], [each.transcript for each in new]
    )


def _as_json(difference: ArtifactDifference) -> dict[str, Any]:
    from dataclasses import asdict

    rates = [
        asdict(rate) | {"before": rate.before, "now": rate.now} for rate in difference.error_rates
    ]
    return asdict(difference) | {
        "must_change_code": difference.must_change_code,
        "may_gain": difference.may_gain,
        "error_rates": rates,
    }


def _print(difference: ArtifactDifference) -> None:
    from itertools import groupby

    console = terminal.console()
    console.print(f"{difference.before}  ->  {difference.now}", soft_wrap=True)
    colour = _COLOURS[difference.verdict]
    console.print(_VERDICTS[difference.verdict], style=colour)
    for reason in difference.reasons:
        console.print(f"  {_shortened(reason)}", soft_wrap=True)
    console.print(f"version: {_version_text(difference)}", soft_wrap=True)
    for section, group in groupby(difference.changes, lambda change: change.section):
        headings = ("what", "before", "now") + (("", "") if section == "interface" else ())
        table = bare(section, *headings)
        for change in group:
            table.add_row(*_cells(change))
        console.print()
        show(table)


_VERDICTS = {
    "must change code": "An app must change its code.",
    "must know": "No code has to change, but input or waiting times differ.",
    "may gain": "No code has to change, and an app may gain.",
    "may lose": "No code has to change, but an app may lose.",
    "other words": "No code has to change; transcripts may differ.",
    "nothing changed": "Nothing that an app notices has changed.",
}


def _cells(change: Change) -> list[str | Text]:
    cells: list[str | Text] = [
        change.what,
        *(_value(change, v) for v in (change.before, change.now)),
    ]
    if change.relation is not None:
        colour = _COLOURS[change.effect]
        cells += [terminal.line(change.relation.value, colour), change.why]
    return cells


def _value(change: Change, value: str | int) -> str:
    from asrbuild.base.quantities import size_text

    if isinstance(value, int):
        return size_text(value) if change.section == "size" else str(value)
    return value


def _shortened(text: str) -> str:
    return text if len(text) <= 2 * _SHORT else f"{text[:_SHORT]} ... {text[-_SHORT:]}"


def _version_text(difference: ArtifactDifference) -> str:
    suggestion = difference.suggestion
    if suggestion.bump == "none":
        return f"no new one: {suggestion.reason}"
    if suggestion.version is None:
        return f"a {suggestion.bump} step: {suggestion.reason}"
    text = f"{suggestion.version} ({suggestion.bump}: {suggestion.reason})"
    if suggestion.enough:
        return f"{text}; {suggestion.given} is enough"
    return f"{text}; it has {suggestion.given}: build it with version={suggestion.version}"
