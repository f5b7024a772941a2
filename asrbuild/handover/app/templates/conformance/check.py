"""Compares a runtime's results with those of this artifact's package, step by step.

It needs Python and numpy, and prints the first step that is wrong.

    python check.py RESULTS [--json]

RESULTS has a folder for each recording of ``steps.json``, with the files that the runtime wrote
there, named and shaped as those next to this program. ``probabilities.npy`` and ``text.json`` are
required; every other file is optional and helps to find what is wrong. The exit code is 0 if every
file that is there is right.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

OK, OFF, ABSENT = "ok", "OFF", "not given"
REQUIRED = ("probabilities", "text")
#: Probabilities below this are all zero in half precision.
FLOOR = 1.2e-7


@dataclass(frozen=True)
class Finding:
    """One step of one recording; ``verdict`` is ``ok``, ``OFF`` or ``not given``."""

    recording: str
    step: str
    verdict: str
    detail: str


class NotGivenError(Exception):
    """The file has no values for this step."""


class UnusableError(Exception):
    """A file of the runtime that cannot be compared; its message says why."""


def check(kit: Path, results: Path, only: tuple[str, ...] | None = None) -> list[Finding]:
    """Every step of every recording, in the order in which they depend on each other.

    ``only``: the names of the steps to compare; None: all.
    """
    book = json.loads((kit / "steps.json").read_text(encoding="utf-8"))
    steps = [step for step in book["steps"] if only is None or step["name"] in only]
    found: list[Finding] = []
    for recording in book["recordings"]:
        name = recording["name"]
        for step in steps:
            given = results / name / step["file"]
            if not given.is_file():
                wanted = step["name"] in REQUIRED
                detail = f"{name}/{step['file']} is missing" if wanted else ""
                found.append(Finding(name, step["name"], OFF if wanted else ABSENT, detail))
                continue
            try:
                details = list(_COMPARE[step["kind"]](step, recording, kit / name, given))
            except NotGivenError:
                found.append(Finding(name, step["name"], ABSENT, ""))
                continue
            except UnusableError as error:
                found.append(Finding(name, step["name"], OFF, str(error)))
                continue
            wrong = [detail for right, detail in details if not right]
            text = wrong[0] if wrong else details[-1][1] if details else "nothing to compare"
            found.append(Finding(name, step["name"], OFF if wrong else OK, text))
    return found


Details = Iterator["tuple[bool, str]"]


def _samples(step: Any, recording: Any, _kit: Path, given: Path) -> Details:
    samples = _array(given)
    if samples.shape != (recording["samples"],):
        raise UnusableError(f"shape {samples.shape}, expected ({recording['samples']},)")
    digest = hashlib.sha256(samples.astype("<i2").tobytes()).hexdigest()
    same = samples.dtype.kind == "i" and digest == recording["samples_sha256"]
    yield same, "the samples of the file" if same else "other samples than the file has, as int16"


def _frames(step: Any, _recording: Any, kit: Path, given: Path) -> Details:
    expected, found = _pair(kit / step["file"], given)
    for row in range(len(expected)):
        error = _error(expected[row], found[row])
        if error > step["limits"]["max_abs_error"]:
            limit = step["limits"]["max_abs_error"]
            yield False, f"step {row}: error {error:.3g}, at most {limit:g} is allowed"
            return
    yield True, f"largest error {_error(expected, found):.3g}"


def _calls(step: Any, recording: Any, _kit: Path, given: Path) -> Details:
    keys = ("first", "steps", "size")
    try:
        found = [
            {key: int(call[key]) for key in keys} for call in json.loads(given.read_text("utf-8"))
        ]
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise UnusableError(f"not a list of calls with {', '.join(keys)}: {error}") from None
    expected = [{key: call[key] for key in keys} for call in recording["calls"]]
    for index, (wanted, made) in enumerate(zip(expected, found)):  # noqa: B905 - Python 3.9
        yield wanted == made, f"call {index} is {made}, expected {wanted}"
    yield len(found) == len(expected), f"{len(found)} calls, expected {len(expected)}"


def _state(step: Any, recording: Any, kit: Path, given: Path) -> Details:
    expected, found = _pair(kit / step["file"], given)
    for index, call in enumerate(recording["calls"]):
        if step["direction"] == "out" and not call["state_valid"]:
            continue
        peak = max(1.0, float(np.abs(expected[index]).max()))
        limit = step["limits"]["max_abs_error_of_peak"] * peak
        error = _error(expected[index], found[index])
        where = "given to" if step["direction"] == "in" else "after"
        yield error <= limit, f"{where} call {index}: error {error:.3g}, at most {limit:.3g}"


def _probabilities(step: Any, recording: Any, kit: Path, given: Path) -> Details:
    expected, found = _pair(kit / step["file"], given)
    limits = step["limits"]
    for index, call in enumerate(recording["calls"]):
        first = call.get("first_row", call["first"])
        rows = slice(first, first + call.get("rows", call["steps"]))
        error = _error(expected[rows], found[rows])
        if error > limits["max_abs_error"]:
            at = f"in call {index}, steps {rows.start} to {rows.stop - 1}"
            limit = limits["max_abs_error"]
            yield False, f"{at}: error {error:.3g}, at most {limit:g} is allowed"
            return
    if not len(expected):
        yield True, "no steps, no rows"
        return
    chosen = np.take_along_axis(expected, found.argmax(-1)[:, None], -1)[:, 0]
    agree = float(np.mean(chosen >= expected.max(-1) * (1 - limits["argmax_tie"])))
    limit = limits["argmax_agreement"]
    yield agree >= limit, f"best classes agree on {agree:.4f} of the steps, {limit} is needed"
    p, q = (np.maximum(a, FLOOR) for a in (expected, found))
    p, q = p / p.sum(-1, keepdims=True), q / q.sum(-1, keepdims=True)
    divergence = float((p * np.log(p / q)).sum(-1).max())
    limit = limits["kl_divergence"]
    yield divergence <= limit, f"KL divergence {divergence:.3g} nats, at most {limit:g}"
    yield True, f"largest error {_error(expected, found):.3g}"


def _text(step: Any, recording: Any, _kit: Path, given: Path) -> Details:
    found = _transcription(given)
    same = found["text"] == recording["text"]
    yield same, f"{found['text']!r}" + ("" if same else f", expected {recording['text']!r}")


def _words(step: Any, recording: Any, _kit: Path, given: Path) -> Details:
    expected, transcription = recording["words"], _transcription(given)
    if "words" not in transcription:
        raise NotGivenError
    found = transcription["words"]
    if not isinstance(found, list) or len(found) != len(expected):
        count = len(found) if isinstance(found, list) else "no list of"
        raise UnusableError(f"{count} words, expected {len(expected)}")
    limits = {"start_s": "time_s", "end_s": "time_s", "confidence": "confidence"}
    for wanted, made in zip(expected, found):  # noqa: B905 - Python 3.9
        if not isinstance(made, dict):
            raise UnusableError("its words are not objects with text, start_s and end_s")
        yield made.get("text") == wanted["text"], f"{made.get('text')!r} is not {wanted['text']!r}"
        for key, limit in limits.items():
            value = made.get(key)
            if not isinstance(value, (int, float)) or not np.isfinite(value):
                raise UnusableError(f"{wanted['text']!r} has no number {key}")
            near = abs(value - wanted[key]) <= step["limits"][limit] + 1e-9
            yield near, f"{wanted['text']!r}: {key} {value:.4g}, expected {wanted[key]:.4g}"
    yield True, f"{len(found)} words"


_COMPARE = {
    "samples": _samples,
    "frames": _frames,
    "calls": _calls,
    "state": _state,
    "probabilities": _probabilities,
    "text": _text,
    "words": _words,
}


def _transcription(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UnusableError(f"not JSON: {error}") from None
    if not isinstance(found, dict) or not isinstance(found.get("text"), str):
        raise UnusableError("not a JSON object with a text")
    return found


def _array(path: Path) -> np.ndarray:
    try:
        loaded = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise UnusableError(f"not a .npy file: {error}") from None
    if not isinstance(loaded, np.ndarray) or loaded.dtype.kind not in "fi":
        raise UnusableError("not a .npy file of numbers")
    return loaded


def _pair(expected: Path, given: Path) -> tuple[np.ndarray, np.ndarray]:
    """Both arrays in double precision, of one shape and finite."""
    wanted = np.load(expected, allow_pickle=False).astype(np.float64)
    found = _array(given).astype(np.float64)
    if found.shape != wanted.shape:
        raise UnusableError(f"shape {found.shape}, expected {wanted.shape}")
    if not np.isfinite(found).all():
        raise UnusableError("it has values that are not finite numbers")
    return wanted, found


def _error(expected: np.ndarray, found: np.ndarray) -> float:
    return float(np.abs(expected - found).max(initial=0.0))


def _plain(text: str) -> str:
    """The text with control characters as visible escapes."""
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


def main(arguments: list[str]) -> int:
    """The command line; the exit code."""
    as_json = "--json" in arguments
    folders = [argument for argument in arguments if argument != "--json"]
    if len(folders) != 1 or folders[0].startswith("-"):
        print(__doc__, file=sys.stderr)
        return 2
    results = Path(folders[0])
    if not results.is_dir():
        print(_plain(f"error: the folder {results} does not exist"), file=sys.stderr)
        return 2
    found = check(Path(__file__).parent, results)
    first = next((finding for finding in found if finding.verdict == OFF), None)
    if as_json:
        answer = {
            "passed": first is None,
            "first_off": asdict(first) if first else None,
            "findings": [asdict(finding) for finding in found],
        }
        print(json.dumps(answer, indent=2))
        return 0 if first is None else 1
    for finding in found:
        line = f"{finding.recording:<12} {finding.step:<18} {finding.verdict:<10} {finding.detail}"
        print(_plain(line))
    given = sum(finding.verdict != ABSENT for finding in found)
    if first is None:
        print(f"\npassed: {given} of {len(found)} checks were given, and all are right")
        return 0
    print(_plain(f"\nfailed: the first step that is wrong is {first.step} of {first.recording}"))
    print(_plain(f"        {first.detail}"))
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
