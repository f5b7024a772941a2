"""Evidence as lines of text: plans and times, but no claim about where a package runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from asrbuild.base.quantities import size_text
from asrbuild.handover.evidence.document import ComparedStep, Device, Document
from asrbuild.handover.evidence.figures import planned_counts
from asrbuild.handover.evidence.kept import Kept


def system_text(device: Device) -> str:
    """``iPhone16,2, iOS 26.1 (23B85)``."""
    return f"{device.identifier}, {device.os} {device.os_version} ({device.os_build})"


def plan_text(document: Document, units: str) -> str:
    """The plan for a set of units in numbers of operations: ``12 NE, 3 CPU, 2 unanswered``."""
    for plan in document.plans:
        if plan.units == units and plan.error is not None:
            return f"no plan: {plan.error}"
    counts = planned_counts(document, units)
    if counts is None:
        return "no plan"
    return ", ".join(f"{count} {name}" for name, count in counts.items())


@dataclass(frozen=True)
class StepRow:
    """A step of the conformance kit on a device: the recording nearest to the limit, as text."""

    step: str
    measure: str
    value: str
    limit: str
    recording: str


@dataclass(frozen=True)
class DeviceRow:
    """The newest run of one device, system and set of units, as text for a table.

    ``steps`` is empty where the runner compared outputs alone.
    """

    device: str
    system: str
    units: str
    planned: str
    timed: str
    loaded: str
    memory: str
    measured: str
    signer: str
    steps: tuple[StepRow, ...]

    @property
    def label(self) -> str:
        """``iPhone16,2, iOS 26.1, CPU_AND_NE``; without the build, for comparing versions."""
        return f"{self.device}, {self.system.partition(' (')[0]}, {self.units}"


def device_rows(evidence: Iterable[Kept]) -> list[DeviceRow]:
    """The newest run of each device, system and set of units; ``evidence`` is newest first."""
    found: dict[str, DeviceRow] = {}
    for one in evidence:
        document = one.document
        device = document.device
        for row in document.statistics:
            load = next(load for load in document.loads if load.units == row.units)
            made = DeviceRow(
                device.identifier,
                f"{device.os} {device.os_version} ({device.os_build})",
                row.units,
                plan_text(document, row.units),
                f"{row.p50_ms:.3g} ms per second of audio, 95 % within {row.p95_ms:.3g}",
                f"{load.first_ms:.3g} ms (cache {load.cache})",
                f"{size_text(document.memory.peak_bytes)} at most ({document.memory.counts})",
                document.measured[:10],
                one.signer,
                tuple(step_rows(document, row.units)),
            )
            found.setdefault(made.label, made)
    return list(found.values())


def step_rows(document: Document, units: str) -> Iterator[StepRow]:
    """Each measure of each step with these units, in the order of the steps."""
    worst: dict[tuple[str, str], ComparedStep] = {}
    for one in document.conformance or ():
        if one.units != units:
            continue
        before = worst.setdefault((one.step, one.measure), one)
        least = one.measure == "argmax_agreement"
        if one.value < before.value if least else one.value > before.value:
            worst[one.step, one.measure] = one
    for (step, measure), one in worst.items():
        most = "at least" if measure == "argmax_agreement" else "at most"
        limit = f"{most} {one.limit:.4g}"
        yield StepRow(step, measure, f"{one.value:.4g}", limit, one.recording)


def lines(one: Kept) -> Iterator[str]:
    """The lines of ``asrbuild evidence show`` for one run."""
    document, device = one.document, one.document.device
    of, memory = document.artifact, document.memory
    yield f"{of.name} {of.version}, function {of.function}"
    yield f"package   {of.package_sha256}"
    yield f"device    {system_text(device)}, {device.chip or 'chip not known'}, " + size_text(
        device.memory_bytes
    )
    yield (
        f"state     power {device.power or 'not known'}, low power mode "
        f"{_yes(device.low_power)}, thermal {' to '.join(device.thermal)}"
    )
    yield f"measured  {document.measured}, {document.runner.name} with {document.runner.core_ml}"
    yield f"clock     {document.runner.clock}"
    yield f"signed by {one.signer}, {one.digest}"
    for row in document.statistics:
        load = next(load for load in document.loads if load.units == row.units)
        yield ""
        yield f"{row.units}"
        yield f"  planned  {plan_text(document, row.units)}"
        for plan in document.plans:
            absent, added = plan.absent or [], plan.added or []
            if plan.units == row.units and (absent or added):
                yield (
                    f"           {len(absent)} operations of the package are not in the plan, "
                    f"{len(added)} of the plan are not in the package"
                )
        yield (
            f"  timed    {row.passes} passes of {document.timed_recording}: {row.p50_ms:.3g} ms "
            f"per second of audio, 95 % within {row.p95_ms:.3g}, most {row.max_ms:.3g}"
        )
        again = max(load.again_ms, default=0.0)
        yield (
            f"  loaded   {load.first_ms:.4g} ms first (cache {load.cache})"
            + (f", at most {again:.4g} ms again" if load.again_ms else "")
        )
    yield ""
    sizes = (memory.before_bytes, memory.after_load_bytes, memory.peak_bytes)
    before, loaded, peak = map(size_text, sizes)
    yield f"memory    {memory.counts}, {before} before, {loaded} with every unit set loaded"
    yield (
        f"          {peak} at most; with the Neural Engine's memory: "
        f"{_yes(memory.counts_neural_engine)}"
    )
    for row in document.statistics:
        for step in step_rows(document, row.units):
            yield (
                f"step      {row.units}: {step.step}, {step.measure} {step.value} "
                f"({step.limit}; {step.recording})"
            )
    yield f"outputs   {len(document.outputs)}, all within the gates of the proof, words equal"
    for error in document.errors:
        yield f"error     {error}"


def _yes(value: bool | None) -> str:
    return "not known" if value is None else "yes" if value else "no"
