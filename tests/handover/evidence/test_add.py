"""True evidence is kept; each kind of false evidence has its own message."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from asrbuild.artifact.reading import read_manifest
from asrbuild.base.errors import AsrbuildError
from asrbuild.handover.evidence.checks import check_claims
from asrbuild.handover.evidence.devices import contradicts, least_ms, newest_major
from asrbuild.handover.evidence.document import (
    MAX_BYTES,
    Document,
    listed_digest,
    package_digest,
    read_document,
)
from asrbuild.handover.evidence.figures import quantile
from asrbuild.handover.evidence.kept import check_file
from tests.handover.evidence.making import Change, changed, remake, written


def _passes(document: dict[str, Any]) -> list[dict[str, Any]]:
    return document["passes"]


def _set(path: str, value: Any) -> Change:
    """Sets the value at ``a.0.b``."""

    def change(document: dict[str, Any]) -> None:
        *way, last = [int(part) if part.isdigit() else part for part in path.split(".")]
        at: Any = document
        for part in way:
            at = at[part]
        at[last] = value(at[last]) if callable(value) else value

    return change


def _fast(document: dict[str, Any]) -> None:
    """Makes every call take a picosecond, with statistics that agree."""
    for one in document["passes"]:
        one["calls_ms"] = [1e-9 for _ in one["calls_ms"]]
    remake(document)


def _output(change: Callable[[np.ndarray], np.ndarray]) -> Change:
    """Changes the probabilities of the timed recording, computed with the last units."""

    def run(document: dict[str, Any]) -> None:
        (*_, one) = [
            o for o in document["outputs"] if o["recording"] == document["timed_recording"]
        ]
        rows = np.frombuffer(base64.b64decode(one["probabilities"]), "<f4")
        made = change(rows.reshape(one["steps"], one["classes"]).copy())
        one["probabilities"] = base64.b64encode(made.astype("<f4").tobytes()).decode()

    return run


def _one_letter(rows: np.ndarray) -> np.ndarray:
    """Changes the letter of one step."""
    rows[len(rows) // 2] = 0
    rows[len(rows) // 2, (int(rows[len(rows) // 2 - 1].argmax()) + 1) % 28] = 1
    return rows


def _blurred(rows: np.ndarray) -> np.ndarray:
    """Keeps the letters and makes them much more certain."""
    sharp = rows.astype(np.float64) ** 4
    return sharp / sharp.sum(-1, keepdims=True)


def _nan(rows: np.ndarray) -> np.ndarray:
    rows[0, 0] = np.nan
    return rows


FALSE: dict[str, tuple[Change, str]] = {
    "one op is another": (
        _set("plans.0.ops.3.operator", "conv"),
        r"'[^']+' is conv in its plan, and \w+ in the",
    ),
    "one op is gone": (
        lambda d: d["plans"][0]["ops"].pop(),
        r"its plan lacks the operation '[^']+'",
    ),
    "one op more": (
        lambda d: d["plans"][0]["ops"].append(d["plans"][0]["ops"][0]),
        r"the package has no operation '[^']+', or not so many",
    ),
    "an op that is called absent": (
        lambda d: d["plans"][0]["absent"].append(d["plans"][0]["ops"][0]["output"]),
        "absent, which it is not",
    ),
    "an op that is called added": (
        lambda d: d["plans"][0]["added"].append(d["plans"][0]["ops"][0]["output"]),
        "added, which it is not",
    ),
    "a device without an answer": (
        lambda d: [
            op.update(supported=["CPU"]) for op in d["plans"][0]["ops"] if op["preferred"] is None
        ],
        "has no answer, and yet a device",
    ),
    "a processor that the units lack": (
        lambda d: [op.update(preferred="GPU", supported=["GPU"]) for op in d["plans"][0]["ops"]],
        "prefers GPU with CPU_ONLY",
    ),
    "a plan that claims an answer": (
        lambda d: [op.update(preferred=None, supported=[]) for op in d["plans"][0]["ops"]],
        "its plan is answered and names no device",
    ),
    "one sample": (
        _set("passes.5.calls_ms.0", lambda ms: ms * 0.5),
        r"is [\d.]+, its passes give [\d.]+",
    ),
    "one sample, longer": (_set("passes.5.calls_ms.0", 1e6), "pass 6 begins before pass 5 ends"),
    "statistics that do not follow": (
        _set("statistics.1.p95_ms", lambda ms: ms * 0.9),
        r"p95_ms of CPU_AND_NE is",
    ),
    "fewer passes than stated": (_set("statistics.0.passes", 4), "passes of CPU_ONLY is 4"),
    "passes not interleaved": (
        lambda d: _passes(d).sort(key=lambda p: p["units"]),
        "its passes are not interleaved",
    ),
    "a pass left out": (lambda d: _passes(d).pop(2), "its passes are not interleaved"),
    "a call left out": (
        lambda d: (_passes(d)[0]["calls_ms"].pop(), remake(d)),
        r"pass 0 has \d+ calls",
    ),
    "faster than arithmetic": (_fast, r"multiply-adds took 1e-09 ms with CPU_ONLY, less than the"),
    "another recording timed": (
        lambda d: (d.update(timed_recording="one_step"), remake(d)),
        "'one_step' was timed, the kit times 'reference'",
    ),
    "other words": (_output(_one_letter), r"the words of reference with ALL are '"),
    "other probabilities": (_output(_blurred), r"reference with ALL fails the gate \w+"),
    "NaN among the probabilities": (_output(_nan), "has a NaN or an infinity"),
    "no probabilities": (
        _output(lambda rows: rows + 1),
        "reference with ALL: these are not probabilities",
    ),
    "too few rows": (_output(lambda rows: rows[:-1]), r"has \d+ bytes, \d+ are required"),
    "a recording left out": (lambda d: d["outputs"].pop(), "its outputs are not those of the kit"),
    "another recording": (
        _set("outputs.0.samples_sha256", "0" * 64),
        "is another recording than the kit's",
    ),
    "a simulator": (_set("device.kind", "simulator"), "it was measured on a simulator"),
    "a virtual machine": (
        _set("device.kind", "virtual machine"),
        "it was measured on a virtual machine",
    ),
    "a virtual Mac that says device": (
        _set("device.identifier", "VirtualMac2,1"),
        "not the model of a real device",
    ),
    "a simulator that says device": (
        _set("device.identifier", "arm64"),
        "not the model of a real device",
    ),
    "an iPhone with macOS": (_set("device.identifier", "iPhone16,2"), "does not run macOS"),
    "a future system": (_set("device.os_version", "99.0"), r"there was no macOS 99.0 on"),
    "a build of another system": (
        _set("device.os_build", "23B85"),
        "23B85 is not a build of macOS 26.1",
    ),
    "a system that does not load it": (
        lambda d: d["device"].update(os_version="11.0", os_build="20A1"),
        r"does not load on",
    ),
    "a future run": (_set("measured", "2999-01-01T00:00:00+00:00"), "which is in the future"),
    "another package": (_set("artifact.package_sha256", "1" * 64), "it is of the package of"),
    "another artifact": (_set("artifact.version", "2.0.0+123456789abc"), "it is of .*, not of"),
    "another function": (_set("artifact.function", "other"), "has no function 'other'"),
    "an unknown key": (lambda d: d.update(verdict="fast"), "breaks its format at verdict"),
    "a missing key": (lambda d: d.pop("memory"), "breaks its format at memory"),
    "another format": (_set("format", "asrbuild-evidence/9"), "this asrbuild reads asrbuild-ev"),
    "a text for a number": (_set("passes.0.calls_ms.0", "1"), "breaks its format at passes.0"),
    "a negative time": (_set("passes.0.calls_ms.0", -1.0), "breaks its format at passes.0"),
    "a huge number": (_set("statistics.0.p50_ms", 1e300), "breaks its format at statistics.0"),
    "NaN": (_set("passes.0.at_s", float("nan")), "the number NaN, which is not finite"),
    "infinity": (_set("passes.0.at_s", float("inf")), "the number Infinity, which is not"),
}


def test_true_evidence_passes(document: dict[str, Any], published: Path, tmp_path: Path) -> None:
    checked = check_file(written(tmp_path / "e.json", document), published, {})
    assert checked.document.model_dump(mode="json") == document
    manifest = read_manifest(published)
    assert listed_digest(manifest) == package_digest(published / manifest.model.package)


@pytest.mark.parametrize("what", FALSE)
def test_false_evidence_is_refused(
    what: str, document: dict[str, Any], published: Path, tmp_path: Path
) -> None:
    change, message = FALSE[what]
    file = written(tmp_path / "e.json", changed(document, change))
    with pytest.raises(AsrbuildError) as refused:
        check_file(file, published, {})
    assert re.search(message, refused.value.message), refused.value.message
    assert refused.value.fix
    assert refused.value.file


def test_each_kind_of_false_evidence_has_its_own_message() -> None:
    """Two changes may share a message only if they are the same kind."""
    shared = [message for _, message in FALSE.values()]
    twice = {message for message in shared if shared.count(message) > 1}
    assert twice == {
        "its passes are not interleaved",
        "not the model of a real device",
        "breaks its format at passes.0",
    }


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b'{"format": 1, "format": 2}', "the key 'format' is there twice"),
        (b"{", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[]", "this asrbuild reads"),
        (b" " * (MAX_BYTES + 1), "at most 16,777,216 are read"),
        (b"\xff\xfe{}", "is not JSON"),
    ],
    ids=["duplicate key", "cut off", "deep", "a list", "large", "not UTF-8"],
)
def test_malformed_evidence_is_refused(raw: bytes, message: str) -> None:
    with pytest.raises(AsrbuildError) as refused:
        read_document(raw, "e.json")
    assert message in refused.value.message


def test_a_replayed_run_is_refused(
    document: dict[str, Any], published: Path, tmp_path: Path
) -> None:
    """The replay is unchanged, or with another date, device or a few other times."""
    known = [Document.model_validate_json(json.dumps(document))]
    again: dict[str, tuple[Change, str]] = {
        "but for a few times": (
            lambda d: (
                [p["calls_ms"].__setitem__(0, p["calls_ms"][0] * 0.9) for p in _passes(d)[:3]],
                remake(d),
            ),
            "its passes are those of a run",
        ),
        "as it is": (lambda d: None, "it was added before"),
        "later": (_set("measured", "2026-11-01T00:00:00+00:00"), "its passes are those of a run"),
        "elsewhere": (_set("device.identifier", "Mac16,9"), "its passes are those of a run"),
    }
    for change, message in again.values():
        file = written(tmp_path / "e.json", changed(document, change))
        with pytest.raises(AsrbuildError, match=message):
            check_file(file, published, {}, known)


def test_an_operation_without_a_planned_device_is_not_counted_as_cpu(
    document: dict[str, Any],
) -> None:
    plan = document["plans"][0]
    kinds = {op["operator"]: op["preferred"] for op in plan["ops"]}
    assert kinds["lstm"] == "CPU"
    assert kinds["cast"] is None


@settings(max_examples=30)
@given(st.lists(st.floats(0.001, 1e6), min_size=1), st.floats(0.01, 1.0))
def test_a_quantile_is_the_least_value_that_reaches_its_share(
    values: list[float], share: float
) -> None:
    found = quantile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values)
    assert sum(value < found for value in values) < share * len(values)


def test_system_versions_and_builds_must_agree() -> None:
    assert newest_major(datetime(2025, 10, 1, tzinfo=timezone.utc)) == 26
    assert newest_major(datetime(2026, 2, 1, tzinfo=timezone.utc)) == 26
    assert newest_major(datetime(2026, 11, 26, tzinfo=timezone.utc)) == 27
    assert not contradicts("iOS", "18.1", "22B83")
    assert contradicts("iOS", "18.1", "21B80")
    assert not contradicts("iOS", "27.0", "24A100")
    assert contradicts("iOS", "27.0", "23A100")
    assert contradicts("macOS", "10.15", "23A100")


def test_the_least_time_is_that_of_the_fastest_chip() -> None:
    assert least_ms(0, "ALL") == 0
    assert least_ms(10**12, "CPU_ONLY") == pytest.approx(2000 / 32, rel=1e-9)
    assert least_ms(10**12, "ALL") < least_ms(10**12, "CPU_AND_GPU") < least_ms(10**12, "CPU_ONLY")


def test_claims_are_checked_without_the_package(document: dict[str, Any], published: Path) -> None:
    manifest = read_manifest(published)
    check_claims(Document.model_validate_json(json.dumps(document)), manifest)
