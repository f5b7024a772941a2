"""Describes the verdicts and exact figures of a package in words, and as values for JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from asrbuild.base.quantities import size_text
from asrbuild.handover.fit.counts import CallFigures
from asrbuild.handover.fit.rules import UnitRule, as_dict
from asrbuild.handover.fit.verdict import Fit, RuleFinding

if TYPE_CHECKING:
    from asrbuild.artifact.manifest import Manifest
    from asrbuild.proof.ranges import Reach

NO_DEVICE = "not known: no device has run these bytes"
NO_LATENCY = "no figure: no published measurement supports one for a package that no device has run"
NO_MEMORY = "no figure: weights and live tensors are a lower bound alone"
#: The next step after rules and figures.
MEASURE = "then measure CPU_ONLY, CPU_AND_NE and ALL on a device; only that says what is faster"
#: Advice for DeepSpeech models, which are to run on devices.
FIXED_SIZES = "-m model=dynamic_to_static n_steps=16,64,150"
_ML_PROGRAM_ONLY = ("coreml.lstm=unrolled", "coreml.compress", "coreml.state")


@dataclass(frozen=True)
class Fed:
    """An app's calls of one function.

    Args:
        seconds: seconds of audio in one call; None if the package does not state it.
        steps: steps of a call.
        longest: seconds of audio in the longest call; None if no call is longer.
        chunked: whether the last call of a recording is padded with zeros.
        state_bytes: bytes of states that the app passes in and out in a call.
    """

    seconds: float | None = None
    steps: int | None = None
    longest: float | None = None
    chunked: bool = False
    state_bytes: int = 0


def fed_by(manifest: Manifest, counts: Mapping[str, CallFigures]) -> dict[str, Fed]:
    """Function -> an app's calls by the manifest, for each counted function."""
    states = sum(
        2 * math.prod(state.shape) * _FLOAT32
        for state in manifest.state
        if state.kind == "explicit"
    )
    found = {}
    for function in manifest.model.functions:
        # A single function may have different names in package and manifest.
        name = function.name if function.name in counts else next(iter(counts), "")
        inputs = [t for t in function.inputs if t.meaning in ("features", "samples")]
        if name not in counts or not inputs or inputs[0].name not in counts[name].sizes:
            continue
        axes = [axis.name for axis in inputs[0].shape]
        if "steps" not in axes:
            continue
        at, hop = axes.index("steps"), function.streaming.hop_ms / 1000
        steps, most = counts[name].sizes[inputs[0].name][at], inputs[0].shape[at].max
        longest = None if most is None or function.streaming.mode != "whole" else most * hop
        chunked = function.streaming.mode == "chunked"
        found[name] = Fed(steps * hop, steps, longest, chunked, states)
    return found


_FLOAT32 = 4


@dataclass(frozen=True)
class Shares:
    """The share of some operations in a function's weights and multiply-adds."""

    weight_bytes: int
    weights: float
    multiply_adds: int
    products: float


def shares(paths: Sequence[str], counts: CallFigures) -> Shares:
    """The share of these operations; shared weights count for each of them."""
    named = set(paths)
    weights = sum(each.weight_bytes for each in counts.operations)
    own = [each for each in counts.operations if each.path in named]
    own_weights = sum(each.weight_bytes for each in own)
    products = sum(each.multiply_adds or 0 for each in own)
    return Shares(
        own_weights,
        own_weights / weights if weights else 0.0,
        products,
        products / counts.multiply_adds if counts.multiply_adds else 0.0,
    )


def advice(fit: Fit, package_format: str, lstm: str | None) -> list[tuple[UnitRule, str]]:
    """The rules that overrides can avoid, with these overrides, for a package with a recipe.

    Args:
        package_format: the recipe's ``coreml.format``.
        lstm: the form of the network's LSTM; None if the recipe does not decide it.
    """
    found = []
    for rule in dict.fromkeys(finding.rule for finding in fit.findings):
        for choice in rule.advice:
            possible = lstm is not None or "coreml.lstm" not in choice
            # The sizes are DeepSpeech's; another network has its own.
            own = choice if lstm is not None else choice.partition(" n_steps=")[0]
            if package_format != "mlprogram":
                possible &= not any(key in choice for key in _ML_PROGRAM_ONLY)
            if possible:
                found.append((rule, own))
    return found


def command(choice: str) -> str:
    """The arguments of a build for an advised choice; a sweep builds one package for each value."""
    return f"{'-m ' if ',' in choice else ''}{choice}"


def verdict_rows(fit: Fit, counts: Mapping[str, CallFigures]) -> list[tuple[str, ...]]:
    """Rows of verdict, subject, share of weights, share of multiply-adds, rule with its levels."""
    rows: list[tuple[str, ...]] = []
    for finding in fit.findings:
        what = f"{finding.rule.about}: {finding.subject}"
        source = f"{finding.rule.id} {', '.join(finding.rule.levels)}"
        rows.append((_word(finding), what, *_share_texts(finding, counts), source))
    for function, kinds in fit.unnamed:
        rest = tuple(path for path in fit.paths(function, "not known"))
        shown = _share_texts(RuleFinding(_NO_RULE, function, kinds, rest), counts)
        rows.append(("not known", f"no rule names: {kinds}", *shown, ""))
    return rows


_NO_RULE = UnitRule("", "not known", "", "", "", (), (), "")


def _word(finding: RuleFinding) -> str:
    on, answers = finding.planned
    planned = f", planned {on} of {answers}" if answers else ""
    return f"{finding.rule.verdict}{planned}"


def _share_texts(finding: RuleFinding, counts: Mapping[str, CallFigures]) -> tuple[str, str]:
    if not finding.paths or finding.function not in counts:
        return "", ""
    part = shares(finding.paths, counts[finding.function])
    return _percent(part.weight_bytes, part.weights), _percent(part.multiply_adds, part.products)


def _percent(count: int, share: float) -> str:
    return f"{100 * share:.1f} %" if count else "none"


def work_rows(counts: CallFigures, fed: Fed) -> list[tuple[str, str]]:
    """Rows of exact figures for one call, and for a second of audio if its calls are known."""
    c = counts
    rows = [("multiply-adds", f"{c.multiply_adds:,} a call{_a_second(c.multiply_adds, fed)}")]
    uncounted = [each.path for each in c.operations if each.multiply_adds is None]
    if uncounted:
        rows.append(("not counted", ", ".join(uncounted)))
    rows.append(("weights", f"{c.weight_bytes:,} bytes as they are stored"))
    if fed.seconds:
        low, high = (n / fed.seconds for n in (c.weight_bytes, c.weight_reads))
        text = f"{_bytes(low)} if a call reads each once"
        if fed.longest and fed.longest > fed.seconds:
            text += f" ({_bytes(c.weight_bytes / fed.longest)} in calls of {fed.longest:g} s)"
        rows.append(("read a second", f"{text}; {_bytes(high)} if every step reads them again"))
    else:
        rows.append(("read a call", f"{c.weight_bytes:,} to {c.weight_reads:,} bytes"))
    largest = ", ".join(f"{name} {size:,}" for name, size in c.largest)
    rows += [
        ("live tensors", f"at most {c.live_bytes:,} bytes at once, at {c.live_at or 'no op'}"),
        ("largest", f"{largest or 'none'} bytes"),
        ("inputs, outputs", f"{c.io_bytes:,} bytes a call{_a_second(c.io_bytes, fed)}"),
    ]
    state = c.state_bytes + fed.state_bytes
    if state:
        rows.append(("states", f"{state:,} bytes in and out a call{_a_second(state, fed)}"))
    padded = [f"{p.name} {p.size} -> {p.padded}" for p in c.padding if p.padded != p.size]
    if padded:
        rows.append(("padding", f"last axes on the Neural Engine: {', '.join(padded)}"))
    if fed.chunked and fed.steps and fed.steps > 1:
        rows.append(("tail", f"0 to {fed.steps - 1} steps of zeros at the end of a recording"))
    return rows


def _a_second(count: int, fed: Fed) -> str:
    return f", {count / fed.seconds:,.0f} a second of audio" if fed.seconds else ""


def _bytes(count: float) -> str:
    return size_text(round(count))


def device_rows(fit: Fit) -> list[tuple[str, str]]:
    """Rows of measurements of these bytes on devices: plans, which do not show a run, and times."""
    rows = []
    for plan in fit.planned:
        where = f"{plan.device}, {plan.system}, {plan.units}"
        rows.append(
            ("planned", f"{where}: {_plan_text(plan.ops) if plan.answered else 'unanswered'}")
        )
        if plan.p50_ms is not None and plan.p95_ms is not None:
            load = "" if plan.first_load_ms is None else f", first load {plan.first_load_ms:.0f} ms"
            timed = f"{plan.p50_ms:.3g} ms, p95 {plan.p95_ms:.3g} ms, a second of audio"
            rows.append(("timed", f"{where}: {timed}, {plan.passes} passes{load}"))
    return rows


def _plan_text(ops: Sequence[Any]) -> str:
    counts: dict[str, int] = {}
    for op in ops:
        counts[op.preferred or "unanswered"] = counts.get(op.preferred or "unanswered", 0) + 1
    return ", ".join(f"{n} {device}" for device, n in counts.items()) or "no op"


def content(
    fit: Fit,
    counts: Mapping[str, CallFigures],
    fed: Mapping[str, Fed],
    advised: Sequence[tuple[UnitRule, str]],
) -> dict[str, Any]:
    """The whole page as values for JSON; times only from devices."""
    functions = {
        function.name: {
            "verdicts": [
                {"path": path, "verdict": verdict}
                for (name, path), verdict in fit.verdicts.items()
                if name == function.name
            ],
            "counts": _counts(counts.get(function.name)),
            "fed": asdict(fed[function.name]) if function.name in fed else None,
        }
        for function in fit.package.functions
    }
    return {
        "neural_engine": "planned" if any(p.answered for p in fit.planned) else "not known",
        "functions": functions,
        "findings": [
            {
                "rule": finding.rule.id,
                "verdict": finding.rule.verdict,
                "about": finding.rule.about,
                "function": finding.function or None,
                "subject": finding.subject,
                "operations": list(finding.paths),
                "planned": list(finding.planned) if finding.planned[1] else None,
            }
            for finding in fit.findings
        ],
        "rules": [as_dict(rule) for rule in dict.fromkeys(f.rule for f in fit.findings)],
        "advice": [{"rule": rule.id, "overrides": choice.split()} for rule, choice in advised],
        "latency": None if not fit.planned else [asdict(plan) for plan in fit.planned],
        "why_no_latency": None if fit.planned else NO_LATENCY,
        "why_no_memory": NO_MEMORY,
        "borne_out": {rule: asdict(hits) for rule, hits in fit.borne_out.items()},
    }


def _counts(counts: CallFigures | None) -> dict[str, Any] | None:
    if counts is None:
        return None
    derived = {"multiply_adds": counts.multiply_adds, "weight_reads": counts.weight_reads}
    return asdict(counts) | derived


def report_rows(fit: Fit, reaches: Sequence[Reach] = ()) -> list[tuple[str, str]]:
    """The rows for an artifact's report: verdicts, and the largest values of its proof."""
    rows: list[tuple[str, str]] = [
        (finding.rule.verdict, f"{finding.rule.about}: {finding.subject} ({finding.rule.id})")
        for finding in fit.findings
    ]
    rows += [("not known", f"no rule names: {kinds}") for _, kinds in fit.unnamed]
    if not fit.planned:
        rows.append(("latency", NO_LATENCY))
    if reaches:
        value = max(reaches, key=lambda reach: reach.value)
        total = max(reaches, key=lambda reach: reach.total)
        text = f"at most {value.value:,.0f}, of {value.node}; "
        text += f"sums of magnitudes at most {total.total:,.0f}, of {total.node}"
        rows.append(("fp16 values", f"on the inputs of this proof {text}"))
    return rows


def remarks(fit: Fit, fixed: str = FIXED_SIZES) -> list[str]:
    """Remarks of a build on shapes and values of a package that the Neural Engine may not support.

    ``fixed``: overrides that build fixed sizes instead of an open axis.
    """
    shapes = [f for f in fit.findings if f.rule.id in ("R04", "R05", "R06")]
    lines = []
    if shapes:
        rules = ", ".join(dict.fromkeys(f"{f.rule.id} ({f.rule.about})" for f in shapes))
        lines.append(
            f"to ship to devices, prefer fixed sizes, {fixed}: "
            f"rules of the Neural Engine that apply are {rules}; `asrbuild fit` has the sources"
        )
    lines += [
        f"{finding.subject} in float16 on the inputs of the proof; a Neural Engine adds up to "
        "32,768 (R11); coreml.precision=fp32 avoids it"
        for finding in fit.findings
        if finding.rule.id == "R11"
    ]
    return lines


def rule_rows(rule: UnitRule) -> list[tuple[str, str]]:
    """A rule of the table in lines: its condition, its sources, and what would refute it."""
    rows = [("when", rule.predicate), ("scope", rule.scope), ("level", ", ".join(rule.levels))]
    rows += [("source", source) for source in rule.sources]
    rows += [("read", rule.date), ("refuted by", rule.refuted_by)]
    return rows + [("advice", command(choice)) for choice in rule.advice]
