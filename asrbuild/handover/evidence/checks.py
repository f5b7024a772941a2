"""Checks evidence against its artifact: every claim in it is checked.

:func:`check_claims` requires only the manifest, so that a channel's policy can repeat it on a
remote; :func:`check_measured` runs the package in asrbuild's executor and compares the results.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from asrbuild.artifact.manifest import Manifest, with_function
from asrbuild.artifact.named_files import package_path
from asrbuild.base.errors import AsrbuildError
from asrbuild.handover.evidence.devices import (
    contradicts,
    is_identifier,
    least_ms,
    members,
    newest_major,
)
from asrbuild.handover.evidence.document import Document, Output, Plan, listed_digest
from asrbuild.handover.evidence.figures import statistics

if TYPE_CHECKING:
    from asrbuild.base.array import Array
    from asrbuild.handover.fit.operations import PackagePart

#: Limit of the device's clock ahead of this one.
_CLOCK = timedelta(hours=1)
_MEASURE = "measure again with `asrbuild evidence kit ARTIFACT -o FOLDER`"


def _refused(message: str, key: str, fix: str = _MEASURE) -> AsrbuildError:
    return AsrbuildError(f"the evidence is refused: {message}", key=key, fix=fix)


def check_claims(document: Document, manifest: Manifest, now: datetime | None = None) -> None:
    """Checks evidence against a manifest: package, device, system, date, passes, statistics.

    Args:
        now: the present time; None: this machine's.

    Raises:
        AsrbuildError: the evidence is of another package, is not of a real device, or contradicts
        itself.
    """
    _check_identity(document, manifest)
    _check_device(document, manifest, now or datetime.now(timezone.utc))
    _check_passes(document)
    _check_statistics(document, manifest)


def _check_identity(document: Document, manifest: Manifest) -> None:
    of = document.artifact
    if of.package_sha256 != listed_digest(manifest):
        raise _refused(
            f"it is of the package of {of.name}/{of.version}, not of {manifest.artifact_id}",
            "artifact.package_sha256",
            f"add it to {of.name}/{of.version}",
        )
    if (of.name, of.version) != (manifest.name, manifest.version):
        raise _refused(
            f"it is of {of.name} {of.version}, not of {manifest.artifact_id}",
            "artifact",
            f"add it to {of.name}/{of.version}",
        )
    names = [function.name for function in manifest.model.functions]
    if of.function not in names:
        raise _refused(f"the package has no function {of.function!r}", "artifact.function")


def _check_device(document: Document, manifest: Manifest, now: datetime) -> None:
    device = document.device
    fix = "measure on a real device: what another machine imitates shows nothing of it"
    if device.kind != "device":
        raise _refused(f"it was measured on a {device.kind}", "device.kind", fix)
    if not is_identifier(device.identifier):
        raise _refused(
            f"{device.identifier!r} is not the model of a real device", "device.identifier", fix
        )
    if device.identifier.startswith("iP") != (device.os == "iOS"):
        raise _refused(f"{device.identifier} does not run {device.os}", "device.os")
    measured = datetime.fromisoformat(document.measured)
    if measured > now + _CLOCK:
        raise _refused(
            f"it was measured at {document.measured}, which is in the future",
            "measured",
            "set the device's clock, and measure again",
        )
    major = int(device.os_version.split(".")[0])
    system = f"{device.os} {device.os_version}"
    if major > newest_major(measured):
        raise _refused(f"there was no {system} on {document.measured[:10]}", "device.os_version")
    if contradicts(device.os, device.os_version, device.os_build):
        raise _refused(f"{device.os_build} is not a build of {system}", "device.os_build")
    oldest = manifest.model.minimum_os.get(device.os)
    if oldest is not None and _numbers(device.os_version) < _numbers(oldest):
        raise _refused(
            f"the package requires {device.os} {oldest} and does not load on {system}",
            "device.os_version",
        )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _check_passes(document: Document) -> None:
    """Raises unless each round ran every unit set once, and passes do not overlap."""
    units = document.units
    if len(set(units)) != len(units):
        raise _refused("a set of units has two statistics", "statistics")
    for start in range(0, len(document.passes), len(units)):
        turn = [one.units for one in document.passes[start : start + len(units)]]
        if sorted(turn) != sorted(units):
            raise _refused(
                f"its passes are not interleaved: passes {start} to {start + len(turn) - 1} are "
                f"{', '.join(turn)}, each of {', '.join(units)} is required once",
                f"passes.{start}",
            )
    for index, (before, after) in enumerate(pairwise(document.passes), 1):
        # The clocks of the start and of the calls may differ by a microsecond of rounding.
        if after.at_s < before.at_s + sum(before.calls_ms) / 1000 - 1e-6:
            raise _refused(f"pass {index} begins before pass {index - 1} ends", f"passes.{index}")
    for name, listed in (("loads", document.loads), ("plans", document.plans)):
        named = [one.units for one in listed]
        if len(set(named)) != len(named) or set(named) - set(units):
            raise _refused(f"its {name} are not of the units that were timed", name)
    if {one.units for one in document.loads} != set(units):
        raise _refused("a set of units that was timed has no load", "loads")


def _check_statistics(document: Document, manifest: Manifest) -> None:
    found = statistics(document, manifest.audio.sample_rate)
    if not found:
        raise _refused(f"no audio was timed: {document.timed_recording}", "timed_recording")
    for index, (stated, computed) in enumerate(zip(document.statistics, found, strict=True)):
        for key, value in computed.model_dump().items():
            given = getattr(stated, key)
            if given != value and not (
                isinstance(value, float) and math.isclose(given, value, rel_tol=1e-9)
            ):
                raise _refused(
                    f"{key} of {computed.units} is {given:.6g}, its passes give {value:.6g}",
                    f"statistics.{index}.{key}",
                )


def check_measured(document: Document, manifest: Manifest, artifact: Path) -> None:
    """Checks evidence against the package itself: plan, times and outputs.

    The recordings run in asrbuild's executor again; the gates are those of the artifact's proof,
    and the transcripts must be equal.

    Args:
        artifact: the artifact's directory, whole.

    Raises:
        AsrbuildError: the plan has other operations, a time is impossible, or an output differs
        from the package's.
    """
    chosen = with_function(manifest, document.artifact.function)
    package = package_path(artifact, manifest)
    function = document.artifact.function if len(manifest.model.functions) > 1 else None
    ours, program = operations(package, function), manifest.model.format == "mlprogram"
    for index, plan in enumerate(document.plans):
        check_plan(plan, ours, f"plans.{index}", compare_kinds=program)
    with TemporaryDirectory(prefix="asrbuild-evidence-") as folder:
        kit = Path(folder, "conformance")
        book = _write_conformance(kit, artifact, chosen)
        _check_times(document, package, function, book)
        _check_outputs(document, chosen, kit, book)
        check_conformance(document, kit, book)


def operations(package: Path, function: str | None) -> list[tuple[str, str]]:
    """Kind and name of every operation of a package, in order, with inner blocks.

    The name is that of a compute plan: the name of an operation's first output, or a layer's name.
    """
    from asrbuild.handover.fit.operations import walk

    return [
        (one.kind, one.results[0].name if one.message is None else one.path.split(" > ")[-1])
        for one in walk(_function(package, function).operations)
        if one.results
    ]


def _function(package: Path, name: str | None) -> PackagePart:
    """The function of this name, or the only one."""
    from asrbuild.handover.fit.operations import read_functions

    functions = read_functions(package)
    return functions[name] if name in functions else next(iter(functions.values()))


def check_plan(
    plan: Plan, ours: Sequence[tuple[str, str]], key: str, *, compare_kinds: bool = True
) -> None:
    """Compares the operations of a plan with those of asrbuild's own reader.

    Args:
        ours: see :func:`operations`.
        key: the place of the plan in the document.
        compare_kinds: False for the layers of a neural network, whose kinds may have other names in
            Core ML.

    Raises:
        AsrbuildError: an operation is missing, extra, twice, or of another kind.
    """
    if plan.error is not None and not plan.ops and not plan.answered:
        return
    kinds = {output: kind for kind, output in ours}
    listed = [op.output for op in plan.ops]
    known = Counter(output for _, output in ours)
    added = plan.added if plan.added is not None else [*(Counter(listed) - known)]
    extra = Counter(listed) - known - Counter(added) if plan.added is not None else Counter()
    if extra:
        raise _refused(f"the package has no operation {min(extra)!r}, or not so many", f"{key}.ops")
    for op in plan.ops:
        if compare_kinds and kinds.get(op.output, op.operator) != op.operator:
            raise _refused(
                f"{op.output!r} is {op.operator} in its plan, and {kinds[op.output]} in the "
                "package",
                f"{key}.ops",
            )
        if op.preferred is None and op.supported:
            raise _refused(f"{op.output!r} has no answer, and yet a device", f"{key}.ops")
        if op.preferred is not None and op.preferred not in op.supported:
            raise _refused(f"{op.output!r} prefers {op.preferred}, which it lacks", f"{key}.ops")
        if op.preferred is not None and op.preferred not in members(plan.units):
            raise _refused(f"{op.output!r} prefers {op.preferred} with {plan.units}", f"{key}.ops")
    absent = plan.absent if plan.absent is not None else [*(kinds.keys() - {*listed})]
    missing = [output for output in kinds if output not in listed and output not in absent]
    if missing:
        raise _refused(f"its plan lacks the operation {missing[0]!r} of the package", f"{key}.ops")
    if untrue := [name for name in absent if name not in kinds or name in listed]:
        raise _refused(f"its plan calls {untrue[0]!r} absent, which it is not", f"{key}.absent")
    if untrue := [name for name in added if name in kinds]:
        raise _refused(f"its plan calls {untrue[0]!r} added, which it is not", f"{key}.added")
    if plan.answered != any(op.preferred is not None for op in plan.ops):
        raise _refused("its plan is answered and names no device, or the reverse", key)


def _write_conformance(kit: Path, artifact: Path, manifest: Manifest) -> dict[str, Any]:
    """Writes the conformance kit of the package again; returns its ``steps.json``."""
    from asrbuild.handover.app.conformance import STEPS
    from asrbuild.handover.app.kit import write_vectors

    write_vectors(kit, artifact, manifest)
    book: dict[str, Any] = json.loads((kit / STEPS).read_text(encoding="utf-8"))
    return book


def _check_times(
    document: Document, package: Path, function: str | None, book: Mapping[str, Any]
) -> None:
    """Raises for impossible times: a call takes at least its multiply-adds at the highest rate."""
    from asrbuild.handover.fit.counts import count

    recordings = {one["name"]: one for one in book["recordings"]}
    longest = max(recordings.values(), key=lambda one: one["samples"])
    if document.timed_recording != longest["name"]:
        raise _refused(
            f"{document.timed_recording!r} was timed, the kit times {longest['name']!r}",
            "timed_recording",
        )
    read = _function(package, function)
    work: dict[int, int] = {}
    for index, one in enumerate(document.passes):
        if len(one.calls_ms) != len(longest["calls"]):
            raise _refused(
                f"pass {index} has {len(one.calls_ms)} calls, the recording requires "
                f"{len(longest['calls'])}",
                f"passes.{index}.calls_ms",
            )
        for call, ms in zip(longest["calls"], one.calls_ms, strict=True):
            size = call["size"]
            if size not in work:
                work[size] = count(package, read, size).multiply_adds
            least = least_ms(work[size], one.units)
            if ms < least:
                raise _refused(
                    f"a call of {work[size]:,} multiply-adds took {ms:.3g} ms with {one.units}, "
                    f"less than the {least:.3g} ms of the fastest device",
                    f"passes.{index}.calls_ms",
                )


def _check_outputs(document: Document, manifest: Manifest, kit: Path, book: Any) -> None:
    import numpy as np

    from asrbuild.proof.gates import compare
    from asrbuild.proof.weaknesses import recorded_gates

    recordings: Mapping[str, Any] = {one["name"]: one for one in book["recordings"]}
    wanted = {(units, name) for units in document.units for name in recordings}
    given = [(one.units, one.recording) for one in document.outputs]
    if len(set(given)) != len(given) or set(given) != wanted:
        odd = min(set(given) ^ wanted, default=("an output", "twice"))
        raise _refused(f"its outputs are not those of the kit: {odd[0]}, {odd[1]}", "outputs")
    gates = recorded_gates(manifest)
    decode = greedy_text(manifest)
    for index, one in enumerate(document.outputs):
        key = f"outputs.{index}"
        recording = recordings[one.recording]
        if (one.samples, one.samples_sha256) != (
            recording["samples"],
            recording["samples_sha256"],
        ):
            raise _refused(f"{one.recording} is another recording than the kit's", key)
        expected = np.load(kit / one.recording / "probabilities.npy", allow_pickle=False)
        rows = probabilities_of(one, key)
        if rows.shape != expected.shape:
            raise _refused(
                f"{one.recording} with {one.units} has the shape {rows.shape}, expected "
                f"{expected.shape}",
                key,
            )
        if not np.isfinite(rows).all():
            raise _refused(f"{one.recording} with {one.units} has a NaN or an infinity", key)
        try:
            text = decode(rows)
        except AsrbuildError as error:
            raise _refused(f"{one.recording} with {one.units}: {error.message}", key) from None
        if text != recording["text"]:
            raise _refused(
                f"the words of {one.recording} with {one.units} are {text!r}, expected "
                f"{recording['text']!r}",
                key,
                "do not use these units for this package on this device",
            )
        for metric in compare(one.recording, {"p": expected}, {"p": rows}, gates, "p"):
            if not metric.passed:
                raise _refused(
                    f"{one.recording} with {one.units} fails the gate {metric.name}: "
                    f"{metric.value:.4g}, {metric.comparison} {metric.threshold:.4g} is required",
                    key,
                    "do not use these units for this package on this device",
                )


def check_conformance(document: Document, kit: Path, book: Any) -> None:
    """Raises unless the device compared all steps of the kit, by its limits, and all passed.

    Probabilities and text are computed again from the outputs and must have the stated error.
    """
    if document.conformance is None:
        if document.runner.name == "ASRConformance":
            raise _refused("it has no conformance steps", "conformance")
        return
    measures: Mapping[str, Any] = {step["name"]: _measures(step) for step in book["steps"]}
    names = [one["name"] for one in book["recordings"]]
    wanted = {
        (units, recording, step, measure)
        for units in document.units
        for recording in names
        for step, limits in measures.items()
        for measure in limits
    }
    given = [(one.units, one.recording, one.step, one.measure) for one in document.conformance]
    if len(set(given)) != len(given) or set(given) != wanted:
        odd = min(set(given) ^ wanted, default=("a measure", "twice"))
        raise _refused(f"its steps are not those of the kit: {', '.join(odd)}", "conformance")
    errors = _largest_errors(document, kit)
    for index, one in enumerate(document.conformance):
        key, where = f"conformance.{index}", f"{one.step} of {one.recording} with {one.units}"
        limit = measures[one.step][one.measure]
        right = one.value >= limit if one.measure == "argmax_agreement" else one.value <= limit
        if one.limit != limit or one.passed != right:
            raise _refused(f"{where} is judged by another limit than the kit's {limit:g}", key)
        if not right:
            raise _refused(
                f"{where} fails: {one.measure} {one.value:.4g}, the limit is {limit:g}",
                key,
                "do not use these units for this package on this device",
            )
        stated = errors.get((one.units, one.recording))
        if (one.step, one.measure) == ("probabilities", "max_abs_error") and not math.isclose(
            one.value, stated or 0.0, rel_tol=1e-6, abs_tol=1e-9
        ):
            raise _refused(
                f"{where} states an error of {one.value:.4g}, its output has {stated}", key
            )


def _measures(step: Mapping[str, Any]) -> dict[str, float]:
    """A device's measurements of a step, with the limits: see ``ASRConformanceReport``."""
    limits: dict[str, float] = dict(step.get("limits") or {})
    limits.pop("argmax_tie", None)
    if step["kind"] in ("samples", "calls", "text", "words"):
        limits["differences"] = 0
    return limits


def _largest_errors(document: Document, kit: Path) -> dict[tuple[str, str], float]:
    import numpy as np

    found: dict[tuple[str, str], float] = {}
    for index, one in enumerate(document.outputs):
        expected = np.load(kit / one.recording / "probabilities.npy", allow_pickle=False)
        rows = probabilities_of(one, f"outputs.{index}")
        found[one.units, one.recording] = float(np.abs(rows - expected).max(initial=0.0))
    return found


def greedy_text(manifest: Manifest) -> Any:
    """A function from probabilities (steps, classes) to their greedy text."""
    from asrbuild.artifact.manifest2 import tokens_of
    from asrbuild.speech.greedy import GreedyDecoder

    decoder = GreedyDecoder(tokens_of(manifest.decoder), manifest.features.step_ms / 1000)
    return lambda rows: decoder.decode(rows)[0].text


def probabilities_of(output: Output, key: str) -> Array:
    """The array (steps, classes) float32 of an output.

    Raises:
        AsrbuildError: it is not base64, or has another number of values.
    """
    import numpy as np

    try:
        raw = base64.b64decode(output.probabilities, validate=True)
    except (binascii.Error, ValueError):
        raise _refused(f"{output.recording} with {output.units} is not base64", key) from None
    if len(raw) != 4 * output.steps * output.classes:
        raise _refused(
            f"{output.recording} with {output.units} has {len(raw)} bytes, "
            f"{4 * output.steps * output.classes} are required",
            key,
        )
    return np.frombuffer(raw, "<f4").reshape(output.steps, output.classes)
